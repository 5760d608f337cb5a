//! The model's placements: which node is to answer for a Service's addresses (see [`crate::placement`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
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
        let companions = self.companions(key, ips);
        let own = self.placements.get(key, first).filter(exists);
        let theirs = companions.iter().filter_map(|holder| self.placements.of(holder)).filter(exists);
        let together = most_frequent(own.into_iter().chain(theirs));
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
        let node = together.or_else(written).or_else(chosen).map(str::to_owned);
        match &node {
            Some(node) => {
                // Two that were placed apart hold one address now: whoever is elsewhere follows.
                for holder in companions.iter().filter(|holder| self.placements.of(holder).is_some_and(|at| at != node))
                {
                    self.queue.wake(holder);
                }
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

    /// Everybody else who has to be answered for by the same node, because they share an address with the Service that
    /// has `ips`, or with somebody who does.
    fn companions(&self, key: &ServiceKey, ips: &[IpAddr]) -> BTreeSet<ServiceKey> {
        let mut found = BTreeSet::new();
        let mut addresses: BTreeSet<IpAddr> = ips.iter().copied().collect();
        let mut to_ask: Vec<IpAddr> = ips.to_vec();
        while let Some(ip) = to_ask.pop() {
            for holder in self.ipam.holders_of(ip).filter(|holder| *holder != key) {
                if found.insert(holder.clone()) {
                    to_ask.extend(self.ipam.held(holder).iter().filter(|ip| addresses.insert(**ip)));
                }
            }
        }
        found
    }
}

/// The node that is named most often, so that as few as possible have to move; of equals the first by name.
fn most_frequent<'a>(nodes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        *times.entry(node).or_default() += 1;
    }
    times.into_iter().max_by_key(|(node, times)| (*times, Reverse(*node))).map(|(node, _)| node)
}
