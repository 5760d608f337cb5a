//! Waiting for the cluster, without blocking the watches that measure.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Tries until `attempt` gives a value, `pause` apart. [`crate::steps::wait_for`] for futures.
/// # Errors
/// After `limit`: what was waited for, and the last error.
pub(super) async fn wait_for<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() > deadline => bail!("no {what} after {} s", limit.as_secs()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("no {what} after {} s", limit.as_secs())));
            }
            Ok(None) | Err(_) => tokio::time::sleep(pause).await,
        }
    }
}
