//! What does it mean? Pure: a user's pools, advertisements and BGP objects in, a [`Config`] or problems with
//! object, field, value and remedy out. Controller and speakers read the same objects with the same code.

mod admission;
pub mod bgp;
pub mod duration;
mod l2;
mod loader;
mod nodes;
mod pool;
mod problem;
mod range;
mod scope;
mod selector;

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::Resource;
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use landfall_api::{BFDProfile, BGPAdvertisement, IPAddressPool};

use crate::bgp::Bgp;
use crate::problem::Problems;
pub use admission::{ProfileInUse, introduced, may_delete_bfd_profile};
pub use l2::{L2Advertisement, Preference};
pub use loader::{Loaded, Loader};
pub use nodes::Nodes;
pub use pool::{Allocation, Pool};
pub use problem::Problem;
pub use range::{AddressRange, RangeError, address, bits, is_buggy};
pub use scope::Scope;
pub use selector::{Labels, Selectors};

/// The objects that a configuration is made of, as they stand in the namespace that Landfall runs in.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Every `IPAddressPool`.
    pub pools: Vec<IPAddressPool>,
    /// Every `L2Advertisement`.
    pub l2_advertisements: Vec<landfall_api::L2Advertisement>,
    /// Every `BGPPeer`.
    pub bgp_peers: Vec<BGPPeer>,
    /// Every `BGPAdvertisement`.
    pub bgp_advertisements: Vec<BGPAdvertisement>,
    /// Every `BFDProfile`.
    pub bfd_profiles: Vec<BFDProfile>,
    /// Every `Community`.
    pub communities: Vec<landfall_api::Community>,
    /// The cluster's nodes, which tell whether two BGPPeers or BGPAdvertisements are for the same node. Empty: unknown, so
    /// all of them are taken to be.
    pub nodes: Nodes,
}

/// What the objects mean together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Pools by name. Their ranges do not overlap.
    pub pools: BTreeMap<String, Pool>,
    /// L2Advertisements by name.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
    /// The BGP kinds.
    pub bgp: Bgp,
}

impl Config {
    /// Reads the objects. What cannot be read is left out and listed as a problem; of two ranges that overlap the one
    /// of the older object stays. So a process that starts with a mistake in the cluster still serves everything the
    /// mistake is not about; one that runs keeps its last good configuration (see [`Loader`]).
    pub fn read(resources: &Resources) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        // Ranges that are taken already, by their first address: the last one and the pool they belong to.
        let mut taken: BTreeMap<IpAddr, (AddressRange, String)> = BTreeMap::new();
        let mut config = Self::default();
        for object in by_age(&resources.pools) {
            let mut pool = Pool::read(object, &mut problems);
            let mut found = Problems::of("IPAddressPool", &pool.name, &mut problems);
            let mut kept = Vec::with_capacity(pool.ranges.len());
            for range in std::mem::take(&mut pool.ranges) {
                // What is taken does not overlap, so only the nearest from below the range's end can overlap it.
                match taken.range(..=range.last()).next_back().filter(|(_, (other, _))| other.overlaps(&range)) {
                    Some((_, (other, owner))) => found.add(
                        "spec.addresses",
                        range.to_string(),
                        format!(
                            "CIDR {:?} in pool {:?} overlaps with already defined CIDR {:?} of pool {owner:?}; \
                             an address can belong to one pool only: shrink one of the two",
                            range.to_string(),
                            pool.name,
                            other.to_string(),
                        ),
                    ),
                    None => {
                        taken.insert(range.first(), (range, pool.name.clone()));
                        kept.push(range);
                    }
                }
            }
            pool.ranges = kept;
            config.pools.insert(pool.name.clone(), pool);
        }
        for object in &resources.l2_advertisements {
            let advertisement = L2Advertisement::read(object, &mut problems);
            config.l2_advertisements.insert(advertisement.name.clone(), advertisement);
        }
        config.bgp = Bgp::read(resources, &config.pools, &mut problems);
        problems.sort();
        (config, problems)
    }

    /// The pool that contains all of `ips`, if one does. `avoidBuggyIPs` is heeded.
    pub fn pool_of(&self, ips: &[IpAddr]) -> Option<&Pool> {
        self.pools.values().find(|pool| !ips.is_empty() && ips.iter().all(|ip| pool.contains(*ip)))
    }

    /// The pool in whose ranges all of `ips` lie, `avoidBuggyIPs` aside: whatever a Service's status holds from a
    /// pool is announced.
    pub fn pool_covering(&self, ips: &[IpAddr]) -> Option<&Pool> {
        self.pools.values().find(|pool| !ips.is_empty() && ips.iter().all(|ip| pool.covers(*ip)))
    }

    /// The advertisements for the addresses of `pool`, in name order.
    pub fn advertisements_of<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a L2Advertisement> {
        self.l2_advertisements.values().filter(|advertisement| advertisement.scope.selects_pool(pool))
    }
}

/// The objects from the oldest to the youngest, those of one second by name. What has no creation time is just being made.
fn by_age<K: Resource>(objects: &[K]) -> Vec<&K> {
    let mut sorted: Vec<&K> = objects.iter().collect();
    sorted.sort_by_cached_key(|object| {
        let meta = object.meta();
        (meta.creation_timestamp.is_none(), meta.creation_timestamp.clone(), meta.name.clone())
    });
    sorted
}

#[cfg(test)]
mod tests;
