//! The keeper of the speakers' key: the leader makes the Secret, changes the key now and then, and puts right what cannot be used.
//!
//! One task watches the Secret and writes what [`plan`] says. Every write names the resourceVersion of what was looked at, so
//! one that comes late, or is decided on what another has changed meanwhile, is refused by the API server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource as _};
use landfall_api::speaker_key::{CLUSTER, KEY, Key, LENGTH, NEXT, Other, PREVIOUS, ROTATE, SINCE};
use landfall_runtime::client::chain;
use landfall_runtime::random;
use landfall_runtime::table::Table;
use landfall_runtime::tasks::Tasks;
use landfall_runtime::view;
use landfall_runtime::watch::{self, Change};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::patch::FIELD_MANAGER;
use crate::right::Right;
use crate::write::params;

mod plan;

use plan::{Next, Plan, Rules, Standing, Step, plan};

/// Its uid is the same as long as the cluster is.
const KUBE_SYSTEM: &str = "kube-system";

/// Longer than a healthy API server ever takes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After each look: edits come in bursts, our own writes among them, and whoever changes everything back is not answered faster.
const REST: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// When only an event can change anything.
const LONG: Duration = Duration::from_secs(3600);

/// The shortest pause between two steps of a change. For tests: a watch that died is noticed after a minute.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

view! {
    /// What is read of the Secret.
    SecretView of Secret { data: BTreeMap<String, ByteString> }
}

/// Which Secret, and when its key is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Secret, in the namespace of the configuration objects.
    pub secret: String,
    /// The DaemonSet of the speakers, in the same namespace: a Secret that is made belongs to it and goes with it.
    pub owner: Option<String>,
    /// At this age the key is changed; `None`: never by itself.
    pub rotate_after: Option<Duration>,
    /// Between two steps of a change; longer than any speaker takes to read the Secret.
    pub pause: Duration,
}

impl Settings {
    /// # Errors
    /// The pause is out of its bounds: names the flag, the value and the bounds.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&self.pause),
            "--speaker-key-pause is {:?}; give a duration from {SHORTEST_PAUSE:?} to {LONGEST_PAUSE:?} (24h): as long as a \
             speaker may take to read the changed Secret",
            self.pause
        );
        Ok(())
    }
}

/// Keeps the Secret in `namespace` until the result is dropped. Failures are logged and tried again.
pub(crate) fn keep(client: &Client, namespace: &str, settings: Settings, right: Right) -> Tasks {
    let (to_keeper, changes) = mpsc::channel(1);
    let only_this = watcher::Config::default().fields(&format!("metadata.name={}", settings.secret));
    let read = |secret: SecretView| (secret.metadata.name.clone().unwrap_or_default(), Some(Seen::from(secret)));
    let secrets: Api<SecretView> = Api::namespaced(client.clone(), namespace);
    let watch = watch::spawn(secrets, only_this, read, to_keeper, std::convert::identity);
    let keeper = Keeper {
        client: client.clone(),
        namespace: namespace.to_owned(),
        settings,
        right,
        cluster: None,
        secrets: Table::default(),
        seen: None,
    };
    Tasks::from(vec![watch, tokio::spawn(keeper.run(changes))])
}

/// The Secret as it was last seen. Without `Debug`, like all that holds keys: no log is to have them.
#[derive(Clone, PartialEq)]
struct Seen {
    version: Option<String>,
    data: BTreeMap<String, ByteString>,
    since: Option<Timestamp>,
    asked: bool,
}

impl From<SecretView> for Seen {
    fn from(secret: SecretView) -> Self {
        let annotation = |key: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(key));
        Self {
            since: annotation(SINCE).and_then(|text| text.parse().ok()),
            asked: annotation(ROTATE).is_some(),
            version: secret.metadata.resource_version,
            data: secret.data,
        }
    }
}

struct Keeper {
    client: Client,
    namespace: String,
    settings: Settings,
    right: Right,
    /// The uid of the Namespace kube-system, once it was asked for.
    cluster: Option<String>,
    secrets: Table<String, Seen>,
    /// Data, and since when we have seen it.
    seen: Option<(BTreeMap<String, ByteString>, Instant)>,
}

impl Keeper {
    /// May be aborted at any time: a write that was sent takes effect or not, and is found or decided again in the next term.
    async fn run(mut self, mut changes: mpsc::Receiver<Change<(String, Option<Seen>)>>) {
        let mut failure = None;
        loop {
            let wait = match self.round().await {
                Ok(wait) => {
                    if failure.take().is_some() {
                        info!(secret = self.settings.secret, "the Secret with the speakers' key is in order again");
                    }
                    wait
                }
                Err(error) => {
                    let said = format!("{error:#}");
                    if failure.as_ref() != Some(&said) {
                        warn!(error = said, "the Secret with the speakers' key is not in order, trying again");
                        failure = Some(said);
                    }
                    RETRY
                }
            };
            if self.secrets.is_complete() {
                tokio::time::sleep(REST.min(wait)).await;
            }
            if let Ok(change) = tokio::time::timeout(wait.saturating_sub(REST), changes.recv()).await {
                let Some(change) = change else { return };
                drop(self.secrets.apply(change));
            }
            while let Ok(change) = changes.try_recv() {
                drop(self.secrets.apply(change));
            }
        }
    }

    /// Looks at the Secret and writes what is to be written; returns when to look again.
    async fn round(&mut self) -> anyhow::Result<Duration> {
        if !self.secrets.is_complete() {
            return Ok(LONG);
        }
        let rules = Rules {
            cluster: self.cluster().await?,
            rotate_after: self.settings.rotate_after,
            pause: self.settings.pause,
        };
        let seen = self.secrets.get(&self.settings.secret).cloned();
        let seen_for = self.seen_for(seen.as_ref().map(|seen| &seen.data));
        let standing = seen.as_ref().map(|Seen { data, since, asked, .. }| Standing {
            data: data.clone(),
            since: *since,
            asked: *asked,
            seen_for,
        });
        let (next, step) = match plan(standing.as_ref(), &rules, fresh()?, Timestamp::now()) {
            Plan::Wait(wait) => return Ok(wait),
            Plan::Write(next, step) => (next, step),
        };
        let owner = if step == Step::Made { self.owner().await? } else { None };
        let Some(limit) = self.right.time_for_write(TIMEOUT) else { return Ok(RETRY) };
        let about = || format!("Secret {} in namespace {}", self.settings.secret, self.namespace);
        match tokio::time::timeout(limit, self.write(seen.as_ref(), &next, owner)).await {
            Ok(Ok(secret)) => {
                say(&self.settings.secret, &step);
                let name = self.settings.secret.clone();
                drop(self.secrets.apply(Change::Applied((name, Some(Seen::from(secret))))));
                Ok(Duration::ZERO)
            }
            // What was looked at is not what stands any more; the watch tells the rest.
            Ok(Err(kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => Ok(RETRY),
            Ok(Err(error)) => Err(anyhow!(chain(&error))).with_context(about),
            Err(_) => Err(anyhow!("no answer within {} s", limit.as_secs_f32())).with_context(about),
        }
    }

    async fn write(
        &self,
        seen: Option<&Seen>,
        next: &Next,
        owner: Option<OwnerReference>,
    ) -> Result<SecretView, kube::Error> {
        let name = &self.settings.secret;
        match seen {
            Some(seen) => {
                let mut written = patch(next);
                written["metadata"]["resourceVersion"] = json!(seen.version);
                let secrets: Api<SecretView> = Api::namespaced(self.client.clone(), &self.namespace);
                secrets.patch(name, &params(), &Patch::Merge(written)).await
            }
            None => {
                let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
                let Secret { metadata, data, .. } = secrets.create(&params, &made(name, next, owner)).await?;
                Ok(SecretView { metadata, data: data.unwrap_or_default() })
            }
        }
    }

    async fn cluster(&mut self) -> anyhow::Result<String> {
        if let Some(cluster) = &self.cluster {
            return Ok(cluster.clone());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let about = || format!("Namespace {KUBE_SYSTEM}, whose uid is to tell clusters apart");
        let found = namespaces.get_metadata(KUBE_SYSTEM).await.map_err(|error| anyhow!(chain(&error)));
        let uid = found.with_context(about)?.metadata.uid.context("it has no uid").with_context(about)?;
        Ok(self.cluster.insert(uid).clone())
    }

    async fn owner(&self) -> anyhow::Result<Option<OwnerReference>> {
        let Some(name) = &self.settings.owner else { return Ok(None) };
        let about = || format!("DaemonSet {name}, to which the Secret {} is to belong", self.settings.secret);
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.namespace);
        match sets.get_metadata(name).await {
            Ok(set) => Ok(set.owner_ref(&())),
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => {
                bail!("there is no {}: without speakers no key is needed", about())
            }
            Err(error) => Err(anyhow!(chain(&error))).with_context(about),
        }
    }

    /// For how long this data has been seen.
    fn seen_for(&mut self, data: Option<&BTreeMap<String, ByteString>>) -> Duration {
        let Some(data) = data else {
            self.seen = None;
            return Duration::ZERO;
        };
        if self.seen.as_ref().is_none_or(|(before, _)| before != data) {
            self.seen = Some((data.clone(), Instant::now()));
        }
        self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }
}

/// A key that nobody has ever had.
fn fresh() -> anyhow::Result<Key> {
    Ok(Key(random::octets::<LENGTH>()?.to_vec()))
}

/// The Secret that is made where there is none.
fn made(name: &str, next: &Next, owner: Option<OwnerReference>) -> Secret {
    let data =
        [(CLUSTER, ByteString(next.key.cluster.clone().into_bytes())), (KEY, ByteString(next.key.key.0.clone()))];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some([(SINCE.to_owned(), seconds(next.since))].into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(field, value)| (field.to_owned(), value)).into()),
        ..Secret::default()
    }
}

/// What turns the Secret that stands into the next one: a merge patch, in which what is to be absent is null.
fn patch(next: &Next) -> Value {
    let octets = |key: &Key| json!(ByteString(key.0.clone()));
    let (later, earlier) = match &next.key.other {
        Other::None => (Value::Null, Value::Null),
        Other::Next(other) => (octets(other), Value::Null),
        Other::Previous(other) => (Value::Null, octets(other)),
    };
    let mut patch = json!({
        "metadata": {"annotations": {SINCE: seconds(next.since)}},
        "data": {
            CLUSTER: ByteString(next.key.cluster.clone().into_bytes()),
            KEY: octets(&next.key.key), NEXT: later, PREVIOUS: earlier,
        },
    });
    if !next.asked {
        patch["metadata"]["annotations"][ROTATE] = Value::Null;
    }
    patch
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn say(secret: &str, step: &Step) {
    match step {
        Step::Made => info!(secret, "made a key for the speakers"),
        Step::Replaced(why) => {
            warn!(secret, why, "the Secret with the speakers' key could not be used, it has a new key");
        }
        Step::Repaired(why) => {
            warn!(secret, why, "the Secret with the speakers' key was put right, the key that seals stays");
        }
        Step::Dated => info!(secret, "the speakers' key had no date that could be used, it counts as new"),
        Step::Accepted => info!(secret, "a change of the speakers' key begins: the next key is accepted"),
        Step::Used => info!(secret, "the next key of the speakers seals from now on"),
        Step::Dropped => info!(secret, "the speakers' previous key is gone, the change is complete"),
    }
}

#[cfg(test)]
mod tests;
