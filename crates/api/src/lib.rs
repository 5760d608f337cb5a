//! What may users write? The metallb.io kinds, annotations, and the CRD generator.
//!
//! The kinds have MetalLB's fields, defaults, limits and columns, so that manifests written for MetalLB apply unchanged.
//! What Landfall adds to them is additive: `status.conditions`, and CEL rules that refuse at apply what could never work.

#![expect(unreachable_pub, reason = "KubeSchema repeats each struct, `pub` included, inside a function body")]

pub mod annotations;
pub mod conditions;
mod ip_address_pool;
mod l2_advertisement;
pub mod labels;
mod service_l2_status;

pub use ip_address_pool::{IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, ServiceAllocation};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodeSelector};
pub use service_l2_status::{InterfaceInfo, ServiceL2Status, ServiceL2StatusFields, ServiceL2StatusStatus};

/// The API group of every kind here.
pub const GROUP: &str = "metallb.io";
