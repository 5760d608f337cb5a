//! The two families of addresses: what is seen of each, and its figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use anyhow::Result;

use super::statistics::Summary;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// Something for each family that is measured.
pub(super) type ByFamily<T> = BTreeMap<Family, T>;

impl Family {
    /// The family of an address.
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// As a Service's spec.ipFamilies names it.
    pub(super) fn in_spec(self) -> &'static str {
        match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        }
    }
}

/// As in the names of figures: `ipv4`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        })
    }
}

/// A figure for each family that the runs saw: `NAME_ipv4`, `NAME_ipv6`.
/// # Errors
/// As [`Summary::of`].
pub(super) fn figures<'a, T: 'a>(
    runs: impl IntoIterator<Item = &'a ByFamily<T>>,
    name: &str,
    unit: &'static str,
    value: impl Fn(&T) -> f64,
) -> Result<Vec<Summary>> {
    let runs: Vec<_> = runs.into_iter().collect();
    let families: BTreeSet<Family> = runs.iter().flat_map(|run| run.keys().copied()).collect();
    let figure = |family| {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.get(&family)).map(&value).collect();
        Summary::of(format!("{name}_{family}"), unit, &values)
    };
    families.into_iter().map(figure).collect()
}

/// What was seen of each family in words: `ipv4 342 ms, ipv6 351 ms`.
pub(super) fn in_words<T>(seen: &ByFamily<T>, say: impl Fn(&T) -> String) -> String {
    let words: Vec<String> = seen.iter().map(|(family, one)| format!("{family} {}", say(one))).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_figure_and_one_that_was_not_measured_has_none() {
        let runs = [(3.0, 30.0), (1.0, 10.0), (2.0, 20.0)];
        let both = runs.map(|(four, six)| ByFamily::from([(Family::Ipv4, four), (Family::Ipv6, six)]));
        let expected = [("gap_ms_ipv4", [1.0, 2.0, 3.0]), ("gap_ms_ipv6", [10.0, 20.0, 30.0])];
        let expected = expected.map(|(name, values)| Summary::of(name, "ms", &values).unwrap());
        assert_eq!(figures(&both, "gap_ms", "ms", |value| *value).unwrap(), expected);
        let six = runs.map(|(_, six)| ByFamily::from([(Family::Ipv6, six)]));
        assert_eq!(figures(&six, "gap_ms", "ms", |value| *value).unwrap(), expected[1..]);
        assert_eq!(in_words(&both[0], |value| format!("{value} ms")), "ipv4 3 ms, ipv6 30 ms");
    }
}
