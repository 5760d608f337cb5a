//! What does it mean? Pure: a user's `IPAddressPool` and `L2Advertisement` objects in, a [`Config`] or problems with
//! object, field, value and remedy out. Controller and speakers read the same objects with the same code.

mod l2;
mod pool;
mod problem;
mod range;
mod selector;

use std::collections::BTreeMap;
use std::net::IpAddr;

use landfall_api::IPAddressPool;

use crate::problem::Problems;
pub use l2::{L2Advertisement, Preference};
pub use pool::{Allocation, Pool};
pub use problem::Problem;
pub use range::{AddressRange, RangeError, bits, is_buggy};
pub use selector::{Labels, Selectors};

/// The objects that a configuration is made of, as they stand in the namespace that Landfall runs in.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Every `IPAddressPool`.
    pub pools: Vec<IPAddressPool>,
    /// Every `L2Advertisement`.
    pub l2_advertisements: Vec<landfall_api::L2Advertisement>,
}

/// What the objects mean together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Pools by name. Their ranges do not overlap.
    pub pools: BTreeMap<String, Pool>,
    /// Advertisements by name.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
}

impl Config {
    /// Reads the objects. What cannot be read is left out and listed as a problem; of two ranges that overlap the one
    /// of the older object stays. So a process that starts with a mistake in the cluster still serves everything the
    /// mistake is not about; one that runs keeps its last good configuration (see [`Loader`]).
    pub fn read(resources: &Resources) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut pools: Vec<&IPAddressPool> = resources.pools.iter().collect();
        pools.sort_by_key(|pool| (pool.metadata.creation_timestamp.clone(), pool.metadata.name.clone()));
        // Ranges that are taken already, by their first address: the last one and the pool they belong to.
        let mut taken: BTreeMap<IpAddr, (AddressRange, String)> = BTreeMap::new();
        let mut config = Self::default();
        for object in pools {
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
        self.l2_advertisements.values().filter(|advertisement| advertisement.selects_pool(pool))
    }
}

/// Keeps the configuration in force: a mistake in a user's object leaves the last good one untouched, so that nothing
/// that is announced gets lost by it.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    current: Option<Config>,
    /// Whether `current` was taken in spite of problems.
    partial: bool,
    /// What the objects say now, as far as it can be read.
    latest: Config,
    problems: Vec<Problem>,
}

/// What a [`Loader::load`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration in force is another one now.
    pub config_changed: bool,
    /// The list of problems is another one now.
    pub problems_changed: bool,
}

impl Loader {
    /// Takes the objects as they stand now. Without problems they come into force. With problems the last good
    /// configuration stays; where there was none since the process started, what can be read comes into force.
    pub fn load(&mut self, resources: &Resources) -> Loaded {
        let (config, problems) = Config::read(resources);
        let problems_changed = problems != self.problems;
        let take = problems.is_empty() || self.current.is_none() || self.partial;
        let config_changed = take && self.current.as_ref() != Some(&config);
        if take {
            self.current = Some(config.clone());
            self.partial = !problems.is_empty();
        }
        self.latest = config;
        self.problems = problems;
        Loaded { config_changed, problems_changed }
    }

    /// Whether the configuration in force was taken in spite of problems, because there was none before: what no pool
    /// contains now may belong to the part that could not be read.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether the pool is in force as it stands now, and not held back by a mistake somewhere.
    pub fn pool_in_force(&self, name: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.pools.get(name) == self.latest.pools.get(name))
    }

    /// Whether the L2Advertisement is in force as it stands now, and not held back by a mistake somewhere.
    pub fn l2_advertisement_in_force(&self, name: &str) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| current.l2_advertisements.get(name) == self.latest.l2_advertisements.get(name))
    }

    /// The configuration in force; `None` before the first load.
    pub fn config(&self) -> Option<&Config> {
        self.current.as_ref()
    }

    /// What is wrong with the objects as they stand now, sorted; empty when all is well.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

#[cfg(test)]
mod tests;
