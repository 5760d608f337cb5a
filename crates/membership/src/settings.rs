//! How fast, how sure, how patient; and which values make no sense.

use std::time::Duration;

/// The longest hold-down, whatever the doubling says (design: 10 minutes).
pub const LONGEST_HOLD_DOWN: Duration = Duration::from_secs(600);

/// What an administrator may tune. The values need not be equal on all nodes: a beat says its own interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a member says that it lives.
    pub beat_interval: Duration,
    /// How many beats in a row must be missing before a member is suspected.
    pub misses: u32,
    /// How long another answers in the name of a node whose speaker is silent while its kernel answers.
    pub cover_for: Duration,
    /// How long a node that was out must be healthy before it may own addresses again; doubles for one that flaps.
    pub hold_down: Duration,
    /// How many members watch one member. Five by default: `ring` says why.
    pub observers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_millis(100),
            misses: 3,
            cover_for: Duration::from_secs(60),
            hold_down: Duration::from_secs(20),
            observers: 5,
        }
    }
}

impl Settings {
    /// The fast profile: a dead node is out after about a tenth of a second. For nodes whose processors have time to spare.
    #[must_use]
    pub fn fast() -> Self {
        Self { beat_interval: Duration::from_millis(30), ..Self::default() }
    }

    /// # Errors
    /// The first value that is out of its bounds, with the bounds.
    pub fn check(&self) -> Result<(), SettingsError> {
        let bounds = [
            ("beatInterval", self.beat_interval, Duration::from_millis(10), Duration::from_secs(1)),
            ("coverFor", self.cover_for, Duration::from_secs(5), Duration::from_secs(600)),
            ("holdDown", self.hold_down, Duration::from_secs(1), LONGEST_HOLD_DOWN),
        ];
        for (field, have, least, most) in bounds {
            if have < least || have > most {
                return Err(SettingsError::Duration { field, have, least, most });
            }
        }
        let bounds = [("misses", self.misses as usize, 2, 10), ("observers", self.observers, 3, 15)];
        for (field, have, least, most) in bounds {
            if have < least || have > most {
                return Err(SettingsError::Count { field, have, least, most });
            }
        }
        Ok(())
    }

    /// How late a beat may be beyond its time, for the jitter of networks and schedulers.
    pub(crate) fn slack(&self) -> Duration {
        self.beat_interval / 4
    }

    /// The shortest silence that makes a suspect, at our own interval.
    pub(crate) fn window(&self) -> Duration {
        self.window_for(self.beat_interval)
    }

    /// The shortest silence that makes a suspect of a member that beats at this interval.
    pub(crate) fn window_for(&self, interval: Duration) -> Duration {
        interval * self.misses + interval / 4
    }

    /// How long observers that say nothing count as present in a vote.
    pub(crate) fn confirm(&self) -> Duration {
        self.beat_interval * 3
    }

    /// For how long one that yielded an address does not take it again: time for its view to catch up.
    pub(crate) fn yield_for(&self) -> Duration {
        self.beat_interval * 3
    }

    /// How long one that hears nobody at all, among three or more, waits before it believes that all the others are gone.
    /// Ten times as long as for one silent member: its own receiver is the likelier cause.
    pub(crate) fn isolation(&self) -> Duration {
        self.window() * 10
    }
}

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A time out of its bounds.
    #[error("{field} is {have:?}; give a value from {least:?} to {most:?}")]
    Duration {
        /// The setting's name in the chart.
        field: &'static str,
        /// What was given.
        have: Duration,
        /// The least that makes sense.
        least: Duration,
        /// The most that makes sense.
        most: Duration,
    },
    /// A number out of its bounds.
    #[error("{field} is {have}; give a number from {least} to {most}")]
    Count {
        /// The setting's name in the chart.
        field: &'static str,
        /// What was given.
        have: usize,
        /// The least that makes sense.
        least: usize,
        /// The most that makes sense.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_within_the_bounds() {
        assert_eq!((Settings::default().check(), Settings::fast().check()), (Ok(()), Ok(())));
    }

    #[test]
    fn nonsense_is_refused_with_its_field_its_value_and_the_bounds() {
        let good = Settings::default;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        for (settings, text) in [
            (Settings { beat_interval: ms(9), ..good() }, "beatInterval is 9ms; give a value from 10ms to 1s"),
            (Settings { beat_interval: ms(1001), ..good() }, "beatInterval is 1.001s; give a value from 10ms to 1s"),
            (Settings { misses: 1, ..good() }, "misses is 1; give a number from 2 to 10"),
            (Settings { misses: 11, ..good() }, "misses is 11; give a number from 2 to 10"),
            (Settings { cover_for: s(4), ..good() }, "coverFor is 4s; give a value from 5s to 600s"),
            (Settings { hold_down: s(601), ..good() }, "holdDown is 601s; give a value from 1s to 600s"),
            (Settings { hold_down: s(0), ..good() }, "holdDown is 0ns; give a value from 1s to 600s"),
            (Settings { observers: 2, ..good() }, "observers is 2; give a number from 3 to 15"),
        ] {
            assert_eq!(settings.check().map_err(|error| error.to_string()), Err(text.to_owned()));
        }
    }
}
