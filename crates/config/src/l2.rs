//! L2 advertisements: which pools are announced by which nodes, on which interfaces.

use std::collections::BTreeSet;

use kube::core::{Selector, SelectorExt};
use landfall_api::L2Advertisement as Object;

use crate::pool::Pool;
use crate::problem::{Problem, Problems};
use crate::selector::{Labels, Selectors, read_names, read_one};

/// What an `L2Advertisement` means.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Advertisement {
    /// The object's name.
    pub name: String,
    /// Pools by name.
    pub pools: BTreeSet<String>,
    /// Pools by label; a union with the names. Both empty: every pool.
    pub pool_selectors: Selectors,
    /// Nodes that may announce; empty: every node.
    pub node_selectors: Selectors,
    /// Interfaces to announce on; empty: all.
    pub interfaces: BTreeSet<String>,
    /// Services that are announced; empty: every Service with an address of the pools.
    pub service_selectors: Selectors,
    /// Which of the nodes are liked better.
    pub preferences: Vec<Preference>,
}

/// One of the `preferredNodeSelectors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// Added to the score of each node that matches; 1 to 100.
    pub weight: i32,
    /// The nodes that are liked.
    pub nodes: Selector,
}

impl L2Advertisement {
    /// Whether the advertisement is about this pool.
    pub fn selects_pool(&self, pool: &Pool) -> bool {
        pool.is_chosen_by(&self.pools, &self.pool_selectors)
    }

    /// Whether a Service with these labels is announced by it.
    pub fn selects_service(&self, labels: &Labels) -> bool {
        self.service_selectors.allows(labels)
    }

    /// Whether a node with these labels may announce by it.
    pub fn selects_node(&self, labels: &Labels) -> bool {
        self.node_selectors.allows(labels)
    }

    /// How much the advertisement prefers a node with these labels: the sum of the weights that match, and 0 for a node
    /// that it does not select at all.
    pub fn score(&self, labels: &Labels) -> i64 {
        if !self.selects_node(labels) {
            return 0;
        }
        self.preferences.iter().filter(|p| p.nodes.matches(labels)).map(|p| i64::from(p.weight)).sum()
    }

    /// Reads the object. Entries that make no sense are problems and are left out.
    pub(crate) fn read(object: &Object, found: &mut Vec<Problem>) -> Self {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of("L2Advertisement", &name, found);
        let spec = &object.spec;
        let preferences = spec
            .preferred_node_selectors
            .iter()
            .enumerate()
            .filter_map(|(i, given)| {
                let at = format!("spec.preferredNodeSelectors[{i}]");
                if !(1..=100).contains(&given.weight) {
                    problems.add(format!("{at}.weight"), given.weight.to_string(), "a weight is from 1 to 100");
                    return None;
                }
                let nodes = read_one(&format!("{at}.preference"), &given.preference, &mut problems)?;
                Some(Preference { weight: given.weight, nodes })
            })
            .collect();
        Self {
            pools: read_names("spec.ipAddressPools", &spec.ip_address_pools, &mut problems),
            pool_selectors: Selectors::read(
                "spec.ipAddressPoolSelectors",
                &spec.ip_address_pool_selectors,
                &mut problems,
            ),
            node_selectors: Selectors::read("spec.nodeSelectors", &spec.node_selectors, &mut problems),
            interfaces: read_names("spec.interfaces", &spec.interfaces, &mut problems),
            service_selectors: Selectors::read("spec.serviceSelectors", &spec.service_selectors, &mut problems),
            preferences,
            name,
        }
    }
}
