//! What is wrong with an address that is answered for here: said once, until it is gone. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_runtime::events::{Event, Kind};

use super::subject;
use crate::announced_condition::{ADDRESS_CONFLICT, NOT_HEARD, conflict, not_heard};
use crate::claims::{Claim, Claims, unusable};
use crate::desired::{Announced, Answers, Interfaces};
use crate::model::ServiceKey;

/// What is wrong with an address of a Service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    service: ServiceKey,
    ip: IpAddr,
    event: Event,
}

/// The troubles that were said and are not gone yet, each with the reason of its event.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeSet<(ServiceKey, IpAddr, &'static str)>);

impl Warnings {
    /// The events for those of all present `troubles` that were not there the last time.
    pub(super) fn new_ones(&mut self, troubles: Vec<Trouble>) -> Vec<Event> {
        let before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for Trouble { service, ip, event } in troubles {
            let said = (service, ip, event.reason);
            if !before.contains(&said) {
                news.push(event);
            }
            self.0.insert(said);
        }
        news
    }
}

/// All that is wrong: addresses that no interface is usable for, those that a stranger was heard to answer for, and those for
/// which a peer asks in vain.
pub(super) fn troubles(claims: &Claims, announced: &Announced, node: &str) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    for (service, claim) in &claims.services {
        let mut add = |ip, reason, message, occasion| {
            let event = Event { about: subject(service, claim), kind: Kind::Warning, reason, message, occasion };
            troubles.push(Trouble { service: service.clone(), ip, event });
        };
        for ip in unusable(claim, announced) {
            add(ip, "announceFailed", why_unusable(claim, ip, node), String::new());
        }
        for (ip, mac) in claim.ips.iter().filter_map(|ip| Some((*ip, announced.conflicts.get(ip)?))) {
            add(ip, ADDRESS_CONFLICT, conflict(node, ip, *mac, announced), mac.to_string());
        }
        for (ip, by) in claim.ips.iter().filter_map(|ip| Some((*ip, announced.unheard.get(ip)?))) {
            let Some(on) = announced.addresses.get(&ip).and_then(Answers::here) else { continue };
            add(ip, NOT_HEARD, not_heard(node, ip, on, by), by.to_string());
        }
    }
    troubles
}

fn why_unusable(claim: &Claim, ip: IpAddr, node: &str) -> String {
    match &claim.interfaces {
        Interfaces::Named(_) => format!(
            r#"the interfaces specified by LB IP "{ip}" doesn't exist in assigned node "{node}" with protocol "layer2""#
        ),
        Interfaces::All => format!(
            r#"no interface of assigned node "{node}" can announce LB IP "{ip}" with protocol "layer2": each is down, excluded or without ARP"#
        ),
    }
}
