//! Which frame answers this frame? Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_wire::{ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, Operation, ParseError};

/// What one interface answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The MAC address of the interface, which the answers carry.
    pub(crate) mac: MacAddr,
    /// The addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// What to do about one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send `frame`: it says that `ip` is here.
    Answer {
        /// The address that was asked for.
        ip: IpAddr,
        /// The answer's octets.
        frame: Vec<u8>,
    },
    /// A good frame that asks nothing of us.
    Ignored(Reason),
    /// Not a frame that a neighbour of good will sends.
    Malformed(ParseError),
}

/// Why a good frame gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It asks for an address which is not ours. On an ordinary segment nearly all do.
    NotOwned,
    /// It is no question: an ARP reply or a neighbour advertisement.
    NotARequest,
    /// Its sender announces the address that it seems to ask for (gratuitous ARP).
    Announcement,
    /// Its Ethernet destination is another machine.
    ForAnotherMac,
    /// Our own frame came back to us.
    FromOurselves,
    /// The answer would go to a group: nobody honest asks in the name of one.
    UnusableSender,
}

impl Reason {
    /// A word for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotOwned => "not_owned",
            Self::NotARequest => "not_a_request",
            Self::Announcement => "announcement",
            Self::ForAnotherMac => "for_another_mac",
            Self::FromOurselves => "from_ourselves",
            Self::UnusableSender => "unusable_sender",
        }
    }
}

/// What to do about `octets`, one frame as it came from an interface that answers for `owned`. Never panics, whatever the
/// octets are.
pub(crate) fn respond(octets: &[u8], owned: &Owned) -> Verdict {
    match Frame::parse(octets) {
        Ok(Frame::Arp(frame)) => to_arp(&frame, owned),
        Ok(Frame::Ndp(frame)) => to_ndp(&frame, owned),
        Err(error) => Verdict::Malformed(error),
    }
}

/// Broadcast and unicast requests alike: neighbours ask by unicast whether an entry that they know still holds.
fn to_arp(frame: &ArpFrame, owned: &Owned) -> Verdict {
    let arp = &frame.arp;
    let ip = IpAddr::V4(arp.target.1);
    let refusal = if arp.operation != Operation::Request {
        Some(Reason::NotARequest)
    } else if !owned.addresses.contains(&ip) {
        Some(Reason::NotOwned)
    } else if frame.source == owned.mac || arp.sender.0 == owned.mac {
        Some(Reason::FromOurselves)
    } else if !(frame.destination.is_broadcast() || frame.destination == owned.mac) {
        Some(Reason::ForAnotherMac)
    } else if arp.sender.1 == arp.target.1 {
        Some(Reason::Announcement)
    } else if !is_station(arp.sender.0) {
        Some(Reason::UnusableSender)
    } else {
        None
    };
    match refusal {
        Some(reason) => Verdict::Ignored(reason),
        None => Verdict::Answer { ip, frame: ArpFrame::reply(arp, owned.mac).to_octets().to_vec() },
    }
}

/// Solicitations to the solicited-node group and to our MAC address alike, and duplicate address probes.
fn to_ndp(frame: &NdpFrame, owned: &Owned) -> Verdict {
    let NdpMessage::Solicitation(solicitation) = frame.message else { return Verdict::Ignored(Reason::NotARequest) };
    let ip = IpAddr::V6(solicitation.target);
    let answer = NdpFrame::answer(frame, &solicitation, owned.mac);
    let refusal = if !owned.addresses.contains(&ip) {
        Some(Reason::NotOwned)
    } else if frame.source_mac == owned.mac {
        Some(Reason::FromOurselves)
    } else if !(frame.destination_mac.is_multicast() || frame.destination_mac == owned.mac) {
        Some(Reason::ForAnotherMac)
    } else if !frame.source.is_unspecified() && !is_station(answer.destination_mac) {
        Some(Reason::UnusableSender)
    } else {
        None
    };
    match refusal {
        Some(reason) => Verdict::Ignored(reason),
        None => Verdict::Answer { ip, frame: answer.to_octets() },
    }
}

/// The MAC address of one machine: neither a group's nor all zeros.
fn is_station(mac: MacAddr) -> bool {
    !mac.is_multicast() && !mac.is_zero()
}

#[cfg(test)]
mod tests;
