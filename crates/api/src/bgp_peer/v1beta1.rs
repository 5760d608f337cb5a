//! The older version of `BGPPeer`: still served, deprecated, never stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{conditions::ConditionsStatus, rules};

/// Who the peer is and how to speak with it. Durations are written as in Go: 90s, 1m30s, 500ms.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    deprecated = "v1beta1 is deprecated, please use v1beta2",
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "A router to speak BGP with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop")
)]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerSpec {
    /// Our AS number in the session.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 0, max = 4294967295_u32), extend("format" = "int64"))]
    pub my_asn: u32,

    /// The peer's AS number.
    #[serde(rename = "peerASN")]
    #[schemars(range(min = 0, max = 4294967295_u32), extend("format" = "int64"))]
    pub peer_asn: u32,

    /// The address to connect to.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address())]
    #[x_kube(validation = rules::octets_fit())]
    pub peer_address: String,

    /// Our address in the session; else the kernel's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address_or_empty())]
    #[x_kube(validation = rules::octets_fit())]
    pub source_address: String,

    /// The TCP port to connect to; else 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16384), extend("format" = "int32"))]
    pub peer_port: Option<u16>,

    /// How long the session lives without a message from the peer, such as 90s: 0, or 3 seconds or more (RFC 4271).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,

    /// How often we send a sign of life, such as 30s; a third of the hold time is usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,

    /// Our BGP identifier, written as an IPv4 address; else chosen by the implementation.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address_or_empty())]
    #[x_kube(validation = rules::octets_fit())]
    pub router_id: String,

    /// Label selectors for the nodes that connect to the peer; a node must match at least one. Empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// The password of the session (TCP MD5, RFC 2385).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub password: String,

    /// Name of the BFDProfile to watch the path with; none if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,

    /// Whether a peer in another AS may be more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,
}
