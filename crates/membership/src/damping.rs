//! How long a node that was out must be healthy before it may own addresses again.

use std::time::{Duration, Instant};

use crate::settings::{LONGEST_HOLD_DOWN, Settings};

/// For how many hold-downs (of the shortest kind) a node must stay in before one of its outages is forgiven: ten minutes
/// with the default of 20 s.
const FORGIVEN_AFTER: u32 = 30;

/// A node's outages, as one member remembers them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damping {
    outages: u32,
    /// When the last outage began, or one was last forgiven.
    since: Option<Instant>,
}

impl Damping {
    /// The node is out.
    pub(crate) fn went_out(&mut self, settings: &Settings, now: Instant) {
        self.forgive(settings, now);
        self.outages += 1;
        self.since = Some(now);
    }

    /// The node has shown that it was not out.
    pub(crate) fn was_mistaken(&mut self) {
        self.outages = self.outages.saturating_sub(1);
    }

    /// How long it must wait: the hold-down, twice that after two outages, and so on up to ten minutes.
    pub(crate) fn hold(&mut self, settings: &Settings, now: Instant) -> Duration {
        self.forgive(settings, now);
        let doublings = self.outages.saturating_sub(1).min(16);
        (settings.hold_down * 2_u32.pow(doublings)).min(LONGEST_HOLD_DOWN)
    }

    fn forgive(&mut self, settings: &Settings, now: Instant) {
        while let Some(since) = self.since.filter(|_| self.outages > 0) {
            let next = since + settings.hold_down * FORGIVEN_AFTER;
            if next > now {
                break;
            }
            (self.outages, self.since) = (self.outages - 1, Some(next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_down_doubles_to_ten_minutes_and_is_forgiven_one_outage_in_ten_minutes() {
        let (settings, start) = (Settings::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let mut damping = Damping::default();
        for (outage, hold) in [20, 40, 80, 160, 320, 600, 600].into_iter().enumerate() {
            damping.went_out(&settings, at(outage as u64));
            assert_eq!(damping.hold(&settings, at(outage as u64)), Duration::from_secs(hold), "outage {outage}");
        }
        for (secs, hold) in [(605, 600), (606, 600), (1_206, 320), (1_806, 160), (3_606, 20), (9_999, 20)] {
            assert_eq!(damping.hold(&settings, at(secs)), Duration::from_secs(hold), "after {secs} s");
        }
    }
}
