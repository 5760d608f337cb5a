//! The one node that a measurement has broken; it is mended whatever happens to the measurement.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::fault::Fault;
use crate::lab::Lab;

/// Breaks and mends nodes. The lock is held while that happens, so that mending after an interruption waits for a fault
/// that is still being made.
#[derive(Clone)]
pub(super) struct Damage {
    lab: Lab,
    broken: Arc<Mutex<Option<String>>>,
}

impl Damage {
    pub(super) fn new(lab: &Lab) -> Damage {
        Damage { lab: lab.clone(), broken: Arc::default() }
    }

    /// Breaks a node, and returns the moment before it was touched.
    pub(super) async fn inflict(&self, node: &str, fault: Fault) -> Result<Instant> {
        let (damage, node) = (self.clone(), node.to_owned());
        blocking(move || {
            let mut broken = damage.broken.lock().unwrap_or_else(PoisonError::into_inner);
            *broken = Some(node.clone());
            let before = Instant::now();
            damage.lab.fault(&node, fault)?;
            Ok(before)
        })
        .await
    }

    /// Mends the broken node, if there is one, and returns when Kubernetes calls it Ready.
    pub(super) async fn mend(&self) -> Result<()> {
        let damage = self.clone();
        blocking(move || {
            let mut broken = damage.broken.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(node) = broken.take() {
                damage.lab.heal(&node).with_context(|| format!("{node} stays broken: `cargo lab heal {node}`"))?;
            }
            Ok(())
        })
        .await
    }
}

/// Runs work that blocks (the lab's own commands) beside the watches.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    }
}
