//! `L2Advertisement`: which pools are answered for on the local network, from which nodes and interfaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions::ConditionsStatus;

/// What is announced and from where. Every field may be empty: an empty spec announces every pool from every node
/// on every interface.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    namespaced,
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "Announces the addresses of pools on the local network by ARP (IPv4) and neighbour discovery (IPv6).",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(name = "IPAddressPool Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(name = "Node Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = 10)
)]
#[serde(rename_all = "camelCase")]
pub struct L2AdvertisementSpec {
    /// Names of the IPAddressPools to announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Label selectors for the IPAddressPools to announce, in addition to those listed by name. With neither names nor
    /// selectors, every pool is announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Label selectors for the nodes that may answer; a node must match at least one. Empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// Exact names of the network interfaces to answer on. Empty means all that Landfall does not exclude. They have no
    /// part in the choice of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,

    /// Label selectors for the Services to announce; a Service must match at least one. Empty means every Service that
    /// has an address of the selected pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,

    /// Wishes for the choice among the nodes that may answer: of those available, the node with the largest sum of the
    /// weights of matching entries is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,
}

/// One wish: nodes that match `preference` gain `weight`.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PreferredNodeSelector {
    /// How much a match counts, from 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// Label selector for the nodes preferred.
    pub preference: LabelSelector,
}
