//! One leader among several replicas, elected on a Lease (`coordination.k8s.io/v1`) by client-go's algorithm.
//!
//! [`Election`] is the pure state machine: what was read and written in, the next request out, time as a value.
//! [`stand`] drives it against the API with a client of its own and publishes [`Leadership`].
//!
//! # Why two never lead at once
//!
//! Clocks of different machines are never compared. The leader counts on its own clock from the **start** of its last
//! successful renewal: [`RIGHT`] (2 s) later it has lost the right to write, whether or not the API could be asked. The
//! renewal took effect after its start; another learns of it later still, and on its own clock waits from **then** for
//! [`DURATION`] (3 s) without seeing the Lease change. Only then does it write its own name, on condition that the
//! Lease is still the version it saw, so that of several one wins and a renewal that was under way wins over all.
//!
//! ```text
//! leader   start ──── right to write: 2 s ────┤
//! Lease      └─▶ renewed
//! other             └─▶ seen ─────────── waits: 3 s ───────────┤ may claim
//!                                             └─ at least 1 s ─┘
//! ```
//!
//! The second in between is for what was sent in the last moment: a write's time limit ends with the right
//! ([`Leadership::time_for_write`]), so what can still take effect afterwards is what lies in the network or in the API
//! server at that instant. It also covers clocks of different speed: 3 s on one would have to be 2 s on the other.
//!
//! # What a holder of [`Leadership`] has to do
//!
//! - Ask for the [`term`](Leadership::term) when something is decided, and **right before each request** that
//!   writes, ask for [`time_for_write`](Leadership::time_for_write) in that term, with a clock that is read at that
//!   moment, and give the request up after what it grants. A process that was stopped (SIGSTOP) and goes on finds
//!   its right expired by the clock, before any task has heard of it.
//! - In a new term, trust nothing that was decided or read before: what the predecessor wrote last may not have
//!   come through a watch yet. List anew *after* the term began, then decide. (A watch that is cut off while the
//!   Lease can be had would be stale for as long as a minute.) Our own writes of an earlier term that were given up
//!   may still take effect, as any that was given up.
//! - Let every write carry a precondition: the object's uid and resourceVersion. No clock helps a process that is
//!   stopped *between* the question and the system call that sends: its write goes out when it goes on, however
//!   much later, and so does that of a virtual machine that was paused, whose clocks stood still (`CLOCK_MONOTONIC`
//!   also stands still in suspend, not in SIGSTOP). The precondition makes the API server refuse it when anybody
//!   has written to the object meanwhile, the new leader first of all. What remains is such a write to an object
//!   that the new leader has looked at and left as it was. It takes effect, comes through the new leader's watch as
//!   anybody's edit would, and must be put right there like one: that which holds an address in the books keeps it,
//!   the other gets another.
//! - On the way out: begin no write, wait for those under way, and only then [`release`](Candidacy::release). After
//!   a release the other does not wait a moment.
//!
//! # Why a dead leader is replaced in time
//!
//! Another reads the Lease each [`POLL`] (0.5 s, a tenth more or less), so it has seen the last renewal 0.6 s after
//! it at the latest, and claims at the very instant the 3 s are over. 3.6 s after the death at worst, 3.3 s on
//! average, a new leader may list and write; of 5 s this leaves 1.4 s. A leader that ends by itself releases, and
//! is replaced within 0.6 s.
//!
//! A renewal each [`RENEW_EVERY`] (0.6 s) that may take [`REQUEST_LIMIT`] (1 s), as many as fit: when one is lost
//! at 0.6 s, the next begins at 1.7 s. That is 1.7 small writes a second for as long as a leader lives: the price
//! of the above, about what the kubelets of seventeen nodes cost the API server.

mod election;
mod keeper;
#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

pub use election::{Answer, Ask, Election, Next, Now, Record, Request, Stored};
pub use keeper::{Candidacy, identity, pod_of, stand, unopposed};

/// How long others wait after the last change they saw; what the Lease says as `leaseDurationSeconds`.
pub const DURATION: Duration = Duration::from_secs(3);
/// How long after the start of a successful renewal its holder may write.
pub const RIGHT: Duration = Duration::from_secs(2);
/// From the start of one successful renewal to the start of the next.
pub const RENEW_EVERY: Duration = Duration::from_millis(600);
/// How often one that does not lead reads the Lease; a tenth more or less, so that several do not move in step.
pub const POLL: Duration = Duration::from_millis(500);
/// The leader's pause after a request that failed.
pub const RETRY: Duration = Duration::from_millis(100);
/// How long one request may take: far longer than a healthy API server needs, even under load, and short enough for a
/// second try within [`RIGHT`].
pub const REQUEST_LIMIT: Duration = Duration::from_secs(1);

const _: () = {
    let second_try = RENEW_EVERY.as_millis() + REQUEST_LIMIT.as_millis() + RETRY.as_millis();
    assert!(second_try < RIGHT.as_millis(), "a lost renewal must leave time for another");
    assert!(RIGHT.as_millis() + 1000 <= DURATION.as_millis(), "writes of the last moment need time to arrive");
};

/// Whether this process leads. It is worth nothing without a look at the clock: ask its methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This process leads.
    Leader {
        /// Counts the times that this process became leader. Another number: somebody else may have led in between.
        term: u64,
        /// The right to write ends here; each renewal moves it.
        until: Instant,
    },
    /// It does not.
    Standby {
        /// Who holds the Lease, as far as is known.
        leader: Option<String>,
    },
}

impl Leadership {
    /// The term, if this process leads at this instant.
    pub fn term(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Leader { term, until } if now < *until => Some(*term),
            Self::Leader { .. } | Self::Standby { .. } => None,
        }
    }

    /// How long a write may take that was decided in `term` and begins now: `limit`, or less when the right to write
    /// ends before. `None`: it must not begin.
    pub fn time_for_write(&self, term: u64, now: Instant, limit: Duration) -> Option<Duration> {
        match self {
            Self::Leader { until, .. } if self.term(now) == Some(term) => Some(limit.min(*until - now)),
            Self::Leader { .. } | Self::Standby { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_to_write_ends_by_the_clock_and_with_the_term() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let leader = Leadership::Leader { term: 2, until: at(2000) };
        let limit = Duration::from_millis(500);
        for (leadership, term, now, granted) in [
            (&leader, 2, 0, Some(500)),
            (&leader, 2, 1900, Some(100)),
            (&leader, 2, 2000, None),
            (&leader, 2, 9000, None),
            (&leader, 1, 0, None),
            (&Leadership::Standby { leader: None }, 2, 0, None),
        ] {
            let granted = granted.map(Duration::from_millis);
            assert_eq!(leadership.time_for_write(term, at(now), limit), granted, "term {term} at {now} ms");
        }
        assert_eq!((leader.term(at(1999)), leader.term(at(2000))), (Some(2), None));
    }
}
