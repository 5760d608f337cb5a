//! What is to be done about the speakers' key. Pure: what stands, the time and a random key in; what is to stand out, or when to
//! look again.
//!
//! A change of the key has three steps ([`landfall_api::speaker_key`] says why), with a pause between them that is long enough for every
//! speaker to have read the Secret. The pause is counted from when *this* leader first saw what stands, by a clock that is
//! never set: a leader that takes over in the middle of a change, or whose wall clock is wrong, waits too long at
//! worst, never too short. How old a key is can only be told by the wall clock; there an error costs a change too many or too late.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use landfall_api::speaker_key::{Key, NEXT, Other, PREVIOUS, SpeakerKey};

/// How far ahead of us the clock of an earlier leader may have been. What is dated later was written by a clock that was wrong,
/// or is read by one.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);
/// The longest wait: the wall clock may be set, and a computer may sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What is asked of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The uid of the Namespace kube-system.
    pub(super) cluster: String,
    /// At this age the key is changed; `None`: never by itself.
    pub(super) rotate_after: Option<Duration>,
    /// Between two steps of a change.
    pub(super) pause: Duration,
}

/// What stands in the cluster.
#[derive(Clone, PartialEq)]
pub(super) struct Standing {
    /// The Secret's data.
    pub(super) data: BTreeMap<String, ByteString>,
    /// Since when its key seals, as far as it says so in a way that can be read.
    pub(super) since: Option<Timestamp>,
    /// Somebody asks for another key.
    pub(super) asked: bool,
    /// For how long we have seen this data, by the monotonic clock.
    pub(super) seen_for: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// This is to be written, for this reason.
    Write(Next, Step),
    /// Nothing, unless something changes; look again after this time.
    Wait(Duration),
}

/// What is to stand in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The data.
    pub(super) key: SpeakerKey,
    /// Since when its key seals.
    pub(super) since: Timestamp,
    /// Whether the request for another key stays, because it is yet to be met.
    pub(super) asked: bool,
}

/// Why something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There was no Secret.
    Made,
    /// It could not be used, for this reason, and has a new key.
    Replaced(String),
    /// Its second key could not be used, for this reason, and is taken away. The first one stays.
    Repaired(String),
    /// It did not say since when its key seals, or named a time to come.
    Dated,
    /// The first step of a change: every speaker is to open what the next key seals.
    Accepted,
    /// The second step: the next key seals.
    Used,
    /// The last step: the previous key is taken away.
    Dropped,
}

/// Decides. `fresh` is a key that nobody has ever had; it is used if one is needed.
pub(super) fn plan(standing: Option<&Standing>, rules: &Rules, fresh: Key, now: Timestamp) -> Plan {
    let anew = |step, fresh| {
        let key = SpeakerKey { cluster: rules.cluster.clone(), key: fresh, other: Other::None };
        Plan::Write(Next { key, since: now, asked: false }, step)
    };
    let Some(Standing { data, since, asked, seen_for }) = standing else { return anew(Step::Made, fresh) };
    let dated = since.filter(|since| *since <= now.saturating_add(CLOCKS_DIFFER).unwrap_or(Timestamp::MAX));
    let since = dated.unwrap_or(now);
    let write = |step, key| Plan::Write(Next { key, since, asked: *asked }, step);
    let SpeakerKey { cluster, key, other } = match usable(data, rules) {
        Ok(key) => key,
        Err(why) => {
            return match usable(&without_second(data), rules) {
                Ok(key) => write(Step::Repaired(why), key),
                Err(_) => anew(Step::Replaced(why), fresh),
            };
        }
    };
    let over = *seen_for >= rules.pause;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    let old = rules.rotate_after.is_some_and(|after| age >= after);
    match other {
        Other::Next(next) if over => {
            let key = SpeakerKey { cluster, key: next, other: Other::Previous(key) };
            Plan::Write(Next { key, since: now, asked: *asked }, Step::Used)
        }
        Other::Previous(_) if over => write(Step::Dropped, SpeakerKey { cluster, key, other: Other::None }),
        Other::None if dated.is_some() && (*asked || old) => {
            let key = SpeakerKey { cluster, key, other: Other::Next(fresh) };
            Plan::Write(Next { key, since, asked: false }, Step::Accepted)
        }
        other if dated.is_none() => write(Step::Dated, SpeakerKey { cluster, key, other }),
        Other::Next(_) | Other::Previous(_) => Plan::Wait(rules.pause - *seen_for),
        Other::None => Plan::Wait(rules.rotate_after.map_or(LOOK_AGAIN, |after| LOOK_AGAIN.min(after - age))),
    }
}

/// The key, if it is one for this cluster; otherwise why not.
fn usable(data: &BTreeMap<String, ByteString>, rules: &Rules) -> Result<SpeakerKey, String> {
    let key = SpeakerKey::read(data).map_err(|error| error.to_string())?;
    if key.cluster == rules.cluster {
        return Ok(key);
    }
    // A backup of another cluster, perhaps, which has this key, too.
    Err(format!("its field cluster is {:?}; the Namespace kube-system has the uid {}", key.cluster, rules.cluster))
}

fn without_second(data: &BTreeMap<String, ByteString>) -> BTreeMap<String, ByteString> {
    let mut data = data.clone();
    data.retain(|field, _| field != NEXT && field != PREVIOUS);
    data
}

#[cfg(test)]
mod tests;
