//! Where addresses are answered, and what changes of interfaces do.

use std::collections::BTreeSet;

use landfall_speaker::desired::Interfaces;
use landfall_speaker::links::InterfaceFilter;
use landfall_wire::{ArpFrame, Frame};

use crate::Scene;
use crate::VIP4;
use crate::segment::mac;

/// In no interface's network.
const ELSEWHERE: &str = "203.0.113.10";

fn named(names: &[&str]) -> Interfaces {
    Interfaces::Named(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
}

/// The gratuitous request that says: `ip` is at `mac(last)`.
fn announcement(ip: &str, last: u8) -> Frame {
    Frame::Arp(ArpFrame::gratuitous_request(ip.parse().unwrap(), mac(last)))
}

#[test]
fn address_is_answered_on_the_interface_whose_network_holds_it() {
    let mut scene = Scene::new();
    scene.segment.plug(&scene.node, "eth1", 3, &["198.51.100.2/24"]);
    scene.speaker.own(&[VIP4, "198.51.100.10", ELSEWHERE]);
    scene.speaker.announced_on(VIP4, &["eth0"]);
    scene.speaker.announced_on("198.51.100.10", &["eth1"]);
    scene.speaker.announced_on(ELSEWHERE, &["eth0", "eth1"]);
    // Both are on the client's segment: only one may answer.
    let one_answer = |scene: &mut Scene, ip: &str, last: u8| {
        assert_eq!(scene.neighbour.who_has(ip), mac(last));
        scene.neighbour.nobody_has("192.0.2.99", ip);
    };
    one_answer(&mut scene, VIP4, 2);
    one_answer(&mut scene, "198.51.100.10", 3);
}

#[test]
fn named_interface_is_used_and_a_missing_one_when_it_appears() {
    let mut scene = Scene::new();
    scene.speaker.own_on(&[(VIP4, named(&["eth1"]))]);
    scene.speaker.announced_on(VIP4, &[]);
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    scene.speaker.announced_on(VIP4, &["eth1"]);
    let (_, before) = scene.neighbour.until("an announcement", |frame| *frame == announcement(VIP4, 3));
    assert!(!before.contains(&announcement(VIP4, 2)), "{before:?}");
    assert_eq!(scene.neighbour.who_has(VIP4), mac(3));
}

#[test]
fn excluded_interface_is_not_used() {
    let mut scene = Scene::filtered(InterfaceFilter::new(&[], &["^eth0$"]).unwrap());
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    scene.speaker.own_on(&[(VIP4, Interfaces::All), (ELSEWHERE, named(&["eth0"]))]);
    scene.speaker.announced_on(VIP4, &["eth1"]);
    scene.speaker.announced_on(ELSEWHERE, &[]);
    scene.neighbour.nobody_has(ELSEWHERE, VIP4);
    assert_eq!(scene.neighbour.who_has(VIP4), mac(3));
}

#[test]
fn port_of_a_bridge_is_left_for_the_bridge_and_taken_up_again() {
    let mut scene = Scene::new();
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    scene.speaker.own(&[ELSEWHERE]);
    scene.speaker.announced_on(ELSEWHERE, &["eth0", "eth1"]);
    scene.node.ip("link add br1 address 02:00:00:00:00:0b type bridge");
    scene.node.ip("link set eth1 master br1");
    scene.speaker.announced_on(ELSEWHERE, &["eth0"]);
    scene.node.ip("link set eth1 nomaster");
    scene.speaker.announced_on(ELSEWHERE, &["eth0", "eth1"]);
}

#[test]
fn new_interface_announces_at_once_and_the_others_do_not_repeat_themselves() {
    let mut scene = Scene::new();
    scene.speaker.own(&[ELSEWHERE]);
    for _ in 0..4 {
        scene.neighbour.until("the burst on eth0", |frame| *frame == announcement(ELSEWHERE, 2));
    }
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    for _ in 0..4 {
        let (_, before) = scene.neighbour.until("the burst on eth1", |frame| *frame == announcement(ELSEWHERE, 3));
        assert!(!before.contains(&announcement(ELSEWHERE, 2)), "{before:?}");
    }
}

#[test]
fn changed_mac_is_answered_and_announced() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4]);
    for _ in 0..4 {
        scene.neighbour.until("the burst with the first MAC", |frame| *frame == announcement(VIP4, 2));
    }
    scene.node.ip("link set eth0 address 02:00:00:00:00:22");
    scene.neighbour.until("an announcement with the new MAC", |frame| *frame == announcement(VIP4, 0x22));
    assert_eq!(scene.neighbour.who_has(VIP4), mac(0x22));
}

#[test]
fn address_leaves_an_interface_without_carrier_and_returns_with_it() {
    let mut scene = Scene::new();
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    scene.speaker.own(&[VIP4]);
    scene.speaker.announced_on(VIP4, &["eth0"]);
    scene.segment.cable(&scene.node, "eth0", "down");
    // eth0's network no longer counts, so the address goes to what is left.
    scene.speaker.announced_on(VIP4, &["eth1"]);
    scene.neighbour.until("an announcement on eth1", |frame| *frame == announcement(VIP4, 3));
    scene.segment.cable(&scene.node, "eth1", "down");
    scene.speaker.announced_on(VIP4, &[]);
    scene.segment.cable(&scene.node, "eth0", "up");
    scene.speaker.announced_on(VIP4, &["eth0"]);
    scene.neighbour.until("an announcement on eth0", |frame| *frame == announcement(VIP4, 2));
    assert_eq!(scene.neighbour.who_has(VIP4), mac(2));
}

#[test]
fn interface_that_is_switched_off_deleted_or_renamed_is_followed() {
    let mut scene = Scene::new();
    scene.segment.plug(&scene.node, "eth1", 3, &["203.0.113.2/24"]);
    scene.speaker.own(&[ELSEWHERE]);
    scene.speaker.announced_on(ELSEWHERE, &["eth1"]);
    scene.node.ip("link set eth1 down");
    scene.speaker.announced_on(ELSEWHERE, &["eth0"]);
    scene.node.ip("link set eth1 name lan");
    scene.node.ip("link set lan up");
    scene.speaker.announced_on(ELSEWHERE, &["lan"]);
    scene.node.ip("link delete lan");
    scene.speaker.announced_on(ELSEWHERE, &["eth0"]);
    assert_eq!(scene.neighbour.who_has(ELSEWHERE), mac(2));
}

#[test]
fn new_network_on_an_interface_draws_its_addresses_there() {
    let mut scene = Scene::new();
    scene.segment.plug(&scene.node, "eth1", 3, &[]);
    scene.speaker.own(&[ELSEWHERE]);
    scene.speaker.announced_on(ELSEWHERE, &["eth0", "eth1"]);
    scene.node.ip("address add 203.0.113.2/24 dev eth1");
    scene.speaker.announced_on(ELSEWHERE, &["eth1"]);
    assert_eq!(scene.neighbour.who_has(ELSEWHERE), mac(3));
    scene.neighbour.nobody_has("192.0.2.99", ELSEWHERE);
    scene.node.ip("address delete 203.0.113.2/24 dev eth1");
    scene.speaker.announced_on(ELSEWHERE, &["eth0", "eth1"]);
}
