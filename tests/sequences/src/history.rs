//! What may a watcher have seen since the cluster was last at rest?
//!
//! A controller that decides as things happen sees states that are gone when somebody looks, and those of different kinds
//! in any order, for each kind has a watch of its own. An assignment that was valid at each moment, in whatever order the
//! moments of the kinds came together, may not have been changed; about others nothing can be said from the outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::promises::{may_have, may_share};
use crate::view::{Objects, Standing, View};

/// Every version of each kind of objects, in their order.
#[derive(Clone, Debug)]
pub struct History {
    services: Vec<Objects>,
    pools: Vec<Objects>,
    namespaces: Vec<Objects>,
}

impl History {
    /// Begins with a cluster at rest.
    pub fn new(view: &View) -> Self {
        Self {
            services: vec![view.services.clone()],
            pools: vec![view.pools.clone()],
            namespaces: vec![view.namespaces.clone()],
        }
    }

    /// Something has happened.
    pub fn note(&mut self, view: &View) {
        for (versions, now) in [
            (&mut self.services, &view.services),
            (&mut self.pools, &view.pools),
            (&mut self.namespaces, &view.namespaces),
        ] {
            if versions.last() != Some(now) {
                versions.push(now.clone());
            }
        }
    }

    /// The Services whose addresses may have been taken away from them with right, meanwhile.
    pub fn excused(&self, before: &Standing) -> BTreeSet<String> {
        let holders = before.iter().filter(|(_, holder)| !holder.ips.is_empty());
        let excused =
            holders.filter(|(key, had)| !self.was_always_valid(key, &had.ips) || !self.quarrels(key).is_empty());
        excused.map(|(key, _)| key.clone()).collect()
    }

    /// Those with whom a Service could share at one moment and could not at another: it may have to part with an address
    /// that one of them was given meanwhile.
    pub fn quarrels(&self, key: &str) -> BTreeSet<String> {
        let others: BTreeSet<&String> = self.services.iter().flat_map(|services| services.keys()).collect();
        let quarrel = |other: &str| {
            let both = self.services.iter().filter_map(|services| services.get(key).zip(services.get(other)));
            let could: BTreeSet<bool> = both.map(|(one, other)| may_share(one, other)).collect();
            could.len() == 2
        };
        others.into_iter().filter(|other| *other != key && quarrel(other)).cloned().collect()
    }

    fn was_always_valid(&self, key: &str, ips: &[IpAddr]) -> bool {
        let mut versions = self.services.iter().filter_map(|services| services.get(key));
        versions.all(|service| {
            self.pools
                .iter()
                .all(|pools| self.namespaces.iter().all(|namespaces| may_have(service, ips, pools, namespaces)))
        })
    }
}

#[cfg(test)]
mod tests;
