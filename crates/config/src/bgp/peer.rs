//! Peers: the routers that we speak BGP with.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use landfall_api::bgp_peer::v1beta2::{BGPPeer as Object, BGPPeerSpec, DynamicASN};

use super::PEER;
use super::timers::Timers;
use crate::duration;
use crate::problem::{Problem, Problems};
use crate::selector::{Labels, Selectors};

/// The port assigned to BGP (RFC 4271, section 4.2).
const BGP_PORT: u16 = 179;

/// What a `BGPPeer` means.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The object's name.
    pub name: String,
    /// Our AS number.
    pub my_asn: u32,
    /// The AS number that we present to this peer in place of `my_asn`.
    pub local_asn: Option<u32>,
    /// The peer's AS number.
    pub remote_as: RemoteAs,
    /// Where the peer is.
    pub endpoint: Endpoint,
    /// The VRF whose routing table the session uses.
    pub vrf: Option<String>,
    /// The TCP port to connect to.
    pub port: u16,
    /// Our address in the session; `None`: the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// `None`: the implementation's defaults.
    pub timers: Option<Timers>,
    /// How long to wait before a failed connection is tried again, in whole seconds from 1 to 65535; `None`: the
    /// implementation's default.
    pub connect_time: Option<Duration>,
    /// Our BGP identifier; `None`: the implementation's choice.
    pub router_id: Option<Ipv4Addr>,
    /// The nodes that connect to the peer; empty: every node.
    pub node_selectors: Selectors,
    /// The password of the session, if it has one.
    pub password: Option<Password>,
    /// The BFD profile to watch the path with. In a [`Config`](crate::Config) there is one of this name.
    pub bfd_profile: Option<String>,
    /// Whether the peer is asked to keep our routes while we restart (RFC 4724).
    pub graceful_restart: bool,
    /// Whether a peer in another AS may be more than one hop away.
    pub ebgp_multi_hop: bool,
    /// Whether both IPv4 and IPv6 routes are exchanged, whatever the family of the session's addresses.
    pub dual_stack: bool,
}

/// Which AS number the peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAs {
    /// This one, never 0.
    Number(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// Where a peer is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At this address.
    Address(IpAddr),
    /// At the link-local address of the only neighbour on this interface (unnumbered BGP).
    Interface(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Interface(interface) => f.write_str(interface),
        }
    }
}

/// Where the password of a session (TCP MD5, RFC 2385) comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// It stands in the object.
    Text(String),
    /// It stands under the key `password` of the Secret of this name and of type `kubernetes.io/basic-auth` in the peer's
    /// own namespace. Whoever opens the session reads it there.
    Secret(String),
}

/// Without the password, so that it gets into no log.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::Secret(name) => f.debug_tuple("Secret").field(name).finish(),
        }
    }
}

impl Peer {
    /// Whether a node with these labels connects to the peer.
    pub fn selects_node(&self, labels: &Labels) -> bool {
        self.node_selectors.allows(labels)
    }

    /// What messages call the peer: its address or interface, followed by `-` and the VRF if it is in one.
    pub fn identifier(&self) -> String {
        match &self.vrf {
            Some(vrf) => format!("{}-{vrf}", self.endpoint),
            None => self.endpoint.to_string(),
        }
    }

    /// Reads the object; `None` if it has a problem. Whether its BFD profile exists and how it gets on with other peers is
    /// not looked at.
    pub(super) fn read(object: &Object, found: &mut Vec<Problem>) -> Option<Self> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of(PEER, &name, found);
        let spec = &object.spec;
        if spec.my_asn == 0 {
            problems.add("spec.myASN", "0", "missing local ASN; set myASN to our AS number");
        }
        let remote_as = remote_as(spec, &mut problems);
        if spec.ebgp_multi_hop == Some(true) && remote_as == Some(RemoteAs::Number(spec.my_asn)) {
            problems.add(
                "spec.ebgpMultiHop",
                "true",
                "invalid ebgp-multihop parameter set for an ibgp peer: peerASN equals myASN; remove ebgpMultiHop, or correct \
                 peerASN",
            );
        }
        let endpoint = endpoint(spec, &mut problems);
        let timers = Timers::read(spec.hold_time.as_deref(), spec.keepalive_time.as_deref(), &mut problems);
        let connect_time = spec.connect_time.as_deref().and_then(|given| connect_time(given, &mut problems));
        let router_id = router_id(&spec.router_id, &mut problems);
        let source_address = source_address(&spec.source_address, &mut problems);
        let node_selectors = Selectors::read("spec.nodeSelectors", &spec.node_selectors, &mut problems);
        let password = password(object, &mut problems);
        let sound = problems.is_sound();
        Some(Self {
            my_asn: spec.my_asn,
            local_asn: spec.local_asn.filter(|asn| *asn != 0),
            remote_as: remote_as?,
            endpoint: endpoint?,
            vrf: some_text(&spec.vrf),
            // The older version of the kind allows 0.
            port: if spec.peer_port == 0 { BGP_PORT } else { spec.peer_port },
            source_address,
            timers,
            connect_time,
            router_id,
            node_selectors,
            password,
            bfd_profile: some_text(&spec.bfd_profile),
            graceful_restart: spec.enable_graceful_restart.unwrap_or(false),
            ebgp_multi_hop: spec.ebgp_multi_hop.unwrap_or(false),
            dual_stack: spec.dual_stack_address_family,
            name,
        })
        .filter(|_| sound)
    }
}

/// An empty text is the same as a field that was left out.
fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// An AS number of 0 counts as none.
fn remote_as(spec: &BGPPeerSpec, problems: &mut Problems<'_>) -> Option<RemoteAs> {
    match (spec.peer_asn.filter(|asn| *asn != 0), spec.dynamic_asn) {
        (Some(number), None) => Some(RemoteAs::Number(number)),
        (None, Some(DynamicASN::Internal)) => Some(RemoteAs::Internal),
        (None, Some(DynamicASN::External)) => Some(RemoteAs::External),
        (None, None) => {
            problems.add(
                "spec.peerASN",
                "",
                "missing peer ASN and dynamicASN; set peerASN to the router's AS number, or dynamicASN to internal or \
                 external",
            );
            None
        }
        (Some(number), Some(_)) => {
            problems.add(
                "spec.peerASN",
                number.to_string(),
                "both peer ASN and dynamicASN specified; remove one of the two",
            );
            None
        }
    }
}

fn endpoint(spec: &BGPPeerSpec, problems: &mut Problems<'_>) -> Option<Endpoint> {
    match (spec.peer_address.as_str(), spec.interface.as_str()) {
        ("", "") => {
            problems.add(
                "spec.peerAddress",
                "",
                "peer has no Address or Interface specified; set peerAddress to the router's address, or interface for an \
                 unnumbered session",
            );
            None
        }
        ("", interface) => Some(Endpoint::Interface(interface.to_owned())),
        (text, "") => match text.parse() {
            Ok(address) => Some(Endpoint::Address(address)),
            Err(_) => {
                problems.add(
                    "spec.peerAddress",
                    text,
                    format!("invalid BGPPeer address {text:?}; write an address such as 192.0.2.1 or 2001:db8::1, not a name"),
                );
                None
            }
        },
        (address, _) => {
            problems.add(
                "spec.peerAddress",
                address,
                "peer has both Address and Interface specified; remove one of the two",
            );
            None
        }
    }
}

fn connect_time(given: &str, problems: &mut Problems<'_>) -> Option<Duration> {
    let what = match duration::parse(given) {
        Ok(time) if time.subsec_nanos() == 0 && (1..=u64::from(u16::MAX)).contains(&time.as_secs()) => {
            return Some(time);
        }
        Ok(_) => "must be whole seconds from 1s to 65535s; change it".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.add("spec.connectTime", given, format!("invalid BGPPeer connect time: {what}"));
    None
}

/// The identifier is four octets other than zero, whatever the family of the session (RFC 6286).
fn router_id(given: &str, problems: &mut Problems<'_>) -> Option<Ipv4Addr> {
    let given = some_text(given)?;
    let read = given.parse().ok().filter(|id: &Ipv4Addr| !id.is_unspecified());
    if read.is_none() {
        let what =
            format!("invalid router ID {given:?}; write it as an IPv4 address such as 192.0.2.1, or leave it out");
        problems.add("spec.routerID", given, what);
    }
    read
}

fn source_address(given: &str, problems: &mut Problems<'_>) -> Option<IpAddr> {
    let given = some_text(given)?;
    let read = given.parse().ok();
    if read.is_none() {
        let what =
            format!("invalid source IP {given:?}; write an address of the node such as 192.0.2.7, or leave it out");
        problems.add("spec.sourceAddress", given, what);
    }
    read
}

fn password(object: &Object, problems: &mut Problems<'_>) -> Option<Password> {
    let secret = object.spec.password_secret.as_ref().and_then(|secret| secret.name.clone()).unwrap_or_default();
    match (object.spec.password.as_str(), secret.as_str()) {
        ("", "") => None,
        ("", _) => Some(Password::Secret(secret)),
        (text, "") => Some(Password::Text(text.to_owned())),
        _ => {
            // The value is the Secret's name: the password must not get into messages.
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let what = format!(
                "can not have both password and secret ref set in peer config {namespace:?}/{name:?}; remove password, which \
                 everybody who may read the object can see"
            );
            problems.add("spec.passwordSecret.name", secret, what);
            None
        }
    }
}
