//! What the wire half counts.

use std::net::IpAddr;

use landfall_membership::Finding;
use landfall_runtime::metrics::PlainCounter;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The address that a count belongs to. Only addresses that this node owns get one, so that a stranger's requests take no
/// memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ip {
    ip: String,
}

/// Why something was not done, from a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    protocol: &'static str,
    reason: &'static str,
}

/// The counters of the wire half; clones count together.
#[derive(Clone, Debug, Default)]
pub struct WireMetrics {
    requests: Family<Ip, PlainCounter>,
    responses: Family<Ip, PlainCounter>,
    gratuitous: Family<Ip, PlainCounter>,
    ignored: Family<Why, Counter>,
    malformed: Family<Why, Counter>,
    send_errors: Family<Why, Counter>,
    conflicts: Family<Ip, PlainCounter>,
    checks: Family<Check, Counter>,
}

/// Of a look after another's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    finding: &'static str,
}

impl WireMetrics {
    /// Makes the counters part of what `/metrics` shows. The first three have MetalLB's names and labels.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "metallb_layer2_requests_received",
            "ARP requests and neighbour solicitations for an address that this node owns",
            self.requests.clone(),
        );
        registry.register(
            "metallb_layer2_responses_sent",
            "ARP replies and neighbour advertisements that answered one",
            self.responses.clone(),
        );
        registry.register(
            "metallb_layer2_gratuitous_sent",
            "Frames that announced an address unasked: two per announcement for IPv4, one for IPv6",
            self.gratuitous.clone(),
        );
        registry.register(
            "landfall_wire_frames_ignored",
            "Good frames that asked nothing of this node",
            self.ignored.clone(),
        );
        registry.register("landfall_wire_frames_malformed", "Frames that were refused", self.malformed.clone());
        registry.register(
            "landfall_address_conflicts",
            "Machines that are no node of ours and were heard to answer for an address that this node owns",
            self.conflicts.clone(),
        );
        registry.register(
            "landfall_wire_checks",
            "Looks after addresses of other nodes, by asking for them on the wire, in which the owner was not heard or another was, and the first in which all was well again",
            self.checks.clone(),
        );
        registry.register("landfall_wire_send_errors", "Frames that could not be sent", self.send_errors.clone());
    }

    pub(crate) fn conflict(&self, ip: IpAddr) {
        self.conflicts.get_or_create(&label(ip)).inc();
    }

    pub(crate) fn checked(&self, finding: Finding) {
        let finding = match finding {
            Finding::Heard => "heard_again",
            Finding::Silent => "silent",
            Finding::AnotherAnswers => "another_answers",
        };
        self.checks.get_or_create(&Check { finding }).inc();
    }

    pub(crate) fn request_received(&self, ip: IpAddr) {
        self.requests.get_or_create(&label(ip)).inc();
    }

    pub(crate) fn response_sent(&self, ip: IpAddr) {
        self.responses.get_or_create(&label(ip)).inc();
    }

    pub(crate) fn gratuitous_sent(&self, ip: IpAddr) {
        self.gratuitous.get_or_create(&label(ip)).inc();
    }

    pub(crate) fn ignored(&self, protocol: &'static str, reason: &'static str) {
        self.ignored.get_or_create(&Why { protocol, reason }).inc();
    }

    pub(crate) fn malformed(&self, protocol: &'static str, reason: &'static str) {
        self.malformed.get_or_create(&Why { protocol, reason }).inc();
    }

    pub(crate) fn send_error(&self, protocol: &'static str, reason: &'static str) {
        self.send_errors.get_or_create(&Why { protocol, reason }).inc();
    }

    /// The address is no longer ours: its series end.
    pub(crate) fn forget(&self, ip: IpAddr) {
        let label = label(ip);
        self.requests.remove(&label);
        self.responses.remove(&label);
        self.gratuitous.remove(&label);
        self.conflicts.remove(&label);
    }
}

fn label(ip: IpAddr) -> Ip {
    Ip { ip: ip.to_string() }
}
