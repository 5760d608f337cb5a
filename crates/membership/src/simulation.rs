//! Whole clusters in virtual time: each node runs the real machine, every datagram is sealed and opened, and the owner of an
//! address is the real election's over the node's own view. A run is made from its seed alone.
//!
//!     cargo test -p landfall-membership                                            some seeds of each property
//!     LANDFALL_MEMBERSHIP_SEEDS=1000 cargo test -p landfall-membership simulation  that many of each
//!     LANDFALL_MEMBERSHIP_SEED=17 LANDFALL_MEMBERSHIP_SEEDS=1 cargo test -p landfall-membership NAME -- --nocapture
//!
//! The last runs that one again and shows what happens in it. A run that fails prints its seed.

mod chaos;
mod cost;
mod faults;
mod moves;
mod network;
mod partitions;
mod world;

use std::time::Duration;

/// Runs a property for `usual` seeds, or as many as asked for, from the first that was asked for on.
fn for_seeds(usual: u64, property: impl Fn(u64)) {
    let number = |name, usual| std::env::var(name).map_or(usual, |text: String| text.parse().expect("a number"));
    let first = number("LANDFALL_MEMBERSHIP_SEED", 0);
    (first..first + number("LANDFALL_MEMBERSHIP_SEEDS", usual)).for_each(property);
}

/// Prints the middle and the worst of what was measured.
fn report(what: &str, mut measured: Vec<Duration>) -> (Duration, Duration) {
    measured.sort();
    let (median, worst) = (measured[measured.len() / 2], measured[measured.len() - 1]);
    println!("{what}: median {median:?}, worst {worst:?} of {} runs", measured.len());
    (median, worst)
}
