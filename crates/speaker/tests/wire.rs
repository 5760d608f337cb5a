//! The wire half against real kernels: a bridge and hosts in network namespaces. Questions and answers are those on the
//! wire.

#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use landfall_speaker::links::InterfaceFilter;
use landfall_wire::{Arp, ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, NeighborSolicitation, Operation};

mod segment;
use segment::{Host, Neighbour, Segment, Speaker, mac};

const NODE: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];
const CLIENT: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const VIP4: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";

/// A node with a speaker (MAC 02:..:02), and a client (MAC 02:..:01).
fn node_and_client() -> (Segment, Host, Speaker, Host, Neighbour) {
    let mut segment = Segment::new();
    let node = segment.host("node", 2, &NODE);
    let client = segment.host("client", 1, &CLIENT);
    let speaker = node.speaker(InterfaceFilter::default());
    let neighbour = client.neighbour(1, "192.0.2.1", "2001:db8::1");
    (segment, node, speaker, client, neighbour)
}

#[test]
fn arp_requests_for_an_owned_address_are_answered_with_this_nodes_mac() {
    let (_segment, _node, mut speaker, _client, mut neighbour) = node_and_client();
    speaker.own(&[VIP4, VIP6]);
    let vip: Ipv4Addr = VIP4.parse().unwrap();
    let broadcast = neighbour.arp_request(vip);
    let unicast = ArpFrame { destination: mac(2), ..broadcast };
    let probe = Arp { sender: (mac(1), Ipv4Addr::UNSPECIFIED), ..broadcast.arp };
    for request in [broadcast, unicast, ArpFrame { arp: probe, ..broadcast }] {
        neighbour.send(&request.to_octets());
        let reply = ArpFrame {
            destination: mac(1),
            source: mac(2),
            arp: Arp { operation: Operation::Reply, sender: (mac(2), vip), target: request.arp.sender },
        };
        neighbour.until(&format!("{reply:?}"), |frame| *frame == Frame::Arp(reply));
    }
}

#[test]
fn solicitations_for_an_owned_address_are_answered_with_this_nodes_mac() {
    let (_segment, _node, mut speaker, _client, mut neighbour) = node_and_client();
    speaker.own(&[VIP4, VIP6]);
    let vip: Ipv6Addr = VIP6.parse().unwrap();
    let multicast = neighbour.solicitation(vip);
    let unicast = NdpFrame { destination_mac: mac(2), destination: vip, ..multicast };
    let bare = NdpMessage::Solicitation(NeighborSolicitation { target: vip, source_link_layer: None });
    let probe = NdpFrame { source: Ipv6Addr::UNSPECIFIED, message: bare, ..multicast };
    let to_all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to_all_mac = MacAddr::new(0x33, 0x33, 0, 0, 0, 1);
    for (request, destination, destination_mac, solicited) in [
        (multicast, neighbour.v6, mac(1), true),
        (unicast, neighbour.v6, mac(1), true),
        (NdpFrame { message: bare, ..unicast }, neighbour.v6, mac(1), true),
        (probe, to_all, to_all_mac, false),
    ] {
        neighbour.send(&request.to_octets());
        neighbour.until(&format!("an answer to {request:?}"), |frame| {
            let Frame::Ndp(frame) = frame else { return false };
            let NdpMessage::Advertisement(na) = frame.message else { return false };
            (frame.destination, frame.destination_mac) == (destination, destination_mac)
                && (na.solicited, na.override_, na.router) == (solicited, true, false)
                && (na.target, na.target_link_layer) == (vip, Some(mac(2)))
                && (frame.source, frame.source_mac) == (vip, mac(2))
        });
    }
}

#[test]
fn nobody_answers_for_an_address_that_is_not_owned() {
    let (_segment, _node, mut speaker, _client, mut neighbour) = node_and_client();
    speaker.own(&[VIP4, VIP6]);
    neighbour.nobody_has("192.0.2.11", VIP4);
    // The same solicited-node group as the owned one, so that the solicitation does reach the node.
    neighbour.nobody_has("2001:db8:0:1::10", VIP6);
}
