//! Which nodes a list of selectors chooses, as far as it is known which nodes there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::selector::{Labels, Selectors};

/// The labels of the cluster's nodes by the nodes' names. Empty: it is not known which nodes there are.
pub type Nodes = BTreeMap<String, Labels>;

/// The nodes that a list of selectors chooses; `None` when no node is known.
pub(crate) struct Chosen<'a>(Option<BTreeSet<&'a str>>);

impl<'a> Chosen<'a> {
    /// The nodes that match one of the selectors; all of them if there is no selector.
    pub(crate) fn of(selectors: &Selectors, nodes: &'a Nodes) -> Self {
        let chosen = nodes.iter().filter(|(_, labels)| selectors.allows(labels)).map(|(name, _)| name.as_str());
        Self((!nodes.is_empty()).then(|| chosen.collect()))
    }

    /// Whether both choose some node; where no node is known it must be feared that they do.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(ours), Some(theirs)) => !ours.is_disjoint(theirs),
            _ => true,
        }
    }
}
