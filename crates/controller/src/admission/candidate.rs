//! An object that somebody wants to write, and what it would bring about among those that are there. Pure.

use kube::{Resource, ResourceExt};
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use landfall_api::{BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement};
use landfall_config::{Problem, Resources, introduced};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::Kind;

/// The object.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// Judged together with the other pools.
    Pool(IPAddressPool),
    /// Judged together with the other L2Advertisements and the pools.
    L2Advertisement(L2Advertisement),
    /// Judged together with the other peers and the nodes.
    BgpPeer(BGPPeer),
    /// Judged together with the other BGPAdvertisements, the pools and the nodes.
    BgpAdvertisement(BGPAdvertisement),
    /// Judged alone.
    BfdProfile(BFDProfile),
    /// Judged together with the other Communities.
    Community(Community),
}

impl Candidate {
    /// Reads the object.
    /// # Errors
    /// It does not have the form of its kind: says what is wrong.
    pub fn read(kind: Kind, object: Value) -> Result<Self, String> {
        fn of<K: DeserializeOwned>(kind: Kind, object: Value) -> Result<K, String> {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            serde_json::from_value(object)
                .map_err(|error| format!("{} {name:?} cannot be read: {error}; correct the field", kind.as_str()))
        }
        Ok(match kind {
            Kind::Pool => Self::Pool(of(kind, object)?),
            Kind::L2Advertisement => Self::L2Advertisement(of(kind, object)?),
            Kind::BgpPeer => Self::BgpPeer(of(kind, object)?),
            Kind::BgpAdvertisement => Self::BgpAdvertisement(of(kind, object)?),
            Kind::BfdProfile => Self::BfdProfile(of(kind, object)?),
            Kind::Community => Self::Community(of(kind, object)?),
        })
    }

    /// The mistakes that the object would bring in. `before` are the objects that it is judged together with, as they are
    /// now. An object of the same name and kind among them is replaced.
    pub fn problems(self, before: &Resources) -> Vec<Problem> {
        let mut after = before.clone();
        match self {
            Self::Pool(object) => put(&mut after.pools, object),
            Self::L2Advertisement(object) => put(&mut after.l2_advertisements, object),
            Self::BgpPeer(object) => put(&mut after.bgp_peers, object),
            Self::BgpAdvertisement(object) => put(&mut after.bgp_advertisements, object),
            Self::BfdProfile(object) => put(&mut after.bfd_profiles, object),
            Self::Community(object) => put(&mut after.communities, object),
        }
        introduced(before, &after)
    }
}

fn put<K: Resource<DynamicType = ()>>(objects: &mut Vec<K>, mut candidate: K) {
    match objects.iter_mut().find(|object| object.name_any() == candidate.name_any()) {
        Some(present) => *present = candidate,
        None => {
            // The server has filled in the time already, in whole seconds. Without one it counts as the youngest of all, so
            // that a conflict is always its own mistake.
            candidate.meta_mut().creation_timestamp = None;
            objects.push(candidate);
        }
    }
}
