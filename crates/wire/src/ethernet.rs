//! The Ethernet II header.

use pnet::packet::ethernet::{EtherType as PnetEtherType, EthernetPacket, MutableEthernetPacket};

use crate::{Layer, ParseError};

/// A 48-bit Ethernet address; pnet's, so that there is one such type in the project.
pub use pnet_base::MacAddr;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// ARP, 0x0806.
    pub const ARP: Self = Self(0x0806);
    /// IPv6, 0x86dd.
    pub const IPV6: Self = Self(0x86dd);
}

/// The header of an Ethernet II frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Who shall take the frame.
    pub destination: MacAddr,
    /// Who sent it.
    pub source: MacAddr,
    /// What it carries.
    pub ether_type: EtherType,
}

impl Ethernet {
    /// Octets of the header.
    pub const LEN: usize = 14;

    /// Splits a frame into its header and what it carries.
    ///
    /// # Errors
    /// `Truncated` below 14 octets.
    pub fn parse(octets: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let truncated = ParseError::Truncated { what: Layer::Ethernet, need: Self::LEN, have: octets.len() };
        let packet = EthernetPacket::new(octets).ok_or(truncated)?;
        let header = Self {
            destination: packet.get_destination(),
            source: packet.get_source(),
            ether_type: EtherType(packet.get_ethertype().0),
        };
        Ok((header, octets.get(Self::LEN..).ok_or(truncated)?))
    }

    /// Writes the header.
    pub fn write(&self, out: &mut [u8; Self::LEN]) {
        if let Some(mut packet) = MutableEthernetPacket::new(out) {
            packet.set_destination(self.destination);
            packet.set_source(self.source);
            packet.set_ethertype(PnetEtherType(self.ether_type.0));
        }
    }
}
