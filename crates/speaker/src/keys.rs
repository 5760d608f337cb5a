//! The key that the speakers share: Secret in, keyring out. The controller keeps the Secret; here it is only read.
//!
//! What cannot be read is said in the log, and the last good keyring stays in force: a speaker with a key of yesterday
//! is understood by the others that have it, too, one without a key by nobody.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use kube::{Api, Client};
use landfall_api::speaker_key::SpeakerKey;
use landfall_runtime::table::Table;
use landfall_runtime::watch::{self as cluster, Change};
use landfall_runtime::{publish, view};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

view! {
    /// What is read of the Secret.
    SecretView of Secret { data: Data }
}

type Data = BTreeMap<String, ByteString>;

/// The keys that are in force; what `landfall_membership::Keys::new` wants.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The uid of the Namespace kube-system, which tells clusters on one network apart.
    pub cluster: String,
    /// One key, or two while it is changed. The first seals, all open.
    pub secrets: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Keyring {
    /// Without the keys, so that no log ever has them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring of {} ({} keys)", self.cluster, self.secrets.len())
    }
}

impl From<SpeakerKey> for Keyring {
    fn from(key: SpeakerKey) -> Self {
        let secrets = key.keys().into_iter().map(|key| key.0.clone()).collect();
        Self { cluster: key.cluster, secrets }
    }
}

/// Follows the Secret `name` in `namespace` until the receiver is dropped. The value is the last keyring that could be read,
/// `None` until there is one; it is replaced only by another.
pub fn follow(client: &Client, namespace: &str, name: &str) -> watch::Receiver<Option<Keyring>> {
    let (to_reader, changes) = mpsc::channel(1);
    let (out, keyring) = watch::channel(None);
    let only_this = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let read = |secret: SecretView| (secret.metadata.name.unwrap_or_default(), Some(secret.data));
    let secrets: Api<SecretView> = Api::namespaced(client.clone(), namespace);
    cluster::spawn(secrets, only_this, read, to_reader, std::convert::identity);
    tokio::spawn(run(name.to_owned(), changes, out));
    keyring
}

async fn run(
    name: String,
    mut changes: mpsc::Receiver<Change<(String, Option<Data>)>>,
    out: watch::Sender<Option<Keyring>>,
) {
    let mut secrets: Table<String, Data> = Table::default();
    let mut said = None;
    loop {
        let change = tokio::select! {
            () = out.closed() => return,
            change = changes.recv() => change,
        };
        let Some(change) = change else { return };
        drop(secrets.apply(change));
        if !secrets.is_complete() {
            continue;
        }
        let has_one = out.borrow().is_some();
        let problem = match read(secrets.get(&name)) {
            Ok(keyring) => {
                let keys = keyring.secrets.len();
                let changed = publish::if_changed(&out, Some(keyring));
                if changed || said.is_some() {
                    info!(secret = name, keys, "the speakers' key is in force");
                }
                None
            }
            Err(problem) => Some(problem),
        };
        if problem != said
            && let Some(why) = &problem
        {
            if has_one {
                warn!(secret = name, why, "the speakers' key cannot be read, the last good one stays in force");
            } else {
                warn!(
                    secret = name,
                    why, "the speakers' key cannot be read, the other nodes are not heard until it can"
                );
            }
        }
        said = problem;
    }
}

/// The keyring, or in words why there is none.
fn read(data: Option<&Data>) -> Result<Keyring, String> {
    let data = data.ok_or("there is no such Secret; the controller that leads makes it (--speaker-key-secret)")?;
    SpeakerKey::read(data).map(Keyring::from).map_err(|error| format!("{error}; delete the Secret to have a new one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_api::speaker_key::{CLUSTER, KEY, LENGTH, NEXT, PREVIOUS, SHORTEST};
    use landfall_membership::Keys;

    fn data(fields: &[(&str, u8)]) -> Data {
        let keys = fields.iter().map(|(field, number)| ((*field).to_owned(), ByteString(vec![*number; LENGTH])));
        keys.chain([(CLUSTER.to_owned(), ByteString(b"uid".to_vec()))]).collect()
    }

    /// The first octet of each key in force.
    fn in_force(keyring: &watch::Receiver<Option<Keyring>>) -> Vec<u8> {
        keyring.borrow().iter().flat_map(|ring| ring.secrets.iter().map(|secret| secret[0])).collect()
    }

    #[tokio::test]
    async fn the_last_good_key_stays_in_force_whatever_becomes_of_the_secret() {
        use Change::{Applied, Deleted, ListDone, Listed, Restarted};
        let secret = |fields: &[(&str, u8)]| ("s".to_owned(), Some(data(fields)));
        let (to, changes) = mpsc::channel(1);
        let (out, mut keyring) = watch::channel(None);
        let reader = tokio::spawn(run("s".into(), changes, out));
        for (change, expected, changes) in [
            (Restarted, vec![], false),
            (ListDone, vec![], false), // there is none
            (Applied(secret(&[(NEXT, 1)])), vec![], false),
            (Applied(secret(&[(KEY, 1)])), vec![1], true),
            (Applied(secret(&[(KEY, 1), (NEXT, 2)])), vec![1, 2], true),
            (Applied(secret(&[(KEY, 2), (PREVIOUS, 1)])), vec![2, 1], true),
            (Applied(secret(&[(KEY, 2), (PREVIOUS, 1), (NEXT, 3)])), vec![2, 1], false),
            (Deleted(secret(&[])), vec![2, 1], false),
            (Restarted, vec![2, 1], false),
            (ListDone, vec![2, 1], false),
            (Restarted, vec![2, 1], false),
            (Listed(secret(&[(KEY, 9)])), vec![9], true),
            (ListDone, vec![9], false),
            (Applied(secret(&[(KEY, 9), (CLUSTER, 0xff)])), vec![9], false),
        ] {
            let said = format!("{change:?}");
            to.send(change).await.unwrap();
            // A second one is taken when the first has had its effect.
            to.send(Applied(("another".into(), Some(data(&[(KEY, 7)]))))).await.unwrap();
            to.send(Applied(("another".into(), Some(data(&[(KEY, 8)]))))).await.unwrap();
            assert_eq!((in_force(&keyring), keyring.has_changed().unwrap()), (expected, changes), "{said}");
            keyring.mark_unchanged();
        }
        drop(keyring);
        reader.await.expect("it ends with its receiver");
    }

    #[test]
    fn membership_takes_every_key_that_is_read_and_the_same_shortest_one() {
        for fields in [&[(KEY, 1)][..], &[(KEY, 1), (NEXT, 2)], &[(KEY, 1), (PREVIOUS, 2)]] {
            let Keyring { cluster, secrets } = read(Some(&data(fields))).unwrap();
            let secrets: Vec<&[u8]> = secrets.iter().map(Vec::as_slice).collect();
            assert!(Keys::new(&cluster, &secrets).is_ok(), "{fields:?}");
        }
        for octets in [SHORTEST - 1, SHORTEST] {
            let mut data = data(&[]);
            data.insert(KEY.into(), ByteString(vec![1; octets]));
            let taken = Keys::new("uid", &[&vec![1; octets]]).is_ok();
            assert_eq!((read(Some(&data)).is_ok(), taken), (octets >= SHORTEST, octets >= SHORTEST), "{octets} octets");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_way_out() {
        for (data, text) in [
            (None, "there is no such Secret; the controller that leads makes it (--speaker-key-secret)"),
            (Some(data(&[])), "its field key is missing or empty; delete the Secret to have a new one"),
        ] {
            assert_eq!(read(data.as_ref()), Err(text.to_owned()));
        }
    }
}
