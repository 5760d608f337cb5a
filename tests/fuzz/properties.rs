//! What holds for any octets: run by the fuzz targets of this folder and, on the stable toolchain, by
//! `crates/wire/tests/properties.rs`.

use landfall_wire::{Arp, ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage};

use crate::seal::sealed;

/// The MAC address that answers are built with.
const OURS: MacAddr = MacAddr(2, 0, 0, 0, 0, 0xaa);

/// ARP packets: what is accepted is written back to the octets that it was read from.
pub(crate) fn arp(octets: &[u8]) {
    if let Ok(arp) = Arp::parse(octets) {
        let mut out = [0xa5; Arp::LEN];
        arp.write(&mut out);
        assert_eq!(out.as_slice(), &octets[..Arp::LEN], "{arp:?}");
    }
}

/// Neighbour messages: what is accepted is built into a frame that reads the same. Tried as it is, and with lengths and
/// checksum put right, since hardly any octets pass these otherwise.
pub(crate) fn ndp(octets: &[u8]) {
    for octets in [octets.to_vec(), sealed(octets.to_vec())] {
        if let Ok(frame) = NdpFrame::parse(&octets) {
            assert_eq!(NdpFrame::parse(&frame.to_octets()), Ok(frame));
        }
    }
}

/// Whole frames: reading never panics, and an answer to a request is itself a frame that speaks of the address which was
/// asked for, with our MAC address.
pub(crate) fn frame(octets: &[u8]) {
    read_and_answer(octets);
    read_and_answer(&sealed(octets.to_vec()));
}

fn read_and_answer(octets: &[u8]) {
    match Frame::parse(octets) {
        Err(error) => assert!(!error.reason().is_empty() && !error.to_string().is_empty()),
        Ok(Frame::Arp(request)) => {
            let reply = ArpFrame::reply(&request.arp, OURS);
            assert_eq!(reply.arp.sender, (OURS, request.arp.target.1));
            assert_eq!(reply.arp.target, request.arp.sender);
            assert_eq!(Frame::parse(&reply.to_octets()), Ok(Frame::Arp(reply)));
        }
        Ok(Frame::Ndp(request)) => {
            if let NdpMessage::Solicitation(solicitation) = request.message {
                let answer = NdpFrame::answer(&request, &solicitation, OURS);
                assert_eq!((answer.source, answer.source_mac), (solicitation.target, OURS));
                assert_eq!(Frame::parse(&answer.to_octets()), Ok(Frame::Ndp(answer)));
            }
        }
    }
}
