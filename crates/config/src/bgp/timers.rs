//! The two times that keep a session alive.

use std::time::Duration;

use crate::duration;
use crate::problem::Problems;

/// The hold time is two octets of seconds on the wire.
const LONGEST_HOLD: Duration = Duration::from_secs(u16::MAX as u64);
/// RFC 4271, section 4.2.
const SHORTEST_HOLD: Duration = Duration::from_secs(3);
/// How many signs of life fit into the hold time where the user gives one of the two only (RFC 4271, section 10).
const KEEPALIVES_PER_HOLD: u32 = 3;

/// How long a session lives without a message from the peer, and how often we send a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Whole seconds, from 3 to 65535, or zero: the session never expires.
    pub hold: Duration,
    /// Not longer than `hold`; zero if that is, for then none are sent (RFC 4271, section 4.4).
    pub keepalive: Duration,
}

impl Timers {
    /// Reads `spec.holdTime` and `spec.keepaliveTime`. If one is absent it follows from the other; `None` if both are, or
    /// if there is a problem. Parts of a second of the hold time are cut off.
    pub(super) fn read(hold: Option<&str>, keepalive: Option<&str>, problems: &mut Problems<'_>) -> Option<Self> {
        let mut read = |field, given: Option<&str>| match given.map(duration::parse) {
            None => Some(None),
            Some(Ok(duration)) => Some(Some(duration)),
            Some(Err(error)) => {
                problems.add(field, given.unwrap_or_default(), format!("invalid BGPPeer timers: {error}"));
                None
            }
        };
        let times = (read(HOLD, hold), read(KEEPALIVE, keepalive));
        let (field, value) = match hold {
            Some(hold) => (HOLD, hold),
            None => (KEEPALIVE, keepalive.unwrap_or_default()),
        };
        let (hold, keepalive) = match (times.0?, times.1?) {
            (None, None) => return None,
            (Some(hold), None) => (hold, hold / KEEPALIVES_PER_HOLD),
            (None, Some(keepalive)) => (keepalive.saturating_mul(KEEPALIVES_PER_HOLD), keepalive),
            (Some(hold), Some(keepalive)) => (hold, keepalive),
        };
        let whole = Duration::from_secs(hold.as_secs());
        if !whole.is_zero() && !(SHORTEST_HOLD..=LONGEST_HOLD).contains(&whole) {
            let what = match field {
                HOLD => "a hold time",
                _ => "the hold time, three times the keepalive time unless it is set,",
            };
            problems.add(
                field,
                value,
                format!("invalid BGPPeer timers: {what} must be 0s, for no limit, or from 3s to 65535s; change it"),
            );
            return None;
        }
        if keepalive > hold {
            problems.add(
                KEEPALIVE,
                format!("{keepalive:?}"),
                format!(
                    "invalid BGPPeer timers: the keepalive time is longer than the hold time of {hold:?}, so the peer would \
                     drop the session between two signs of life; shorten it to a third of the hold time, or leave it out"
                ),
            );
            return None;
        }
        Some(Self { hold: whole, keepalive: if whole.is_zero() { Duration::ZERO } else { keepalive } })
    }
}

const HOLD: &str = "spec.holdTime";
const KEEPALIVE: &str = "spec.keepaliveTime";
