//! The stored version of `BGPPeer`.

use k8s_openapi::api::core::v1::SecretReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{conditions::ConditionsStatus, rules};

/// Who the peer is and how to speak with it. Durations are written as in Go: 90s, 1m30s, 500ms.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta2",
    kind = "BGPPeer",
    plural = "bgppeers",
    namespaced,
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "A router to speak BGP with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(name = "Multi Hops", type_ = "string", json_path = ".spec.ebgpMultiHop")
)]
#[x_kube(validation = rules::peer_has_one_as_number())]
#[x_kube(validation = rules::peer_has_one_endpoint())]
#[x_kube(validation = rules::peer_has_one_password())]
#[x_kube(validation = rules::multi_hop_is_external())]
#[x_kube(validation = rules::hold_time_is_zero_or_three_seconds())]
#[x_kube(validation = rules::keepalive_is_within_hold_time())]
#[serde(rename_all = "camelCase")]
pub struct BGPPeerSpec {
    /// Our AS number in the session.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 0, max = 4294967295_u32), extend("format" = "int64"))]
    pub my_asn: u32,

    /// The peer's AS number. Not together with dynamicASN.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295_u32), extend("format" = "int64"))]
    pub peer_asn: Option<u32>,

    /// The AS number that we present to this peer in place of myASN.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4294967295_u32), extend("format" = "int64"))]
    pub local_asn: Option<u32>,

    /// Which AS numbers the peer may turn out to have, in place of peerASN.
    #[serde(default, rename = "dynamicASN", skip_serializing_if = "Option::is_none")]
    pub dynamic_asn: Option<DynamicASN>,

    /// The address to connect to. Not together with interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address_or_empty())]
    #[x_kube(validation = rules::octets_fit())]
    pub peer_address: String,

    /// The interface whose only neighbour is the peer, which is then found by its link-local address (unnumbered BGP).
    /// Not together with peerAddress.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub interface: String,

    /// Our address in the session; else the kernel's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address_or_empty())]
    #[x_kube(validation = rules::octets_fit())]
    pub source_address: String,

    /// The TCP port to connect to.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1, max = 16384), extend("format" = "int32"))]
    pub peer_port: u16,

    /// How long the session lives without a message from the peer, such as 90s: 0, or 3 seconds or more (RFC 4271).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub hold_time: Option<String>,

    /// How often we send a sign of life, such as 30s; at most the hold time, a third of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub keepalive_time: Option<String>,

    /// How long to wait before a failed connection is tried again: whole seconds, from 1s to 65535s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::connect_time_in_range())]
    #[x_kube(validation = rules::connect_time_in_whole_seconds())]
    pub connect_time: Option<String>,

    /// Our BGP identifier, written as an IPv4 address; else chosen by the implementation.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::ip_address_or_empty())]
    #[x_kube(validation = rules::octets_fit())]
    pub router_id: String,

    /// Label selectors for the nodes that connect to the peer; a node must match at least one. Empty means every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// The password of the session (TCP MD5, RFC 2385). Not together with passwordSecret, which keeps it out of sight.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub password: String,

    /// The Secret of type kubernetes.io/basic-auth that has the password under the key `password`. It is looked for in
    /// the peer's own namespace; the field namespace is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,

    /// Name of the BFDProfile to watch the path with; none if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,

    /// Whether the peer is asked to keep our routes while we restart (RFC 4724). Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("EnableGracefulRestart cannot be changed after creation"))]
    pub enable_graceful_restart: Option<bool>,

    /// Whether a peer in another AS may be more than one hop away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multi_hop: Option<bool>,

    /// Name of the VRF whose routing table the session uses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vrf: String,

    /// Deprecated, without effect: address families are never mixed in one session unless dualStackAddressFamily is set.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,

    /// Whether both IPv4 and IPv6 routes are exchanged, whatever the family of the session's own addresses.
    #[serde(default)]
    pub dual_stack_address_family: bool,
}

/// Takes the AS number from the peer's first message: `internal` accepts our own only, `external` any other. Not together
/// with peerASN.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DynamicASN {
    /// Ours only.
    Internal,
    /// Any but ours.
    External,
}

/// The port assigned to BGP (RFC 4271, section 4.2).
fn bgp_port() -> u16 {
    179
}
