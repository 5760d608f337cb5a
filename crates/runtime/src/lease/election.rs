//! Who leads? Pure: answers of the API in, the next request out. The module above says why it is safe.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{DURATION, Leadership, POLL, RENEW_EVERY, REQUEST_LIMIT, RETRY, RIGHT};

/// Now, on both clocks: the one that only runs forward, by which everything is decided, and the one that people read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Decides.
    pub instant: Instant,
    /// Is written into the Lease, for people and to make each renewal another text than the last.
    pub wall: Timestamp,
}

/// What a Lease says. Its times are compared for being the same, never with a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who leads; empty: nobody, the last one let go.
    pub holder: String,
    /// How long others are to wait after the last change that they see.
    pub duration: Duration,
    /// Since when the holder leads, on its wall clock.
    pub acquired: Option<Timestamp>,
    /// The last renewal, on the holder's wall clock.
    pub renewed: Option<Timestamp>,
    /// How often the holder was another than before.
    pub transitions: i32,
}

/// A Lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it says.
    pub record: Record,
    /// Its `metadata.resourceVersion`.
    pub version: String,
}

/// What to ask of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read the Lease, as it stands at this moment (no cache).
    Read,
    /// Make it; refused when there is one.
    Create(Record),
    /// Write it; refused unless it still has this version.
    Replace {
        /// The `resourceVersion` on which the write depends.
        version: String,
        /// What it is to say.
        record: Record,
    },
}

/// A request, and how long to wait for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to ask.
    pub ask: Ask,
    /// When no answer has come after this time, the answer is [`Answer::Failed`].
    pub limit: Duration,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The Lease was read: this stands there; `None`: there is no Lease.
    Found(Option<Stored>),
    /// A write took effect; this stands there now.
    Written(Stored),
    /// A write was refused, because the Lease is not what we thought.
    Refused,
    /// Anything else, such as no answer in time: a write may have taken effect or not, and may still do so.
    Failed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this and bring the answer. One request at a time.
    Ask(Request),
    /// Nothing until then.
    Wait(Instant),
    /// Nothing ever: the election is over for us.
    Done,
}

/// One candidate's part in the election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    stage: Stage,
    seen: Option<Seen>,
    /// The Lease may be another than what was seen: it has to be read before anything is written.
    in_doubt: bool,
    right: Option<Right>,
    terms: u64,
    /// The next request is not sent before; `None`: at once.
    due: Option<Instant>,
    jitter: Jitter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Standing,
    Resigning,
    Over,
}

/// The last record that was seen.
#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    /// `None`: the Lease is gone, and the record is what it said last.
    version: Option<String>,
    /// When, on our clock, it was first seen to say this.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Right {
    term: u64,
    until: Instant,
}

impl Election {
    /// `identity` is different for every process, also for one that follows on another in the same Pod. `seed` spreads
    /// the polls.
    pub fn new(identity: String, seed: u64) -> Self {
        let (stage, jitter) = (Stage::Standing, Jitter(seed));
        Self { identity, stage, seen: None, in_doubt: true, right: None, terms: 0, due: None, jitter }
    }

    /// Whether we lead at this instant.
    pub fn leadership(&self, now: Instant) -> Leadership {
        match (&self.right, &self.seen) {
            (Some(Right { term, until }), _) if now < *until => Leadership::Leader { term: *term, until: *until },
            (_, Some(Seen { record, version: Some(_), .. })) => {
                let other = !record.holder.is_empty() && record.holder != self.identity;
                Leadership::Standby { leader: other.then(|| record.holder.clone()) }
            }
            (_, Some(Seen { version: None, .. }) | None) => Leadership::Standby { leader: None },
        }
    }

    /// What to do now. Ask again after the answer, or when the wait is over.
    pub fn next(&mut self, now: Now) -> Next {
        match self.stage {
            Stage::Standing => self.stand(now),
            Stage::Resigning => self.let_go(now),
            Stage::Over => Next::Done,
        }
    }

    /// We want to lead no longer, and do not lead from this moment. What [`next`](Self::next) asks for afterwards tells
    /// the others, so that they need not wait.
    pub fn resign(&mut self) {
        self.right = None;
        self.stage = Stage::Resigning;
    }

    /// How the request for `ask` ended that was begun at `started`.
    pub fn answered(&mut self, ask: &Ask, answer: Answer, started: Instant, now: Instant) {
        match answer {
            Answer::Found(lease) => {
                self.in_doubt = false;
                self.see(lease, now);
                if !self.is_ours() {
                    self.right = None;
                }
                self.due = (self.claimable_at() > Some(now)).then(|| self.next_poll(now));
            }
            Answer::Written(lease) => {
                self.in_doubt = false;
                self.see(Some(lease), now);
                if self.is_ours() && self.stage == Stage::Standing {
                    self.renewed(started, now);
                }
            }
            // The right lasts until it has run out, or until it is read that another has it.
            Answer::Refused if *ask != Ask::Read => {
                self.in_doubt = true;
                self.due = None;
            }
            Answer::Refused | Answer::Failed => {
                self.in_doubt = true;
                self.due = Some(if self.right.is_some() { now + RETRY } else { now + self.jitter.spread(POLL) });
                if self.stage == Stage::Resigning {
                    self.stage = Stage::Over;
                }
            }
        }
    }

    fn stand(&mut self, now: Now) -> Next {
        if self.right.is_some_and(|right| right.until <= now.instant) {
            self.right = None;
            self.in_doubt = true;
            self.due = None;
        }
        let until = self.right.map(|right| right.until);
        if let Some(due) = self.due.filter(|due| *due > now.instant) {
            return Next::Wait(until.map_or(due, |until| due.min(until)));
        }
        let may_claim = !self.in_doubt && self.claimable_at().is_some_and(|at| at <= now.instant);
        let ask = if may_claim { self.claim(now.wall) } else { Ask::Read };
        let limit = until.map_or(REQUEST_LIMIT, |until| REQUEST_LIMIT.min(until - now.instant));
        Next::Ask(Request { ask, limit })
    }

    fn let_go(&mut self, now: Now) -> Next {
        let ask = match &self.seen {
            _ if self.in_doubt => Ask::Read,
            Some(Seen { record, version: Some(version), .. }) if record.holder == self.identity => {
                let record = Record {
                    holder: String::new(),
                    duration: Duration::from_secs(1), // as client-go; the API refuses 0
                    renewed: Some(now.wall),
                    ..record.clone()
                };
                Ask::Replace { version: version.clone(), record }
            }
            Some(_) | None => {
                self.stage = Stage::Over;
                return Next::Done;
            }
        };
        Next::Ask(Request { ask, limit: REQUEST_LIMIT })
    }

    /// Takes note of the Lease. Only another record counts as a sign of life: anybody may label a Lease.
    fn see(&mut self, lease: Option<Stored>, now: Instant) {
        match (lease, &mut self.seen) {
            (Some(lease), Some(seen)) if seen.record == lease.record => seen.version = Some(lease.version),
            (Some(lease), seen) => {
                *seen = Some(Seen { record: lease.record, version: Some(lease.version), since: now });
            }
            (None, Some(seen)) => seen.version = None,
            (None, seen @ None) => {
                let nobody =
                    Record { holder: String::new(), duration: DURATION, acquired: None, renewed: None, transitions: 0 };
                *seen = Some(Seen { record: nobody, version: None, since: now });
            }
        }
    }

    /// Whether the Lease names us, as far as was seen.
    fn is_ours(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.version.is_some() && seen.record.holder == self.identity)
    }

    /// When we may write our name. A Lease that was deleted does not end its holder's right, so it is waited for all the
    /// same.
    fn claimable_at(&self) -> Option<Instant> {
        let Seen { record, since, .. } = self.seen.as_ref()?;
        let free = record.holder.is_empty() || record.holder == self.identity;
        Some(if free { *since } else { *since + record.duration })
    }

    /// The next look at a Lease that another holds: soon, or at the instant it runs out.
    fn next_poll(&mut self, now: Instant) -> Instant {
        let poll = now + self.jitter.spread(POLL);
        self.claimable_at().map_or(poll, |at| poll.min(at))
    }

    fn claim(&self, wall: Timestamp) -> Ask {
        let before = self.seen.as_ref().map(|seen| &seen.record);
        let again = before.filter(|record| record.holder == self.identity);
        let record = Record {
            holder: self.identity.clone(),
            duration: DURATION,
            acquired: again.map_or(Some(wall), |record| record.acquired),
            renewed: Some(wall),
            transitions: match (again, before) {
                (Some(record), _) => record.transitions,
                (None, Some(record)) => record.transitions.saturating_add(1),
                (None, None) => 0,
            },
        };
        match self.seen.as_ref().and_then(|seen| seen.version.clone()) {
            Some(version) => Ask::Replace { version, record },
            None => Ask::Create(Record { transitions: 0, ..record }),
        }
    }

    /// The Lease says that we hold it since a request that was begun at `started`.
    fn renewed(&mut self, started: Instant, now: Instant) {
        let until = started + RIGHT;
        let continued = self.right.filter(|right| now < right.until);
        self.right = (now < until).then(|| {
            let term = continued.map_or(self.terms + 1, |right| right.term);
            self.terms = term;
            Right { term, until }
        });
        self.due = Some(started + RENEW_EVERY);
    }
}

/// Spreads moments, so that candidates which began together do not go on in step (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Nine to eleven tenths of it.
    fn spread(&mut self, pause: Duration) -> Duration {
        let per_mille = 900 + u32::try_from(self.draw() % 201).unwrap_or_default();
        pause * per_mille / 1000
    }
}

#[cfg(test)]
mod tests;
