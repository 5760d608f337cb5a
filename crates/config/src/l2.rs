//! L2 advertisements: which pools are announced by which nodes, on which interfaces.

use std::collections::BTreeSet;

use kube::core::{Selector, SelectorExt};
use landfall_api::L2Advertisement as Object;

use crate::problem::{Problem, Problems};
use crate::scope::Scope;
use crate::selector::{Labels, read_names, read_one};

/// What an `L2Advertisement` means.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Advertisement {
    /// The object's name.
    pub name: String,
    /// Pools, nodes and Services that it is about.
    pub scope: Scope,
    /// Interfaces to announce on; empty: all.
    pub interfaces: BTreeSet<String>,
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
    /// How much the advertisement prefers a node with these labels: the sum of the weights that match, and 0 for a node
    /// that it does not select at all.
    pub fn score(&self, labels: &Labels) -> i64 {
        if !self.scope.selects_node(labels) {
            return 0;
        }
        self.preferences.iter().filter(|p| p.nodes.matches(labels)).map(|p| i64::from(p.weight)).sum()
    }

    /// How much the advertisements prefer a node with these labels together; `None` when none of them selects it, and it
    /// may not announce. Controller and speakers must agree on this.
    pub fn score_together(advertisements: &[&Self], labels: &Labels) -> Option<i64> {
        let selected = advertisements.iter().any(|advertisement| advertisement.scope.selects_node(labels));
        selected.then(|| advertisements.iter().map(|advertisement| advertisement.score(labels)).sum())
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
            scope: Scope::read(
                &spec.ip_address_pools,
                &spec.ip_address_pool_selectors,
                &spec.node_selectors,
                &spec.service_selectors,
                &mut problems,
            ),
            interfaces: read_names("spec.interfaces", &spec.interfaces, &mut problems),
            preferences,
            name,
        }
    }
}
