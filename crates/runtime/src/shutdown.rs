//! SIGTERM and SIGINT: the first asks all tasks to end, the second ends the process at once.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// What shells report for a process that a SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Tells its holder when the process shall end. Cheap to clone, one for each task.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Whether the process has been asked to end.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the process is asked to end.
    pub async fn requested(&mut self) {
        // The sender lives in a task that never drops it before sending.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Listens for the signals from now on.
///
/// # Errors
/// The kernel refuses a signal handler.
pub fn install() -> anyhow::Result<Shutdown> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (ask, asked) = watch::channel(false);
    tokio::spawn(async move {
        for again in [false, true] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if again {
                warn!(signal = name, "second signal, ending at once");
                std::process::exit(INTERRUPTED);
            }
            info!(signal = name, "shutting down");
            ask.send_replace(true);
        }
    });
    Ok(Shutdown(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_holder_hears_the_request_also_when_it_asks_late() {
        let (ask, asked) = watch::channel(false);
        let mut early = Shutdown(asked);
        let mut late = early.clone();
        let waiting = tokio::spawn(async move { early.requested().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ask.send_replace(true);
        waiting.await.unwrap();
        late.requested().await;
    }
}
