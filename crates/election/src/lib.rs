//! Which node answers? Pure: every speaker computes this alone and must come to the same result.
//!
//! The order of the candidates for one address is
//! 1. preference score, highest first (the sum of the `preferredNodeSelectors` weights that match the node),
//! 2. the placed node (annotation `landfall.io/node`) before the others,
//! 3. SHA-256 of `node "#" address`, lowest first: MetalLB's order, so a swap from it keeps every node.
//!
//! The owner is the first in that order that can serve. Whoever comes or goes moves only the addresses whose first it is.

use std::net::IpAddr;

use ring::digest::{Digest, SHA256, digest};

/// A node that may answer for an address, and how much the advertisements prefer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The Node's name.
    pub node: &'a str,
    /// Sum of the weights of the `preferredNodeSelectors` that match the node; 0 when none does.
    pub score: i64,
}

/// The candidates in the order in which they take over `ip`; the first is the owner while it can serve.
/// `placed` is the node of the annotation `landfall.io/node`; one that is no candidate changes nothing.
/// Each node is named once: names are unique in a cluster.
pub fn ranking<'a>(
    ip: IpAddr,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    placed: Option<&str>,
) -> Vec<&'a str> {
    let mut ranked: Vec<_> = candidates.into_iter().map(|c| Ranked::new(ip, c, placed)).collect();
    ranked.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    ranked.into_iter().map(|r| r.node).collect()
}

/// The node that answers for `ip`: the head of [`ranking`], or nobody when there is no candidate.
pub fn owner<'a>(
    ip: IpAddr,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    placed: Option<&str>,
) -> Option<&'a str> {
    candidates.into_iter().map(|c| Ranked::new(ip, c, placed)).min_by(|a, b| a.key().cmp(&b.key())).map(|r| r.node)
}

struct Ranked<'a> {
    score: i64,
    placed: bool,
    hash: Digest,
    node: &'a str,
}

impl<'a> Ranked<'a> {
    fn new(ip: IpAddr, candidate: Candidate<'a>, placed: Option<&str>) -> Self {
        let Candidate { node, score } = candidate;
        Self { score, placed: placed == Some(node), hash: hash(node, ip), node }
    }

    /// Smallest first. The name comes last only to make the order total; two names with one hash do not occur.
    fn key(&self) -> (std::cmp::Reverse<i64>, bool, &[u8], &str) {
        (std::cmp::Reverse(self.score), !self.placed, self.hash.as_ref(), self.node)
    }
}

/// SHA-256 of `node#ip`. The address goes in as text: dotted, or RFC 5952 for IPv6, which is what `Display` writes.
fn hash(node: &str, ip: IpAddr) -> Digest {
    digest(&SHA256, format!("{node}#{ip}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn equal<'a>(nodes: &[&'a str]) -> Vec<Candidate<'a>> {
        nodes.iter().map(|&node| Candidate { node, score: 0 }).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ranking_without_preferences_is_metallbs() {
        let abc = ["node-a", "node-b", "node-c"];
        let edge = ["edge-a", "edge-b", "worker-a", "worker-b"];
        let n = ["n1", "n2", "n3"];
        for (nodes, address, expected) in [
            (&abc[..], "10.0.0.1", &["node-b", "node-a", "node-c"][..]),
            (&abc, "10.0.0.2", &["node-b", "node-c", "node-a"]),
            (&edge, "10.20.30.1", &["edge-b", "worker-a", "edge-a", "worker-b"]),
            (&n, "172.30.0.200", &["n3", "n1", "n2"]),
            (&n, "172.30.0.201", &["n1", "n3", "n2"]),
            (&n, "172.30.0.202", &["n1", "n2", "n3"]),
            (&n, "172.30.0.203", &["n3", "n2", "n1"]),
            (&n, "172.30.0.204", &["n1", "n2", "n3"]),
            (&n, "172.30.0.205", &["n2", "n3", "n1"]),
            (&n, "fd00:30::200", &["n3", "n1", "n2"]),
        ] {
            assert_eq!(ranking(ip(address), equal(nodes), None), expected, "{address} among {nodes:?}");
        }
    }

    #[test]
    fn preference_comes_before_placement_and_placement_before_the_hash() {
        let address = ip("10.20.30.1");
        let nodes = |preferred: &'static str| {
            ["edge-a", "edge-b", "worker-a", "worker-b"]
                .map(|node| Candidate { node, score: if node == preferred { 100 } else { 0 } })
        };
        for (preferred, placed, expected) in [
            ("edge-a", None, ["edge-a", "edge-b", "worker-a", "worker-b"]),
            ("", Some("worker-b"), ["worker-b", "edge-b", "worker-a", "edge-a"]),
            ("edge-a", Some("worker-b"), ["edge-a", "worker-b", "edge-b", "worker-a"]),
            ("", Some("gone"), ["edge-b", "worker-a", "edge-a", "worker-b"]),
        ] {
            assert_eq!(ranking(address, nodes(preferred), placed), expected, "prefer {preferred:?}, placed {placed:?}");
        }
    }

    #[test]
    fn nobody_owns_an_address_without_candidates() {
        assert_eq!(owner(ip("10.0.0.1"), [], Some("n1")), None);
        assert!(ranking(ip("10.0.0.1"), [], None).is_empty());
    }

    proptest! {
        #[test]
        fn a_node_that_leaves_moves_only_what_it_owned(
            address in any::<u32>(),
            scores in proptest::collection::vec(0i64..3, 2..9),
            leaver in any::<proptest::sample::Index>(),
            placed in any::<proptest::sample::Index>(),
        ) {
            let names: Vec<String> = (0..scores.len()).map(|i| format!("node-{i}")).collect();
            let all: Vec<_> = names.iter().zip(&scores).map(|(n, &score)| Candidate { node: n, score }).collect();
            let address = IpAddr::from(address.to_be_bytes());
            let placed = names[placed.index(names.len())].as_str();
            let before = ranking(address, all.clone(), Some(placed));
            let gone = names[leaver.index(names.len())].as_str();
            let after = ranking(address, all.iter().copied().filter(|c| c.node != gone), Some(placed));
            let expected: Vec<_> = before.iter().copied().filter(|n| *n != gone).collect();
            prop_assert_eq!(after, expected);
            prop_assert_eq!(owner(address, all, Some(placed)), before.first().copied());
        }

        #[test]
        fn the_order_of_the_candidates_does_not_matter(address in any::<u128>(), rotate in 0usize..5) {
            let mut nodes = equal(&["a", "b", "c", "d", "e"]);
            let address = IpAddr::from(address.to_be_bytes());
            let before = ranking(address, nodes.clone(), None);
            nodes.rotate_left(rotate);
            prop_assert_eq!(ranking(address, nodes, None), before);
        }
    }
}
