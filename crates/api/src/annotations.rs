//! Annotations that users put on Services, and those that we put there.
//!
//! Each of MetalLB's keys exists twice: with the prefix `metallb.io/` and with the legacy `metallb.universe.tf/`.

use std::collections::BTreeMap;

/// Prefix of MetalLB's annotation keys.
pub const PREFIX: &str = "metallb.io/";
/// Prefix of the same keys before MetalLB moved to the group `metallb.io`; still honoured.
pub const LEGACY_PREFIX: &str = "metallb.universe.tf/";

/// Allocate from the pool of this name.
pub const ADDRESS_POOL: Key = Key { name: "metallb.io/address-pool", legacy: "metallb.universe.tf/address-pool" };
/// One address, or two of different families separated by a comma, that the Service asks for.
pub const LOAD_BALANCER_IPS: Key =
    Key { name: "metallb.io/loadBalancerIPs", legacy: "metallb.universe.tf/loadBalancerIPs" };
/// Services with the same value here may share an address. The key is cluster-wide, not per namespace.
pub const ALLOW_SHARED_IP: Key =
    Key { name: "metallb.io/allow-shared-ip", legacy: "metallb.universe.tf/allow-shared-ip" };

/// Written by the controller: the name of the pool that the Service's address came from.
/// Its legacy spelling is neither read nor removed.
pub const IP_ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
/// Written by the controller when it gives an address: the node that is to answer for the Service while it can.
pub const NODE: &str = "landfall.io/node";

/// On a speaker's ConfigurationState: the networks of the interfaces on which it may answer, separated by commas. The
/// controller places an address on a node whose network has it.
pub const NETWORKS: &str = "landfall.io/networks";

/// On a speaker's ConfigurationState, where `failover.evictEndpoints` is on: what it observes of other nodes at present, as
/// `{"at": "2026-01-31T12:00:00Z", "silent": ["n2"]}`. Those that it names are out by their observers' verdict, and their kernels
/// left this speaker's own questions unanswered. The time makes each word another one.
pub const SILENT_NODES: &str = "landfall.io/silent-nodes";

/// On a Node, with the value "true": it is to answer for nothing as long as another can.
pub const DRAIN: &str = "landfall.io/drain";

/// On an IPAddressPool: how many of its addresses the Services of one namespace may hold together.
pub const MAX_ADDRESSES_PER_NAMESPACE: &str = "landfall.io/max-addresses-per-namespace";

/// An annotation of MetalLB under its current and its legacy key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The key to use and to name in messages, with the prefix `metallb.io/`.
    pub name: &'static str,
    /// The key with the prefix `metallb.universe.tf/`.
    pub legacy: &'static str,
}

impl Key {
    /// The value under the current key if that key is present, even with an empty value; else under the legacy key.
    pub fn value<'a>(&self, annotations: &'a BTreeMap<String, String>) -> Option<&'a str> {
        annotations.get(self.name).or_else(|| annotations.get(self.legacy)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn new_key_wins_over_the_legacy_key_even_when_empty() {
        let (new, old) = ("metallb.io/address-pool", "metallb.universe.tf/address-pool");
        for (pairs, value) in [
            (vec![], None),
            (vec![(old, "gold")], Some("gold")),
            (vec![(new, "silver")], Some("silver")),
            (vec![(old, "gold"), (new, "silver")], Some("silver")),
            (vec![(old, "gold"), (new, "")], Some("")),
        ] {
            assert_eq!(ADDRESS_POOL.value(&annotations(&pairs)), value, "{pairs:?}");
        }
    }

    #[test]
    fn both_spellings_of_a_key_differ_in_the_prefix_only() {
        for key in [ADDRESS_POOL, LOAD_BALANCER_IPS, ALLOW_SHARED_IP] {
            let name = key.name.strip_prefix(PREFIX).expect(key.name);
            assert_eq!(key.legacy.strip_prefix(LEGACY_PREFIX), Some(name));
        }
    }
}
