//! New addresses: whether anybody has them is asked first. And neighbours that are told in person.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_speaker::links::InterfaceFilter;
use landfall_wire::{ArpFrame, Frame, NdpFrame};

use crate::segment::{Segment, mac};
use crate::{Scene, VIP4, VIP6};

const NEW4: &str = "192.0.2.11";
const NEW6: &str = "2001:db8::11";

/// From 02:00:00:00:00:`last`: the probes for the new addresses, and what announces them first.
fn frames(last: u8) -> ([Frame; 2], [Frame; 2]) {
    let (v4, v6) = (NEW4.parse().unwrap(), NEW6.parse().unwrap());
    let probes = [Frame::Arp(ArpFrame::probe(v4, mac(last))), Frame::Ndp(NdpFrame::probe(v6, mac(last)))];
    let announcements = [
        Frame::Arp(ArpFrame::gratuitous_request(v4, mac(last))),
        Frame::Ndp(NdpFrame::unsolicited_advertisement(v6, mac(last))),
    ];
    (probes, announcements)
}

#[test]
fn new_address_is_asked_for_twice_before_it_is_announced() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    let start = Instant::now();
    scene.speaker.own(&[VIP4, VIP6, NEW4, NEW6]);
    let (probes, announcements) = frames(2);
    let mut before = Vec::new();
    for (probe, announcement) in probes.into_iter().zip(announcements) {
        before.extend(scene.neighbour.until("the announcement", |frame| *frame == announcement).1);
        let asked = before.iter().filter(|frame| **frame == probe).count();
        assert_eq!(asked, 2, "probes before the announcement: {before:?}");
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "after {:?}", start.elapsed());
    assert_eq!((scene.neighbour.who_has(NEW4), scene.neighbour.who_has(NEW6)), (mac(2), mac(2)));
}

#[test]
fn new_address_that_somebody_has_stays_his_until_he_is_gone() {
    let mut segment = Segment::new();
    let node = segment.host("node", 2, &["192.0.2.2/24", "2001:db8::2/64"]);
    let client = segment.host("client", 1, &["192.0.2.1/24", "2001:db8::1/64"]);
    let stranger = segment.host("stranger", 9, &["192.0.2.9/24", "192.0.2.11/24", "2001:db8::11/64"]);
    let mut speaker = node.speaker(InterfaceFilter::default());
    let mut neighbour = client.neighbour(1, "192.0.2.1", "2001:db8::1");
    speaker.own(&[VIP4]);
    speaker.want(&[VIP4, NEW4, NEW6]);
    // It is told, and the address is neither answered for nor announced.
    let found = speaker.conflicts(&[(NEW4, mac(9)), (NEW6, mac(9))]);
    assert_eq!(found.addresses.keys().copied().collect::<Vec<_>>(), [VIP4.parse::<IpAddr>().unwrap()]);
    let (_, announcements) = frames(2);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let (_, before) = neighbour.until("a sign of life", |_| true);
        assert!(before.iter().all(|frame| !announcements.contains(frame)), "{before:?}");
        assert_eq!((neighbour.who_has(NEW4), neighbour.who_has(NEW6)), (mac(9), mac(9)));
    }
    for address in ["192.0.2.11/24", "2001:db8::11/64"] {
        stranger.ip(&format!("address delete {address} dev eth0"));
    }
    speaker.announced_on_within(NEW4, &["eth0"], Duration::from_secs(15));
    speaker.announced_on(NEW6, &["eth0"]);
    assert_eq!((neighbour.who_has(NEW4), neighbour.who_has(NEW6)), (mac(2), mac(2)));
}

#[test]
fn who_asked_lately_and_the_gateway_are_told_in_person() {
    let mut scene = Scene::new();
    scene.node.ip("route add default via 192.0.2.254");
    scene.speaker.own(&[VIP4, VIP6]);
    scene.neighbour.who_has(VIP4);
    scene.neighbour.who_has(VIP6);
    // The route is no news of an interface, and an address is.
    scene.node.ip("address add 192.0.2.3/24 dev eth0");
    scene.speaker.own(&[VIP4, VIP6, NEW4, NEW6]);
    let (v4, v6) = (NEW4.parse().unwrap(), NEW6.parse().unwrap());
    let to_gateway = ArpFrame::request("192.0.2.254".parse().unwrap(), (mac(2), v4));
    let to_asker = ArpFrame::request(scene.neighbour.v4, (mac(2), v4));
    let advertisement = NdpFrame::unsolicited_advertisement(v6, mac(2));
    for wanted in [
        Frame::Arp(to_gateway),
        Frame::Arp(ArpFrame { destination: mac(1), ..to_asker }),
        Frame::Ndp(NdpFrame { destination: scene.neighbour.v6, destination_mac: mac(1), ..advertisement }),
    ] {
        scene.neighbour.until(&format!("{wanted:?}"), |frame| *frame == wanted);
    }
}
