//! Runs through which clients hold connections: what `restart` and `drain` have in common.

use std::time::Duration;

use anyhow::Result;

use super::clients::{Clients, Load, Seen};
use super::families::ByFamily;
use super::place::Where;
use super::scene::Scene;

/// How often, where, and under which load.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Held {
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = super::at_least_one)]
    pub(super) runs: usize,
    #[command(flatten)]
    pub(super) place: Where,
    /// TCP connections of each family that are held open through everything that happens.
    #[arg(long, default_value_t = 20)]
    pub(super) connections: usize,
}

/// Clients of each family; they end when this is dropped.
pub(super) struct Connected(ByFamily<Clients>);

impl Held {
    /// Opens the connections; from then on a client comes anew each time `new_every` has passed, too.
    pub(super) async fn connect(&self, scene: &Scene<'_>, new_every: Option<Duration>) -> Result<Connected> {
        let load = Load { established: self.connections, new_every };
        let mut clients = ByFamily::new();
        for (family, server) in scene.servers() {
            clients.insert(family, Clients::start(&scene.bench.lab, "client", server, load).await?);
        }
        Ok(Connected(clients))
    }
}

impl Connected {
    /// Lets every request that is under way come to its end, and returns what was seen.
    pub(super) async fn finish(self) -> Result<ByFamily<Seen>> {
        let mut seen = ByFamily::new();
        for (family, clients) in self.0 {
            seen.insert(family, clients.finish().await?);
        }
        Ok(seen)
    }
}
