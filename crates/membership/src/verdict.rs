//! When is a member out? When more than half of its observers say so.
//!
//! Which observers count is what keeps both sides of a partition serving and a healthy node in:
//! - At first all of them count, the silent ones as votes for the member. So a dead member is out as soon as three of five
//!   have noticed, and one lossy link is outvoted.
//! - Three beat intervals after the first word against the member, those count that have given their word or are
//!   heard to live. On the smaller side of a partition the observers of the other side can say nothing; they fall away,
//!   and those on this side decide. A lone accuser among healthy observers stays alone: they are heard, or contradict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::MemberId;
use crate::message::Stance;

/// How long a word counts. It is repeated once a second while it stands.
const VOTE_LASTS: Duration = Duration::from_secs(3);

/// One observer's word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vote {
    pub(crate) stance: Stance,
    /// What the observer tells the member itself to wait; zero when it does not hold it to be out.
    pub(crate) hold: Duration,
    pub(crate) at: Instant,
    /// The number of the datagram that it came in.
    pub(crate) number: u32,
}

/// The words of others about one member.
#[derive(Debug, Default)]
pub(crate) struct Ballot {
    /// Since when somebody speaks against the member.
    since: Option<Instant>,
    votes: BTreeMap<MemberId, Vote>,
}

impl Ballot {
    /// Enters a vote. Any member may send one; those of the observers are counted. One that was `overtaken` counts only where it
    /// is the latest word on the matter all the same.
    pub(crate) fn enter(&mut self, observer: MemberId, vote: Vote, overtaken: bool) {
        if overtaken && self.votes.get(&observer).is_some_and(|known| known.number > vote.number) {
            return;
        }
        if vote.stance != Stance::Hears || vote.hold > Duration::ZERO {
            self.since.get_or_insert(vote.at);
        }
        self.votes.insert(observer, vote);
    }

    /// We ourselves speak against it.
    pub(crate) fn open(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Forgets what was said: the member has refuted it, or nobody speaks against it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Who has given a word.
    pub(crate) fn voters(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.votes.keys().copied()
    }

    /// Drops what is out of date. Returns whether anybody still speaks against the member.
    pub(crate) fn is_open(&mut self, now: Instant, we: Option<Stance>) -> bool {
        self.votes.retain(|_, vote| now < vote.at + VOTE_LASTS);
        let against = |vote: &Vote| vote.stance != Stance::Hears || vote.hold > Duration::ZERO;
        let open = self.votes.values().any(against) || we.is_some_and(|stance| stance != Stance::Hears);
        if !open {
            self.since = None;
        }
        open
    }

    /// When observers that say nothing stop to count.
    pub(crate) fn confirmed_at(&self, confirm: Duration) -> Option<Instant> {
        self.since.map(|since| since + confirm)
    }

    /// Counts the votes of `observers`. `own` is ours, for where we are one of them; `is_heard` tells of one that has said
    /// nothing whether we hear its beats.
    pub(crate) fn count(
        &self,
        observers: impl Iterator<Item = MemberId>,
        own: impl Fn(MemberId) -> Option<Stance>,
        is_heard: impl Fn(MemberId) -> bool,
        confirmed: bool,
    ) -> Count {
        let mut count = Count::default();
        for observer in observers {
            let vote = self.votes.get(&observer);
            let Some(stance) = own(observer).or(vote.map(|vote| vote.stance)) else {
                count.all += usize::from(!confirmed || is_heard(observer));
                continue;
            };
            count.all += 1;
            match stance {
                Stance::Hears => count.hear += 1,
                Stance::Silent => {}
                Stance::SpeakerGone => count.speaker_gone += 1,
                Stance::Gone => count.gone += 1,
            }
            let hold = vote.map_or(Duration::ZERO, |vote| vote.hold);
            count.held += usize::from(hold > Duration::ZERO);
            count.hold = count.hold.max(hold);
        }
        count
    }
}

/// What the observers say, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All that count, the silent ones with them.
    all: usize,
    hear: usize,
    speaker_gone: usize,
    gone: usize,
    /// Those that hold the member to be out and have told it so.
    held: usize,
    /// The longest time that one of them told it to wait.
    hold: Duration,
}

/// What more than half of the observers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They say different things, or nothing yet.
    Undecided,
    /// It beats.
    Alive,
    /// Its speaker is silent and its kernel answers.
    SpeakerGone,
    /// Speaker and kernel are silent.
    Gone,
}

impl Count {
    fn is_majority(&self, votes: usize) -> bool {
        votes * 2 > self.all
    }

    /// The verdict about another member.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.is_majority(self.gone) {
            Verdict::Gone
        } else if self.is_majority(self.gone + self.speaker_gone) {
            Verdict::SpeakerGone
        } else if self.is_majority(self.hear) {
            Verdict::Alive
        } else {
            Verdict::Undecided
        }
    }

    /// The verdict about ourselves: how long we are to wait, when we are held to be out; `Some(None)` when we are not;
    /// `None` when that is undecided.
    pub(crate) fn about_us(&self) -> Option<Option<Duration>> {
        if self.is_majority(self.held) {
            Some(Some(self.hold))
        } else if self.is_majority(self.hear) {
            Some(None)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stance::{Gone, Hears, Silent, SpeakerGone};

    fn id(n: u8) -> MemberId {
        MemberId([n; 8])
    }

    #[test]
    fn more_than_half_of_the_observers_decide() {
        let now = Instant::now();
        // Votes of observers 1, 2, …; `None` has said nothing. Those up to `heard` are heard to live.
        for (votes, heard, at_first, confirmed) in [
            (&[Some(Gone), Some(Gone), Some(Gone), None, None][..], 0, Verdict::Gone, Verdict::Gone),
            (&[Some(Gone), Some(Gone), None, None, None], 0, Verdict::Undecided, Verdict::Gone),
            (&[Some(Gone), Some(Gone), None, None, None], 5, Verdict::Undecided, Verdict::Undecided),
            (&[Some(Gone), None, None, None, None], 4, Verdict::Undecided, Verdict::Undecided),
            (&[Some(Gone), Some(Hears), None, None, None], 0, Verdict::Undecided, Verdict::Undecided),
            (&[Some(Gone), Some(Gone), Some(Hears), Some(Hears), Some(Hears)], 0, Verdict::Alive, Verdict::Alive),
            (
                &[Some(Gone), Some(Gone), Some(SpeakerGone), Some(Silent), None],
                0,
                Verdict::SpeakerGone,
                Verdict::SpeakerGone,
            ),
            (
                &[Some(Silent), Some(Silent), Some(Silent), Some(Silent), Some(Silent)],
                0,
                Verdict::Undecided,
                Verdict::Undecided,
            ),
            (&[Some(SpeakerGone)], 0, Verdict::SpeakerGone, Verdict::SpeakerGone),
            (&[Some(Gone), None], 0, Verdict::Undecided, Verdict::Gone),
            (&[Some(Gone), None], 2, Verdict::Undecided, Verdict::Undecided),
            (&[None, None, None], 0, Verdict::Undecided, Verdict::Undecided),
        ] {
            let mut ballot = Ballot::default();
            for (n, stance) in votes.iter().enumerate() {
                if let Some(stance) = stance {
                    ballot.enter(
                        id(n as u8),
                        Vote { stance: *stance, hold: Duration::ZERO, at: now, number: 1 },
                        false,
                    );
                }
            }
            let verdict = |confirmed| {
                let observers = (0..votes.len()).map(|n| id(n as u8));
                ballot.count(observers, |_| None, |observer| usize::from(observer.0[0]) < heard, confirmed).verdict()
            };
            assert_eq!((verdict(false), verdict(true)), (at_first, confirmed), "{votes:?}, {heard} heard");
        }
    }

    #[test]
    fn of_two_words_of_one_observer_the_later_counts_in_whatever_order_they_come() {
        let now = Instant::now();
        for (number, overtaken, verdict) in [
            (2, false, Verdict::Alive),
            (2, true, Verdict::Alive),
            (1, true, Verdict::Gone),
            (1, false, Verdict::Alive),
        ] {
            let mut ballot = Ballot::default();
            let vote = |stance, number| Vote { stance, hold: Duration::ZERO, at: now, number };
            ballot.enter(id(1), vote(Gone, 2), false);
            ballot.enter(id(1), vote(Hears, if number == 2 { 3 } else { 1 }), overtaken);
            let count = ballot.count([id(1)].into_iter(), |_| None, |_| false, false);
            assert_eq!(count.verdict(), verdict, "{number} {overtaken}");
        }
    }

    #[test]
    fn a_word_that_is_not_repeated_is_forgotten() {
        let now = Instant::now();
        let mut ballot = Ballot::default();
        ballot.enter(id(1), Vote { stance: Gone, hold: Duration::ZERO, at: now, number: 1 }, false);
        assert!(ballot.is_open(now + Duration::from_millis(2_999), None));
        assert!(!ballot.is_open(now + VOTE_LASTS, None));
        assert_eq!(ballot.confirmed_at(Duration::ZERO), None);
    }
}
