//! Answers ARP and NDP for the addresses this node owns.
//!
//! Two halves. The API half follows the cluster and decides what this node answers for; the wire half, a thread of its
//! own, answers. Between them are two values, each replaced whole: [`desired::Desired`] one way, [`desired::Announced`] back.

pub mod claims;
pub mod desired;
pub mod elect;
pub mod model;
pub mod standing;
pub mod status;
pub mod watch;
