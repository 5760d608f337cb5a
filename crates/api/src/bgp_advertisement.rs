//! `BGPAdvertisement`: which pools are advertised by BGP, to whom, and with which attributes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{conditions::ConditionsStatus, rules};

/// What is advertised, from where and to whom. Every field may be empty: an empty spec advertises each address of every pool
/// from every node to every peer.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    plural = "bgpadvertisements",
    namespaced,
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "Advertises the addresses of pools to routers by BGP.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(name = "IPAddressPool Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(name = "Node Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = 10)
)]
#[x_kube(validation = rules::aggregates_all_services_or_none("aggregationLength", AGGREGATION_LENGTH))]
#[x_kube(validation = rules::aggregates_all_services_or_none("aggregationLengthV6", AGGREGATION_LENGTH_V6))]
#[serde(rename_all = "camelCase")]
pub struct BGPAdvertisementSpec {
    /// Length of the IPv4 prefixes to advertise; shorter than 32 combines neighbouring addresses into one route.
    #[serde(default = "aggregation_length")]
    #[schemars(range(min = 1, max = 32))]
    pub aggregation_length: i32,

    /// Length of the IPv6 prefixes to advertise; shorter than 128 combines neighbouring addresses into one route.
    #[serde(default = "aggregation_length_v6")]
    #[schemars(range(min = 0, max = 128))]
    pub aggregation_length_v6: i32,

    /// The LOCAL_PREF attribute, for peers in our own AS: the higher, the more preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int32"))]
    pub local_pref: Option<u32>,

    // A BGP message of 4096 octets (RFC 4271) has no room for 1024 communities.
    /// Communities to attach: `a:b`, `large:a:b:c`, or a name defined by a Community object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), transform = rules::each_community_or_name)]
    pub communities: Vec<String>,

    /// Names of the IPAddressPools to advertise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Label selectors for the IPAddressPools to advertise, in addition to those listed by name. With neither names nor
    /// selectors, every pool is advertised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Label selectors for the nodes that advertise; a node must match at least one. Empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// Names of the BGPPeers to advertise to. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,

    /// Label selectors for the Services to advertise; a Service must match at least one. Empty means every Service that
    /// has an address of the selected pools. Not together with an aggregation length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// Each IPv4 address is a route of its own.
const AGGREGATION_LENGTH: i32 = 32;
/// Each IPv6 address is a route of its own.
const AGGREGATION_LENGTH_V6: i32 = 128;

fn aggregation_length() -> i32 {
    AGGREGATION_LENGTH
}

fn aggregation_length_v6() -> i32 {
    AGGREGATION_LENGTH_V6
}

impl Default for BGPAdvertisementSpec {
    fn default() -> Self {
        Self {
            aggregation_length: AGGREGATION_LENGTH,
            aggregation_length_v6: AGGREGATION_LENGTH_V6,
            local_pref: None,
            communities: Vec::new(),
            ip_address_pools: Vec::new(),
            ip_address_pool_selectors: Vec::new(),
            node_selectors: Vec::new(),
            peers: Vec::new(),
            service_selectors: Vec::new(),
        }
    }
}
