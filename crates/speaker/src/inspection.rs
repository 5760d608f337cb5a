//! Does the owner of an address answer for it, and nobody else? Pure.
//!
//! Members know of each other that they live, not what the segment makes of their answers: a switch port may be in the wrong
//! VLAN, a filter may drop ARP, a switch may swallow multicast. So for each address the node that would take it over
//! asks for it about once a minute, as any neighbour would, and tells the owner when no answer comes from it, or one
//! from somebody else. The owner announces the address anew and, if that does not help, says so
//! ([`Unheard`](crate::unheard::Unheard)). It does not give the address away: it may as well be the asker's port that is wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_membership::{Finding, WireCheck};

use crate::due::Due;
use crate::refresh::Refresh;

/// The first look comes after this at the earliest: who has just taken an address is still announcing it.
const SETTLE: Duration = Duration::from_secs(5);
/// How often an address is asked for before its owner counts as silent, and how long each time.
const ASKS: u32 = 3;
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// When an address is looked at again with which something is amiss.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looks {
    /// Ask for these.
    pub(crate) ask: Vec<IpAddr>,
    /// Tell the owner of each what was found.
    pub(crate) tell: Vec<(Arc<str>, WireCheck)>,
}

/// The addresses that we look after, each with a schedule of its own.
#[derive(Debug)]
pub(crate) struct Inspection {
    refresh: Refresh,
    /// Looks begin in whole seconds from here on, so that an idle node wakes rarely.
    began: Instant,
    subjects: Due<IpAddr, Subject>,
}

#[derive(Debug)]
struct Subject {
    owner: Arc<str>,
    /// How often it was asked for in this look; 0 between two looks.
    asked: u32,
    looks: u64,
    /// The owner was told that something is amiss.
    is_amiss: bool,
}

impl Inspection {
    /// Each address is looked at as often as what is well is announced.
    pub(crate) fn new(refresh: Refresh, now: Instant) -> Self {
        Self { refresh, began: now, subjects: Due::default() }
    }

    /// These are ours to look after from now on, with their owners.
    pub(crate) fn follow(&mut self, subjects: &BTreeMap<IpAddr, Arc<str>>, now: Instant) {
        self.subjects.retain(|ip, subject| subjects.get(&ip) == Some(&subject.owner));
        for (ip, owner) in subjects {
            if self.subjects.get(*ip).is_none() {
                let due = self.round(now + SETTLE + self.refresh.first(ip));
                self.subjects.set(*ip, due, Subject { owner: Arc::clone(owner), asked: 0, looks: 1, is_amiss: false });
            }
        }
    }

    /// The owner of an address that is being asked for now.
    pub(crate) fn asks_for(&self, ip: IpAddr) -> Option<&Arc<str>> {
        self.subjects.get(ip).filter(|subject| subject.asked > 0).map(|subject| &subject.owner)
    }

    /// Somebody answers for an address that is being asked for: its owner, or another. Returns whom to tell what.
    pub(crate) fn heard(&mut self, ip: IpAddr, from_owner: bool, now: Instant) -> Option<(Arc<str>, WireCheck)> {
        self.asks_for(ip)?;
        let subject = self.subjects.remove(ip)?;
        let (finding, due) = match from_owner {
            true => (Finding::Heard, self.round(now + self.refresh.pause((ip, subject.looks)))),
            false => (Finding::AnotherAnswers, now + LOOK_AGAIN),
        };
        self.end_look(ip, subject, finding, due)
    }

    /// What is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Looks {
        let mut looks = Looks::default();
        while let Some((ip, _, mut subject)) = self.subjects.pop(now) {
            if subject.asked < ASKS {
                subject.asked += 1;
                self.subjects.set(ip, now + ANSWER_WITHIN, subject);
                looks.ask.push(ip);
            } else {
                looks.tell.extend(self.end_look(ip, subject, Finding::Silent, now + LOOK_AGAIN));
            }
        }
        looks
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.subjects.next()
    }

    /// The owner is told what is amiss each time, and what is well only after that.
    fn end_look(
        &mut self,
        ip: IpAddr,
        subject: Subject,
        finding: Finding,
        due: Instant,
    ) -> Option<(Arc<str>, WireCheck)> {
        let Subject { owner, looks, is_amiss: was_amiss, .. } = subject;
        let is_amiss = finding != Finding::Heard;
        let tell = (was_amiss || is_amiss).then(|| (Arc::clone(&owner), WireCheck { address: ip, finding }));
        self.subjects.set(ip, due, Subject { owner, asked: 0, looks: looks + 1, is_amiss });
        tell
    }

    /// The next whole second.
    fn round(&self, earliest: Instant) -> Instant {
        self.began + Duration::from_secs(earliest.saturating_duration_since(self.began).as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn subjects(owners: &[(u8, &str)]) -> BTreeMap<IpAddr, Arc<str>> {
        owners.iter().map(|(last, owner)| (ip(*last), Arc::from(*owner))).collect()
    }

    /// Lets time pass until something is to be asked or told; says after how long.
    fn until_due(inspection: &mut Inspection, now: &mut Instant) -> (Duration, Looks) {
        let before = *now;
        *now = inspection.next_due().expect("something is due");
        (*now - before, inspection.tick(*now))
    }

    fn told(owner: &str, last: u8, finding: Finding) -> Option<(Arc<str>, WireCheck)> {
        Some((owner.into(), WireCheck { address: ip(last), finding }))
    }

    #[test]
    fn an_owner_that_answers_is_asked_about_once_a_minute_and_told_nothing() {
        let mut now = Instant::now();
        let mut inspection = Inspection::new(Refresh::default(), now);
        inspection.follow(&subjects(&[(1, "n1")]), now);
        let (first, looks) = until_due(&mut inspection, &mut now);
        assert_eq!(looks, Looks { ask: vec![ip(1)], tell: vec![] });
        assert!(first >= SETTLE && first <= SETTLE + MINUTE + Duration::from_secs(1), "{first:?}");
        for _ in 0..50 {
            assert_eq!(inspection.asks_for(ip(1)).map(|owner| &**owner), Some("n1"));
            now += Duration::from_millis(2);
            assert_eq!(inspection.heard(ip(1), true, now), None);
            assert_eq!(inspection.asks_for(ip(1)), None);
            assert_eq!(inspection.heard(ip(1), false, now), None);
            let (pause, looks) = until_due(&mut inspection, &mut now);
            assert_eq!(looks, Looks { ask: vec![ip(1)], tell: vec![] });
            assert!(pause > Duration::from_secs(54) && pause < Duration::from_secs(67), "{pause:?}");
        }
    }

    #[test]
    fn an_owner_that_is_silent_three_times_is_told_so_until_it_is_heard() {
        let mut now = Instant::now();
        let mut inspection = Inspection::new(Refresh::default(), now);
        inspection.follow(&subjects(&[(1, "n1")]), now);
        until_due(&mut inspection, &mut now);
        for _ in 0..2 {
            for _ in 1..ASKS {
                let asked = until_due(&mut inspection, &mut now);
                assert_eq!(asked, (ANSWER_WITHIN, Looks { ask: vec![ip(1)], tell: vec![] }));
            }
            let (after, looks) = until_due(&mut inspection, &mut now);
            assert_eq!((after, looks.ask), (ANSWER_WITHIN, vec![]));
            assert_eq!(looks.tell, Vec::from_iter(told("n1", 1, Finding::Silent)));
            assert_eq!(inspection.heard(ip(1), true, now), None, "nobody asks now");
            assert_eq!(until_due(&mut inspection, &mut now), (LOOK_AGAIN, Looks { ask: vec![ip(1)], tell: vec![] }));
        }
        assert_eq!(inspection.heard(ip(1), true, now), told("n1", 1, Finding::Heard), "once");
        until_due(&mut inspection, &mut now);
        assert_eq!(inspection.heard(ip(1), true, now), None);
    }

    #[test]
    fn an_owner_is_told_that_somebody_else_answers() {
        let mut now = Instant::now();
        let mut inspection = Inspection::new(Refresh::default(), now);
        inspection.follow(&subjects(&[(1, "n1")]), now);
        until_due(&mut inspection, &mut now);
        assert_eq!(inspection.heard(ip(2), false, now), None, "not ours to look after");
        assert_eq!(inspection.heard(ip(1), false, now), told("n1", 1, Finding::AnotherAnswers));
        assert_eq!(until_due(&mut inspection, &mut now), (LOOK_AGAIN, Looks { ask: vec![ip(1)], tell: vec![] }));
        assert_eq!(inspection.heard(ip(1), true, now), told("n1", 1, Finding::Heard));
    }

    #[test]
    fn a_new_owner_is_given_time_and_what_is_no_longer_ours_to_look_after_is_left_alone() {
        let mut now = Instant::now();
        let mut inspection = Inspection::new(Refresh::default(), now);
        inspection.follow(&subjects(&[(1, "n1"), (2, "n1")]), now);
        until_due(&mut inspection, &mut now);
        let untouched = inspection.subjects.times().max();
        inspection.follow(&subjects(&[(1, "n1"), (2, "n1")]), now);
        assert_eq!(inspection.subjects.times().max(), untouched);
        inspection.follow(&subjects(&[(2, "n3")]), now);
        assert_eq!(inspection.subjects.lengths(), (1, 1));
        assert!(inspection.next_due().expect("the other") >= now + SETTLE);
        inspection.follow(&subjects(&[]), now);
        assert_eq!((inspection.next_due(), inspection.tick(now + MINUTE * 2)), (None, Looks::default()));
    }

    #[test]
    fn a_thousand_addresses_are_spread_over_the_minute_in_whole_seconds() {
        let now = Instant::now();
        let mut inspection = Inspection::new(Refresh::default(), now);
        let many = (0..1_000_u32).map(|n| (IpAddr::from((0xC612_0000 + n).to_be_bytes()), Arc::from("n1"))).collect();
        inspection.follow(&many, now);
        let mut at: BTreeMap<Duration, usize> = BTreeMap::new();
        for due in inspection.subjects.times() {
            *at.entry(due - now).or_default() += 1;
        }
        assert!(at.keys().all(|due| due.subsec_nanos() == 0) && at.len() > 50, "{at:?}");
        assert!(at.values().all(|count| *count < 40), "{at:?}");
    }
}
