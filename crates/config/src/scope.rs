//! What an advertisement is about, by layer 2 or by BGP: which pools, on which nodes, for which Services.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::pool::Pool;
use crate::problem::Problems;
use crate::selector::{Labels, Selectors, read_names};

/// The fields that L2Advertisement and BGPAdvertisement have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Pools by name.
    pub pools: BTreeSet<String>,
    /// Pools by label; a union with the names. Both empty: every pool.
    pub pool_selectors: Selectors,
    /// Nodes that may announce or advertise; empty: every node.
    pub node_selectors: Selectors,
    /// Services that are announced or advertised; empty: every Service with an address of the pools.
    pub service_selectors: Selectors,
}

impl Scope {
    /// Whether the advertisement is about this pool.
    pub fn selects_pool(&self, pool: &Pool) -> bool {
        pool.is_chosen_by(&self.pools, &self.pool_selectors)
    }

    /// Whether it is about a Service with these labels.
    pub fn selects_service(&self, labels: &Labels) -> bool {
        self.service_selectors.allows(labels)
    }

    /// Whether a node with these labels may announce or advertise by it.
    pub fn selects_node(&self, labels: &Labels) -> bool {
        self.node_selectors.allows(labels)
    }

    /// Reads the four fields, which have the same names in both kinds. Entries that make no sense are problems and are
    /// left out.
    pub(crate) fn read(
        pools: &[String],
        pool_selectors: &[LabelSelector],
        node_selectors: &[LabelSelector],
        service_selectors: &[LabelSelector],
        problems: &mut Problems<'_>,
    ) -> Self {
        Self {
            pools: read_names("spec.ipAddressPools", pools, problems),
            pool_selectors: Selectors::read("spec.ipAddressPoolSelectors", pool_selectors, problems),
            node_selectors: Selectors::read("spec.nodeSelectors", node_selectors, problems),
            service_selectors: Selectors::read("spec.serviceSelectors", service_selectors, problems),
        }
    }
}
