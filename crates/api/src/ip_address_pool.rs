//! `IPAddressPool`: the addresses that may be given to Services.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::rules;

/// Which addresses the pool has, and for whom.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    doc = "A pool of addresses that Services of type LoadBalancer may be given.",
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Avoid Buggy IPs", type_ = "boolean", json_path = ".spec.avoidBuggyIPs"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses")
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    // The limit keeps the cost estimate of the rules bounded; far above any list written by a person.
    /// The addresses of the pool: prefixes such as 192.0.2.0/28 and ranges such as 192.0.2.10-192.0.2.20, in any mix of
    /// IPv4 and IPv6. A prefix stands for all of its addresses, the first and the last included.
    #[schemars(length(max = 2048), transform = rules::each_address)]
    #[x_kube(validation = rules::at_least_one_address())]
    pub addresses: Vec<String>,

    /// Whether Services that ask for no pool and no address may be given one from here. If false, the pool serves only
    /// Services that name it or one of its addresses.
    #[serde(default = "enabled")]
    pub auto_assign: bool,

    /// Never give out IPv4 addresses that end in .0 or .255, which some old network devices mistake for network or
    /// broadcast addresses.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,

    /// Which Services the pool is meant for, and its rank among the pools meant for the same Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

fn enabled() -> bool {
    true
}

/// Pins a pool to some Services. A Service must be in one of the namespaces (by name or by selector) and match one of the
/// service selectors; what is left empty is open to all.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Rank among the pools that fit a Service: the lowest number is tried first; 0, or no number, comes last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,

    /// Names of the namespaces whose Services may use the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Label selectors for namespaces whose Services may use the pool, in addition to those listed by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Label selectors for Services; a Service must match at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// How full a pool is, and whether it is in force. An address counts as one, whatever the number of Services sharing it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolStatus {
    /// Number of IPv4 addresses in use.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,

    /// Number of IPv6 addresses in use.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,

    /// Number of IPv4 addresses that are free.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,

    /// Number of IPv6 addresses that are free; counts that do not fit stay at the largest signed 64-bit number.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,

    /// What Landfall makes of this pool: for each type True or False, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
