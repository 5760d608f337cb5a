//! Answers ARP and NDP for the addresses this node owns.
//!
//! Two halves. The API half follows the cluster and decides what this node answers for; the wire half, a thread of its
//! own, answers. Between them are two values, each replaced whole: [`desired::Desired`] one way, [`desired::Announced`] back.

mod announce;
pub mod announced_condition;
mod announced_metric;
mod askers;
pub mod beat_socket;
pub mod claims;
pub mod desired;
mod due;
pub mod elect;
mod frames;
mod groups;
mod handing_over;
mod inspection;
mod ipvs;
mod keep_connections;
pub mod kernel_probe;
pub mod keys;
pub mod links;
pub mod liveness;
mod membership_settings;
pub mod model;
mod netlink;
#[cfg(test)]
mod new_namespace;
mod nftables;
mod ownership;
mod packet_socket;
pub mod passing_on;
mod probation;
pub mod refresh;
mod respond;
mod rivals;
mod run;
mod sharers;
mod silence;
mod socket_options;
pub mod standing;
mod status;
mod tables;
mod unheard;
mod views;
pub mod watch;
mod wire;
pub mod wire_metrics;
pub mod wire_thread;

pub use membership_settings::MembershipSettings;
pub use run::{Settings, run};
