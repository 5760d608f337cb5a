//! May this node answer for this Service? Pure, and the same on every speaker, so that exactly one says yes.
//!
//! Source of the order of the questions: MetalLB's layer 2 election, docs/compatibility.md. All addresses of one
//! Service are answered by the node elected for the first of them, in the order of its status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use landfall_config::{Config, L2Advertisement};
use landfall_election::Candidate;

use crate::desired::{Desired, Interfaces};
use crate::model::{Node, Service, ServiceKey};

/// What the decision depends on besides the Service and its endpoints.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The node that asks.
    pub node: &'a str,
    /// The configuration in force.
    pub config: &'a Config,
    /// All Nodes by name.
    pub nodes: &'a BTreeMap<String, Node>,
    /// Nodes that may answer for something: each exists, has a speaker, a network, and no exclude label.
    pub eligible: &'a BTreeSet<String>,
}

/// Where a Service has endpoints that can serve: ready ones, and terminating ones that still serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints<'a> {
    /// There is one, wherever it is.
    pub anywhere: bool,
    /// Nodes that host one.
    pub nodes: BTreeSet<&'a str>,
}

/// What this node does about one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This node answers.
    Announce {
        /// The addresses, in the order of the Service's status.
        ips: Vec<IpAddr>,
        /// Where.
        interfaces: Interfaces,
    },
    /// This node does not answer.
    Withhold(Reason),
}

/// Why this node does not answer: a closed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The Service has no address yet.
    NoIpAllocated,
    /// An entry of its status is no address, such as a host name.
    InvalidIp(String),
    /// No pool of the configuration in force contains all its addresses.
    IpNotAllowed,
    /// No endpoint can serve, so an answer would lead nowhere.
    NoEndpoints,
    /// It may share its address, and an advertisement chooses by Service label: the sharers could end up on two nodes.
    SharedIpWithServiceSelector,
    /// No advertisement of its pool selects it on this node.
    NoMatchingAdvertisement,
    /// No node at all may answer.
    NoEligibleNode,
    /// Another node answers.
    NotOwner {
        /// That node.
        owner: String,
    },
}

impl Reason {
    /// The word for logs; those that MetalLB has are MetalLB's.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::NoIpAllocated => "noIPAllocated",
            Reason::InvalidIp(_) => "invalidIP",
            Reason::IpNotAllowed => "ipNotAllowed",
            Reason::NoEndpoints => "noEndpoints",
            Reason::SharedIpWithServiceSelector => "sharedIPWithServiceSelector",
            Reason::NoMatchingAdvertisement => "noMatchingAdvertisement",
            Reason::NoEligibleNode => "noEligibleNode",
            Reason::NotOwner { .. } => "notOwner",
        }
    }
}

/// The sentence for people, with the way out where there is one.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoIpAllocated => write!(f, "the Service has no address yet"),
            Reason::InvalidIp(entry) => {
                write!(f, "status.loadBalancer.ingress has {entry}, which is no IP address and cannot be answered for")
            }
            Reason::IpNotAllowed => {
                write!(
                    f,
                    "no IPAddressPool contains all addresses of the Service; add them to one pool's spec.addresses"
                )
            }
            Reason::NoEndpoints => write!(f, "no endpoint of the Service is ready to serve"),
            Reason::SharedIpWithServiceSelector => write!(
                f,
                "the Service may share its address and an L2Advertisement of its pool has spec.serviceSelectors; \
                 remove the annotation metallb.io/allow-shared-ip or the selectors"
            ),
            Reason::NoMatchingAdvertisement => {
                write!(f, "no L2Advertisement of the Service's pool selects the Service on this node")
            }
            Reason::NoEligibleNode => write!(
                f,
                "no node may answer: each lacks a ready speaker, its network, an endpoint (externalTrafficPolicy: Local), \
                 or has the label node.kubernetes.io/exclude-from-external-load-balancers"
            ),
            Reason::NotOwner { owner } => write!(f, "node {owner:?} answers"),
        }
    }
}

/// Decides one Service for `world.node`. `elected_by` is the address that is put to the vote in place of its first one:
/// that of those with whom it shares.
pub fn verdict(service: &Service, elected_by: Option<IpAddr>, endpoints: &Endpoints<'_>, world: &World<'_>) -> Verdict {
    match announce(service, elected_by, endpoints, world) {
        Ok((ips, interfaces)) => Verdict::Announce { ips, interfaces },
        Err(reason) => Verdict::Withhold(reason),
    }
}

fn announce(
    service: &Service,
    elected_by: Option<IpAddr>,
    endpoints: &Endpoints<'_>,
    world: &World<'_>,
) -> Result<(Vec<IpAddr>, Interfaces), Reason> {
    let ips = service.ingress_ips.as_ref().map_err(|entry| Reason::InvalidIp(entry.clone()))?;
    let first = *ips.first().ok_or(Reason::NoIpAllocated)?;
    let pool = world.config.pool_covering(ips).ok_or(Reason::IpNotAllowed)?;
    if !endpoints.anywhere {
        return Err(Reason::NoEndpoints);
    }
    let ads = world.config.advertisements_of(pool).filter(|ad| ad.scope.selects_service(&service.labels));
    let ads: Vec<&L2Advertisement> = ads.collect();
    if service.may_share && ads.iter().any(|ad| !ad.scope.service_selectors.is_empty()) {
        return Err(Reason::SharedIpWithServiceSelector);
    }
    let here = world.nodes.get(world.node).map(|node| &node.labels);
    let ads_here: Vec<_> = ads.iter().filter(|ad| here.is_some_and(|labels| ad.scope.selects_node(labels))).collect();
    if ads_here.is_empty() {
        return Err(Reason::NoMatchingAdvertisement);
    }
    let candidates = world.eligible.iter().filter_map(|name| {
        let labels = &world.nodes.get(name)?.labels;
        let score = L2Advertisement::score_together(&ads, labels)?;
        let has_endpoint = !service.local || endpoints.nodes.contains(name.as_str());
        has_endpoint.then_some(Candidate { node: name, score })
    });
    match landfall_election::owner(elected_by.unwrap_or(first), candidates, service.placed.as_deref()) {
        None => Err(Reason::NoEligibleNode),
        Some(owner) if owner != world.node => Err(Reason::NotOwner { owner: owner.to_owned() }),
        Some(_) => {
            let named = ads_here.iter().map(|ad| &ad.interfaces);
            let interfaces = match named.clone().any(BTreeSet::is_empty) {
                true => Interfaces::All,
                false => Interfaces::Named(named.flatten().cloned().collect()),
            };
            Ok((ips.clone(), interfaces))
        }
    }
}

/// What the wire shall answer for: the addresses of every Service announced here. Services that share an address
/// are answered for on all interfaces that any of them asks for.
pub fn desired(verdicts: &BTreeMap<ServiceKey, Verdict>) -> Desired {
    let mut addresses = BTreeMap::new();
    for verdict in verdicts.values() {
        let Verdict::Announce { ips, interfaces } = verdict else { continue };
        for ip in ips {
            addresses
                .entry(*ip)
                .and_modify(|held| *held = union(held, interfaces))
                .or_insert_with(|| interfaces.clone());
        }
    }
    Desired { addresses }
}

fn union(one: &Interfaces, other: &Interfaces) -> Interfaces {
    match (one, other) {
        (Interfaces::Named(one), Interfaces::Named(other)) => Interfaces::Named(one | other),
        (Interfaces::All, _) | (_, Interfaces::All) => Interfaces::All,
    }
}

#[cfg(test)]
mod tests;
