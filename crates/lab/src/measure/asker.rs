//! Asking who has an address, all the time: whoever thinks that it answers is heard within a moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::wiretap::Wiretap;

/// Fifty times a second: so fine is the moment told at which somebody stops answering.
pub(super) const EVERY: Duration = Duration::from_millis(20);

/// An asker at work; it stops when this is dropped.
pub(super) struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Asker {
    /// Starts to ask for each address, from where the wiretap listens.
    pub(super) fn start(wiretap: &Wiretap, addresses: &[IpAddr]) -> Asker {
        let (mouth, addresses, stop) = (wiretap.mouth(), addresses.to_vec(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                mouth.ask(&addresses)?;
                thread::sleep(EVERY);
            }
            Ok(())
        });
        Asker { stop, thread: Some(thread) }
    }

    /// Ends it.
    /// # Errors
    /// It could not ask.
    pub(super) fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().context("stopped already")?.join().map_err(|_| anyhow!("the asker's thread panicked"))?
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
