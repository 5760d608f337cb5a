//! Octets of neighbour messages both ways. The solicitations, and the answer of a Linux host, were captured.
#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

use std::net::Ipv6Addr;

use landfall_wire::{
    Ethernet, Frame, Layer, MacAddr, NdpFrame, NdpMessage, NeighborAdvertisement, NeighborSolicitation, ParseError,
    multicast_mac, solicited_node_multicast,
};

mod octets;
#[path = "../../../tests/fuzz/seal.rs"]
mod seal;
use octets::{hex, mac};
use seal::sealed;

const SOLICITATION: &str = "3333ff000010 020000000001 86dd  60000000 0020 3a ff \
     20010db8000000000000000000000001 ff0200000000000000000001ff000010 \
     87 00 1c0b 00000000 20010db8000000000000000000000010  01 01 020000000001";
const ADVERTISEMENT: &str = "020000000001 020000000002 86dd  60000000 0020 3a ff \
     20010db8000000000000000000000010 20010db8000000000000000000000001 \
     88 00 8a55 60000000 20010db8000000000000000000000010  02 01 020000000002";
/// A duplicate address probe: from `::`, with a nonce option (type 14).
const PROBE: &str = "3333ff000010 020000000002 86dd  60000000 0020 3a ff \
     00000000000000000000000000000000 ff0200000000000000000001ff000010 \
     87 00 21d0 00000000 20010db8000000000000000000000010  0e 01 7be3eaa6b66b";
/// A solicitation to a known neighbour, with Linux's answer to it, which names no link-layer address.
const UNICAST_ANSWER: &str = "020000000002 020000000001 86dd  60000000 0018 3a ff \
     20010db8000000000000000000000001 fe80000000000000000000fffe000002 \
     88 00 deb5 40000000 20010db8000000000000000000000001";

fn client() -> Ipv6Addr {
    "2001:db8::1".parse().unwrap()
}
fn vip() -> Ipv6Addr {
    "2001:db8::10".parse().unwrap()
}
fn solicitation() -> NdpFrame {
    NdpFrame {
        destination_mac: MacAddr::new(0x33, 0x33, 0xff, 0, 0, 0x10),
        source_mac: mac(1),
        source: client(),
        destination: "ff02::1:ff00:10".parse().unwrap(),
        message: NdpMessage::Solicitation(NeighborSolicitation { target: vip(), source_link_layer: Some(mac(1)) }),
    }
}
/// The answer that a node with the address at `mac(2)` gives to `request`.
fn answer(request: &NdpFrame) -> NdpFrame {
    let NdpMessage::Solicitation(solicitation) = request.message else { panic!("{request:?}") };
    NdpFrame::answer(request, &solicitation, mac(2))
}

#[test]
fn solicitation_asks_the_group_of_its_target_as_a_linux_host_does() {
    assert_eq!(NdpFrame::solicitation(vip(), (mac(1), client())).to_octets(), hex(SOLICITATION));
}

#[test]
fn neighbour_messages_are_the_same_octets_both_ways() {
    let advertisement = NeighborAdvertisement {
        router: false,
        solicited: true,
        override_: true,
        target: vip(),
        target_link_layer: Some(mac(2)),
    };
    let advertisement = NdpFrame {
        destination_mac: mac(1),
        source_mac: mac(2),
        source: vip(),
        destination: client(),
        message: NdpMessage::Advertisement(advertisement),
    };
    for (text, frame) in [(SOLICITATION, solicitation()), (ADVERTISEMENT, advertisement)] {
        let octets = hex(text);
        assert_eq!(frame.to_octets(), octets);
        assert_eq!(Frame::parse(&octets), Ok(Frame::Ndp(frame)));
        assert_eq!(NdpFrame::parse(&[octets.as_slice(), &[0xa5; 9]].concat()), Ok(frame), "padding is ignored");
        for have in 0..octets.len() {
            let truncated = match have {
                0..14 => ParseError::Truncated { what: Layer::Ethernet, need: 14, have },
                14..54 => ParseError::Truncated { what: Layer::Ipv6, need: 40, have: have - Ethernet::LEN },
                _ => ParseError::Truncated { what: Layer::Ipv6Payload, need: 32, have: have - Ethernet::LEN - 40 },
            };
            assert_eq!(NdpFrame::parse(&octets[..have]), Err(truncated));
        }
    }
}

#[test]
fn message_without_a_link_layer_option_is_the_same_octets_both_ways() {
    let frame = NdpFrame {
        destination_mac: mac(2),
        source_mac: mac(1),
        source: client(),
        destination: "fe80::ff:fe00:2".parse().unwrap(),
        message: NdpMessage::Advertisement(NeighborAdvertisement {
            router: false,
            solicited: true,
            override_: false,
            target: client(),
            target_link_layer: None,
        }),
    };
    assert_eq!(frame.to_octets(), hex(UNICAST_ANSWER));
    assert_eq!(NdpFrame::parse(&hex(UNICAST_ANSWER)), Ok(frame));
}

#[test]
fn multicast_solicitation_is_answered_to_the_asker_with_solicited_and_override() {
    assert_eq!(answer(&solicitation()).to_octets(), hex(ADVERTISEMENT));
}

#[test]
fn unicast_solicitation_without_a_link_layer_address_is_answered_to_where_it_came_from() {
    let request = NdpFrame {
        destination_mac: mac(2),
        destination: vip(),
        message: NdpMessage::Solicitation(NeighborSolicitation { target: vip(), source_link_layer: None }),
        ..solicitation()
    };
    assert_eq!(answer(&request).to_octets(), hex(ADVERTISEMENT));
}

#[test]
fn link_layer_address_of_the_solicitation_wins_over_the_ethernet_source() {
    let request = NdpFrame { source_mac: mac(9), ..solicitation() };
    assert_eq!(answer(&request).destination_mac, mac(1));
}

#[test]
fn duplicate_address_probe_is_answered_to_all_nodes_and_not_as_solicited() {
    let probe = NdpFrame::parse(&hex(PROBE)).unwrap();
    let message = NdpMessage::Solicitation(NeighborSolicitation { target: vip(), source_link_layer: None });
    assert_eq!((probe.source, probe.message), (Ipv6Addr::UNSPECIFIED, message));
    assert_eq!(probe, NdpFrame::probe(vip(), mac(2)));
    let to_all = "333300000001 020000000002 86dd  60000000 0020 3a ff \
         20010db8000000000000000000000010 ff020000000000000000000000000001 \
         88 00 f90b 20000000 20010db8000000000000000000000010  02 01 020000000002";
    assert_eq!(answer(&probe).to_octets(), hex(to_all));
    assert_eq!(NdpFrame::unsolicited_advertisement(vip(), mac(2)).to_octets(), hex(to_all));
}

#[test]
fn solicited_node_group_keeps_the_last_24_bits() {
    let address: Ipv6Addr = "2001:db8::12:3456:789a".parse().unwrap();
    let group = solicited_node_multicast(address);
    assert_eq!(group.to_string(), "ff02::1:ff56:789a");
    assert_eq!(multicast_mac(group).to_string(), "33:33:ff:56:78:9a");
}

/// A captured frame with other octets at `at`; the payload length and the checksum are made right again.
fn changed(text: &str, at: usize, octets: &[u8]) -> Vec<u8> {
    let mut frame = hex(text);
    frame[at..at + octets.len()].copy_from_slice(octets);
    sealed(frame)
}

#[test]
fn what_rfc_4861_tells_a_receiver_to_discard_is_refused_with_its_value() {
    let all_routers = "ff020000000000000000000000000002";
    for (frame, error, reason) in [
        (changed(SOLICITATION, 14, &[0x45]), ParseError::IpVersion { have: 4 }, "ip_version"),
        (changed(SOLICITATION, 20, &[17]), ParseError::NextHeader { have: 17 }, "next_header"),
        (changed(SOLICITATION, 21, &[254]), ParseError::HopLimit { have: 254 }, "hop_limit"),
        (changed(SOLICITATION, 54, &[128]), ParseError::Icmpv6Type { have: 128 }, "icmpv6_type"),
        (changed(SOLICITATION, 55, &[1]), ParseError::Icmpv6Code { have: 1 }, "icmpv6_code"),
        (
            changed(SOLICITATION, 62, &hex(all_routers)),
            ParseError::MulticastTarget { have: "ff02::2".parse().unwrap() },
            "multicast_target",
        ),
        (
            changed(SOLICITATION, 22, &hex(all_routers)),
            ParseError::MulticastSource { have: "ff02::2".parse().unwrap() },
            "multicast_source",
        ),
        (
            changed(PROBE, 38, &hex(all_routers)),
            ParseError::ProbeDestination { have: "ff02::2".parse().unwrap() },
            "probe_destination",
        ),
        (changed(PROBE, 78, &[1]), ParseError::ProbeWithLinkLayer, "probe_with_link_layer"),
        (
            changed(ADVERTISEMENT, 38, &hex(all_routers)),
            ParseError::SolicitedToMulticast { have: "ff02::2".parse().unwrap() },
            "solicited_to_multicast",
        ),
        (changed(ADVERTISEMENT, 55, &[3]), ParseError::Icmpv6Code { have: 3 }, "icmpv6_code"),
        (changed(SOLICITATION, 79, &[0]), ParseError::OptionLength0 { kind: 1 }, "option_length_0"),
        (
            changed(SOLICITATION, 79, &[2]),
            ParseError::Truncated { what: Layer::NdpOption, need: 16, have: 8 },
            "truncated_ndp_option",
        ),
        (
            sealed([changed(SOLICITATION, 79, &[2]), vec![0; 8]].concat()),
            ParseError::LinkLayerOption { kind: 1, have: 16 },
            "link_layer_option",
        ),
        (
            sealed([hex(SOLICITATION), vec![14]].concat()),
            ParseError::Truncated { what: Layer::NdpOption, need: 8, have: 1 },
            "truncated_ndp_option",
        ),
        (
            sealed(hex(SOLICITATION)[..77].to_vec()),
            ParseError::Truncated { what: Layer::Icmpv6, need: 24, have: 23 },
            "truncated_icmpv6",
        ),
    ] {
        assert_eq!(NdpFrame::parse(&frame), Err(error), "{error}");
        assert_eq!(error.reason(), reason);
    }
}

#[test]
fn any_flipped_bit_of_the_addresses_or_the_message_is_refused() {
    let octets = hex(SOLICITATION);
    for bit in 22 * 8..octets.len() * 8 {
        let mut frame = octets.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(NdpFrame::parse(&frame).is_err(), "bit {bit} flipped");
    }
    let mut frame = octets;
    frame[56] ^= 0x80;
    assert_eq!(NdpFrame::parse(&frame), Err(ParseError::Checksum { have: 0x9c0b }));
}

#[test]
fn options_of_other_types_are_skipped() {
    let mut octets = hex(SOLICITATION);
    octets.splice(78..78, hex("0e 01 7be3eaa6b66b"));
    assert_eq!(NdpFrame::parse(&sealed(octets)), Ok(solicitation()));
}
