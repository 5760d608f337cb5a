//! On which interfaces is each address answered for? Pure: what the kernel says of its interfaces comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use landfall_membership::Down;
use landfall_wire::MacAddr;
use regex_lite::Regex;

use crate::desired::Interfaces;
use crate::ipvs::{self, Held};
use crate::ownership::EVERYTHING;

/// The interfaces that MetalLB leaves alone by default: those of container networks and of virtual machines, and those
/// that no neighbour is behind.
pub const EXCLUDED_BY_DEFAULT: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// More than this many networks are not told. A router with a thousand VLANs is no place for an address in particular.
const MAX_NETWORKS: usize = 64;

/// What the kernel says of one interface, without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The name, which can change.
    pub(crate) name: String,
    /// The MAC address of an Ethernet interface that resolves neighbours; `None` for loopback, tunnels, and interfaces with
    /// NOARP.
    pub(crate) mac: Option<MacAddr>,
    /// Switched on, with carrier, and ready to send.
    pub(crate) up: bool,
    /// Port of a bridge, member of a bond, or in a VRF: its frames belong to the interface above.
    pub(crate) enslaved: bool,
}

/// An address of an interface: its own and the prefix of its network in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InterfaceAddress {
    /// The address itself, which tells two addresses of one network apart.
    pub(crate) local: IpAddr,
    /// The network that is reached through it.
    pub(crate) network: IpNet,
}

/// A piece of news about the interfaces, by their indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// All that there is; what was known before is forgotten.
    Snapshot(BTreeMap<u32, Link>, Vec<(u32, InterfaceAddress)>),
    /// A new interface, or a change of one.
    Link(u32, Link),
    /// The interface is gone.
    LinkGone(u32),
    /// The interface has this address.
    Address(u32, InterfaceAddress),
    /// The interface no longer has this address.
    AddressGone(u32, InterfaceAddress),
}

/// Which interfaces may be used, by their names.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFilter {
    include: Vec<Regex>,
    exclude: Vec<Regex>,
}

/// A pattern that is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("the interface pattern {pattern:?} is not a regular expression: {source}; correct it or leave it out")]
pub struct PatternError {
    pattern: String,
    source: regex_lite::Error,
}

impl InterfaceFilter {
    /// Takes regular expressions, which match anywhere in a name unless they are anchored. An interface may be used when no
    /// pattern of `exclude` matches, and one of `include` does or there is none.
    ///
    /// # Errors
    /// [`PatternError`] names the first pattern that is no regular expression.
    pub fn new<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Self, PatternError> {
        let compile = |patterns: &[S]| {
            let one = |pattern: &S| {
                let pattern = pattern.as_ref();
                Regex::new(pattern).map_err(|source| PatternError { pattern: pattern.to_owned(), source })
            };
            patterns.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { include: compile(include)?, exclude: compile(exclude)? })
    }

    fn allows(&self, name: &str) -> bool {
        let matches = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(name));
        !matches(&self.exclude) && (self.include.is_empty() || matches(&self.include))
    }
}

/// What one interface shall answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The interface's name.
    pub(crate) name: String,
    /// Its MAC address.
    pub(crate) mac: MacAddr,
    /// The addresses; never empty.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// A network that this node is on: one address of an Ethernet interface. An interface with three addresses is on three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface's index.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Switched on, with carrier, and ready to send.
    pub up: bool,
    /// This node's address in the network.
    pub local: IpAddr,
    /// The network.
    pub network: IpNet,
}

/// The interfaces that answer for something, by index.
pub(crate) type Placement = BTreeMap<u32, Placed>;

/// All interfaces of this network namespace, as far as they are known.
#[derive(Debug)]
pub(crate) struct Links {
    filter: InterfaceFilter,
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<u32, BTreeSet<InterfaceAddress>>,
}

/// An interface that may be used now.
struct Usable<'a> {
    index: u32,
    name: &'a str,
    mac: MacAddr,
    addresses: Option<&'a BTreeSet<InterfaceAddress>>,
}

impl Usable<'_> {
    /// Those that say where it is.
    fn networks(&self) -> impl Iterator<Item = IpNet> {
        let link_local = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let says_something = move |net: &IpNet| net.prefix_len() < net.max_prefix_len() && !link_local(net.network());
        let addresses = self.addresses.into_iter().flatten();
        addresses.map(|address| address.network.trunc()).filter(says_something)
    }

    fn reaches(&self, ip: IpAddr) -> bool {
        self.addresses.into_iter().flatten().any(|address| address.network.contains(&ip))
    }
}

impl Links {
    /// Knows no interface yet.
    pub(crate) fn new(filter: InterfaceFilter) -> Self {
        Self { filter, links: BTreeMap::new(), addresses: BTreeMap::new() }
    }

    /// Takes a piece of news.
    pub(crate) fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Snapshot(links, addresses) => {
                self.links = links;
                self.addresses.clear();
                for (index, address) in addresses {
                    self.addresses.entry(index).or_default().insert(address);
                }
            }
            LinkEvent::Link(index, link) => {
                self.links.insert(index, link);
            }
            LinkEvent::LinkGone(index) => {
                self.links.remove(&index);
                self.addresses.remove(&index);
            }
            LinkEvent::Address(index, address) => {
                self.addresses.entry(index).or_default().insert(address);
            }
            LinkEvent::AddressGone(index, address) => {
                if let Some(addresses) = self.addresses.get_mut(&index) {
                    addresses.remove(&address);
                }
            }
        }
    }

    /// On which interfaces each of these addresses is to be answered for: those that were named; else those whose network
    /// holds the address; else, when none does, all. Only interfaces that may be used and are up count.
    pub(crate) fn place<'a>(&self, addresses: impl IntoIterator<Item = (&'a IpAddr, &'a Interfaces)>) -> Placement {
        let usable = self.usable();
        let mut placement = Placement::new();
        for (ip, interfaces) in addresses {
            let chosen: Vec<&Usable<'_>> = match interfaces {
                Interfaces::Named(names) => usable.iter().filter(|link| names.contains(link.name)).collect(),
                Interfaces::All => {
                    let nearest: Vec<_> = usable.iter().filter(|link| link.reaches(*ip)).collect();
                    if nearest.is_empty() { usable.iter().collect() } else { nearest }
                }
            };
            for link in chosen {
                let placed = placement.entry(link.index).or_insert_with(|| Placed {
                    name: link.name.to_owned(),
                    mac: link.mac,
                    addresses: BTreeSet::new(),
                });
                placed.addresses.insert(*ip);
            }
        }
        placement
    }

    /// The interfaces that may be used, by index: the MAC address of each, and by which names other nodes may know that they are
    /// on the same segment: the networks that it is in; where it is in none, its own name.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, MacAddr, Vec<String>)> {
        self.usable().into_iter().map(|link| {
            let networks = link.networks().map(|network| network.to_string());
            let mut names: Vec<String> = networks.collect();
            if names.is_empty() {
                names.push(link.name.to_owned());
            }
            (link.index, link.mac, names)
        })
    }

    /// The networks of the interfaces that may be used. Those that every interface has (link-local) and those of a single
    /// address say nothing about where the node is.
    pub(crate) fn networks(&self) -> BTreeSet<IpNet> {
        self.usable().iter().flat_map(Usable::networks).take(MAX_NETWORKS).collect()
    }

    /// What this node can serve nothing over at present: of `named`, the interfaces that cannot be used; of `networks`, those
    /// that no usable interface is in; [`EVERYTHING`] when there is no usable interface at all.
    pub(crate) fn down(&self, named: &BTreeSet<&str>, networks: &BTreeSet<IpNet>) -> Down {
        let (usable, present) = (self.usable(), self.networks());
        let interfaces = named.iter().copied().filter(|name| !usable.iter().any(|link| link.name == *name));
        let networks: Vec<String> = networks.difference(&present).map(ToString::to_string).collect();
        let everything = usable.is_empty().then_some(EVERYTHING);
        Down::new(everything.into_iter().chain(interfaces).chain(networks.iter().map(String::as_str)))
    }

    /// Every network that this node is on by an Ethernet interface of its own, also where it may not announce anything: it
    /// may reach other nodes there. Interfaces that are down are among them, marked: what is behind them is out of reach, and
    /// not behind a router.
    pub(crate) fn attached(&self) -> Vec<Attached> {
        let mut attached = Vec::new();
        for (&interface, link) in &self.links {
            let Some(mac) = link.mac.filter(|_| !link.enslaved) else { continue };
            for address in self.addresses.get(&interface).into_iter().flatten() {
                let InterfaceAddress { local, network } = *address;
                attached.push(Attached { interface, name: link.name.clone(), mac, up: link.up, local, network });
            }
        }
        attached
    }

    /// Whether kube-proxy, in IPVS mode, has one of these addresses on its interface: with a prefix of its own, as it does. IPv4
    /// only.
    pub(crate) fn held_by_ipvs<'a>(&self, addresses: impl IntoIterator<Item = &'a IpAddr>) -> Option<Held> {
        let (index, _) = self.links.iter().find(|(_, link)| link.name == ipvs::INTERFACE)?;
        let bound = self.addresses.get(index)?;
        let is_bound = |ip: &&IpAddr| bound.contains(&InterfaceAddress { local: **ip, network: IpNet::from(**ip) });
        let ip = *addresses.into_iter().filter(|ip| ip.is_ipv4()).find(is_bound)?;
        Some(Held { ip, interfaces: self.usable().iter().map(|link| link.name.to_owned()).collect() })
    }

    /// Whether an interface of this node has the MAC address.
    pub(crate) fn has_mac(&self, mac: MacAddr) -> bool {
        self.links.values().any(|link| link.mac == Some(mac))
    }

    fn usable(&self) -> Vec<Usable<'_>> {
        let may_be_used = |link: &Link| link.up && !link.enslaved && self.filter.allows(&link.name);
        let mut usable = Vec::new();
        for (&index, link) in &self.links {
            if let Some(mac) = link.mac.filter(|_| may_be_used(link)) {
                usable.push(Usable { index, name: &link.name, mac, addresses: self.addresses.get(&index) });
            }
        }
        usable
    }
}

#[cfg(test)]
mod tests;
