//! Condition types, and the status of kinds that report nothing but conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// On a Service: whether it has the addresses it asks for; the reason and message say why not.
pub const ADDRESS_ALLOCATED: &str = "landfall.io/AddressAllocated";
/// On a Service: whether a node answers for its addresses.
pub const ANNOUNCED: &str = "landfall.io/Announced";
/// On a configuration object (pool, advertisement, peer, …): whether it is in force; the message says what is wrong.
pub const ACCEPTED: &str = "Accepted";

/// What Landfall makes of the object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct ConditionsStatus {
    /// What Landfall makes of this object: for each type True or False, with a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
