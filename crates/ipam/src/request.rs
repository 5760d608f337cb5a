//! What a Service asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_config::Labels;

/// A Service's namespace and name. Half a dozen indexes know each Service by it, so copies share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which families a Service wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One address.
    Single(Family),
    /// One address of each.
    Dual {
        /// The family to have when only one can be had.
        primary: Family,
        /// `RequireDualStack`: both or none. `PreferDualStack` is content with one.
        required: bool,
    },
}

impl Families {
    /// Whether `ips` has exactly one address of each of the families.
    pub fn are_of(self, ips: &[IpAddr]) -> bool {
        match (self, ips) {
            (Self::Single(family), [ip]) => Family::of(*ip) == family,
            (Self::Dual { .. }, [a, b]) => a.is_ipv4() != b.is_ipv4(),
            _ => false,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(family) => family.fmt(f),
            Self::Dual { .. } => f.write_str("IPv4 and IPv6"),
        }
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, Kubernetes' default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port that a Service listens on; written as `TCP/80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Protocol.
    pub protocol: Protocol,
    /// Port number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{protocol}/{}", self.number)
    }
}

/// Under which condition a Service shares its address: with others whose `Sharing` is the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sharing {
    /// Value of the annotation `metallb.io/allow-shared-ip`.
    pub key: String,
    /// The Pods behind it when they decide where the address can live (`externalTrafficPolicy: Local`: the selector as
    /// text), empty otherwise.
    pub backend: String,
}

/// One Service's wish for addresses.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The Service.
    pub service: &'a ServiceKey,
    /// The Service's labels, for the pools' service selectors.
    pub labels: &'a Labels,
    /// Its Namespace's labels, for the pools' namespace selectors.
    pub namespace_labels: &'a Labels,
    /// The families of its cluster addresses.
    pub families: Families,
    /// Addresses that it asks for; empty: any.
    pub ips: &'a [IpAddr],
    /// The pool that it asks for.
    pub pool: Option<&'a str>,
    /// Under which condition it shares an address; `None`: never.
    pub sharing: Option<&'a Sharing>,
    /// Its ports; sharers must not have one in common.
    pub ports: &'a BTreeSet<Port>,
}
