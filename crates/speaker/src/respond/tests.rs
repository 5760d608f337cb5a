use std::net::{Ipv4Addr, Ipv6Addr};

use landfall_wire::{Arp, Layer, NeighborAdvertisement, NeighborSolicitation, multicast_mac, solicited_node_multicast};

use super::*;

const OURS: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);
const CLIENT: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const OTHER: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);
const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const CLIENT4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

fn owned() -> Owned {
    Owned { addresses: BTreeSet::from([VIP4.into(), VIP6.into()]), ..Owned::nothing(OURS) }
}

fn request() -> ArpFrame {
    let arp = Arp { operation: Operation::Request, sender: (CLIENT, CLIENT4), target: (MacAddr::zero(), VIP4) };
    ArpFrame { destination: MacAddr::broadcast(), source: CLIENT, arp }
}

fn solicitation() -> NdpFrame {
    let group = solicited_node_multicast(VIP6);
    NdpFrame {
        destination_mac: multicast_mac(group),
        source_mac: CLIENT,
        source: CLIENT6,
        destination: group,
        message: NdpMessage::Solicitation(NeighborSolicitation { target: VIP6, source_link_layer: Some(CLIENT) }),
    }
}

fn reason(octets: &[u8]) -> Result<IpAddr, &'static str> {
    match respond(octets, &owned()) {
        Verdict::Answer { ip, .. } => Ok(ip),
        Verdict::Claimed { .. } => Err("claimed"),
        Verdict::Elsewhere { .. } => Err("elsewhere"),
        Verdict::Ignored(reason) => Err(reason.name()),
        Verdict::Malformed(error) => Err(error.reason()),
    }
}

#[test]
fn arp_request_is_answered_or_ignored_with_its_reason() {
    let ask = request();
    let with = |arp: Arp| ArpFrame { arp, ..ask };
    let ok = Ok(IpAddr::V4(VIP4));
    for (what, frame, verdict) in [
        ("broadcast", ask, ok),
        ("unicast to us", ArpFrame { destination: OURS, ..ask }, ok),
        ("probe", with(Arp { sender: (CLIENT, Ipv4Addr::UNSPECIFIED), ..ask.arp }), ok),
        ("relayed: another Ethernet source than sender", ArpFrame { source: OTHER, ..ask }, ok),
        ("unicast to another", ArpFrame { destination: OTHER, ..ask }, Err("for_another_mac")),
        ("multicast", ArpFrame { destination: MacAddr::new(1, 0, 0x5e, 0, 0, 1), ..ask }, Err("for_another_mac")),
        ("another's address", with(Arp { target: (MacAddr::zero(), CLIENT4), ..ask.arp }), Err("not_owned")),
        ("reply", with(Arp { operation: Operation::Reply, ..ask.arp }), Err("elsewhere")),
        ("gratuitous request", with(Arp { sender: (CLIENT, VIP4), ..ask.arp }), Err("claimed")),
        ("gratuitous reply", ArpFrame::gratuitous_reply(VIP4, OTHER), Err("claimed")),
        (
            "an answer in the name of our address",
            with(Arp { operation: Operation::Reply, sender: (OTHER, VIP4), target: (CLIENT, CLIENT4) }),
            Err("claimed"),
        ),
        (
            "an answer in our name by one that covers us",
            with(Arp { operation: Operation::Reply, sender: (OURS, VIP4), target: (CLIENT, CLIENT4) }),
            Err("not_a_request"),
        ),
        ("nobody's claim", with(Arp { sender: (MacAddr::broadcast(), VIP4), ..ask.arp }), Err("announcement")),
        ("our own frame", ArpFrame::gratuitous_request(VIP4, OURS), Err("from_ourselves")),
        ("sender is all", with(Arp { sender: (MacAddr::broadcast(), CLIENT4), ..ask.arp }), Err("unusable_sender")),
        ("sender is nobody", with(Arp { sender: (MacAddr::zero(), CLIENT4), ..ask.arp }), Err("unusable_sender")),
    ] {
        assert_eq!(reason(&frame.to_octets()), verdict, "{what}");
    }
}

#[test]
fn solicitation_is_answered_or_ignored_with_its_reason() {
    let ask = solicitation();
    let with = |target: Ipv6Addr, source_link_layer: Option<MacAddr>| NdpFrame {
        message: NdpMessage::Solicitation(NeighborSolicitation { target, source_link_layer }),
        ..ask
    };
    let advertisement = NeighborAdvertisement {
        router: false,
        solicited: true,
        override_: true,
        target: VIP6,
        target_link_layer: Some(CLIENT),
    };
    let ok = Ok(IpAddr::V6(VIP6));
    for (what, frame, verdict) in [
        ("multicast", ask, ok),
        ("unicast to us", NdpFrame { destination: VIP6, destination_mac: OURS, ..ask }, ok),
        ("without a link-layer address", with(VIP6, None), ok),
        ("probe", NdpFrame { source: Ipv6Addr::UNSPECIFIED, ..with(VIP6, None) }, ok),
        ("unicast to another", NdpFrame { destination_mac: OTHER, ..ask }, Err("for_another_mac")),
        ("another's address of the same group", with(Ipv6Addr::from(VIP6.to_bits() | 1 << 64), None), Err("not_owned")),
        (
            "another's advertisement of our address",
            NdpFrame { destination: CLIENT6, message: NdpMessage::Advertisement(advertisement), ..ask },
            Err("claimed"),
        ),
        (
            "another's advertisement of its own address",
            NdpFrame {
                destination: CLIENT6,
                message: NdpMessage::Advertisement(NeighborAdvertisement { target: CLIENT6, ..advertisement }),
                ..ask
            },
            Err("elsewhere"),
        ),
        (
            "an advertisement in our name by one that covers us",
            NdpFrame {
                message: NdpMessage::Advertisement(NeighborAdvertisement {
                    target_link_layer: Some(OURS),
                    ..advertisement
                }),
                destination: CLIENT6,
                ..ask
            },
            Err("not_a_request"),
        ),
        ("our own frame", NdpFrame { source_mac: OURS, ..ask }, Err("from_ourselves")),
        ("sender is a group", with(VIP6, Some(MacAddr::new(0x33, 0x33, 0, 0, 0, 1))), Err("unusable_sender")),
    ] {
        assert_eq!(reason(&frame.to_octets()), verdict, "{what}");
    }
}

#[test]
fn answers_are_those_of_the_wire_crate_with_the_interfaces_mac() {
    let reply = ArpFrame::reply(&request().arp, OURS).to_octets().to_vec();
    let asker = Some((CLIENT4.into(), CLIENT));
    assert_eq!(respond(&request().to_octets(), &owned()), Verdict::Answer { ip: VIP4.into(), frame: reply, asker });
    let NdpMessage::Solicitation(ns) = solicitation().message else { panic!("no solicitation") };
    let advertisement = NdpFrame::answer(&solicitation(), &ns, OURS).to_octets();
    let asker = Some((CLIENT6.into(), CLIENT));
    assert_eq!(
        respond(&solicitation().to_octets(), &owned()),
        Verdict::Answer { ip: VIP6.into(), frame: advertisement, asker }
    );
}

#[test]
fn who_probes_has_no_address_to_be_remembered_by() {
    let probes = [ArpFrame::probe(VIP4, CLIENT).to_octets().to_vec(), NdpFrame::probe(VIP6, CLIENT).to_octets()];
    for probe in probes {
        assert!(matches!(respond(&probe, &owned()), Verdict::Answer { asker: None, .. }), "{probe:?}");
    }
}

#[test]
fn what_is_on_trial_is_not_answered_for_and_nobody_else_may_have_it() {
    let owned = Owned { on_trial: owned().addresses, ..Owned::nothing(OURS) };
    let asked = [request().to_octets().to_vec(), solicitation().to_octets()];
    assert!(asked.iter().all(|frame| respond(frame, &owned) == Verdict::Ignored(Reason::NotOwned)));
    let reply = ArpFrame::reply(&ArpFrame::probe(VIP4, OURS).arp, OTHER).to_octets().to_vec();
    let probe = NdpFrame::probe(VIP6, OURS);
    let advertisement =
        NdpFrame::answer(&probe, &NeighborSolicitation { target: VIP6, source_link_layer: None }, OTHER);
    for (frame, ip) in [(reply, IpAddr::V4(VIP4)), (advertisement.to_octets(), VIP6.into())] {
        assert_eq!(respond(&frame, &owned), Verdict::Claimed { ip, mac: OTHER });
    }
}

#[test]
fn in_the_name_of_another_node_the_answer_carries_its_mac_in_a_frame_of_our_own() {
    let covered = BTreeMap::from([(VIP4.into(), OTHER), (VIP6.into(), OTHER)]);
    let owned = Owned { covered, ..Owned::nothing(OURS) };
    let frame = |octets: &[u8]| match respond(octets, &owned) {
        Verdict::Answer { frame, .. } => Frame::parse(&frame).expect("a good frame"),
        other => panic!("{other:?}"),
    };
    let Frame::Arp(reply) = frame(&request().to_octets()) else { panic!("no ARP") };
    assert_eq!((reply.source, reply.arp.sender), (OURS, (OTHER, VIP4)));
    let Frame::Ndp(advertisement) = frame(&solicitation().to_octets()) else { panic!("no NDP") };
    let NdpMessage::Advertisement(said) = advertisement.message else { panic!("no advertisement") };
    assert_eq!((advertisement.source_mac, said.target_link_layer), (OURS, Some(OTHER)));
}

#[test]
fn malformed_frame_is_told_apart_from_an_uninteresting_one() {
    let truncated = ParseError::Truncated { what: Layer::Arp, need: 28, have: 27 };
    assert_eq!(respond(&request().to_octets()[..41], &owned()), Verdict::Malformed(truncated));
}
