//! Neighbour solicitations and advertisements of IPv6, in their Ethernet frames.

use std::net::Ipv6Addr;

use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOptionTypes, NeighborAdvertFlags,
    NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet::packet::icmpv6::{Icmpv6Code, Icmpv6Types};

use crate::ethernet::{EtherType, Ethernet, MacAddr};
use crate::ipv6::{self, Icmpv6};
use crate::{Layer, ParseError};

/// Octets of a neighbour message before its options.
const MESSAGE_LEN: usize = 24;
/// Octets of a link-layer address option for Ethernet; also the unit of the options' length fields.
const OPTION_LEN: usize = 8;
/// All nodes of the link, ff02::1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Asks who has an address, or whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborSolicitation {
    /// The address in question.
    pub target: Ipv6Addr,
    /// The MAC address of who asks, when it says so.
    pub source_link_layer: Option<MacAddr>,
}

/// Says who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborAdvertisement {
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation of the receiver.
    pub solicited: bool,
    /// It replaces what the receiver knows (RFC 4861 calls the flag Override).
    pub override_: bool,
    /// The address it speaks of.
    pub target: Ipv6Addr,
    /// The MAC address of the target, when it is named.
    pub target_link_layer: Option<MacAddr>,
}

/// A neighbour message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpMessage {
    /// ICMPv6 type 135.
    Solicitation(NeighborSolicitation),
    /// ICMPv6 type 136.
    Advertisement(NeighborAdvertisement),
}

/// A neighbour message in its IPv6 packet and Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpFrame {
    /// Ethernet destination.
    pub destination_mac: MacAddr,
    /// Ethernet source.
    pub source_mac: MacAddr,
    /// IPv6 source; `::` in a duplicate address probe (RFC 4862 section 5.4.2).
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// The message.
    pub message: NdpMessage,
}

/// The group to which a solicitation for `address` goes: ff02::1:ff and the address's last 24 bits.
///
/// Source: RFC 4291 section 2.7.1.
pub fn solicited_node_multicast(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast group: 33:33 and the group's last 32 bits.
///
/// Source: RFC 2464 section 7.
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr::new(0x33, 0x33, a, b, c, d)
}

impl NdpFrame {
    /// Reads a whole frame; padding after the packet is ignored.
    ///
    /// # Errors
    /// [`ParseError`]: whatever RFC 4861 sections 7.1.1 and 7.1.2 tell a receiver to discard, and every other kind of
    /// packet. Never panics (fuzz target `ndp`).
    pub fn parse(octets: &[u8]) -> Result<Self, ParseError> {
        let (ethernet, payload) = Ethernet::parse(octets)?;
        if ethernet.ether_type != EtherType::IPV6 {
            return Err(ParseError::EtherType { have: ethernet.ether_type.0 });
        }
        let packet = Icmpv6::parse(payload)?;
        let message = parse_message(&packet)?;
        Ok(Self {
            destination_mac: ethernet.destination,
            source_mac: ethernet.source,
            source: packet.source,
            destination: packet.destination,
            message,
        })
    }

    /// The frame's octets: 78, and 8 more with a link-layer address.
    pub fn to_octets(&self) -> Vec<u8> {
        let (target, option) = match self.message {
            NdpMessage::Solicitation(ns) => (ns.target, (NdpOptionTypes::SourceLLAddr, ns.source_link_layer)),
            NdpMessage::Advertisement(na) => (na.target, (NdpOptionTypes::TargetLLAddr, na.target_link_layer)),
        };
        let mut out = vec![0; Ethernet::LEN + ipv6::HEADER_LEN + MESSAGE_LEN];
        if let (kind, Some(mac)) = option {
            out.extend([kind.0, 1]); // the length counts 8 octets
            out.extend(mac.octets());
        }
        let header =
            Ethernet { destination: self.destination_mac, source: self.source_mac, ether_type: EtherType::IPV6 };
        if let Some((ethernet, packet)) = out.split_first_chunk_mut::<{ Ethernet::LEN }>() {
            header.write(ethernet);
            let message = packet.get_mut(ipv6::HEADER_LEN..).unwrap_or_default();
            match self.message {
                NdpMessage::Solicitation(_) => {
                    if let Some(mut ns) = MutableNeighborSolicitPacket::new(message) {
                        ns.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
                        ns.set_target_addr(target);
                    }
                }
                NdpMessage::Advertisement(na) => {
                    if let Some(mut packet) = MutableNeighborAdvertPacket::new(message) {
                        packet.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
                        packet.set_flags(na.flags());
                        packet.set_target_addr(target);
                    }
                }
            }
            ipv6::seal(packet, self.source, self.destination);
        }
        out
    }

    /// The solicitation that asks the link: who has `ip`? `asker` is the MAC and the IP to which the answer goes.
    ///
    /// Source: RFC 4861 section 7.2.2.
    pub fn solicitation(ip: Ipv6Addr, asker: (MacAddr, Ipv6Addr)) -> Self {
        let group = solicited_node_multicast(ip);
        let solicitation = NeighborSolicitation { target: ip, source_link_layer: Some(asker.0) };
        Self {
            destination_mac: multicast_mac(group),
            source_mac: asker.0,
            source: asker.1,
            destination: group,
            message: NdpMessage::Solicitation(solicitation),
        }
    }

    /// The duplicate address probe, which asks whether anybody has `ip`: nobody's table changes by it.
    ///
    /// Source: RFC 4862 section 5.4.2. It must not name a link-layer address (RFC 4861 section 4.3).
    pub fn probe(ip: Ipv6Addr, mac: MacAddr) -> Self {
        let solicitation = NeighborSolicitation { target: ip, source_link_layer: None };
        let message = NdpMessage::Solicitation(solicitation);
        Self { message, ..Self::solicitation(ip, (mac, Ipv6Addr::UNSPECIFIED)) }
    }

    /// The answer to a solicitation that came in `request` for an address which this node owns and has at `mac`.
    ///
    /// To a neighbour: solicited, and with Override, since the address is neither anycast nor a proxy's
    /// (RFC 4861 section 7.2.4). To a duplicate address probe, which has no address to answer to: to all nodes and not
    /// solicited, so that the prober learns that the address is taken (RFC 4861 section 7.2.4, RFC 4862
    /// section 5.4.4). The frame goes to the solicitation's link-layer address, or where it names none to the Ethernet
    /// address that it came from.
    pub fn answer(request: &NdpFrame, solicitation: &NeighborSolicitation, mac: MacAddr) -> Self {
        let probe = request.source.is_unspecified();
        let (destination, destination_mac) = if probe {
            (ALL_NODES, multicast_mac(ALL_NODES))
        } else {
            (request.source, solicitation.source_link_layer.unwrap_or(request.source_mac))
        };
        let advertisement = NeighborAdvertisement {
            router: false,
            solicited: !probe,
            override_: true,
            target: solicitation.target,
            target_link_layer: Some(mac),
        };
        Self {
            destination_mac,
            source_mac: mac,
            source: solicitation.target,
            destination,
            message: NdpMessage::Advertisement(advertisement),
        }
    }

    /// The advertisement that says to the whole link, unasked: `ip` is at `mac`. Neighbours that know `ip` take the new
    /// address at once.
    ///
    /// Source: RFC 4861 section 7.2.6.
    pub fn unsolicited_advertisement(ip: Ipv6Addr, mac: MacAddr) -> Self {
        let advertisement = NeighborAdvertisement {
            router: false,
            solicited: false,
            override_: true,
            target: ip,
            target_link_layer: Some(mac),
        };
        Self {
            destination_mac: multicast_mac(ALL_NODES),
            source_mac: mac,
            source: ip,
            destination: ALL_NODES,
            message: NdpMessage::Advertisement(advertisement),
        }
    }
}

impl NeighborAdvertisement {
    fn flags(&self) -> u8 {
        [
            (self.router, NeighborAdvertFlags::Router),
            (self.solicited, NeighborAdvertFlags::Solicited),
            (self.override_, NeighborAdvertFlags::Override),
        ]
        .into_iter()
        .fold(0, |flags, (set, flag)| if set { flags | flag } else { flags })
    }
}

/// The checks of RFC 4861 sections 7.1.1 (solicitations) and 7.1.2 (advertisements).
fn parse_message(packet: &Icmpv6<'_>) -> Result<NdpMessage, ParseError> {
    let message = packet.message;
    let truncated = ParseError::Truncated { what: Layer::Icmpv6, need: MESSAGE_LEN, have: message.len() };
    // What is not for us is told apart first: a router advertisement or an echo is no malformed neighbour message.
    let kind = match message.first() {
        Some(&have) if have == Icmpv6Types::NeighborSolicit.0 || have == Icmpv6Types::NeighborAdvert.0 => have,
        Some(&have) => return Err(ParseError::Icmpv6Type { have }),
        None => return Err(truncated),
    };
    if packet.hop_limit != ipv6::HOP_LIMIT {
        return Err(ParseError::HopLimit { have: packet.hop_limit });
    }
    let options = message.get(MESSAGE_LEN..).ok_or(truncated)?;
    packet.verify_checksum()?;
    if packet.source.is_multicast() {
        return Err(ParseError::MulticastSource { have: packet.source });
    }
    if kind == Icmpv6Types::NeighborSolicit.0 {
        let ns = NeighborSolicitPacket::new(message).ok_or(truncated)?;
        check_code_and_target(ns.get_icmpv6_code(), ns.get_target_addr())?;
        let source_link_layer = link_layer_option(options, NdpOptionTypes::SourceLLAddr.0)?;
        if packet.source.is_unspecified() {
            if !is_solicited_node(packet.destination) {
                return Err(ParseError::ProbeDestination { have: packet.destination });
            }
            if source_link_layer.is_some() {
                return Err(ParseError::ProbeWithLinkLayer);
            }
        }
        return Ok(NdpMessage::Solicitation(NeighborSolicitation { target: ns.get_target_addr(), source_link_layer }));
    }
    let na = NeighborAdvertPacket::new(message).ok_or(truncated)?;
    check_code_and_target(na.get_icmpv6_code(), na.get_target_addr())?;
    let target_link_layer = link_layer_option(options, NdpOptionTypes::TargetLLAddr.0)?;
    let has = |flag: u8| na.get_flags() & flag != 0;
    if has(NeighborAdvertFlags::Solicited) && packet.destination.is_multicast() {
        return Err(ParseError::SolicitedToMulticast { have: packet.destination });
    }
    Ok(NdpMessage::Advertisement(NeighborAdvertisement {
        router: has(NeighborAdvertFlags::Router),
        solicited: has(NeighborAdvertFlags::Solicited),
        override_: has(NeighborAdvertFlags::Override),
        target: na.get_target_addr(),
        target_link_layer,
    }))
}

fn check_code_and_target(code: Icmpv6Code, target: Ipv6Addr) -> Result<(), ParseError> {
    if code.0 != 0 {
        return Err(ParseError::Icmpv6Code { have: code.0 });
    }
    if target.is_multicast() {
        return Err(ParseError::MulticastTarget { have: target });
    }
    Ok(())
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node_multicast(address) == address
}

/// The Ethernet address in the first option of type `wanted`. Every option is checked, unknown ones are skipped.
///
/// Written here rather than taken from pnet, whose iterator does not refuse an option of length 0.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, ParseError> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        if units == 0 {
            return Err(ParseError::OptionLength0 { kind });
        }
        let need = usize::from(units) * OPTION_LEN;
        let Some((option, rest)) = options.split_at_checked(need) else {
            return Err(ParseError::Truncated { what: Layer::NdpOption, need, have: options.len() });
        };
        if kind == wanted {
            let &[_, _, a, b, c, d, e, f] = option else {
                return Err(ParseError::LinkLayerOption { kind, have: need });
            };
            found = found.or(Some(MacAddr::new(a, b, c, d, e, f)));
        }
        options = rest;
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(ParseError::Truncated { what: Layer::NdpOption, need: OPTION_LEN, have: options.len() })
    }
}
