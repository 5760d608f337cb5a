//! ARP for IPv4 over Ethernet.

use std::net::Ipv4Addr;

use pnet::packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket};
use pnet::packet::ethernet::EtherTypes;

use crate::ethernet::{EtherType, Ethernet, MacAddr};
use crate::{Layer, ParseError};

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target IP?
    Request,
    /// The sender IP is at the sender MAC.
    Reply,
}

/// One ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// MAC and IP of the sender; the IP is 0.0.0.0 in a probe (RFC 5227 section 1.1).
    pub sender: (MacAddr, Ipv4Addr),
    /// MAC and IP of the target; the MAC means nothing in a request.
    pub target: (MacAddr, Ipv4Addr),
}

impl Arp {
    /// Octets of a packet.
    pub const LEN: usize = 28;

    /// Reads one packet; longer input is Ethernet padding and is ignored.
    ///
    /// # Errors
    /// `Truncated` below 28 octets; `ArpHardware`, `ArpProtocol`, `ArpLengths` for anything but IPv4 over Ethernet;
    /// `ArpOperation` for anything but request and reply. Never panics (fuzz target `arp`).
    ///
    /// Source: RFC 826, "Packet format".
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let packet = ArpPacket::new(octets).ok_or(ParseError::Truncated {
            what: Layer::Arp,
            need: Self::LEN,
            have: octets.len(),
        })?;
        if packet.get_hardware_type() != ArpHardwareTypes::Ethernet {
            return Err(ParseError::ArpHardware { have: packet.get_hardware_type().0 });
        }
        if packet.get_protocol_type() != EtherTypes::Ipv4 {
            return Err(ParseError::ArpProtocol { have: packet.get_protocol_type().0 });
        }
        let (hardware, protocol) = (packet.get_hw_addr_len(), packet.get_proto_addr_len());
        if (hardware, protocol) != (6, 4) {
            return Err(ParseError::ArpLengths { hardware, protocol });
        }
        let operation = match packet.get_operation() {
            ArpOperations::Request => Operation::Request,
            ArpOperations::Reply => Operation::Reply,
            ArpOperation(have) => return Err(ParseError::ArpOperation { have }),
        };
        Ok(Self {
            operation,
            sender: (packet.get_sender_hw_addr(), packet.get_sender_proto_addr()),
            target: (packet.get_target_hw_addr(), packet.get_target_proto_addr()),
        })
    }

    /// Writes every octet of the packet.
    pub fn write(&self, out: &mut [u8; Self::LEN]) {
        if let Some(mut packet) = MutableArpPacket::new(out) {
            packet.set_hardware_type(ArpHardwareTypes::Ethernet);
            packet.set_protocol_type(EtherTypes::Ipv4);
            packet.set_hw_addr_len(6);
            packet.set_proto_addr_len(4);
            packet.set_operation(match self.operation {
                Operation::Request => ArpOperations::Request,
                Operation::Reply => ArpOperations::Reply,
            });
            packet.set_sender_hw_addr(self.sender.0);
            packet.set_sender_proto_addr(self.sender.1);
            packet.set_target_hw_addr(self.target.0);
            packet.set_target_proto_addr(self.target.1);
        }
    }
}

/// An ARP packet in its Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpFrame {
    /// Ethernet destination.
    pub destination: MacAddr,
    /// Ethernet source.
    pub source: MacAddr,
    /// The packet.
    pub arp: Arp,
}

impl ArpFrame {
    /// Octets of a frame; a driver pads it to Ethernet's minimum where its hardware needs that.
    pub const LEN: usize = Ethernet::LEN + Arp::LEN;

    /// Reads a whole frame; padding after the packet is ignored.
    ///
    /// # Errors
    /// As [`Ethernet::parse`] and [`Arp::parse`], and `EtherType` when the frame is not ARP.
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let (ethernet, payload) = Ethernet::parse(octets)?;
        if ethernet.ether_type != EtherType::ARP {
            return Err(ParseError::EtherType { have: ethernet.ether_type.0 });
        }
        Ok(Self { destination: ethernet.destination, source: ethernet.source, arp: Arp::parse(payload)? })
    }

    /// The frame's octets.
    pub fn to_octets(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        self.write(&mut out);
        out
    }

    /// Writes every octet of the frame.
    pub fn write(&self, out: &mut [u8; Self::LEN]) {
        let header = Ethernet { destination: self.destination, source: self.source, ether_type: EtherType::ARP };
        if let Some((ethernet, arp)) = out.split_first_chunk_mut::<{ Ethernet::LEN }>() {
            header.write(ethernet);
            if let Some(arp) = arp.first_chunk_mut::<{ Arp::LEN }>() {
                self.arp.write(arp);
            }
        }
    }

    /// The reply to `request` that says: its target IP is at `mac`. It goes to the requester alone, a prober (sender
    /// 0.0.0.0) included.
    ///
    /// Source: RFC 826 "Packet Reception"; RFC 5227 section 2.1.1 for probes.
    pub fn reply(request: &Arp, mac: MacAddr) -> Self {
        Self {
            destination: request.sender.0,
            source: mac,
            arp: Arp { operation: Operation::Reply, sender: (mac, request.target.1), target: request.sender },
        }
    }

    /// The request that asks the whole segment: who has `ip`? `asker` is the MAC and the IP to which the answer goes. The
    /// target MAC is what is asked for, and zero.
    ///
    /// Source: RFC 826, "Packet Generation".
    pub fn request(ip: Ipv4Addr, asker: (MacAddr, Ipv4Addr)) -> Self {
        Self {
            destination: MacAddr::broadcast(),
            source: asker.0,
            arp: Arp { operation: Operation::Request, sender: asker, target: (MacAddr::zero(), ip) },
        }
    }

    /// The probe that asks whether anybody has `ip`, and says nothing of who asks: nobody's table changes by it.
    ///
    /// Source: RFC 5227 section 2.1.1.
    pub fn probe(ip: Ipv4Addr, mac: MacAddr) -> Self {
        Self::request(ip, (mac, Ipv4Addr::UNSPECIFIED))
    }

    /// The gratuitous request that says to the whole segment: `ip` is at `mac`. Neighbours that know `ip` take the new
    /// address at once. The target MAC is zero, as Linux and RFC 5227 section 2.3 have it.
    pub fn gratuitous_request(ip: Ipv4Addr, mac: MacAddr) -> Self {
        Self {
            destination: MacAddr::broadcast(),
            source: mac,
            arp: Arp { operation: Operation::Request, sender: (mac, ip), target: (MacAddr::zero(), ip) },
        }
    }

    /// The gratuitous reply, for devices that ignore the request form. Target MAC = sender MAC: otherwise Linux does not
    /// take it for gratuitous, and refuses it within a second of the last change (`arp_is_garp` in `net/ipv4/arp.c`).
    pub fn gratuitous_reply(ip: Ipv4Addr, mac: MacAddr) -> Self {
        Self {
            destination: MacAddr::broadcast(),
            source: mac,
            arp: Arp { operation: Operation::Reply, sender: (mac, ip), target: (mac, ip) },
        }
    }
}
