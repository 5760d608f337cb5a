//! Which nodes may answer for this Service, and in which order? Pure, and the same on every speaker; who of them lives and
//! therefore does answer is the wire half's question ([`crate::ownership`]).
//!
//! Source of the order of the questions: MetalLB's layer 2 election, docs/compatibility.md. All addresses of one
//! Service are answered by the node elected for the first of them, in the order of its status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_config::{Config, L2Advertisement};
use landfall_election::Candidate;

use crate::desired::{Desired, Interfaces, Ranking, Wanted};
use crate::model::{Node, Service, ServiceKey};

/// How many nodes a ranking names at most. That so many fail at once is worth less than the memory of all of a big cluster.
pub const MAX_RANKED: usize = 16;

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
    pub eligible: &'a BTreeSet<Arc<str>>,
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
    /// This node may answer: it is one of the ranking.
    Serve {
        /// The addresses, in the order of the Service's status.
        ips: Vec<IpAddr>,
        /// Where this node answers.
        interfaces: Interfaces,
        /// Who answers.
        ranking: Ranking,
    },
    /// This node never answers.
    Withhold(Reason),
}

/// Why this node never answers: a closed set.
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
    /// No advertisement of its pool selects it.
    NoMatchingAdvertisement,
    /// No node at all may answer.
    NoEligibleNode,
    /// Other nodes may answer, and no advertisement selects this one.
    NotSelected,
    /// Other nodes may answer and this one may not.
    NotEligible,
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
            Reason::NoMatchingAdvertisement | Reason::NotSelected => "noMatchingAdvertisement",
            Reason::NoEligibleNode => "noEligibleNode",
            Reason::NotEligible => "notEligible",
        }
    }

    /// The reason of the condition `landfall.io/Announced`, where the Service has an address and this holds for every node.
    pub fn of_all_nodes(&self) -> Option<&'static str> {
        match self {
            Reason::InvalidIp(_) => Some("InvalidIP"),
            Reason::IpNotAllowed => Some("IPNotAllowed"),
            Reason::NoEndpoints => Some("NoEndpoints"),
            Reason::SharedIpWithServiceSelector => Some("SharedIPWithServiceSelector"),
            Reason::NoMatchingAdvertisement => Some("NoMatchingAdvertisement"),
            Reason::NoEligibleNode => Some("NoEligibleNode"),
            Reason::NoIpAllocated | Reason::NotSelected | Reason::NotEligible => None,
        }
    }
}

/// The sentence for people, with the way out where there is one.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoIpAllocated => write!(f, "the Service has no address yet"),
            Reason::InvalidIp(entry) => write!(
                f,
                "status.loadBalancer.ingress has {entry}, which is no IP address and cannot be answered for; stop who writes it"
            ),
            Reason::IpNotAllowed => write!(
                f,
                "no IPAddressPool contains all addresses of the Service; add them to one pool's spec.addresses"
            ),
            Reason::NoEndpoints => write!(
                f,
                "no endpoint of the Service is ready to serve; look at the Pods that spec.selector selects, and at their readiness"
            ),
            Reason::SharedIpWithServiceSelector => write!(
                f,
                "the Service may share its address and an L2Advertisement of its pool has spec.serviceSelectors; \
                 remove the annotation metallb.io/allow-shared-ip or the selectors"
            ),
            Reason::NoMatchingAdvertisement => write!(
                f,
                "no L2Advertisement selects the Service and its pool; create one, or correct spec.ipAddressPools, \
                 spec.ipAddressPoolSelectors or spec.serviceSelectors of one"
            ),
            Reason::NoEligibleNode => write!(
                f,
                "no node may answer: each lacks a ready speaker, its network, an endpoint (externalTrafficPolicy: Local), \
                 an L2Advertisement whose spec.nodeSelectors select it, \
                 or has the label node.kubernetes.io/exclude-from-external-load-balancers; give one node what it lacks"
            ),
            Reason::NotSelected => {
                write!(f, "other nodes may answer; spec.nodeSelectors of the L2Advertisements do not select this one")
            }
            Reason::NotEligible => write!(
                f,
                "other nodes may answer; this one lacks a speaker that was ready, its network, an endpoint \
                 (externalTrafficPolicy: Local), or has the label node.kubernetes.io/exclude-from-external-load-balancers"
            ),
        }
    }
}

/// Decides one Service for `world.node`. `elected_by` is the address that is put to the vote in place of its first one:
/// that of those with whom it shares.
pub fn verdict(service: &Service, elected_by: Option<IpAddr>, endpoints: &Endpoints<'_>, world: &World<'_>) -> Verdict {
    serve(service, elected_by, endpoints, world).unwrap_or_else(Verdict::Withhold)
}

fn serve(
    service: &Service,
    elected_by: Option<IpAddr>,
    endpoints: &Endpoints<'_>,
    world: &World<'_>,
) -> Result<Verdict, Reason> {
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
    if ads.is_empty() {
        return Err(Reason::NoMatchingAdvertisement);
    }
    let candidates = world.eligible.iter().filter_map(|name| {
        let labels = &world.nodes.get(&**name)?.labels;
        let score = L2Advertisement::score_together(&ads, labels)?;
        let has_endpoint = !service.local || endpoints.nodes.contains(&**name);
        has_endpoint.then_some(Candidate { node: name, score })
    });
    let ranked = landfall_election::ranking(elected_by.unwrap_or(first), candidates, service.placed.as_deref());
    if ranked.is_empty() {
        return Err(Reason::NoEligibleNode);
    }
    // Every node comes this far with the same result; from here on it is about this one.
    let here = world.nodes.get(world.node).map(|node| &node.labels);
    let ads_here: Vec<_> = ads.iter().filter(|ad| here.is_some_and(|labels| ad.scope.selects_node(labels))).collect();
    if ads_here.is_empty() {
        return Err(Reason::NotSelected);
    }
    // Who is drained comes last: it answers where nobody else can.
    let is_drained = |node: &str| world.nodes.get(node).is_some_and(|node| node.drain);
    let (drained, others): (Vec<&str>, Vec<&str>) = ranked.into_iter().partition(|node| is_drained(node));
    let ranked = others.into_iter().chain(drained).take(MAX_RANKED);
    let ranking: Ranking = ranked.filter_map(|node| world.eligible.get(node)).map(Arc::clone).collect();
    if !ranking.iter().any(|node| **node == *world.node) {
        return Err(Reason::NotEligible);
    }
    let named = ads_here.iter().map(|ad| &ad.interfaces);
    let interfaces = match named.clone().any(BTreeSet::is_empty) {
        true => Interfaces::All,
        false => Interfaces::Named(named.flatten().cloned().collect()),
    };
    Ok(Verdict::Serve { ips: ips.clone(), interfaces, ranking })
}

/// What the wire may have to answer for: the addresses of every Service that this node may serve. Services that share an
/// address are answered for on all interfaces that any of them asks for, and are elected together.
pub fn desired<'a>(
    verdicts: &BTreeMap<ServiceKey, Verdict>,
    service: impl Fn(&ServiceKey) -> Option<&'a Service>,
) -> Desired {
    let mut addresses: BTreeMap<IpAddr, Wanted> = BTreeMap::new();
    let mut others = BTreeSet::new();
    for (key, verdict) in verdicts {
        let (ips, interfaces, ranking) = match verdict {
            Verdict::Serve { ips, interfaces, ranking } => (ips, interfaces, ranking),
            Verdict::Withhold(Reason::NotEligible | Reason::NotSelected) => {
                others.extend(service(key).into_iter().flat_map(|service| service.ingress_ips.iter().flatten()));
                continue;
            }
            Verdict::Withhold(_) => continue,
        };
        for ip in ips {
            addresses
                .entry(*ip)
                .and_modify(|held| held.interfaces = union(&held.interfaces, interfaces))
                .or_insert_with(|| Wanted { interfaces: interfaces.clone(), ranking: Arc::clone(ranking) });
        }
    }
    others.retain(|ip| !addresses.contains_key(ip));
    Desired { addresses, others }
}

fn union(one: &Interfaces, other: &Interfaces) -> Interfaces {
    match (one, other) {
        (Interfaces::Named(one), Interfaces::Named(other)) => Interfaces::Named(one | other),
        (Interfaces::All, _) | (_, Interfaces::All) => Interfaces::All,
    }
}

#[cfg(test)]
mod tests;
