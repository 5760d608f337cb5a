//! Pools: which addresses there are, and who may have them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_api::{IPAddressPool, ServiceAllocation};

use crate::problem::{Problem, Problems};
use crate::range::{AddressRange, is_buggy};
use crate::selector::{Labels, Selectors, read_names};

/// What an `IPAddressPool` means.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The object's name.
    pub name: String,
    /// The object's labels, for the advertisements' `ipAddressPoolSelectors`.
    pub labels: Labels,
    /// The addresses in the order of `spec.addresses`, in which they are handed out. No two ranges of a [`Config`](crate::Config) overlap.
    pub ranges: Vec<AddressRange>,
    /// Whether a Service that names neither pool nor address may get one from here.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 or .255 are kept back.
    pub avoid_buggy_ips: bool,
    /// Who may have an address from here; `None` is everybody.
    pub allocation: Option<Allocation>,
}

/// What `spec.serviceAllocation` means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    /// Order among the pools that are pinned to a Service: lower first, 0 last.
    pub priority: u32,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label; a union with the names.
    pub namespace_selectors: Selectors,
    /// Services by label; they restrict the namespaces further.
    pub service_selectors: Selectors,
}

impl Pool {
    /// Whether a Service may hold `ip` from this pool.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.covers(ip) && !(self.avoid_buggy_ips && is_buggy(ip))
    }

    /// Whether `ip` lies in the pool's ranges, `avoidBuggyIPs` aside.
    pub fn covers(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    /// Whether the pool has addresses of the family at all.
    pub fn has_family(&self, ipv4: bool) -> bool {
        self.ranges.iter().any(|range| range.is_ipv4() == ipv4)
    }

    /// How many addresses of the family can be handed out.
    pub fn capacity(&self, ipv4: bool) -> u128 {
        self.ranges
            .iter()
            .filter(|range| range.is_ipv4() == ipv4)
            .map(|range| range.size() - if self.avoid_buggy_ips { range.buggy() } else { 0 })
            .fold(0, u128::saturating_add)
    }

    /// Whether a Service with these labels, in this namespace, may have an address from here.
    /// Namespace selectors that match nothing close the pool (MetalLB would open it; see docs/compatibility.md).
    pub fn accepts(&self, namespace: &str, namespace_labels: &Labels, service_labels: &Labels) -> bool {
        let Some(allocation) = &self.allocation else { return true };
        let any_namespace = allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty();
        let namespace_fits = any_namespace
            || allocation.namespaces.contains(namespace)
            || allocation.namespace_selectors.any_matches(namespace_labels);
        namespace_fits && allocation.service_selectors.allows(service_labels)
    }

    /// The position in the order of preference among pinned pools: smaller is better, an unset priority comes last.
    pub fn priority(&self) -> u32 {
        match self.allocation.as_ref().map_or(0, |allocation| allocation.priority) {
            0 => u32::MAX,
            priority => priority,
        }
    }

    /// Whether an advertisement with these `ipAddressPools` and `ipAddressPoolSelectors` is about this pool: a union of the
    /// two; with neither, it is about every pool.
    pub(crate) fn is_chosen_by(&self, names: &BTreeSet<String>, selectors: &Selectors) -> bool {
        (names.is_empty() && selectors.is_empty()) || names.contains(&self.name) || selectors.any_matches(&self.labels)
    }

    /// Reads the object. Entries that make no sense are problems and are left out.
    pub(crate) fn read(object: &IPAddressPool, found: &mut Vec<Problem>) -> Self {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of("IPAddressPool", &name, found);
        let spec = &object.spec;
        if spec.addresses.is_empty() {
            problems.add("spec.addresses", "[]", "pool has no prefixes defined; add a CIDR or a range");
        }
        let mut ranges = Vec::new();
        for (i, text) in spec.addresses.iter().enumerate() {
            match AddressRange::parse(text) {
                Ok(range) => ranges.push(range),
                Err(error) => problems.add(format!("spec.addresses[{i}]"), text, error.to_string()),
            }
        }
        let allocation = spec.service_allocation.as_ref().map(|given| Allocation::read(given, &mut problems));
        Self {
            labels: object.metadata.labels.clone().unwrap_or_default(),
            ranges,
            auto_assign: spec.auto_assign,
            avoid_buggy_ips: spec.avoid_buggy_ips,
            allocation,
            name,
        }
    }
}

impl Allocation {
    fn read(given: &ServiceAllocation, problems: &mut Problems<'_>) -> Self {
        let at = |field: &str| format!("spec.serviceAllocation.{field}");
        let priority = given.priority.unwrap_or(0);
        let priority = u32::try_from(priority).unwrap_or_else(|_| {
            problems.add(
                at("priority"),
                priority.to_string(),
                "a priority is a number from 0 to 4294967295; 0 is last",
            );
            0
        });
        Self {
            priority,
            namespaces: read_names(&at("namespaces"), &given.namespaces, problems),
            namespace_selectors: Selectors::read(&at("namespaceSelectors"), &given.namespace_selectors, problems),
            service_selectors: Selectors::read(&at("serviceSelectors"), &given.service_selectors, problems),
        }
    }
}
