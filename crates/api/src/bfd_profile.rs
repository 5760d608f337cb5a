//! `BFDProfile`: how fast a BGP session notices that the path to its peer is gone.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions::ConditionsStatus;

/// The settings. Intervals are in milliseconds; what is absent is left to the implementation.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BFDProfile",
    plural = "bfdprofiles",
    namespaced,
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "Settings of a BFD session (RFC 5880), to be named by BGPPeers.",
    printcolumn(name = "Passive Mode", type_ = "boolean", json_path = ".spec.passiveMode"),
    printcolumn(name = "Transmit Interval", type_ = "integer", json_path = ".spec.transmitInterval"),
    printcolumn(name = "Receive Interval", type_ = "integer", json_path = ".spec.receiveInterval"),
    printcolumn(name = "Multiplier", type_ = "integer", json_path = ".spec.detectMultiplier")
)]
#[serde(rename_all = "camelCase")]
pub struct BFDProfileSpec {
    /// The shortest interval between control packets that we are able to receive, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000), extend("format" = "int32"))]
    pub receive_interval: Option<u32>,

    /// The shortest interval between control packets that we wish to send, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000), extend("format" = "int32"))]
    pub transmit_interval: Option<u32>,

    /// How many packets in a row may be missing before the path counts as lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 255), extend("format" = "int32"))]
    pub detect_multiplier: Option<u32>,

    /// The shortest interval between echo packets that we are able to handle, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 60000), extend("format" = "int32"))]
    pub echo_interval: Option<u32>,

    /// Whether echo packets are used. Not for sessions over several hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,

    /// Whether to wait for the peer's first control packet before sending any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,

    /// The smallest TTL accepted in control packets of a session over several hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254), extend("format" = "int32"))]
    pub minimum_ttl: Option<u32>,
}
