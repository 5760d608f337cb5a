//! Under which MAC addresses a member is to be found.

use crate::down::hash;

/// The most that one member names. Behind those beyond it cannot be covered.
pub const MAX_MACS: usize = 8;

/// The MAC addresses of a member's interfaces, by what the speakers have agreed to name: the network that an interface is in,
/// or the interface itself. Who covers the member answers with them, and who hears one knows whose it is.
///
/// Names travel as in [`Down`](crate::Down).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Macs(Box<[(u32, [u8; 6])]>);

impl Macs {
    /// These names stand for these addresses.
    pub fn new<'a>(names: impl IntoIterator<Item = (&'a str, [u8; 6])>) -> Self {
        Self::from_hashes(names.into_iter().map(|(name, mac)| (hash(name), mac)))
    }

    pub(crate) fn from_hashes(hashes: impl IntoIterator<Item = (u32, [u8; 6])>) -> Self {
        let mut hashes: Vec<_> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup_by_key(|(name, _)| *name);
        hashes.truncate(MAX_MACS);
        Self(hashes.into())
    }

    pub(crate) fn hashes(&self) -> &[(u32, [u8; 6])] {
        &self.0
    }

    /// That of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<[u8; 6]> {
        let at = self.0.binary_search_by_key(&hash(name), |(name, _)| *name).ok()?;
        self.0.get(at).map(|(_, mac)| *mac)
    }

    /// Whether one of them is this.
    #[must_use]
    pub fn contains(&self, mac: [u8; 6]) -> bool {
        self.0.iter().any(|(_, known)| *known == mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_address_and_no_more_than_eight_are_kept() {
        let mac = |last| [2, 0, 0, 0, 0, last];
        let macs = Macs::new([("192.0.2.0/24", mac(1)), ("eth1", mac(2)), ("192.0.2.0/24", mac(3))]);
        assert_eq!((macs.get("192.0.2.0/24"), macs.get("eth1"), macs.get("eth0")), (Some(mac(1)), Some(mac(2)), None));
        assert_eq!([mac(1), mac(2), mac(3)].map(|mac| macs.contains(mac)), [true, true, false]);
        let names: Vec<_> = (0..20).map(|n| format!("vlan{n}")).collect();
        let many = Macs::new(names.iter().map(|name| (name.as_str(), mac(7))));
        assert_eq!(names.iter().filter(|name| many.get(name).is_some()).count(), MAX_MACS);
    }
}
