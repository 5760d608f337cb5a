//! Gives Services their addresses: cluster in → decide → cluster out.
//!
//! [`watch`] reads the cluster into [`watch::Event`]s, [`model`] decides ([`converge`] for one Service, [`report`] for the
//! configuration objects) and [`write`] sends the patches. Only `watch`, `write`, `run` and the edges of [`admission`] await.

pub mod admission;
pub mod contest;
pub mod converge;
pub mod eviction;
pub mod model;
pub mod packed_labels;
pub mod patch;
pub mod placement;
pub mod queue;
pub mod report;
mod right;
mod run;
pub mod service;
pub mod speaker_key;
mod status_event;
pub mod watch;
pub mod write;

pub use run::{Settings, run};
