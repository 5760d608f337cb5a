//! Address entries of a pool: `192.0.2.0/28`, `192.0.2.10-192.0.2.20`, `2001:db8::/64`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why an entry of `spec.addresses` is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither `address/length` nor `first-last`.
    #[error(
        "invalid CIDR; write a CIDR such as 192.0.2.0/28, one address as 192.0.2.7/32, or a range as 192.0.2.10-192.0.2.20"
    )]
    NotACidr,
    /// One end of `first-last` is no address.
    #[error("invalid IP range: {end:?} is not an IP address; write both ends in full, such as 192.0.2.10-192.0.2.20")]
    NotAnAddress {
        /// The end as it was typed.
        end: String,
    },
    /// `first` and `last` are of different families.
    #[error(
        "invalid IP range: start and end are of different IP families; write one range for IPv4 and another for IPv6"
    )]
    MixedFamilies,
    /// `first` is greater than `last`.
    #[error("invalid IP range: start IP {first} is after the end IP {last}; swap them")]
    Reversed {
        /// The start as it was typed.
        first: IpAddr,
        /// The end as it was typed.
        last: IpAddr,
    },
}

impl AddressRange {
    /// Reads one entry of `spec.addresses`. Spaces around the entry and around `-` do not count. Host bits of a CIDR are
    /// masked away, as MetalLB does: `192.0.2.100/24` is the whole of `192.0.2.0/24`.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        let Some((first, last)) = text.split_once('-') else {
            let net: IpNet = text.parse().map_err(|_| RangeError::NotACidr)?;
            // IpNet::broadcast is the last address, also for IPv6.
            return Ok(Self { first: net.network(), last: net.broadcast() });
        };
        let end = |text: &str| {
            text.trim().parse::<IpAddr>().map_err(|_| RangeError::NotAnAddress { end: text.trim().to_owned() })
        };
        let (first, last) = (end(first)?, end(last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::MixedFamilies);
        }
        if first > last {
            return Err(RangeError::Reversed { first, last });
        }
        Ok(Self { first, last })
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether the range is of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether `ip` lies in the range; an address of the other family never does.
    pub fn contains(&self, ip: IpAddr) -> bool {
        // IpAddr orders every IPv4 address before every IPv6 address, so the family needs no test of its own.
        self.first <= ip && ip <= self.last
    }

    /// Whether the two ranges have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The fewest prefixes that make up the range, in order: one for what was written as a CIDR, at most 254 otherwise.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let (v4, v6) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (Some(Ipv4Subnets::new(first, last, 0)), None),
            (IpAddr::V6(first), IpAddr::V6(last)) => (None, Some(Ipv6Subnets::new(first, last, 0))),
            // A range is of one family.
            _ => (None, None),
        };
        v4.into_iter().flatten().map(IpNet::V4).chain(v6.into_iter().flatten().map(IpNet::V6))
    }

    /// The part of the range that lies between two numbers, as [`bits`] counts them; the caller knows that there is one.
    pub fn between(&self, first: u128, last: u128) -> Self {
        let ipv4 = self.is_ipv4();
        Self { first: self.first.max(address(first, ipv4)), last: self.last.min(address(last, ipv4)) }
    }

    /// How many addresses there are; `u128::MAX` stands for the whole of IPv6.
    pub fn size(&self) -> u128 {
        bits(self.last).saturating_sub(bits(self.first)).saturating_add(1)
    }

    /// How many of the IPv4 addresses end in .0 or .255, which `avoidBuggyIPs` leaves out.
    pub fn buggy(&self) -> u128 {
        if !self.is_ipv4() {
            return 0;
        }
        let up_to = |end: u128, octet: u128| if end >= octet { (end - octet) / 256 + 1 } else { 0 };
        let (first, last) = (bits(self.first), bits(self.last));
        [0, 255]
            .into_iter()
            .map(|octet| up_to(last, octet) - if first == 0 { 0 } else { up_to(first - 1, octet) })
            .sum()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// The address as a number; IPv4 in the low 32 bits.
pub fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The inverse of [`bits`].
pub fn address(bits: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(v4) if ipv4 => IpAddr::V4(Ipv4Addr::from(v4)),
        _ => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// An IPv4 address that ends in .0 or .255: some old clients refuse it.
pub fn is_buggy(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if matches!(ip.octets()[3], 0 | 255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_metallb_reads_them() {
        for (text, first, last, size) in [
            ("192.168.10.0/24", "192.168.10.0", "192.168.10.255", 256),
            ("192.168.10.100/24", "192.168.10.0", "192.168.10.255", 256),
            ("192.168.10.7/32", "192.168.10.7", "192.168.10.7", 1),
            (" 10.0.0.9 - 10.0.1.2 ", "10.0.0.9", "10.0.1.2", 250),
            ("fc00:f853:0ccd:e799::/124", "fc00:f853:ccd:e799::", "fc00:f853:ccd:e799::f", 16),
            ("2001:db8::10-2001:db8::1f", "2001:db8::10", "2001:db8::1f", 16),
            ("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:ffff", 1 << 64),
        ] {
            let range = AddressRange::parse(text).expect(text);
            assert_eq!(
                (range.first().to_string().as_str(), range.last().to_string().as_str(), range.size()),
                (first, last, size)
            );
        }
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, error) in [
            ("", RangeError::NotACidr),
            ("192.168.10.7", RangeError::NotACidr),
            ("192.168.10.0/33", RangeError::NotACidr),
            ("10.0.0.1-10", RangeError::NotAnAddress { end: "10".into() }),
            ("10.0.0.1-", RangeError::NotAnAddress { end: String::new() }),
            ("10.0.0.1-fd00::1", RangeError::MixedFamilies),
            (
                "10.0.0.9-10.0.0.1",
                RangeError::Reversed { first: "10.0.0.9".parse().unwrap(), last: "10.0.0.1".parse().unwrap() },
            ),
        ] {
            assert_eq!(AddressRange::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn ranges_overlap_when_they_have_an_address_in_common_whichever_is_asked() {
        for (one, other, overlap) in [
            ("10.0.0.0-10.0.0.4", "10.0.0.4-10.0.0.9", true),
            ("10.0.0.0-10.0.0.4", "10.0.0.5-10.0.0.9", false),
            ("10.0.0.0/24", "10.0.0.7/32", true),
            ("0.0.0.0/0", "::/0", false),
        ] {
            let range = |text| AddressRange::parse(text).expect(text);
            let both_ways = (range(one).overlaps(&range(other)), range(other).overlaps(&range(one)));
            assert_eq!(both_ways, (overlap, overlap), "{one} and {other}");
        }
    }

    #[test]
    fn buggy_addresses_are_counted_without_walking() {
        for text in ["10.0.0.0/24", "10.0.0.0/22", "10.0.0.255-10.0.1.0", "0.0.0.0-0.0.3.7", "10.0.0.1-10.0.0.9"] {
            let range = AddressRange::parse(text).expect(text);
            let walked = (bits(range.first())..=bits(range.last()))
                .filter(|n| is_buggy(IpAddr::from((u32::try_from(*n).unwrap()).to_be_bytes())))
                .count() as u128;
            assert_eq!(range.buggy(), walked, "{text}");
        }
    }
    #[test]
    fn a_range_is_made_up_of_the_fewest_prefixes() {
        for (text, prefixes) in [
            ("10.0.0.0/24", &["10.0.0.0/24"][..]),
            ("10.0.0.0-10.0.0.255", &["10.0.0.0/24"]),
            ("10.0.0.7-10.0.0.7", &["10.0.0.7/32"]),
            ("10.0.0.1-10.0.0.6", &["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]),
            ("255.255.255.254-255.255.255.255", &["255.255.255.254/31"]),
            ("0.0.0.0/0", &["0.0.0.0/0"]),
            ("fd00::ff-fd00::101", &["fd00::ff/128", "fd00::100/127"]),
            ("::/0", &["::/0"]),
        ] {
            let range = AddressRange::parse(text).expect(text);
            assert_eq!(range.prefixes().map(|net| net.to_string()).collect::<Vec<_>>(), prefixes, "{text}");
        }
    }
}
