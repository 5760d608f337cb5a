//! What the cluster tests share, each module the answer to one question:
//!
//! - [`scene`]: what is a test given, and what is left when it is over? Every test begins here.
//! - [`install`]: is Landfall there?
//! - [`manifests`]: what does a user apply?
//! - [`service`]: what was a Service given, and who answers for it, in the words of the API?
//! - [`watch`]: what had each Service, from one moment to the next?
//! - [`wire`]: who answers on the client's segment?
//! - [`api`]: how is the API asked many times a second?
//! - [`audit`]: what did Landfall write to the API?
//! - [`diagnosis`]: what does a person need when a test fails?

pub mod api;
pub mod audit;
pub mod diagnosis;
pub mod install;
pub mod manifests;
pub mod scene;
pub mod service;
pub mod watch;
pub mod wire;

use std::time::Duration;

use anyhow::Result;
use landfall_lab::steps;

/// Long enough for what takes a second on a busy computer with two cores.
const SOON: Duration = Duration::from_secs(30);
/// How often something awaited is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// Waits until `attempt` gives a value; an error counts as "not yet".
/// # Errors
/// It does not within 30 s: says what was waited for, and the last error.
pub fn eventually<T>(what: &str, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    steps::wait_for(what, SOON, GLANCE, attempt)
}
