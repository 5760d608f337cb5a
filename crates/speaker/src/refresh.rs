//! How often neighbours are told again what they should know, and owners are asked whether they answer.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use anyhow::ensure;

/// A time between two of the same for the same address: on average what was set, and never the same for all addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh(Duration);

/// Switches forget after five minutes, routers later; a minute survives a few lost frames.
impl Default for Refresh {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl Refresh {
    /// # Errors
    /// The interval is not from 10 s to 10 min: names the flag, the value, and the bounds.
    pub fn every(interval: Duration) -> anyhow::Result<Self> {
        ensure!(
            (Duration::from_secs(10)..=Duration::from_secs(600)).contains(&interval),
            "--refresh-interval is {interval:?}; give a time from 10s to 10m (in the chart: speaker.refreshInterval)"
        );
        Ok(Self(interval))
    }

    /// From 11 to 13 twelfths of the interval. They differ by whole seconds, so that what was announced together mostly stays
    /// together and an idle node wakes rarely. `of` makes the difference: a hash rather than chance, so that a test can repeat it.
    pub(crate) fn pause(self, of: impl Hash) -> Duration {
        self.0 * 11 / 12 + Self::spread(of, self.0 / 6)
    }

    /// Anything up to the interval, in whole seconds.
    pub(crate) fn first(self, of: impl Hash) -> Duration {
        Self::spread(of, self.0)
    }

    fn spread(of: impl Hash, over: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        Duration::from_secs(hasher.finish() % (over.as_secs() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_around_the_interval_and_differ_by_whole_seconds() {
        for seconds in [10, 60, 600] {
            let refresh = Refresh::every(Duration::from_secs(seconds)).unwrap();
            let interval = Duration::from_secs(seconds);
            let pauses: std::collections::BTreeSet<Duration> = (0..1_000).map(|n| refresh.pause(n)).collect();
            assert!(pauses.len() > 1 && pauses.iter().all(|pause| *pause >= interval * 11 / 12), "{pauses:?}");
            assert!(pauses.iter().all(|pause| *pause <= interval * 13 / 12), "{pauses:?}");
            assert!(pauses.iter().all(|pause| (*pause - interval * 11 / 12).subsec_nanos() == 0), "{pauses:?}");
            assert!((0..1_000).all(|n| refresh.first(n) <= interval));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_value_and_what_would_make_sense() {
        for seconds in [0, 9, 601] {
            let error = Refresh::every(Duration::from_secs(seconds)).unwrap_err().to_string();
            let text = format!(
                "--refresh-interval is {seconds}{}; give a time from 10s to 10m",
                if seconds == 0 { "ns" } else { "s" }
            );
            assert!(error.starts_with(&text), "{error}");
        }
        assert!(Refresh::every(Duration::from_secs(10)).is_ok() && Refresh::every(Duration::from_secs(600)).is_ok());
    }
}
