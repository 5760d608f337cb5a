//! ARP octets both ways. The request and the reply were captured between two Linux hosts.

use std::net::Ipv4Addr;

use landfall_wire::{Arp, ArpFrame, Ethernet, Frame, Layer, MacAddr, Operation, ParseError};

mod octets;
use octets::{hex, mac};

const REQUEST: &str =
    "ffffffffffff 020000000001 0806  0001 0800 06 04 0001  020000000001 c0000201  000000000000 c000020a";
const REPLY: &str =
    "020000000001 020000000002 0806  0001 0800 06 04 0002  020000000002 c000020a  020000000001 c0000201";

fn client() -> (MacAddr, Ipv4Addr) {
    (mac(1), Ipv4Addr::new(192, 0, 2, 1))
}
fn vip() -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 10)
}
fn request() -> ArpFrame {
    ArpFrame {
        destination: MacAddr::broadcast(),
        source: mac(1),
        arp: Arp { operation: Operation::Request, sender: client(), target: (MacAddr::zero(), vip()) },
    }
}

#[test]
fn arp_frames_are_the_same_octets_both_ways() {
    let reply = ArpFrame {
        destination: mac(1),
        source: mac(2),
        arp: Arp { operation: Operation::Reply, sender: (mac(2), vip()), target: client() },
    };
    for (text, frame) in [(REQUEST, request()), (REPLY, reply)] {
        let octets = hex(text);
        let mut out = [0xa5; ArpFrame::LEN]; // an octet that we forget to write shows up
        frame.write(&mut out);
        assert_eq!(out.as_slice(), octets.as_slice());
        assert_eq!(frame.to_octets(), out);
        assert_eq!(Frame::parse(&octets), Ok(Frame::Arp(frame)));

        let padded = [octets.as_slice(), &[0; 18]].concat();
        assert_eq!(ArpFrame::parse(&padded), Ok(frame), "Ethernet padding is ignored");

        for have in 0..Ethernet::LEN {
            let truncated = ParseError::Truncated { what: Layer::Ethernet, need: 14, have };
            assert_eq!(ArpFrame::parse(&octets[..have]), Err(truncated));
        }
        for have in 0..Arp::LEN {
            let truncated = ParseError::Truncated { what: Layer::Arp, need: 28, have };
            assert_eq!(ArpFrame::parse(&octets[..Ethernet::LEN + have]), Err(truncated));
        }
    }
}

#[test]
fn request_asks_the_segment_as_a_linux_host_does() {
    assert_eq!(ArpFrame::request(vip(), client()).to_octets().as_slice(), hex(REQUEST));
}

#[test]
fn reply_goes_to_the_requester_and_carries_the_asked_address_at_our_mac() {
    assert_eq!(ArpFrame::reply(&request().arp, mac(2)).to_octets().as_slice(), hex(REPLY));
}

#[test]
fn prober_with_no_address_yet_gets_its_reply_too() {
    let probe = Arp { operation: Operation::Request, sender: (mac(1), Ipv4Addr::UNSPECIFIED), ..request().arp };
    let octets = "020000000001 020000000002 0806  0001 0800 06 04 0002  020000000002 c000020a  020000000001 00000000";
    assert_eq!(ArpFrame::reply(&probe, mac(2)).to_octets().as_slice(), hex(octets));
}

#[test]
fn probe_names_no_sender() {
    let probe = "ffffffffffff 020000000002 0806  0001 0800 06 04 0001  020000000002 00000000  000000000000 c000020a";
    assert_eq!(ArpFrame::probe(vip(), mac(2)).to_octets().as_slice(), hex(probe));
}

#[test]
fn gratuitous_frames_are_broadcast_and_the_reply_names_the_sender_as_its_target() {
    let request = "ffffffffffff 020000000002 0806  0001 0800 06 04 0001  020000000002 c000020a  000000000000 c000020a";
    let reply = "ffffffffffff 020000000002 0806  0001 0800 06 04 0002  020000000002 c000020a  020000000002 c000020a";
    assert_eq!(ArpFrame::gratuitous_request(vip(), mac(2)).to_octets().as_slice(), hex(request));
    assert_eq!(ArpFrame::gratuitous_reply(vip(), mac(2)).to_octets().as_slice(), hex(reply));
}

#[test]
fn what_is_not_arp_for_ipv4_over_ethernet_is_refused_with_its_value() {
    for (at, octets, error, reason, text) in [
        (
            12,
            [0x08, 0x00],
            ParseError::EtherType { have: 0x0800 },
            "ether_type",
            "EtherType 0x0800 is neither ARP nor IPv6",
        ),
        (14, [0, 6], ParseError::ArpHardware { have: 6 }, "arp_hardware", "ARP hardware type 6 is not Ethernet (1)"),
        (
            16,
            [0x86, 0xdd],
            ParseError::ArpProtocol { have: 0x86dd },
            "arp_protocol",
            "ARP protocol type 0x86dd is not IPv4 (0x0800)",
        ),
        (
            18,
            [8, 4],
            ParseError::ArpLengths { hardware: 8, protocol: 4 },
            "arp_lengths",
            "ARP address lengths 8 and 4 are not 6 and 4",
        ),
        (
            18,
            [6, 16],
            ParseError::ArpLengths { hardware: 6, protocol: 16 },
            "arp_lengths",
            "ARP address lengths 6 and 16 are not 6 and 4",
        ),
        (
            20,
            [0, 3],
            ParseError::ArpOperation { have: 3 },
            "arp_operation",
            "ARP operation 3 is neither request (1) nor reply (2)",
        ),
    ] {
        let mut frame = hex(REQUEST);
        frame[at..at + 2].copy_from_slice(&octets);
        assert_eq!(Frame::parse(&frame), Err(error));
        assert!(ArpFrame::parse(&frame).is_err());
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, text));
    }
}
