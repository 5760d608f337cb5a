//! Which addresses are measured, and that the client can reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};

/// Addresses that no network uses (RFC 2544): where there are more than fit into the client's segment. The client is told
/// that they are on its wire.
pub(super) const BESIDE_THE_SEGMENT: &str = "198.18.0.0/15";
/// The first IPv4 address of one Service, and of several.
const ONE_IPV4: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 240);
const MANY_IPV4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 0x240);

/// Which addresses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Where {
    /// Which addresses each Service has; each family has figures of its own. [default: both for one Service, ipv4 for more]
    #[arg(long, value_enum, conflicts_with = "address")]
    family: Option<Families>,
    /// One family only, and this address: on the client's segment and in nobody's pool. [default: 172.30.0.240 and
    /// fd00:30::240; 198.18.0.1 in place of the first for more than one Service]
    #[arg(long)]
    address: Option<IpAddr>,
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
        self.firsts(count).into_iter().map(|first| following(first, count)).collect()
    }

    /// How many addresses `count` Services have.
    pub(super) fn count(self, count: usize) -> usize {
        self.firsts(count).len() * count
    }

    fn firsts(self, count: usize) -> Vec<IpAddr> {
        let ipv4 = if count > 1 { MANY_IPV4 } else { ONE_IPV4 }.into();
        let default = if count > 1 { Families::Ipv4 } else { Families::Both };
        match (self.address, self.family.unwrap_or(default)) {
            (Some(address), _) => vec![address],
            (None, Families::Ipv4) => vec![ipv4],
            (None, Families::Ipv6) => vec![IPV6.into()],
            (None, Families::Both) => vec![ipv4, IPV6.into()],
        }
    }
}

fn following(first: IpAddr, count: usize) -> Result<Vec<IpAddr>> {
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
    if let Some(stray) = addresses.iter().find(|address| !is_on_the_wire(**address)) {
        bail!(
            "{count} addresses from {first} on: {stray} is neither in 172.30.0.0/24 nor in fd00:30::/64 nor in \
             {BESIDE_THE_SEGMENT}; choose with --address"
        );
    }
    Ok(addresses)
}

fn is_on_the_wire(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ipv4) => ipv4.octets().starts_with(&[172, 30, 0]) || is_beside(address),
        IpAddr::V6(ipv6) => ipv6.segments().starts_with(&[0xfd00, 0x30, 0, 0]),
    }
}

/// Whether the client has to be told that it is on its wire.
pub(super) fn is_beside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(ipv4) if matches!(ipv4.octets(), [198, 18..=19, ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(first: &str) -> Where {
        Where { address: Some(first.parse().unwrap()), family: None }
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
    }

    #[test]
    fn one_service_has_both_families_and_many_have_one_unless_it_is_said() {
        for (family, count, firsts) in [
            (None, 1, &["172.30.0.240", "fd00:30::240"][..]),
            (None, 2, &["198.18.0.1"]),
            (Some(Families::Both), 2, &["198.18.0.1", "fd00:30::240"]),
            (Some(Families::Ipv4), 1, &["172.30.0.240"]),
            (Some(Families::Ipv6), 1, &["fd00:30::240"]),
        ] {
            let place = Where { address: None, family };
            let addresses = place.addresses(count).unwrap();
            let have: Vec<String> = addresses.iter().map(|one| one[0].to_string()).collect();
            assert_eq!(have, firsts, "{family:?} {count}");
            assert_eq!(place.count(count), addresses.concat().len());
        }
        assert_eq!(at("fd00:30::7").count(3), 3);
    }
}
