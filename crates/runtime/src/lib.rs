//! How does a process live? Logs, probes, metrics, the cluster client, leader election, watches, events,
//! `ConfigurationState`, an HTTPS server, shutdown.
//!
//! Controller and speaker are this crate around a pure middle:
//! [`client::connect`] → [`watch::spawn`] per kind → one owner task → writes and [`events::Recorder`];
//! beside them [`probes::serve`], and [`shutdown::install`] tells all of them when to end. Where several replicas run,
//! [`lease::stand`] says which of them writes.

pub mod certificate;
pub mod client;
pub mod configuration_state;
pub mod events;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod probes;
pub mod publish;
pub mod random;
pub mod settling;
pub mod shutdown;
pub mod table;
pub mod tasks;
pub mod timer;
pub mod tls_server;
pub mod view;
pub mod watch;

pub use metrics::PlainCounter;
