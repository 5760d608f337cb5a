//! Why a Service gets no address, in words that name the way out.

use std::fmt;
use std::net::IpAddr;

use crate::request::{Families, Family, Port, ServiceKey};

/// Why there is no address for a Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// No pool exists.
    #[error("there is no IPAddressPool; create one")]
    NoPools,
    /// The pool that the Service names does not exist.
    #[error("unknown pool {pool:?}; the pools are {}; correct the annotation metallb.io/address-pool", Names(known))]
    UnknownPool {
        /// What the Service asks for.
        pool: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The addresses lie in no pool, or not all in the same one.
    #[error("{} is not allowed in config: no IPAddressPool contains {}; add it to spec.addresses of a pool or ask for another address", Quoted(ips), if ips.len() == 1 { "it" } else { "both" })]
    NotInAnyPool {
        /// The addresses.
        ips: Vec<IpAddr>,
    },
    /// More than one address of a family.
    #[error("{} is not one address, or one IPv4 and one IPv6 address", Quoted(ips))]
    NotOnePerFamily {
        /// The addresses.
        ips: Vec<IpAddr>,
    },
    /// The pool's `serviceAllocation` is for other Services.
    #[error(
        "pool {pool} not compatible for ip assignment: its spec.serviceAllocation does not accept this Service in namespace {namespace:?}; change it or ask for an address of another pool"
    )]
    PoolNotForService {
        /// The pool that contains the address.
        pool: String,
        /// The Service's namespace.
        namespace: String,
    },
    /// The requested addresses are not of the Service's families.
    #[error(
        "requested loadBalancer IP(s) {} does not match the ipFamily of the service, which is {families}; a dual-stack Service must ask for one address of each family",
        Quoted(ips)
    )]
    RequestedFamily {
        /// What the Service asks for.
        ips: Vec<IpAddr>,
        /// What it is.
        families: Families,
    },
    /// The requested addresses are not of the requested pool.
    #[error(
        "requested loadBalancer IP(s) {} is not compatible with requested address pool {asked}: it belongs to pool {owner}; remove one of the two annotations",
        Quoted(ips)
    )]
    RequestedPool {
        /// The addresses asked for.
        ips: Vec<IpAddr>,
        /// The pool asked for.
        asked: String,
        /// The pool that the addresses belong to.
        owner: String,
    },
    /// Somebody else holds the address and it cannot be shared.
    #[error(
        "can't change sharing key for {service:?}, address {ip} also in use by {}; both must carry the same annotation metallb.io/allow-shared-ip and, with externalTrafficPolicy Local, the same selector",
        Names(holders)
    )]
    NotShared {
        /// The Service that asks.
        service: String,
        /// The address.
        ip: IpAddr,
        /// Who holds it.
        holders: Vec<String>,
    },
    /// A sharer has the port already.
    #[error("port {port} is already in use on {ip:?} by {holder}; give one of the two another port or another address", ip = ip.to_string())]
    PortInUse {
        /// The address.
        ip: IpAddr,
        /// The port.
        port: Port,
        /// Who listens on it.
        holder: ServiceKey,
    },
    /// The addresses asked for would be more than the namespace may hold.
    #[error("pool {pool}: {why}")]
    QuotaExceeded {
        /// The pool that contains the addresses.
        pool: String,
        /// What is allowed and what is held.
        why: PoolRefusal,
    },
    /// The pool that the Service names has no address for it.
    #[error("no available IPs in pool {pool}: {why}{}", why.way_out())]
    NoneInPool {
        /// The pool.
        pool: String,
        /// Why not.
        why: PoolRefusal,
    },
    /// No pool has an address for it.
    #[error("no available IPs: {}; add addresses to a pool or create another", Refused(refused))]
    NoneInAnyPool {
        /// Every pool, in the order in which they were considered, and why not.
        refused: Vec<(String, PoolRefusal)>,
    },
}

impl AllocateError {
    /// A word for the condition's `reason`, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPools => "NoPools",
            Self::UnknownPool { .. } => "UnknownPool",
            Self::NotInAnyPool { .. } => "AddressNotInAnyPool",
            Self::NotOnePerFamily { .. } | Self::RequestedFamily { .. } => "FamilyMismatch",
            Self::PoolNotForService { .. } => "PoolNotForService",
            Self::RequestedPool { .. } => "AddressNotInRequestedPool",
            Self::NotShared { .. } => "AddressInUse",
            Self::PortInUse { .. } => "PortInUse",
            Self::QuotaExceeded { why, .. } => why.reason(),
            Self::NoneInPool { why, .. } => why.reason(),
            Self::NoneInAnyPool { refused } => reason_of_all(refused),
        }
    }
}

/// Why one pool has no address for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolRefusal {
    /// `autoAssign: false`, and the Service does not ask for it.
    NotAutomatic,
    /// Its `serviceAllocation` is for other Services.
    NotForService,
    /// It has no addresses of the family.
    NoFamily(Family),
    /// Every address of the family is taken.
    Full(Family),
    /// The Services of the namespace hold as many addresses as they may.
    QuotaExceeded {
        /// The namespace.
        namespace: String,
        /// What it may hold: the pool's annotation `landfall.io/max-addresses-per-namespace`.
        max: u64,
        /// What it holds.
        held: u64,
    },
}

impl PoolRefusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotForService => "PoolNotForService",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::NoFamily(_) => "NoAddressOfFamily",
            Self::NotAutomatic | Self::Full(_) => "NoAddressAvailable",
        }
    }

    /// What is to be done about the pool that the Service names. A quota says so itself; `autoAssign` is not asked there.
    fn way_out(&self) -> &'static str {
        match self {
            Self::NotForService => "; change it or ask for another pool",
            Self::NoFamily(_) | Self::Full(_) => "; add addresses to it or ask for another pool",
            Self::NotAutomatic | Self::QuotaExceeded { .. } => "",
        }
    }
}

/// One word for many refusals: a quota, which somebody can raise; else what the pools that are for the Service have in
/// common.
fn reason_of_all(refused: &[(String, PoolRefusal)]) -> &'static str {
    use PoolRefusal::{Full, NoFamily, NotForService, QuotaExceeded};
    let any = |is: fn(&PoolRefusal) -> bool| refused.iter().any(|(_, why)| is(why));
    match () {
        () if any(|why| matches!(why, QuotaExceeded { .. })) => "QuotaExceeded",
        () if any(|why| matches!(why, Full(_))) => "NoAddressAvailable",
        () if any(|why| matches!(why, NoFamily(_))) => "NoAddressOfFamily",
        () if any(|why| matches!(why, NotForService)) => "PoolNotForService",
        () => "NoAddressAvailable",
    }
}

impl fmt::Display for PoolRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAutomatic => f.write_str("autoAssign is false and the Service does not ask for it"),
            Self::NotForService => f.write_str("spec.serviceAllocation does not accept the Service"),
            Self::NoFamily(family) => write!(f, "it has no {family} addresses"),
            Self::Full(family) => write!(f, "all its {family} addresses are in use"),
            Self::QuotaExceeded { namespace, max, held } => write!(
                f,
                "Services of namespace {namespace:?} hold {held} of its addresses, and may hold {max}; delete one that is \
                 not needed, or raise the pool's annotation landfall.io/max-addresses-per-namespace"
            ),
        }
    }
}

/// `["192.0.2.1" "fd00::1"]`, as MetalLB writes a list of addresses.
struct Quoted<'a>(&'a [IpAddr]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<String> = self.0.iter().map(|ip| format!("\"{ip}\"")).collect();
        write!(f, "[{}]", quoted.join(" "))
    }
}

/// At most ten names: a message must stay readable and an object small.
struct Names<'a>(&'a [String]);

const SHOWN: usize = 10;

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..self.0.len().min(SHOWN)].join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Refused<'a>(&'a [(String, PoolRefusal)]);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (pool, why)) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            write!(f, "{comma}pool {pool}: {why}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more pools"),
        }
    }
}
