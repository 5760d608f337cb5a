//! Which Services are bound together by the addresses that they share. Pure.
//!
//! A node is elected by one address, and a Service with two is answered for by one node. So if a Service of both families
//! shares its IPv6 address with a Service of IPv6 alone, both must be elected by the same address, or two nodes would
//! answer for the one that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::ServiceKey;

/// The Services that may share, and the addresses that each has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharers {
    addresses: BTreeMap<ServiceKey, Vec<IpAddr>>,
    holders: BTreeMap<IpAddr, BTreeSet<ServiceKey>>,
}

impl Sharers {
    /// The Service has these addresses now; `None`: it does not share, or is gone.
    pub(crate) fn put(&mut self, service: &ServiceKey, ips: Option<&[IpAddr]>) {
        for ip in self.addresses.remove(service).unwrap_or_default() {
            if let Some(holders) = self.holders.get_mut(&ip) {
                holders.remove(service);
                if holders.is_empty() {
                    self.holders.remove(&ip);
                }
            }
        }
        for ip in ips.unwrap_or_default() {
            self.holders.entry(*ip).or_default().insert(service.clone());
        }
        if let Some(ips) = ips.filter(|ips| !ips.is_empty()) {
            self.addresses.insert(service.clone(), ips.to_vec());
        }
    }

    /// All Services that may share.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.addresses.keys()
    }

    /// The lowest address, IPv4 before IPv6, of all the Services that are bound to this one through shared addresses.
    /// `None` when nobody shares with it: then its own first address counts, as in MetalLB.
    pub(crate) fn first_of_all(&self, service: &ServiceKey) -> Option<IpAddr> {
        let (mut bound, mut to_visit) = (BTreeSet::from([service]), vec![service]);
        let mut ips = BTreeSet::new();
        while let Some(service) = to_visit.pop() {
            for ip in self.addresses.get(service).into_iter().flatten().filter(|ip| ips.insert(**ip)) {
                to_visit.extend(self.holders.get(ip).into_iter().flatten().filter(|holder| bound.insert(holder)));
            }
        }
        ips.into_iter().next().filter(|_| bound.len() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), name: name.into() }
    }

    fn put(sharers: &mut Sharers, name: &str, ips: &[&str]) {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        sharers.put(&key(name), Some(&ips));
    }

    #[test]
    fn services_that_are_bound_through_others_are_elected_by_one_address() {
        let mut sharers = Sharers::default();
        put(&mut sharers, "alone", &["10.0.0.1"]);
        put(&mut sharers, "dual", &["fd00::5", "10.0.0.5"]);
        let first = |sharers: &Sharers, name: &str| sharers.first_of_all(&key(name)).map(|ip| ip.to_string());
        assert_eq!((first(&sharers, "alone"), first(&sharers, "dual")), (None, None));
        put(&mut sharers, "six", &["fd00::5"]);
        put(&mut sharers, "other-dual", &["10.0.0.3", "fd00::5"]);
        put(&mut sharers, "four", &["10.0.0.5"]);
        for name in ["dual", "six", "other-dual", "four"] {
            assert_eq!(first(&sharers, name).as_deref(), Some("10.0.0.3"), "{name}");
        }
        sharers.put(&key("other-dual"), None);
        assert_eq!(first(&sharers, "four").as_deref(), Some("10.0.0.5"));
        for name in ["six", "four"] {
            sharers.put(&key(name), None);
        }
        assert_eq!((first(&sharers, "dual"), sharers.services().count()), (None, 2));
    }
}
