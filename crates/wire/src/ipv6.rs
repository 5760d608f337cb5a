//! The IPv6 header and the ICMPv6 checksum, as far as neighbour messages need them.

use std::net::Ipv6Addr;

use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::util::ipv6_checksum;

use crate::{Layer, ParseError};

/// Octets of an IPv6 header.
pub(crate) const HEADER_LEN: usize = 40;
/// Neighbour messages carry the largest hop limit: a packet that a router forwarded has less (RFC 4861 section 3.1).
pub(crate) const HOP_LIMIT: u8 = 255;
/// Octet of the checksum in an ICMPv6 message.
const CHECKSUM_AT: usize = 2;
/// pnet skips one 16-bit word of a checksummed message; this one does not exist.
const SKIP_NO_WORD: usize = usize::MAX;

/// What an ICMPv6 packet says of itself, and the ICMPv6 message in it.
pub(crate) struct Icmpv6<'a> {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) hop_limit: u8,
    pub(crate) message: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// Reads an IPv6 header that is followed by ICMPv6; octets beyond the payload length are Ethernet padding.
    pub(crate) fn parse(octets: &'a [u8]) -> Result<Self, ParseError> {
        let header = Ipv6Packet::new(octets).ok_or(ParseError::Truncated {
            what: Layer::Ipv6,
            need: HEADER_LEN,
            have: octets.len(),
        })?;
        if header.get_version() != 6 {
            return Err(ParseError::IpVersion { have: header.get_version() });
        }
        if header.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
            return Err(ParseError::NextHeader { have: header.get_next_header().0 });
        }
        let payload = octets.get(HEADER_LEN..).unwrap_or_default();
        let need = usize::from(header.get_payload_length());
        let message =
            payload.get(..need).ok_or(ParseError::Truncated { what: Layer::Ipv6Payload, need, have: payload.len() })?;
        Ok(Self {
            source: header.get_source(),
            destination: header.get_destination(),
            hop_limit: header.get_hop_limit(),
            message,
        })
    }

    /// # Errors
    /// `Checksum` when the message was damaged, or was made for other addresses.
    ///
    /// Source: RFC 4443 section 2.3.
    pub(crate) fn verify_checksum(&self) -> Result<(), ParseError> {
        let sum = ipv6_checksum(
            self.message,
            SKIP_NO_WORD,
            &[],
            &self.source,
            &self.destination,
            IpNextHeaderProtocols::Icmpv6,
        );
        if sum == 0 {
            return Ok(());
        }
        let field = self.message.get(CHECKSUM_AT..).and_then(|rest| rest.first_chunk::<2>()).copied();
        Err(ParseError::Checksum { have: u16::from_be_bytes(field.unwrap_or_default()) })
    }
}

/// Completes a packet whose ICMPv6 message already stands after the 40 octets of the header: writes the header and the
/// message's checksum.
pub(crate) fn seal(packet: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
    if let Some((header, message)) = packet.split_at_mut_checked(HEADER_LEN) {
        if let Some(mut header) = MutableIpv6Packet::new(header) {
            header.set_version(6);
            header.set_traffic_class(0);
            header.set_flow_label(0);
            header.set_payload_length(u16::try_from(message.len()).unwrap_or(u16::MAX));
            header.set_next_header(IpNextHeaderProtocols::Icmpv6);
            header.set_hop_limit(HOP_LIMIT);
            header.set_source(source);
            header.set_destination(destination);
        }
        let sum = ipv6_checksum(message, CHECKSUM_AT / 2, &[], &source, &destination, IpNextHeaderProtocols::Icmpv6);
        if let Some(field) = message.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
}
