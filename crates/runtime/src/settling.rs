//! Edits that come one after the other and mean one thing. Pure.
//!
//! `kubectl apply` of a file changes object after object: a pool is split by shrinking it first and creating the other half
//! after. Who decides between the two takes addresses away that nobody wants to be taken away.

use std::time::{Duration, Instant};

/// How long nothing more must come.
pub const PAUSE: Duration = Duration::from_millis(300);
/// How long edits that never end are waited for.
pub const LONGEST: Duration = Duration::from_secs(1);

/// Whether edits are still coming in: until [`PAUSE`] after the last, and [`LONGEST`] after the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settling(Option<(Instant, Instant)>);

impl Settling {
    /// Something was edited.
    pub fn edited(&mut self, now: Instant) {
        let first = self.0.filter(|_| self.is_on(now)).map_or(now, |(first, _)| first);
        self.0 = Some((first, now));
    }

    /// When the edits made so far are to be taken for all; `None` when there was none.
    pub fn until(&self) -> Option<Instant> {
        self.0.map(|(first, last)| (last + PAUSE).min(first + LONGEST))
    }

    /// Whether more is to be expected.
    pub fn is_on(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_waited_for_until_a_pause_and_not_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut edits = Settling::default();
        assert_eq!((edits.until(), edits.is_on(start)), (None, false));
        edits.edited(start);
        edits.edited(at(200));
        assert!(edits.is_on(at(499)) && !edits.is_on(at(500)));
        for ms in (400..1_000).step_by(200) {
            edits.edited(at(ms));
        }
        assert_eq!(edits.until(), Some(at(1_000)), "however many come");
        edits.edited(at(5_000));
        assert_eq!(edits.until(), Some(at(5_300)), "and the next begins anew");
    }
}
