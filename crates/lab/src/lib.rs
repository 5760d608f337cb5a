//! A real Kubernetes cluster in network namespaces: demo, tests, faults, measurements.

mod cgroups;
pub mod cli;
pub mod command;
pub mod control_plane;
pub mod down;
pub mod generate;
pub mod image;
pub mod lab;
pub mod machine;
pub mod netns;
pub mod network;
pub mod node;
pub mod packages;
pub mod pki;
pub mod processes;
pub mod repository;
pub mod steps;
pub mod tools;
pub mod up;

pub use lab::Lab;
