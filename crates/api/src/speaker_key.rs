//! The Secret with the key that speakers seal their datagrams with: the controller makes and changes it, the speakers read it.
//!
//! While the key is changed there are two. First [`NEXT`] stands beside [`KEY`]: every speaker opens what is sealed with it,
//! none seals with it yet. Then it becomes `key`, and the one before it stands beside it as [`PREVIOUS`]. Then that goes.
//! So two speakers of which one has read the Secret a step later than the other understand each other at all times.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;

/// In the Secret's data: the uid of the Namespace kube-system, which tells clusters on one network apart.
pub const CLUSTER: &str = "cluster";
/// In the Secret's data: what seals.
pub const KEY: &str = "key";
/// In the Secret's data, at the beginning of a change: what will seal next.
pub const NEXT: &str = "next";
/// In the Secret's data, at the end of a change: what sealed before.
pub const PREVIOUS: &str = "previous";

/// On the Secret, with any value: change the key now. The controller takes it away when it begins.
pub const ROTATE: &str = "landfall.io/rotate-speaker-key";
/// On the Secret, written by the controller: since when `key` has been the one that seals (RFC 3339).
pub const SINCE: &str = "landfall.io/speaker-key-since";

/// The octets of a key that is made.
pub const LENGTH: usize = 32;
/// The fewest octets that a key may have.
pub const SHORTEST: usize = 16;

/// The octets of a key. They are not shown by `Debug`, so that no log ever has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} octets)", self.0.len())
    }
}

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerKey {
    /// Which cluster the key is for.
    pub cluster: String,
    /// What seals.
    pub key: Key,
    /// What opens as well.
    pub other: Other,
}

/// The second key, if there is one: how far a change of the key has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// The key is not being changed.
    None,
    /// It will seal next.
    Next(Key),
    /// It sealed before.
    Previous(Key),
}

/// Why the Secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeakerKeyError {
    /// A field that must be there is not.
    #[error("its field {field} is missing or empty")]
    Missing {
        /// The field of the Secret's data.
        field: &'static str,
    },
    /// `cluster` is no text.
    #[error("its field {CLUSTER} is not text; it is to be the uid of the Namespace kube-system")]
    NotText,
    /// Too easy to guess.
    #[error("its field {field} has {have} octets; {SHORTEST} are the least, {LENGTH} random ones are best")]
    Short {
        /// The field of the Secret's data.
        field: &'static str,
        /// Its octets.
        have: usize,
    },
    /// Both ends of a change at once.
    #[error("it has {NEXT} and {PREVIOUS} at the same time; a change of the key has one after the other")]
    Both,
    /// Two fields with one key.
    #[error("its fields {KEY} and {field} are the same")]
    Same {
        /// The field that should differ.
        field: &'static str,
    },
}

impl SpeakerKey {
    /// Reads the data of the Secret. Fields that are none of ours are ignored.
    /// # Errors
    /// [`SpeakerKeyError`]: the first mistake, with its field.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, SpeakerKeyError> {
        let present = |field: &str| data.get(field).map(|value| &value.0).filter(|value| !value.is_empty());
        let key = |field: &'static str, octets: &Vec<u8>| match octets.len() {
            SHORTEST.. => Ok(Key(octets.clone())),
            have => Err(SpeakerKeyError::Short { field, have }),
        };
        let needed = |field: &'static str| present(field).ok_or(SpeakerKeyError::Missing { field });
        let cluster = String::from_utf8(needed(CLUSTER)?.clone()).map_err(|_| SpeakerKeyError::NotText)?;
        let first = key(KEY, needed(KEY)?)?;
        let (field, other) = match (present(NEXT), present(PREVIOUS)) {
            (None, None) => return Ok(Self { cluster, key: first, other: Other::None }),
            (Some(_), Some(_)) => return Err(SpeakerKeyError::Both),
            (Some(next), None) => (NEXT, Other::Next(key(NEXT, next)?)),
            (None, Some(previous)) => (PREVIOUS, Other::Previous(key(PREVIOUS, previous)?)),
        };
        match &other {
            Other::Next(second) | Other::Previous(second) if *second == first => Err(SpeakerKeyError::Same { field }),
            _ => Ok(Self { cluster, key: first, other }),
        }
    }

    /// The keys that open; the first one seals.
    pub fn keys(&self) -> Vec<&Key> {
        match &self.other {
            Other::None => vec![&self.key],
            Other::Next(other) | Other::Previous(other) => vec![&self.key, other],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(fields: &[(&str, &[u8])]) -> BTreeMap<String, ByteString> {
        fields.iter().map(|(field, value)| ((*field).to_owned(), ByteString(value.to_vec()))).collect()
    }

    #[test]
    fn the_key_that_seals_comes_first_at_every_step_of_a_change() {
        let (one, two) = ([1; LENGTH], [2; LENGTH]);
        for (fields, expected) in [
            (vec![], vec![one]),
            (vec![(NEXT, &two[..])], vec![one, two]),
            (vec![(PREVIOUS, &two[..])], vec![one, two]),
            (vec![(NEXT, &[][..]), ("note", b"mine")], vec![one]),
        ] {
            let read = SpeakerKey::read(&data(&[&[(CLUSTER, &b"uid"[..]), (KEY, &one)], &fields[..]].concat()));
            let read = read.unwrap_or_else(|error| panic!("{fields:?}: {error}"));
            assert_eq!(read.cluster, "uid");
            let keys: Vec<Vec<u8>> = read.keys().into_iter().map(|key| key.0.clone()).collect();
            assert_eq!(keys, expected, "{fields:?}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_used_says_which_field_is_wrong_and_how() {
        let (one, two, short) = ([1; LENGTH], [2; LENGTH], [3; SHORTEST - 1]);
        for (fields, text) in [
            (vec![], "its field cluster is missing or empty"),
            (vec![(CLUSTER, &b"uid"[..]), (KEY, b"")], "its field key is missing or empty"),
            (vec![(CLUSTER, b"\xff"), (KEY, &one)], "its field cluster is not text"),
            (vec![(CLUSTER, b"uid"), (KEY, &short)], "its field key has 15 octets; 16 are the least"),
            (vec![(CLUSTER, b"uid"), (KEY, &one), (NEXT, &short)], "its field next has 15 octets"),
            (vec![(CLUSTER, b"uid"), (KEY, &one), (NEXT, &two), (PREVIOUS, &two)], "it has next and previous"),
            (vec![(CLUSTER, b"uid"), (KEY, &one), (PREVIOUS, &one)], "its fields key and previous are the same"),
        ] {
            let error = SpeakerKey::read(&data(&fields)).expect_err(text).to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }

    #[test]
    fn no_log_shows_the_octets_of_a_key() {
        let key =
            SpeakerKey { cluster: "uid".into(), key: Key(vec![77; LENGTH]), other: Other::Next(Key(vec![78; 16])) };
        let shown = format!("{key:?}");
        assert!(shown.contains("Key(32 octets)") && shown.contains("Next(Key(16 octets))"), "{shown}");
        assert!(!shown.contains("77") && !shown.contains("78"), "{shown}");
    }
}
