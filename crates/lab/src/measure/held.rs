//! Clients of each family that hold connections, and runs of them: what `restart`, `drain`, `calm` and `outage` have in common.

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

impl Connected {
    /// Opens the connections, from `place`; they are established when this returns.
    pub(super) async fn open(scene: &Scene<'_>, place: &str, load: Load) -> Result<Connected> {
        let mut clients = ByFamily::new();
        for (family, server) in scene.servers() {
            clients.insert(family, Clients::start(&scene.bench.lab, place, server, load).await?);
        }
        Ok(Connected(clients))
    }

    /// What was seen until now.
    pub(super) fn so_far(&self) -> ByFamily<Seen> {
        self.0.iter().map(|(family, clients)| (*family, clients.so_far())).collect()
    }

    /// Lets every request that is under way come to its end, and returns what was seen.
    pub(super) async fn finish(self) -> Result<ByFamily<Seen>> {
        let mut seen = ByFamily::new();
        for (family, clients) in self.0 {
            seen.insert(family, clients.finish().await?);
        }
        Ok(seen)
    }
}
