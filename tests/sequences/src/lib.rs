//! Promise 1, over random sequences of changes, failures and restarts: a valid assignment is never changed, no address is
//! held twice unless sharing allows it, nothing leaks, a restart changes nothing, and whoever waits gets what is free.
//!
//! The same sequences are run twice, thousands of them over the controller's model (`crates/controller`) and a few over a
//! real API server with the real controller (`tests/cluster`). Here is what both have in common, each module the answer to
//! one question:
//!
//! - [`happening`]: what happens?
//! - [`manifests`]: what objects does it make?
//! - [`view`]: what does a cluster look like, seen through the API?
//! - [`promises`]: what must be true of it?
//! - [`history`]: what may somebody have seen of it meanwhile?

pub mod happening;
pub mod history;
pub mod manifests;
pub mod promises;
pub mod view;
