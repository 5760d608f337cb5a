//! Echo messages of ICMP and ICMPv6, as far as asking a host whether it lives needs them.

use pnet::packet::util::checksum;

use crate::{Layer, ParseError};

/// Octets of an IPv4 header without options.
const IPV4_HEADER_LEN: usize = 20;
/// ICMP types, RFC 792.
const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
/// ICMPv6 types, RFC 4443 section 4.
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;
/// pnet skips one 16-bit word of a checksummed message; this one does not exist.
const SKIP_NO_WORD: usize = usize::MAX;

/// What tells one echo message from another. A host that answers sends all of it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Tells one asking process from another.
    pub identifier: u16,
    /// Counts the requests to one host.
    pub sequence: u16,
    /// The data: what nobody but the asked host, and who forwards to it, can know.
    pub nonce: u64,
}

impl Echo {
    /// Octets of a message.
    pub const LEN: usize = 16;

    /// The ICMP echo request, from its type on; the IPv4 header is the kernel's work.
    ///
    /// Source: RFC 792, "Echo or Echo Reply Message".
    pub fn v4_request(&self) -> [u8; Self::LEN] {
        let mut message = self.message(V4_REQUEST);
        let sum = checksum(&message, SKIP_NO_WORD); // its field is still zero
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        message
    }

    /// The ICMPv6 echo request, from its type on, with a checksum of zero: it is over the IPv6 header too, and both are the
    /// kernel's work (RFC 3542 section 3.1).
    ///
    /// Source: RFC 4443 section 4.1.
    pub fn v6_request(&self) -> [u8; Self::LEN] {
        self.message(V6_REQUEST)
    }

    /// Reads an ICMP echo reply in its IPv4 packet, as a raw socket gives it. Data beyond the nonce are ignored.
    ///
    /// # Errors
    /// `Truncated`, `Ipv4Header`, `EchoType` for every other ICMP message, `EchoChecksum`. Never panics.
    pub fn parse_v4_reply(packet: &[u8]) -> Result<Self, ParseError> {
        let truncated = ParseError::Truncated { what: Layer::Ipv4, need: IPV4_HEADER_LEN, have: packet.len() };
        let first = *packet.first().ok_or(truncated)?;
        let (version, octets) = (first >> 4, usize::from(first & 0xf) * 4);
        if version != 4 || octets < IPV4_HEADER_LEN {
            return Err(ParseError::Ipv4Header { version, octets });
        }
        let truncated = ParseError::Truncated { what: Layer::Ipv4, need: octets, have: packet.len() };
        let message = packet.get(octets..).ok_or(truncated)?;
        let echo = Self::parse(message, V4_REPLY)?;
        // pnet's sum of a message with its checksum in it is zero where it is right.
        if checksum(message, SKIP_NO_WORD) != 0 {
            let field = message.get(2..).and_then(|rest| rest.first_chunk::<2>()).copied();
            return Err(ParseError::EchoChecksum { have: u16::from_be_bytes(field.unwrap_or_default()) });
        }
        Ok(echo)
    }

    /// Reads an ICMPv6 echo reply from its type on, as a raw socket gives it: the kernel has checked the checksum. Data beyond
    /// the nonce are ignored.
    ///
    /// # Errors
    /// `Truncated`, and `EchoType` for every other ICMPv6 message. Never panics.
    pub fn parse_v6_reply(message: &[u8]) -> Result<Self, ParseError> {
        Self::parse(message, V6_REPLY)
    }

    fn message(&self, kind: u8) -> [u8; Self::LEN] {
        let mut message = [0; Self::LEN];
        let ([a, b], [c, d]) = (self.identifier.to_be_bytes(), self.sequence.to_be_bytes());
        let (header, data) = message.split_at_mut(8);
        header.copy_from_slice(&[kind, 0, 0, 0, a, b, c, d]);
        data.copy_from_slice(&self.nonce.to_be_bytes());
        message
    }

    fn parse(message: &[u8], kind: u8) -> Result<Self, ParseError> {
        let truncated = ParseError::Truncated { what: Layer::Echo, need: Self::LEN, have: message.len() };
        // What is no echo reply is told apart first: other messages may be shorter.
        let &[have, code, ..] = message else { return Err(truncated) };
        if (have, code) != (kind, 0) {
            return Err(ParseError::EchoType { have, code });
        }
        let &[_, _, _, _, a, b, c, d, ref nonce @ ..] = message.first_chunk::<{ Self::LEN }>().ok_or(truncated)?;
        Ok(Self {
            identifier: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
            nonce: u64::from_be_bytes(*nonce),
        })
    }
}
