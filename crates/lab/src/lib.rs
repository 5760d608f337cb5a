//! A real Kubernetes cluster in network namespaces: demo, tests, faults, measurements.

pub mod capture;
mod cgroups;
pub mod cli;
pub mod command;
mod containers;
pub mod control_plane;
pub mod demo;
pub mod down;
pub mod echo;
pub mod fault;
pub mod generate;
pub mod image;
pub mod lab;
pub mod landfall;
pub mod limits;
pub mod logs;
pub mod machine;
mod measure;
pub mod neighbours;
pub mod netns;
pub mod network;
pub mod node;
pub mod packages;
pub mod pki;
pub mod processes;
pub mod repository;
pub mod status;
pub mod steps;
pub mod test;
pub mod tools;
pub mod up;

pub use capture::Capture;
pub use echo::EchoAnswer;
pub use fault::Fault;
pub use lab::Lab;
pub use machine::Machine;
