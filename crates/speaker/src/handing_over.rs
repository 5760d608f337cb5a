//! Planned moves: who gives an address away answers for it until the next owner is heard. Pure.
//!
//! When labels, selectors, preferences or placements change, every node learns it by itself, some a moment earlier than
//! others. Were the former owner the first, a neighbour that asks in that moment would get no answer, and ask again after a
//! second only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// By then the next owner has learnt of it, or there is none.
const PATIENCE: Duration = Duration::from_secs(1);

/// Addresses that were ours and are another's now.
#[derive(Debug, Default)]
pub(crate) struct HandingOver {
    going: BTreeMap<IpAddr, Going>,
    /// Addresses that another was heard to have while they were ours, and when: it learnt of the move before us.
    heard: BTreeMap<IpAddr, Instant>,
}

#[derive(Debug)]
struct Going {
    until: Instant,
    /// Where it was answered for: interfaces by index.
    interfaces: BTreeSet<u32>,
}

impl HandingOver {
    /// The address was ours on these interfaces, and is not any more.
    pub(crate) fn begin(&mut self, ip: IpAddr, interfaces: BTreeSet<u32>, now: Instant) {
        if self.heard.remove(&ip).is_none_or(|heard| now >= heard + PATIENCE) {
            self.going.insert(ip, Going { until: now + PATIENCE, interfaces });
        }
    }

    /// Forgets what is ours again, or nobody's.
    pub(crate) fn retain(&mut self, is_elsewhere: impl Fn(&IpAddr) -> bool) {
        self.going.retain(|ip, _| is_elsewhere(ip));
    }

    /// Another says to have an address that is ours or was. Says whether we are to cease to answer for it.
    pub(crate) fn heard(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.heard.retain(|_, heard| now < *heard + PATIENCE);
        let goes = self.going.remove(&ip).is_some();
        if !goes {
            self.heard.insert(ip, now);
        }
        goes
    }

    /// Ends what has lasted long enough; says whether there was any.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let before = self.going.len();
        self.going.retain(|_, going| now < going.until);
        self.going.len() < before
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.going.values().map(|going| going.until).min()
    }

    /// The addresses that are still answered for, with the interfaces.
    pub(crate) fn going(&self) -> impl Iterator<Item = (IpAddr, &BTreeSet<u32>)> {
        self.going.iter().map(|(ip, going)| (*ip, &going.interfaces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip() -> IpAddr {
        [192, 0, 2, 1].into()
    }

    fn going(handing_over: &HandingOver) -> usize {
        handing_over.going().count()
    }

    #[test]
    fn it_ends_when_the_next_owner_is_heard_or_after_a_second() {
        let start = Instant::now();
        for is_heard in [true, false] {
            let mut handing_over = HandingOver::default();
            handing_over.begin(ip(), [2].into(), start);
            assert_eq!((going(&handing_over), handing_over.next_due()), (1, Some(start + PATIENCE)));
            assert!(!handing_over.tick(start + PATIENCE / 2));
            let ended = if is_heard { handing_over.heard(ip(), start) } else { handing_over.tick(start + PATIENCE) };
            assert_eq!((ended, going(&handing_over), handing_over.next_due()), (true, 0, None));
        }
    }

    #[test]
    fn it_does_not_begin_when_the_next_owner_was_heard_before() {
        let start = Instant::now();
        for (pause, begins) in [(Duration::ZERO, 0), (PATIENCE - Duration::from_millis(1), 0), (PATIENCE, 1)] {
            let mut handing_over = HandingOver::default();
            assert!(!handing_over.heard(ip(), start));
            handing_over.begin(ip(), [2].into(), start + pause);
            assert_eq!(going(&handing_over), begins, "{pause:?} later");
        }
    }

    #[test]
    fn what_comes_back_is_not_going() {
        let mut handing_over = HandingOver::default();
        handing_over.begin(ip(), [2].into(), Instant::now());
        handing_over.retain(|_| false);
        assert_eq!(going(&handing_over), 0);
    }
}
