//! Which addresses are measured, and that the client can reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};

use crate::network;

/// Addresses that no network uses (RFC 2544): where there are more than fit into the client's segment. The client is told
/// that they are on its wire.
pub(super) const BESIDE_THE_SEGMENT: &str = "198.18.0.0/15";
/// The first IPv4 address of several Services on eth0.
const MANY_IPV4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The first addresses in a segment's own networks: nobody's in the lab, and in no pool of its own.
const HOST4: u8 = 240;
const HOST6: u16 = 0x240;

/// Which addresses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Where {
    /// Which addresses each Service has; each family has figures of its own. [default: both for one Service, ipv4 for more]
    #[arg(long, value_enum, conflicts_with = "address")]
    family: Option<Families>,
    /// One family only, and this address: on the client's segment and in nobody's pool. [default: 172.30.0.240 and
    /// fd00:30::240; 198.18.0.1 in place of the first for more than one Service; on eth1 172.31.0.240 and fd00:31::240]
    #[arg(long)]
    address: Option<IpAddr>,
    /// The segment that the addresses live on. [default: eth0; eth1 for the fault carrier-loss]
    #[arg(long, value_enum)]
    segment: Option<Segment>,
}

/// One of the two networks that the client has in common with the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Segment {
    /// 172.30.0.0/24 and fd00:30::/64, over which the nodes talk to each other and to the API server, too.
    Eth0,
    /// 172.31.0.0/24 and fd00:31::/64, where nobody talks but clients.
    Eth1,
}

impl Segment {
    /// The interface of the client and of each node that is plugged into it.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Segment::Eth0 => "eth0",
            Segment::Eth1 => "eth1",
        }
    }

    fn number(self) -> u8 {
        match self {
            Segment::Eth0 => 0,
            Segment::Eth1 => 1,
        }
    }

    /// The first IPv4 address of `count` Services. On eth1 there are no addresses beside its own: they would be announced
    /// on eth0, too.
    fn first_ipv4(self, count: usize) -> Ipv4Addr {
        match self {
            Segment::Eth0 if count > 1 => MANY_IPV4,
            Segment::Eth0 | Segment::Eth1 => network::ipv4(self.number(), HOST4),
        }
    }

    fn first_ipv6(self) -> Ipv6Addr {
        network::ipv6(self.number(), HOST6)
    }

    /// Whether the client finds the address on this wire.
    fn has(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ipv4) => {
                ipv4.octets()[..3] == network::ipv4(self.number(), 0).octets()[..3]
                    || self == Segment::Eth0 && is_beside(address)
            }
            IpAddr::V6(ipv6) => ipv6.segments()[..4] == network::ipv6(self.number(), 0).segments()[..4],
        }
    }

    /// The networks in which it finds them, in words.
    fn networks(self) -> &'static str {
        match self {
            Segment::Eth0 => "172.30.0.0/24, fd00:30::/64 or 198.18.0.0/15",
            Segment::Eth1 => "172.31.0.0/24 or fd00:31::/64",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Families {
    Ipv4,
    Ipv6,
    /// Dual-stack Services: an address of each.
    Both,
}

impl Where {
    /// The addresses of `count` Services: for each family `count`, one after another.
    /// # Errors
    /// They do not fit where the client can reach them.
    pub(super) fn addresses(self, count: usize) -> Result<Vec<Vec<IpAddr>>> {
        self.firsts(count).into_iter().map(|first| following(first, count, self.segment())).collect()
    }

    /// The segment that they live on.
    pub(super) fn segment(self) -> Segment {
        self.segment.unwrap_or(Segment::Eth0)
    }

    /// The same on this segment, which the measurement is about.
    /// # Errors
    /// Another one was asked for.
    pub(super) fn on(self, segment: Segment) -> Result<Where> {
        let (asked, wanted) = (self.segment.unwrap_or(segment).interface(), segment.interface());
        ensure!(asked == wanted, "--segment {asked}: this is about addresses on {wanted}; leave --segment away");
        Ok(Where { segment: Some(segment), ..self })
    }

    /// How many addresses `count` Services have.
    pub(super) fn count(self, count: usize) -> usize {
        self.firsts(count).len() * count
    }

    fn firsts(self, count: usize) -> Vec<IpAddr> {
        let (ipv4, ipv6) = (self.segment().first_ipv4(count).into(), self.segment().first_ipv6().into());
        let default = if count > 1 { Families::Ipv4 } else { Families::Both };
        match (self.address, self.family.unwrap_or(default)) {
            (Some(address), _) => vec![address],
            (None, Families::Ipv4) => vec![ipv4],
            (None, Families::Ipv6) => vec![ipv6],
            (None, Families::Both) => vec![ipv4, ipv6],
        }
    }
}

fn following(first: IpAddr, count: usize, segment: Segment) -> Result<Vec<IpAddr>> {
    let later = |index: usize| -> Option<IpAddr> {
        match first {
            IpAddr::V4(first) => {
                u32::from(first).checked_add(u32::try_from(index).ok()?).map(|ip| Ipv4Addr::from(ip).into())
            }
            IpAddr::V6(first) => u128::from(first).checked_add(index as u128).map(|ip| Ipv6Addr::from(ip).into()),
        }
    };
    let addresses: Option<Vec<IpAddr>> = (0..count).map(later).collect();
    let addresses = addresses.with_context(|| format!("{count} addresses from {first} on: there are not so many"))?;
    if let Some(stray) = addresses.iter().find(|address| !segment.has(**address)) {
        bail!(
            "{count} addresses from {first} on: on {} the client finds {}, and {stray} is not among them; choose with \
             --address or --segment",
            segment.interface(),
            segment.networks()
        );
    }
    Ok(addresses)
}

/// Whether the client has to be told that it is on its wire.
pub(super) fn is_beside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(ipv4) if matches!(ipv4.octets(), [198, 18..=19, ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(first: &str) -> Where {
        Where { address: Some(first.parse().unwrap()), family: None, segment: None }
    }

    #[test]
    fn addresses_follow_each_other_where_the_client_can_reach_them() {
        let last = |first, count| at(first).addresses(count).unwrap()[0].last().unwrap().to_string();
        assert_eq!(last("172.30.0.240", 3), "172.30.0.242");
        assert_eq!(last("198.18.0.1", 1000), "198.18.3.232");
        assert_eq!(last("fd00:30::fffe", 3), "fd00:30::1:0");
        for (first, count) in [("172.30.0.240", 17), ("192.0.2.1", 1), ("fd00:31::1", 1), ("255.255.255.255", 2)] {
            let error = at(first).addresses(count).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{count} addresses from {first} on: ")), "{error}");
        }
        let eth1 = |first| at(first).on(Segment::Eth1).unwrap().addresses(1).is_ok();
        let found = ["fd00:31::1", "172.31.0.1", "172.30.0.1", "fd00:30::1", "198.18.0.1"].map(eth1);
        assert_eq!(found, [true, true, false, false, false]);
    }

    #[test]
    fn one_service_has_both_families_and_many_have_one_unless_it_is_said() {
        let eth1 = Some(Segment::Eth1);
        for (family, segment, count, firsts) in [
            (None, None, 1, &["172.30.0.240", "fd00:30::240"][..]),
            (None, None, 2, &["198.18.0.1"]),
            (Some(Families::Both), None, 2, &["198.18.0.1", "fd00:30::240"]),
            (Some(Families::Ipv4), None, 1, &["172.30.0.240"]),
            (Some(Families::Ipv6), Some(Segment::Eth0), 1, &["fd00:30::240"]),
            (None, eth1, 1, &["172.31.0.240", "fd00:31::240"]),
            (None, eth1, 2, &["172.31.0.240"]),
        ] {
            let place = Where { address: None, family, segment };
            let addresses = place.addresses(count).unwrap();
            let have: Vec<String> = addresses.iter().map(|one| one[0].to_string()).collect();
            assert_eq!(have, firsts, "{family:?} {segment:?} {count}");
            assert_eq!(place.count(count), addresses.concat().len());
        }
        assert_eq!(at("fd00:30::7").count(3), 3);
    }

    #[test]
    fn a_measurement_of_one_segment_refuses_the_other() {
        let place = |segment| Where { segment, ..at("172.31.0.1") };
        for allowed in [None, Some(Segment::Eth1)] {
            assert_eq!(place(allowed).on(Segment::Eth1).unwrap().segment(), Segment::Eth1);
        }
        let error = place(Some(Segment::Eth0)).on(Segment::Eth1).unwrap_err().to_string();
        assert_eq!(error, "--segment eth0: this is about addresses on eth1; leave --segment away");
    }
}
