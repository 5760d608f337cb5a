//! Peers that one node connects to: what they must have in common, and in what they must differ, as in MetalLB's frr modes.

use super::PEER;
use super::peer::{Endpoint, Peer};
use crate::nodes::{Chosen, Nodes};
use crate::problem::{Problem, Problems};

/// The peers, given from the oldest to the youngest, without those that cannot stand beside an older one.
pub(super) fn agreeing(peers: Vec<Peer>, nodes: &Nodes, found: &mut Vec<Problem>) -> Vec<Peer> {
    let mut kept: Vec<(Peer, Chosen<'_>)> = Vec::with_capacity(peers.len());
    for peer in peers {
        let chosen = Chosen::of(&peer.node_selectors, nodes);
        let mut problems = Problems::of(PEER, &peer.name, found);
        for rule in RULES {
            // The cheaper question first; it nearly always answers no.
            let other = kept.iter().find(|(other, theirs)| (rule.is_broken)(&peer, other) && chosen.meets(theirs));
            if let Some((other, _)) = other {
                let Broken { field, value, what } = (rule.describe)(&peer, other);
                problems.add(
                    field,
                    value,
                    format!("{what}: BGPPeer {:?} is for the same nodes; {}", other.name, rule.way_out),
                );
            }
        }
        if problems.is_sound() {
            kept.push((peer, chosen));
        }
    }
    kept.into_iter().map(|(peer, _)| peer).collect()
}

/// What two peers of one node must obey.
struct Rule {
    is_broken: fn(&Peer, &Peer) -> bool,
    describe: fn(&Peer, &Peer) -> Broken,
    way_out: &'static str,
}

/// How the younger of two peers breaks a rule.
struct Broken {
    field: &'static str,
    value: String,
    what: String,
}

const RULES: [Rule; 3] = [
    // Peers without a router ID count as different from those with one: which one the node would take is not known here.
    Rule {
        is_broken: |peer, other| peer.router_id != other.router_id,
        describe: |peer, other| Broken {
            field: "spec.routerID",
            value: peer.router_id.map(|id| id.to_string()).unwrap_or_default(),
            what: format!(
                "peer {} has RouterID different from {}, in FRR mode peers selecting the same node must all have the same \
                 RouterID",
                peer.identifier(),
                other.identifier()
            ),
        },
        way_out: "make the two equal, or give them nodeSelectors that no node matches both of",
    },
    Rule {
        is_broken: |peer, other| peer.endpoint == other.endpoint && peer.vrf == other.vrf,
        describe: |peer, _| Broken {
            field: match peer.endpoint {
                Endpoint::Address(_) => "spec.peerAddress",
                Endpoint::Interface(_) => "spec.interface",
            },
            value: peer.endpoint.to_string(),
            what: format!(
                "peer {} already exists, FRR mode doesn't support duplicate BGPPeers selecting the same node",
                peer.identifier()
            ),
        },
        way_out: "remove one of the two, or give them nodeSelectors that no node matches both of",
    },
    Rule {
        is_broken: |peer, other| peer.my_asn != other.my_asn && peer.vrf == other.vrf,
        describe: |peer, other| Broken {
            field: "spec.myASN",
            value: peer.my_asn.to_string(),
            what: format!(
                "peer {} has myAsn different from {}, but a node has one AS number in a VRF",
                peer.identifier(),
                other.identifier()
            ),
        },
        way_out: "make the two equal, with localASN where a peer must see another number, or give them nodeSelectors that \
                  no node matches both of",
    },
];
