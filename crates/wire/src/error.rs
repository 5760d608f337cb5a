//! Why a frame was refused.

use std::net::Ipv6Addr;

/// The part of a frame that a [`ParseError::Truncated`] speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The Ethernet II header.
    Ethernet,
    /// The ARP packet.
    Arp,
    /// The IPv6 header.
    Ipv6,
    /// What the IPv6 header's payload length promises.
    Ipv6Payload,
    /// The fixed part of an ICMPv6 neighbour message.
    Icmpv6,
    /// An option of a neighbour message.
    NdpOption,
    /// The IPv4 header.
    Ipv4,
    /// An echo message.
    Echo,
}

/// Why octets from the network are not a frame that a speaker understands. Each variant carries the value it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The octets end before the named part does.
    #[error("{what:?} needs {need} octets and has {have}")]
    Truncated {
        /// The part that is cut short.
        what: Layer,
        /// Octets that it needs.
        need: usize,
        /// Octets that are there.
        have: usize,
    },
    /// Neither ARP nor IPv6.
    #[error("EtherType {have:#06x} is neither ARP nor IPv6")]
    EtherType {
        /// The EtherType field.
        have: u16,
    },
    /// ARP for a hardware other than Ethernet.
    #[error("ARP hardware type {have} is not Ethernet (1)")]
    ArpHardware {
        /// The hardware type field.
        have: u16,
    },
    /// ARP for a protocol other than IPv4.
    #[error("ARP protocol type {have:#06x} is not IPv4 (0x0800)")]
    ArpProtocol {
        /// The protocol type field.
        have: u16,
    },
    /// The address lengths are not those of Ethernet and IPv4.
    #[error("ARP address lengths {hardware} and {protocol} are not 6 and 4")]
    ArpLengths {
        /// The hardware address length field.
        hardware: u8,
        /// The protocol address length field.
        protocol: u8,
    },
    /// Neither request nor reply.
    #[error("ARP operation {have} is neither request (1) nor reply (2)")]
    ArpOperation {
        /// The operation field.
        have: u16,
    },
    /// IP version other than 6 under the EtherType of IPv6.
    #[error("IP version {have} under the EtherType of IPv6")]
    IpVersion {
        /// The version field.
        have: u8,
    },
    /// IPv6, but not ICMPv6 (extension headers included: no sender of neighbour messages uses them).
    #[error("IPv6 next header {have} is not ICMPv6 (58)")]
    NextHeader {
        /// The next header field.
        have: u8,
    },
    /// ICMPv6 of another type than neighbour solicitation and advertisement.
    #[error("ICMPv6 type {have} is neither a neighbour solicitation (135) nor an advertisement (136)")]
    Icmpv6Type {
        /// The type field.
        have: u8,
    },
    /// The packet crossed a router, so it does not come from this link.
    #[error("hop limit {have} is not 255: a router forwarded this neighbour message")]
    HopLimit {
        /// The hop limit field.
        have: u8,
    },
    /// The ICMPv6 checksum does not fit the octets.
    #[error("ICMPv6 checksum {have:#06x} is wrong")]
    Checksum {
        /// The checksum field.
        have: u16,
    },
    /// A code other than 0.
    #[error("ICMPv6 code {have} of a neighbour message is not 0")]
    Icmpv6Code {
        /// The code field.
        have: u8,
    },
    /// An option that claims no length: to skip it would never end.
    #[error("neighbour discovery option of type {kind} has length 0")]
    OptionLength0 {
        /// The option's type.
        kind: u8,
    },
    /// A link-layer address option that does not hold an Ethernet address.
    #[error("link-layer address option of type {kind} has {have} octets, not 8")]
    LinkLayerOption {
        /// The option's type: 1 source, 2 target.
        kind: u8,
        /// Its length.
        have: usize,
    },
    /// The target of a neighbour message is a multicast address.
    #[error("target {have} of a neighbour message is a multicast address")]
    MulticastTarget {
        /// The target field.
        have: Ipv6Addr,
    },
    /// The source of an IPv6 packet is a multicast address.
    #[error("source {have} of an IPv6 packet is a multicast address")]
    MulticastSource {
        /// The source field.
        have: Ipv6Addr,
    },
    /// A duplicate address probe (source `::`) that is not sent to a solicited-node group.
    #[error("solicitation from :: to {have}, which is not a solicited-node multicast address")]
    ProbeDestination {
        /// The destination field.
        have: Ipv6Addr,
    },
    /// A duplicate address probe (source `::`) that names a link-layer address.
    #[error("solicitation from :: carries a source link-layer address")]
    ProbeWithLinkLayer,
    /// An advertisement to a group that claims to answer a solicitation.
    #[error("advertisement to the multicast address {have} is flagged as solicited")]
    SolicitedToMulticast {
        /// The destination field.
        have: Ipv6Addr,
    },
    /// A header that is not that of IPv4.
    #[error("IP version {version} and header length {octets} where IPv4 was expected")]
    Ipv4Header {
        /// The version field.
        version: u8,
        /// The header length field, in octets.
        octets: usize,
    },
    /// ICMP of another type than an echo reply.
    #[error("ICMP type {have} and code {code} are not those of an echo reply")]
    EchoType {
        /// The type field.
        have: u8,
        /// The code field.
        code: u8,
    },
    /// The checksum of an ICMP echo message does not fit the octets.
    #[error("ICMP checksum {have:#06x} of an echo message is wrong")]
    EchoChecksum {
        /// The checksum field.
        have: u16,
    },
}

impl ParseError {
    /// A word from a closed set, for counters and log fields.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { what: Layer::Ethernet, .. } => "truncated_ethernet",
            Self::Truncated { what: Layer::Arp, .. } => "truncated_arp",
            Self::Truncated { what: Layer::Ipv6 | Layer::Ipv6Payload, .. } => "truncated_ipv6",
            Self::Truncated { what: Layer::Icmpv6, .. } => "truncated_icmpv6",
            Self::Truncated { what: Layer::NdpOption, .. } => "truncated_ndp_option",
            Self::EtherType { .. } => "ether_type",
            Self::ArpHardware { .. } => "arp_hardware",
            Self::ArpProtocol { .. } => "arp_protocol",
            Self::ArpLengths { .. } => "arp_lengths",
            Self::ArpOperation { .. } => "arp_operation",
            Self::IpVersion { .. } => "ip_version",
            Self::NextHeader { .. } => "next_header",
            Self::Icmpv6Type { .. } => "icmpv6_type",
            Self::HopLimit { .. } => "hop_limit",
            Self::Checksum { .. } => "checksum",
            Self::Icmpv6Code { .. } => "icmpv6_code",
            Self::OptionLength0 { .. } => "option_length_0",
            Self::LinkLayerOption { .. } => "link_layer_option",
            Self::MulticastTarget { .. } => "multicast_target",
            Self::MulticastSource { .. } => "multicast_source",
            Self::ProbeDestination { .. } => "probe_destination",
            Self::ProbeWithLinkLayer => "probe_with_link_layer",
            Self::SolicitedToMulticast { .. } => "solicited_to_multicast",
            Self::Truncated { what: Layer::Ipv4, .. } => "truncated_ipv4",
            Self::Truncated { what: Layer::Echo, .. } => "truncated_echo",
            Self::Ipv4Header { .. } => "ipv4_header",
            Self::EchoType { .. } => "echo_type",
            Self::EchoChecksum { .. } => "echo_checksum",
        }
    }
}
