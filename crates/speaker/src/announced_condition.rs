//! What the condition `landfall.io/Announced` of a Service is to say. Pure.
//!
//! The node that answers for the first address of a Service speaks of all of them. Where no node may answer, all speakers know
//! and one of them says so ([`Model::is_spokesman`](crate::model::Model::is_spokesman)). Of a Service without an address
//! nothing is said: the controller takes the condition away with the address.
//!
//! [`agenda`] decides what is to be written and when, [`writer`] writes it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use landfall_api::conditions;
use landfall_wire::MacAddr;

use crate::desired::{Announced, Answers, Interfaces};
use crate::elect::{Reason, Verdict};

pub(crate) mod agenda;
pub(crate) mod writer;

/// The reason for an address that a stranger answers for, too; of the condition and of the event.
pub(crate) const ADDRESS_CONFLICT: &str = "AddressConflict";

/// The reason for an address that another node asks for on the wire in vain; of the condition and of the event.
pub(crate) const NOT_HEARD: &str = "NotHeardByPeer";

/// What is to be said of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Whether every address of it is answered for, and by nobody but us.
    pub(crate) announced: bool,
    /// A word from a closed set: docs/compatibility.md lists them.
    pub(crate) reason: &'static str,
    /// The sentence for people.
    pub(crate) message: String,
}

/// What the condition says as it stands. Every speaker keeps one for every Service, so the words are kept as a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The status; `None` for Unknown, which is never ours.
    announced: Option<bool>,
    since: Timestamp,
    digest: u64,
}

impl Stated {
    /// Reads the condition as it stands on a Service.
    pub fn read(condition: &Condition) -> Self {
        let Condition { status, reason, message, observed_generation, last_transition_time, .. } = condition;
        let announced = match status.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        };
        Self {
            announced,
            since: last_transition_time.0,
            digest: digest(announced, reason, message, *observed_generation),
        }
    }
}

/// Of everything that a write could change, but the time of transition, which follows from the rest.
fn digest(announced: Option<bool>, reason: &str, message: &str, generation: Option<i64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (announced, reason, message, generation).hash(&mut hasher);
    hasher.finish()
}

impl Statement {
    fn digest(&self, generation: Option<i64>) -> u64 {
        digest(Some(self.announced), self.reason, &self.message, generation)
    }

    /// The condition on a Service of this generation on which `stated` stands. Its time changes with the status only.
    fn condition(self, stated: Option<&Stated>, generation: Option<i64>, now: Timestamp) -> Condition {
        let since = stated.filter(|stated| stated.announced == Some(self.announced)).map_or(now, |stated| stated.since);
        Condition {
            type_: conditions::ANNOUNCED.into(),
            status: if self.announced { "True" } else { "False" }.into(),
            reason: self.reason.into(),
            message: self.message,
            last_transition_time: Time(since),
            observed_generation: generation,
        }
    }
}

/// What the speaker on `node` says of a Service; `None` when that is another's to say, or nobody's yet.
pub(crate) fn statement(node: &str, verdict: &Verdict, announced: &Announced, spokesman: bool) -> Option<Statement> {
    match verdict {
        Verdict::Serve { ips, interfaces, .. } => of_owner(node, ips, interfaces, announced),
        Verdict::Withhold(reason) => of_nobody(reason).filter(|_| spokesman),
    }
}

fn of_nobody(reason: &Reason) -> Option<Statement> {
    Some(Statement { announced: false, reason: reason.of_all_nodes()?, message: reason.to_string() })
}

/// `None` when the wire has not looked at every address yet, or another node owns the first.
fn of_owner(node: &str, ips: &[IpAddr], wanted: &Interfaces, announced: &Announced) -> Option<Statement> {
    let amiss = |reason, message| Some(Statement { announced: false, reason, message });
    let on_trial = ips.iter().filter(|ip| !announced.addresses.contains_key(ip));
    if let Some((ip, mac)) = on_trial.filter_map(|ip| Some((*ip, *announced.conflicts.get(ip)?))).next() {
        return amiss(ADDRESS_CONFLICT, conflict(node, ip, mac, announced));
    }
    let answers: Option<Vec<(IpAddr, &Answers)>> =
        ips.iter().map(|ip| Some((*ip, announced.addresses.get(ip)?))).collect();
    let answers = answers?;
    answers.first()?.1.here()?;
    for (ip, answers) in &answers {
        if let Answers::Elsewhere(None) = answers {
            let message =
                format!("no node that may answer for {ip} can do so at present; see the logs of the speakers");
            return amiss("NoEligibleNode", message);
        }
        let Some(interfaces) = answers.here() else { continue };
        if let Some(mac) = announced.conflicts.get(ip) {
            return amiss(ADDRESS_CONFLICT, conflict(node, *ip, *mac, announced));
        }
        if interfaces.is_empty() {
            return amiss("NoInterface", no_interface(node, *ip, wanted));
        }
        if let Some(by) = announced.unheard.get(ip) {
            return amiss(NOT_HEARD, not_heard(node, *ip, interfaces, by));
        }
    }
    let told: Vec<String> =
        answers.chunk_by(|one, other| one.1 == other.1).map(|group| who_answers(node, group)).collect();
    Some(Statement { announced: true, reason: "Announced", message: told.join(", and ") })
}

/// Who answers for addresses that are all answered for by the same node, on the same interfaces.
fn who_answers(node: &str, group: &[(IpAddr, &Answers)]) -> String {
    let ips: Vec<String> = group.iter().map(|(ip, _)| ip.to_string()).collect();
    let ips = ips.join(" and ");
    match group.first().map(|(_, answers)| answers) {
        Some(Answers::Elsewhere(owner)) => format!("node {} answers for {ips}", owner.as_deref().unwrap_or_default()),
        Some(Answers::Here(interfaces)) => format!("node {node} answers for {ips} on {}", listed(interfaces)),
        None => String::new(),
    }
}

fn no_interface(node: &str, ip: IpAddr, wanted: &Interfaces) -> String {
    match wanted {
        Interfaces::Named(names) => format!(
            "node {node} is to answer for {ip} and can use no interface that its L2Advertisements name ({}); bring one up, or \
             correct spec.interfaces",
            listed(names)
        ),
        Interfaces::All => format!(
            "node {node} is to answer for {ip} and can use none of its interfaces: each is down, excluded or without ARP; \
             bring one up, or take it out of the speaker's excluded interfaces"
        ),
    }
}

/// That a machine which is no node of ours answers for an address that `node` answers for, or was to.
pub(crate) fn conflict(node: &str, ip: IpAddr, mac: MacAddr, announced: &Announced) -> String {
    let machine = format!("a machine with MAC address {mac} that is no node with a speaker");
    let way_out = "take the address from that machine, or out of the IPAddressPool";
    if announced.addresses.contains_key(&ip) {
        format!("node {node:?} answers for {ip}, and so does {machine}: {way_out}")
    } else {
        format!("node {node:?} does not announce the new address {ip}, because {machine} has it already: {way_out}")
    }
}

/// That another node does not hear our answers.
pub(crate) fn not_heard(node: &str, ip: IpAddr, interfaces: &BTreeSet<String>, by: &str) -> String {
    format!(
        "node {node} answers for {ip} on {}, and node {by}, which asks for it there as a client would, hears no answer: see \
         whether the switch ports of both nodes are in the network of {ip} (VLAN), and whether something there drops ARP or \
         multicast",
        listed(interfaces)
    )
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
