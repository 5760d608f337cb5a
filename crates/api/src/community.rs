//! `Community`: names for BGP communities.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{conditions::ConditionsStatus, rules};

/// The names that this object defines.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    namespaced,
    status = "ConditionsStatus",
    derive = "PartialEq",
    doc = "Names for BGP communities, to be used in BGPAdvertisements."
)]
pub struct CommunitySpec {
    // The limit keeps the cost estimate of the rule on `value` bounded; far above any list written by a person.
    /// The names and what they stand for. A name is unique among all Community objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2048))]
    pub communities: Vec<CommunityAlias>,
}

/// One name for one community.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CommunityAlias {
    /// The name to use in BGPAdvertisements.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,

    // The longest value, `large:` and three 32-bit numbers, has 38 characters.
    /// The community: `a:b` with two 16-bit numbers (RFC 1997), or `large:a:b:c` with three 32-bit numbers (RFC 8092).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::community_value())]
    pub value: String,
}
