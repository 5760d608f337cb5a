//! The model's placements: which node is to answer for a Service's addresses (see [`crate::placement`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_ipam::ServiceKey;
use landfall_runtime::watch::Change;

use super::Model;
use crate::converge::same;
use crate::placement::{self, Node, Place};

impl Model {
    /// Takes a change of a Node; says whether it is one.
    pub(super) fn apply_node(&mut self, change: Change<(String, Option<Node>)>) -> bool {
        let changes = self.nodes.apply(change);
        if !self.ready || changes.is_empty() {
            return false;
        }
        let gone: Vec<String> =
            changes.into_iter().map(|(name, _)| name).filter(|n| self.nodes.get(n).is_none()).collect();
        let homeless = gone.iter().flat_map(|node| self.placements.on(node));
        let to_place: BTreeSet<ServiceKey> = homeless.chain(self.unplaced.keys()).cloned().collect();
        to_place.iter().for_each(|key| self.queue.push(key));
        true
    }

    /// The node for the addresses that a Service has from now on; `before` are those that it had in the books.
    pub(super) fn place(&mut self, key: &ServiceKey, ips: &[IpAddr], before: &[IpAddr]) -> Option<String> {
        let service = self.services.get(key)?;
        let standing = service.ingress_ips();
        // Speakers go by the first address in the order of the status, and we leave that order alone.
        let first = if same(&standing, ips) { standing.first() } else { ips.first() };
        let Some(first) = first.copied() else {
            self.placements.remove(key);
            self.unplaced.remove(key);
            return None;
        };
        let exists = |node: &&str| self.nodes.get(*node).is_some();
        let sharers = ips.iter().flat_map(|ip| self.ipam.holders_of(*ip)).filter(|holder| *holder != key);
        let with_sharers = || sharers.into_iter().find_map(|holder| self.placements.of(holder).filter(exists));
        let own = self.placements.get(key, first).filter(exists);
        let written = || service.placed.as_deref().filter(exists);
        let place = match self.unplaced.get(key) {
            Some(place) => *place,
            None if before.contains(&first) || standing.contains(&first) => Place::WhereItIs,
            None => Place::Anew,
        };
        let chosen = || {
            let config = self.loader.config()?;
            let candidates = placement::candidates(
                config,
                config.pool_covering(ips)?,
                &service.labels.unpack(),
                self.nodes.entries(),
            );
            let near = |node: &str| {
                self.networks.get(node).is_some_and(|networks| networks.iter().any(|net| net.contains(&first)))
            };
            self.placements.choose(first, &candidates, near, place)
        };
        let node = own.or_else(with_sharers).or_else(written).or_else(chosen).map(str::to_owned);
        match &node {
            Some(node) => {
                self.placements.set(key, first, node);
                self.unplaced.remove(key);
            }
            None => {
                self.placements.remove(key);
                self.unplaced.insert(key.clone(), place);
            }
        }
        node
    }
}
