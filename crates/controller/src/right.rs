//! The right to write, which ends with the term of the leader.

use std::time::{Duration, Instant};

use landfall_runtime::lease::Leadership;
use tokio::sync::watch;

/// That of one term.
#[derive(Clone)]
pub(crate) struct Right {
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) term: u64,
}

impl Right {
    /// For how long a request that is sent now may take, `limit` at most; `None` when nothing may be written any more. To be
    /// asked right before each request.
    pub(crate) fn time_for_write(&self, limit: Duration) -> Option<Duration> {
        self.leadership.borrow().time_for_write(self.term, Instant::now(), limit)
    }
}
