//! Which bytes? Pure: Ethernet, ARP, NDP, and echo messages.
//!
//! What a speaker must read and write to answer for an IPv4 or IPv6 address: ARP (RFC 826, RFC 5227) and the neighbour
//! solicitations and advertisements of NDP (RFC 4861), both over Ethernet II; and the echo messages of ICMP and ICMPv6, by
//! which it asks whether another node lives. Parsers take whatever the network holds:
//! they never panic, and every refusal is a [`ParseError`] with a short [`reason`](ParseError::reason) to count it by.
//!
//! No sockets and no clock: bytes in, values out, and back.

mod arp;
mod echo;
mod error;
mod ethernet;
mod ipv6;
mod ndp;

pub use arp::{Arp, ArpFrame, Operation};
pub use echo::Echo;
pub use error::{Layer, ParseError};
pub use ethernet::{EtherType, Ethernet, MacAddr};
pub use ndp::{
    NdpFrame, NdpMessage, NeighborAdvertisement, NeighborSolicitation, multicast_mac, solicited_node_multicast,
};

/// One frame of a protocol that a speaker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// EtherType 0x0806.
    Arp(ArpFrame),
    /// EtherType 0x86dd with a neighbour solicitation or advertisement.
    Ndp(NdpFrame),
}

impl Frame {
    /// Reads a whole Ethernet II frame, without the frame check sequence; padding after the packet is ignored.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong with it, or that it is neither ARP nor a neighbour message. Never panics (fuzz
    /// target `frame`).
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        match Ethernet::parse(octets)?.0.ether_type {
            EtherType::ARP => ArpFrame::parse(octets).map(Self::Arp),
            EtherType::IPV6 => NdpFrame::parse(octets).map(Self::Ndp),
            other => Err(ParseError::EtherType { have: other.0 }),
        }
    }
}
