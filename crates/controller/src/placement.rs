//! Which node is to answer for an address? Pure. Decided once, when the address is given, and written on the Service
//! (annotation `landfall.io/node`), so that a node that joins moves nothing.
//!
//! Speakers take the placed node before any other of equal preference (crate `election`). When it cannot serve, the hash
//! decides; so an address that has no placement yet, or whose placed Node is deleted, is placed where the hash has put
//! it already: a better balance is no reason to break connections.

use std::collections::BTreeMap;
use std::net::IpAddr;

use landfall_config::{Config, L2Advertisement, Labels, Pool};
use landfall_election::Candidate;
use landfall_ipam::ServiceKey;

/// What the controller knows of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// metadata.labels
    pub labels: Labels,
    /// Condition NetworkUnavailable is True.
    pub network_unavailable: bool,
}

impl Node {
    /// Whether a load balancer may use the node at all.
    fn takes_part(&self) -> bool {
        !self.network_unavailable && !self.labels.contains_key(landfall_api::labels::EXCLUDE_FROM_LOAD_BALANCERS)
    }
}

/// The nodes that may answer for a Service with these labels and an address of `pool`, each with its score: as the
/// speakers see it, but for what only they know (endpoints, interfaces, who is alive).
pub fn candidates<'a>(
    config: &Config,
    pool: &Pool,
    labels: &Labels,
    nodes: impl IntoIterator<Item = (&'a String, &'a Node)>,
) -> Vec<Candidate<'a>> {
    let ads: Vec<&L2Advertisement> =
        config.advertisements_of(pool).filter(|ad| ad.scope.selects_service(labels)).collect();
    let able = nodes.into_iter().filter(|(_, node)| node.takes_part());
    let scored = able.filter_map(|(name, node)| {
        Some(Candidate { node: name, score: L2Advertisement::score_together(&ads, &node.labels)? })
    });
    scored.collect()
}

/// How an address without a placement is to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody answers for it yet: on the least loaded of the preferred candidates that are near, ties by the hash.
    Anew,
    /// Somebody answers for it, or did: where the hash puts it.
    WhereItIs,
}

/// Who is placed where. Addresses are counted, by the first of each Service, so that sharers count once.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    of: BTreeMap<ServiceKey, (IpAddr, String)>,
    /// For each node, its addresses and how many Services hold each.
    on: BTreeMap<String, BTreeMap<IpAddr, usize>>,
}

impl Placements {
    /// The node where the Service is placed for this first address.
    pub fn get(&self, service: &ServiceKey, first: IpAddr) -> Option<&str> {
        self.of.get(service).filter(|(ip, _)| *ip == first).map(|(_, node)| node.as_str())
    }

    /// The node where the Service is placed.
    pub fn of(&self, service: &ServiceKey) -> Option<&str> {
        self.of.get(service).map(|(_, node)| node.as_str())
    }

    /// The Services placed on a node.
    pub fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a ServiceKey> {
        self.of.iter().filter(move |(_, (_, placed))| placed == node).map(|(key, _)| key)
    }

    /// The Service is placed on `node` from now on, for its first address.
    pub fn set(&mut self, service: &ServiceKey, first: IpAddr, node: &str) {
        if self.get(service, first) == Some(node) {
            return;
        }
        self.remove(service);
        *self.on.entry(node.to_owned()).or_default().entry(first).or_default() += 1;
        self.of.insert(service.clone(), (first, node.to_owned()));
    }

    /// The Service has no placement any more.
    pub fn remove(&mut self, service: &ServiceKey) {
        let Some((first, node)) = self.of.remove(service) else { return };
        let Some(addresses) = self.on.get_mut(&node) else { return };
        if let Some(holders) = addresses.get_mut(&first) {
            *holders -= 1;
            if *holders == 0 {
                addresses.remove(&first);
            }
        }
        if addresses.is_empty() {
            self.on.remove(&node);
        }
    }

    /// How many addresses are placed on a node.
    pub fn load(&self, node: &str) -> usize {
        self.on.get(node).map_or(0, BTreeMap::len)
    }

    /// The node for a first address that has none; `None` when there is no candidate. `near` says whether an interface
    /// of a node is in the address's network: where some of the preferred candidates are, only they are considered.
    pub fn choose<'a>(
        &self,
        first: IpAddr,
        candidates: &[Candidate<'a>],
        near: impl Fn(&str) -> bool,
        place: Place,
    ) -> Option<&'a str> {
        let best = candidates.iter().map(|candidate| candidate.score).max()?;
        let preferred = candidates.iter().filter(|candidate| candidate.score == best);
        match place {
            Place::WhereItIs => landfall_election::owner(first, preferred.copied(), None),
            Place::Anew => {
                let near: Vec<&Candidate<'a>> = preferred.clone().filter(|candidate| near(candidate.node)).collect();
                let preferred = if near.is_empty() { preferred.collect() } else { near };
                let least = preferred.iter().map(|candidate| self.load(candidate.node)).min()?;
                let idle = preferred.into_iter().filter(|candidate| self.load(candidate.node) == least);
                landfall_election::owner(first, idle.copied(), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), name: name.into() }
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn equal<'a>(nodes: &[&'a str]) -> Vec<Candidate<'a>> {
        nodes.iter().map(|node| Candidate { node, score: 0 }).collect()
    }

    #[test]
    fn what_is_answered_for_already_is_placed_where_the_hash_has_it() {
        let mut placements = Placements::default();
        let all = equal(&["n1", "n2", "n3"]);
        for n in 0..50 {
            let node = placements.choose(ip(n), &all, |_| false, Place::WhereItIs).expect("a node");
            assert_eq!(Some(node), landfall_election::owner(ip(n), all.iter().copied(), None));
            placements.set(&key(&format!("s{n}")), ip(n), node);
        }
    }

    #[test]
    fn only_the_preferred_candidates_are_considered() {
        let mut placements = Placements::default();
        let candidates = [("edge", 10), ("n1", 0), ("n2", 0)].map(|(node, score)| Candidate { node, score });
        for n in 0..9 {
            assert_eq!(placements.choose(ip(n), &candidates, |_| false, Place::Anew), Some("edge"));
            placements.set(&key(&format!("s{n}")), ip(n), "edge");
        }
        assert_eq!(placements.choose(ip(99), &[], |_| false, Place::Anew), None);
    }

    #[test]
    fn among_equals_those_in_the_addresses_network_are_taken_and_a_higher_score_comes_before_the_network() {
        let mut placements = Placements::default();
        let near = |node: &str| node == "n1" || node == "n2";
        for n in 0..8 {
            let node = placements.choose(ip(n), &equal(&["n1", "n2", "n3"]), near, Place::Anew).expect("a node");
            placements.set(&key(&format!("s{n}")), ip(n), node);
        }
        assert_eq!(["n1", "n2", "n3"].map(|node| placements.load(node)), [4, 4, 0]);
        let candidates = [("n1", 0), ("n3", 10)].map(|(node, score)| Candidate { node, score });
        assert_eq!(placements.choose(ip(99), &candidates, near, Place::Anew), Some("n3"));
        // Where somebody answers already, the hash has decided without knowing the networks.
        let hash = landfall_election::owner(ip(99), equal(&["n1", "n2", "n3"]), None);
        assert_eq!(
            placements.choose(ip(99), &equal(&["n1", "n2", "n3"]), |node| Some(node) != hash, Place::WhereItIs),
            hash
        );
    }

    #[test]
    fn sharers_count_once_and_the_last_one_to_go_frees_the_place() {
        let mut placements = Placements::default();
        for name in ["a", "b"] {
            placements.set(&key(name), ip(1), "n1");
            placements.set(&key(name), ip(1), "n1");
        }
        assert_eq!((placements.load("n1"), placements.on("n1").count()), (1, 2));
        placements.remove(&key("a"));
        assert_eq!(placements.load("n1"), 1);
        placements.set(&key("b"), ip(2), "n2");
        assert_eq!((placements.load("n1"), placements.load("n2")), (0, 1));
        assert_eq!((placements.get(&key("b"), ip(1)), placements.get(&key("b"), ip(2))), (None, Some("n2")));
    }

    proptest! {
        #[test]
        fn new_addresses_are_spread_within_one_of_each_other(nodes in 1..7usize, addresses in 1..60u8) {
            let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut placements = Placements::default();
            for n in 0..addresses {
                let node = placements.choose(ip(n), &equal(&names), |_| false, Place::Anew).expect("a node");
                placements.set(&key(&format!("s{n}")), ip(n), node);
                let loads: Vec<usize> = names.iter().map(|node| placements.load(node)).collect();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
            }
        }
    }
}
