//! Running our own code inside a network namespace.

use std::fs::File;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::lab::Lab;

/// Runs `work` on a thread of its own that has entered the namespace `netns` (as `ip netns` names it). Sockets opened
/// there, and threads started there, belong to that namespace for good.
/// # Errors
/// The namespace does not exist, or may not be entered (needs root). A panic in `work` goes on in the caller.
pub fn run_in<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = format!("/run/netns/{netns}");
    let file = File::open(&path).with_context(|| format!("network namespace {path}; is the lab up?"))?;
    let entered = thread::scope(|scope| {
        let inside = scope.spawn(|| -> Result<T> {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| anyhow!("enter {path}: {e}; run as root"))?;
            Ok(work())
        });
        inside.join()
    });
    entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Lab {
    /// Runs `work` in the network namespace of `place`: `client`, `cp`, `n1`, ... See [`run_in`].
    pub fn in_netns<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        run_in(&self.netns(place), work)
    }
}
