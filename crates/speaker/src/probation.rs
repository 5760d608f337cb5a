//! May a new address be used? Pure.
//!
//! Before an address is announced for the first time, the segment is asked whether anybody has it (RFC 5227 section 2.1, RFC
//! 4862 section 5.4). Who has it keeps it: the address is neither announced nor answered for, and asked for again from
//! time to time. The RFCs wait for seconds, because a host has its address for days; a Service's users wait for theirs, and
//! on a wire of today an answer takes a millisecond: so we ask twice and wait for a fifth of a second. Whoever answers
//! later is found by the probe that goes with each refresh.
//!
//! An address that was in use by one of the speakers, or at our start, is not new: it is announced at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often an address is asked for.
const PROBES: u32 = 2;
/// How long each time.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// When an address that somebody has is asked for again.
pub(crate) const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Ask for these.
    pub(crate) probe: Vec<IpAddr>,
    /// Nobody has one of ours any more that was on trial: it can be used.
    pub(crate) passed: bool,
}

/// The addresses of ours that are on trial.
#[derive(Debug, Default)]
pub(crate) struct Probation {
    /// Wanted before; `None` until we know for the first time who owns what.
    known: Option<BTreeSet<IpAddr>>,
    trials: BTreeMap<IpAddr, Trial>,
}

#[derive(Debug)]
struct Trial {
    /// How often it was asked for.
    sent: u32,
    due: Instant,
}

impl Probation {
    /// Takes all addresses that are `wanted` of any speaker, and those that are ours.
    pub(crate) fn follow<'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a IpAddr>,
        is_wanted: impl Fn(&IpAddr) -> bool,
        ours: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        let Some(known) = &mut self.known else {
            self.known = Some(wanted.copied().collect());
            return;
        };
        for ip in wanted {
            if known.insert(*ip) && ours.contains(ip) {
                self.trials.insert(*ip, Trial { sent: 0, due: now });
            }
        }
        known.retain(is_wanted);
        self.trials.retain(|ip, _| ours.contains(ip));
    }

    /// Whether the address may not be used yet.
    pub(crate) fn holds(&self, ip: IpAddr) -> bool {
        self.trials.contains_key(&ip)
    }

    /// Somebody else has it, or may: it is asked for again after `pause`.
    pub(crate) fn is_taken(&mut self, ip: IpAddr, pause: Duration, now: Instant) {
        if let Some(trial) = self.trials.get_mut(&ip) {
            *trial = Trial { sent: 0, due: now + pause };
        }
    }

    /// What is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        self.trials.retain(|ip, trial| {
            if now < trial.due {
                return true;
            }
            if trial.sent == PROBES {
                due.passed = true;
                return false;
            }
            trial.sent += 1;
            trial.due = now + PROBE_INTERVAL;
            due.probe.push(*ip);
            true
        });
        due
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.trials.values().map(|trial| trial.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn set(lasts: &[u8]) -> BTreeSet<IpAddr> {
        lasts.iter().map(|last| ip(*last)).collect()
    }

    fn follow(probation: &mut Probation, wanted: &[u8], ours: &[u8], now: Instant) {
        let wanted = set(wanted);
        probation.follow(wanted.iter(), |ip| wanted.contains(ip), &set(ours), now);
    }

    #[test]
    fn only_an_address_that_nobody_had_is_on_trial() {
        let (now, mut probation) = (Instant::now(), Probation::default());
        follow(&mut probation, &[1, 2], &[1], now); // at our start
        follow(&mut probation, &[1, 2, 3, 4], &[1, 3], now);
        let held = |probation: &Probation| (1..=4).filter(|last| probation.holds(ip(*last))).collect::<Vec<_>>();
        assert_eq!(held(&probation), [3], "4 is another's, who asks himself");
        follow(&mut probation, &[1, 2, 3, 4], &[1, 2, 3, 4], now);
        assert_eq!(held(&probation), [3], "2 and 4 are taken over");
        follow(&mut probation, &[1, 2, 3, 4], &[1, 2, 4], now);
        assert_eq!(held(&probation), [0; 0], "another has it now");
        follow(&mut probation, &[2], &[2], now);
        follow(&mut probation, &[1, 2], &[1, 2], now);
        assert_eq!(held(&probation), [1], "it was given back in between");
    }

    #[test]
    fn an_address_is_asked_for_twice_and_used_when_nobody_has_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut probation = Probation::default();
        follow(&mut probation, &[], &[], start);
        follow(&mut probation, &[1], &[1], start);
        let probe = || Due { probe: vec![ip(1)], passed: false };
        for (ms, expected, next) in [
            (0, probe(), Some(100)),
            (99, Due::default(), Some(100)),
            (100, probe(), Some(200)),
            (199, Due::default(), Some(200)),
            (200, Due { probe: vec![], passed: true }, None),
        ] {
            assert_eq!((probation.tick(at(ms)), probation.next_due()), (expected, next.map(at)), "after {ms} ms");
        }
        assert!(!probation.holds(ip(1)));
    }

    #[test]
    fn an_address_that_somebody_has_is_asked_for_again_until_he_is_gone() {
        let start = Instant::now();
        let mut probation = Probation::default();
        follow(&mut probation, &[], &[], start);
        follow(&mut probation, &[1], &[1], start);
        probation.tick(start);
        probation.is_taken(ip(1), TRY_AGAIN, start);
        assert_eq!((probation.holds(ip(1)), probation.next_due()), (true, Some(start + TRY_AGAIN)));
        let mut now = start;
        let probes: usize = std::iter::from_fn(|| {
            now = probation.next_due()?;
            Some(probation.tick(now).probe.len())
        })
        .sum();
        assert_eq!((probes, now), (2, start + TRY_AGAIN + 2 * PROBE_INTERVAL));
        probation.is_taken(ip(1), TRY_AGAIN, now);
        assert!(!probation.holds(ip(1)), "it is in use, and stays so");
    }
}
