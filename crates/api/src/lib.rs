//! What may users write? The metallb.io kinds, annotations, and the CRD generator.
//!
//! The kinds have MetalLB's fields, defaults, limits and columns, so that manifests written for MetalLB apply unchanged.
//! What Landfall adds to them is additive: `status.conditions`, and CEL rules that refuse at apply what could never work.

#![expect(clippy::duplicated_attributes, reason = "each printcolumn has a name, a type and a path")]
#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` included, inside a function body")]

pub mod annotations;
mod bfd_profile;
mod bgp_advertisement;
pub mod bgp_peer;
mod community;
pub mod conditions;
mod configuration_state;
pub mod crds;
mod ip_address_pool;
mod l2_advertisement;
pub mod labels;
mod rules;
mod service_bgp_status;
mod service_l2_status;
pub mod speaker_key;
pub mod yaml;

pub use bfd_profile::{BFDProfile, BFDProfileSpec};
pub use bgp_advertisement::{BGPAdvertisement, BGPAdvertisementSpec};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use configuration_state::{
    ConfigurationResult, ConfigurationState, ConfigurationStateFields, ConfigurationStateStatus,
};
pub use ip_address_pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector};
pub use service_bgp_status::{ServiceBGPStatus, ServiceBGPStatusSpec, ServiceBGPStatusStatus};
pub use service_l2_status::{InterfaceInfo, ServiceL2Status, ServiceL2StatusSpec, ServiceL2StatusStatus};

/// The API group of every kind here.
pub const GROUP: &str = "metallb.io";
