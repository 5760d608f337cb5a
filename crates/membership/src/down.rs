//! What a member cannot serve at present.

use ring::digest::{SHA256, digest};

/// The most names that one member says to be down. Those beyond count as able to serve: a node that tries in vain is better
/// than an address that nobody may own.
pub const MAX_DOWN: usize = 32;

/// The interfaces, or whatever else the speakers have agreed to name, over which a member can serve nothing at present: no
/// carrier, not operational, gone. What is not named can serve.
///
/// Names travel as the first four octets of their SHA-256, and are compared as such on every node, its own too: so all come
/// to the same result even for two names whose octets are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Down(Vec<u32>);

impl Down {
    /// These names are down.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::from_hashes(names.into_iter().map(hash))
    }

    pub(crate) fn from_hashes(hashes: impl IntoIterator<Item = u32>) -> Self {
        let mut hashes: Vec<_> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(MAX_DOWN);
        hashes.shrink_to_fit();
        Self(hashes)
    }

    pub(crate) fn hashes(&self) -> &[u32] {
        &self.0
    }

    /// Whether this name is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search(&hash(name)).is_ok()
    }

    /// Whether nothing is down.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) fn hash(name: &str) -> u32 {
    let octets = digest(&SHA256, name.as_bytes());
    u32::from_be_bytes(std::array::from_fn(|at| octets.as_ref()[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_down_and_nothing_else_in_whatever_order_it_is_named() {
        let down = Down::new(["eth1", "192.0.2.0/24", "eth1"]);
        assert_eq!(down, Down::new(["192.0.2.0/24", "eth1"]));
        let asked = ["eth0", "eth1", "192.0.2.0/24", ""].map(|name| down.contains(name));
        assert_eq!((asked, down.is_empty()), ([false, true, true, false], false));
        assert!(Down::new([]).is_empty());
    }

    #[test]
    fn more_names_than_a_beat_may_carry_leave_the_rest_able() {
        let names: Vec<_> = (0..100).map(|n| format!("vlan{n}")).collect();
        let down = Down::new(names.iter().map(String::as_str));
        assert_eq!(names.iter().filter(|name| down.contains(name)).count(), MAX_DOWN);
    }
}
