//! Runs that count, and runs that do not.
//!
//! A run is void when what was broken had nothing to do with the address any more: nothing was measured, however small the
//! figure. It is repeated, counted and shown.

use anyhow::{Result, ensure};

/// So many runs may be void, however few are wanted.
const SOME: usize = 3;

/// The runs of one measurement.
pub(super) struct Tally<R> {
    wanted: usize,
    /// Those that count.
    pub(super) measured: Vec<R>,
    /// Those that do not.
    pub(super) void: Vec<R>,
}

impl<R> Tally<R> {
    /// Until `wanted` runs were measured.
    pub(super) fn of(wanted: usize) -> Tally<R> {
        Tally { wanted, measured: Vec::new(), void: Vec::new() }
    }

    /// The number of the next run; `None` when there were enough.
    pub(super) fn next(&self) -> Option<usize> {
        (self.measured.len() < self.wanted).then_some(self.measured.len() + 1)
    }

    /// One more run.
    /// # Errors
    /// More were void than are wanted: this cannot be measured.
    pub(super) fn note(&mut self, run: R, is_void: bool) -> Result<()> {
        if is_void {
            self.void.push(run)
        } else {
            self.measured.push(run)
        }
        ensure!(
            self.void.len() <= self.wanted.max(SOME),
            "in {} runs the node that was broken had given an address away before ({} were measured): who answers does not \
             stay the same; `cargo lab logs speaker` says why",
            self.void.len(),
            self.measured.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn void_runs_are_repeated_until_there_are_too_many() {
        let mut tally = Tally::of(2);
        for (run, void, next) in [('a', false, Some(2)), ('b', true, Some(2)), ('c', false, None)] {
            assert!(tally.next().is_some());
            tally.note(run, void).unwrap();
            assert_eq!(tally.next(), next, "{run}");
        }
        assert_eq!((&tally.measured[..], &tally.void[..]), (&['a', 'c'][..], &['b'][..]));
        let mut hopeless = Tally::of(1);
        (0..SOME).for_each(|run| hopeless.note(run, true).unwrap());
        let error = hopeless.note(SOME, true).unwrap_err().to_string();
        assert!(error.starts_with("in 4 runs the node that was broken"), "{error}");
    }
}
