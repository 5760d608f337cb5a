//! What addresses should this Service have? Pure, apart from the allocator's books, in which it writes its decision.
//!
//! An address that is still valid is never taken away; one that is not is replaced in a single step.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_config::{Config, Labels};
use landfall_ipam::{AllocateError, Assignment, Families, Family, Ipam, Request, ServiceKey};
use landfall_runtime::events::Kind;

use crate::service::{Policy, Service};

/// What a Service should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The addresses in `status.loadBalancer.ingress`, IPv4 first; `None` leaves the status as it stands.
    pub ingress: Option<Vec<IpAddr>>,
    /// The pool they are from.
    pub pool: Option<String>,
    /// The node that is to answer for them: [`converge`] leaves it as it stands, [`placement`](crate::placement) decides.
    pub node: Option<String>,
    /// The condition `landfall.io/AddressAllocated`; `None`: the Service is not ours (any more), and carries none.
    pub verdict: Option<Verdict>,
    /// What to say about the change, should there be one.
    pub events: Vec<(Kind, &'static str, String)>,
}

/// Whether a Service has its addresses, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition's status.
    pub allocated: bool,
    /// A word from a closed set: `Allocated`, [`AllocateError::reason`], or one of the constants here.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// The Service's cluster addresses do not say a family, or not two where two are required.
pub const CLUSTER_IPS: &str = "ClusterIPsUnusable";
/// The addresses that the Service asks for cannot be read.
pub const INVALID_REQUEST: &str = "InvalidRequest";
/// A mistake in a pool stands between the Service and the address that it holds.
pub const CONFIGURATION_INVALID: &str = "ConfigurationInvalid";

/// The configuration in force.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// What could be read.
    pub config: &'a Config,
    /// Whether something could not: then an address that no pool contains may belong to the part that is missing, and
    /// nobody loses it.
    pub partial: bool,
}

/// Decides for one Service. Afterwards `ipam` holds for it exactly the addresses of the outcome.
pub fn converge(
    key: &ServiceKey,
    service: &Service,
    in_force: InForce<'_>,
    namespace_labels: &Labels,
    ipam: &mut Ipam,
) -> Outcome {
    let mut decision = Decision { key, service, in_force, ipam, events: Vec::new() };
    let outcome = decision.decide(namespace_labels);
    let events = std::mem::take(&mut decision.events);
    let node = service.placed.clone().filter(|_| outcome.ingress.is_none() || outcome.pool.is_some());
    Outcome { node, events: events.into_iter().chain(outcome.events).collect(), ..outcome }
}

struct Decision<'a> {
    key: &'a ServiceKey,
    service: &'a Service,
    in_force: InForce<'a>,
    ipam: &'a mut Ipam,
    events: Vec<(Kind, &'static str, String)>,
}

impl Decision<'_> {
    fn decide(&mut self, namespace_labels: &Labels) -> Outcome {
        let service = self.service;
        if !service.wanted {
            self.ipam.release(self.key);
            return Outcome { ingress: Some(vec![]), ..Outcome::default() };
        }
        let families = match service.families() {
            Ok(families) => families,
            Err(why) => {
                let reason =
                    if service.policy == Policy::Require { "not enough clusterips" } else { "noclusterIPsIPFamily" };
                return self.refuse(CLUSTER_IPS, why.clone(), (reason, why));
            }
        };
        let requested = service.requested_ips();
        let labels = service.labels.unpack();
        let wish = Request {
            service: self.key,
            labels: &labels,
            namespace_labels,
            families,
            ips: requested.as_deref().unwrap_or_default(),
            // A request that cannot be read in full asks for nothing: it never costs the Service an address it holds.
            pool: service.requested_pool.as_deref().filter(|_| requested.is_ok()),
            sharing: service.sharing.as_ref(),
            ports: &service.ports,
        };
        let held = match self.keep(&wish) {
            Keep::Held(held) => Some(held),
            Keep::Nothing => None,
            Keep::Untouched(outcome) => return outcome,
        };
        if let Err(why) = requested {
            let message = format!("invalid requested loadbalancer IPs: {why}");
            // One address is not kept for who requires two: the other cannot come before the request can be read.
            let required = matches!(families, Families::Dual { required: true, .. });
            return match held.filter(|held| families.are_of(&held.ips) || !required) {
                Some(held) => self.refuse_but_keep(&held, message),
                None => self.refuse(INVALID_REQUEST, message.clone(), ("LoadBalancerFailed", message)),
            };
        }
        match held {
            Some(held) => self.complete(held, &wish),
            None => self.allocate(&wish),
        }
    }

    /// What the Service has already and may keep.
    fn keep(&mut self, wish: &Request<'_>) -> Keep {
        // The status is the record. Where it is empty, an address may be on its way there: a write that failed, or
        // whose echo has not come back yet.
        let mut current = self.service.ingress_ips();
        if current.is_empty() {
            current = self.ipam.held(self.key).to_vec();
        }
        if current.is_empty() {
            return Keep::Nothing;
        }
        // After a change of the family policy what still fits is kept: of two addresses the one of the family that is left,
        // and one to which another comes. Who requires both and asks for one address has not what it asks for.
        if let (Families::Single(family), [one, other]) = (wish.families, &current[..])
            && one.is_ipv4() != other.is_ipv4()
        {
            current.retain(|ip| Family::of(*ip) == family);
        }
        let one_of_two = match wish.families {
            Families::Dual { required, .. } => current.len() == 1 && (!required || wish.ips.is_empty()),
            Families::Single(_) => false,
        };
        if !wish.families.are_of(&current) && !one_of_two {
            self.ipam.release(self.key);
            self.clear(&current, format!("the Service is {} now", wish.families));
            return Keep::Nothing;
        }
        let held = match self.ipam.assign(self.in_force.config, wish, &current) {
            Ok(held) => held,
            Err(AllocateError::NotInAnyPool { .. }) if self.in_force.partial => {
                return Keep::Untouched(self.untouched());
            }
            Err(error) => {
                self.ipam.release(self.key);
                self.clear(&current, error.to_string());
                return Keep::Nothing;
            }
        };
        if let Some(asked) = wish.pool.filter(|asked| *asked != held.pool) {
            self.ipam.release(self.key);
            self.clear(&current, format!("the Service asks for pool {asked}"));
            return Keep::Nothing;
        }
        if !wish.ips.is_empty() && !same(wish.ips, &held.ips) {
            self.ipam.release(self.key);
            self.clear(&current, "the Service asks for another address".into());
            return Keep::Nothing;
        }
        Keep::Held(held)
    }

    /// A dual-stack Service that holds one address gets the second when there is one; unless it asks for just the one
    /// that it has: with a second it would not have what it asks for. Where its pool has no second, who requires two is given
    /// two others, or none.
    fn complete(&mut self, held: Assignment, wish: &Request<'_>) -> Outcome {
        if !wish.ips.is_empty() {
            return self.allocated(held, None);
        }
        let (Families::Dual { .. }, [only]) = (wish.families, &held.ips[..]) else { return self.allocated(held, None) };
        match self.ipam.add_family(self.in_force.config, wish, *only) {
            Ok(both) => {
                let added: Vec<String> =
                    both.ips.iter().filter(|ip| *ip != only).map(|ip| format!("{:?}", ip.to_string())).collect();
                self.events.push((Kind::Normal, "IPAllocated", format!("Assigned additional IP {}", added.join(" "))));
                self.allocated(both, None)
            }
            Err(error) if matches!(wish.families, Families::Dual { required: true, .. }) => {
                self.ipam.release(self.key);
                self.clear(&held.ips, error.to_string());
                self.allocate(wish)
            }
            Err(error) => {
                let why = format!("cannot assign additional IP in PreferDualStack: {error}");
                self.events.push((Kind::Normal, "AdditionalAssignFailed", why.clone()));
                self.allocated(held, Some(why))
            }
        }
    }

    fn allocate(&mut self, wish: &Request<'_>) -> Outcome {
        match self.ipam.allocate(self.in_force.config, wish) {
            Ok(given) => {
                let quoted: Vec<String> = given.ips.iter().map(|ip| format!("\"{ip}\"")).collect();
                self.events.push((Kind::Normal, "IPAllocated", format!("Assigned IP [{}]", quoted.join(" "))));
                self.deprecations();
                // Only what was found without being asked for can be one address where two are preferred.
                if matches!(wish.families, Families::Dual { .. }) && given.ips.len() == 1 {
                    return self.complete(given, wish);
                }
                self.allocated(given, None)
            }
            Err(error) => {
                let event = format!("Failed to allocate IP for {:?}: {error}", self.key.to_string());
                self.refuse(error.reason(), error.to_string(), ("AllocationFailed", event))
            }
        }
    }

    fn allocated(&self, given: Assignment, but: Option<String>) -> Outcome {
        let from = format!("from pool {}", given.pool);
        let message = but.map_or(from.clone(), |but| format!("{from}; {but}"));
        Outcome {
            ingress: Some(given.ips),
            pool: Some(given.pool),
            verdict: Some(Verdict { allocated: true, reason: "Allocated", message }),
            ..Outcome::default()
        }
    }

    fn refuse(&mut self, reason: &'static str, message: String, event: (&'static str, String)) -> Outcome {
        self.ipam.release(self.key);
        self.deprecations();
        Outcome {
            ingress: Some(vec![]),
            verdict: Some(Verdict { allocated: false, reason, message }),
            events: vec![(Kind::Warning, event.0, event.1)],
            ..Outcome::default()
        }
    }

    fn refuse_but_keep(&mut self, held: &Assignment, message: String) -> Outcome {
        Outcome {
            ingress: Some(held.ips.clone()),
            pool: Some(held.pool.clone()),
            verdict: Some(Verdict { allocated: true, reason: INVALID_REQUEST, message: message.clone() }),
            events: vec![(Kind::Warning, "LoadBalancerFailed", message)],
            ..Outcome::default()
        }
    }

    /// The status stays as it is until the configuration can be read in full.
    fn untouched(&self) -> Outcome {
        let message = "the address is kept as it stands: no pool that can be read contains it, and some object of the \
                       configuration cannot be read; see the condition Accepted of the IPAddressPools"
            .to_owned();
        Outcome {
            pool: self.service.allocated_from.clone(),
            verdict: Some(Verdict { allocated: true, reason: CONFIGURATION_INVALID, message: message.clone() }),
            events: vec![(Kind::Warning, CONFIGURATION_INVALID, message)],
            ..Outcome::default()
        }
    }

    fn clear(&mut self, current: &[IpAddr], why: String) {
        let ips: Vec<String> = current.iter().map(ToString::to_string).collect();
        self.events.push((
            Kind::Normal,
            "ClearAssignment",
            format!(
                "current IP {} for {:?} not allowed by config, will attempt for new IP assignment: {why}",
                ips.join(" "),
                self.key.to_string()
            ),
        ));
    }

    fn deprecations(&mut self) {
        for key in &self.service.deprecated_annotations {
            self.events.push((
                Kind::Warning,
                "deprecatedAnnotation",
                format!("Service uses deprecated annotation {key}; write the prefix metallb.io/ instead"),
            ));
        }
    }
}

/// Whether two lists hold the same addresses, in whatever order.
pub(crate) fn same(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().collect::<BTreeSet<_>>() == other.iter().collect()
}

enum Keep {
    Held(Assignment),
    Nothing,
    Untouched(Outcome),
}

/// Enters in the books what the Service holds, if it may, on the terms that it names now: done for every Service before
/// any is given a new address, so that nobody is given what another holds, or will not share any more. Says whether it may.
pub fn adopt(
    key: &ServiceKey,
    service: &Service,
    current: &[IpAddr],
    config: &Config,
    namespace_labels: &Labels,
    ipam: &mut Ipam,
) -> bool {
    let (true, Ok(families)) = (service.wanted, service.families()) else { return true };
    let labels = service.labels.unpack();
    let wish = Request {
        service: key,
        labels: &labels,
        namespace_labels,
        families,
        ips: &[],
        pool: None,
        sharing: service.sharing.as_ref(),
        ports: &service.ports,
    };
    // Why one may not keep its addresses is said when its turn to converge comes.
    current.is_empty() || ipam.assign(config, &wish, current).is_ok()
}
