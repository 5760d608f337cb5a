//! Which nodes have a speaker to count on. Pure.
//!
//! A speaker that restarts must move nothing: each move breaks the connections through an address, while its node's kernel
//! forwards all the time. So a node whose speaker is not ready any more stays for a short while, if the Node itself is
//! Ready. All speakers see the same Pods at nearly the same time, so they agree.
//! Heartbeats between speakers will replace this: they tell a restart from an end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a speaker may take to come back. A Pod of a DaemonSet is replaced on its node within 2 to 5 s when the
/// image is there: up to a second each for its end, its start and the readiness probe, and some on a busy node.
pub const RESTART_GRACE: Duration = Duration::from_secs(10);

/// Nodes with a speaker that is ready (`None`), or that was until lately and counts until the time given.
#[derive(Clone, Debug, Default)]
pub struct Standing(BTreeMap<String, Option<Instant>>);

impl Standing {
    /// Takes the nodes whose speaker is ready now; `node_ready` says whether a Node itself is.
    /// Returns when to look again because a grace ends.
    pub fn update(
        &mut self,
        ready: &BTreeSet<&str>,
        node_ready: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Option<Instant> {
        self.0.retain(|node, until| {
            if ready.contains(node.as_str()) {
                return true;
            }
            let until = *until.get_or_insert(now + RESTART_GRACE);
            node_ready(node) && now < until
        });
        for node in ready {
            self.0.insert((*node).to_owned(), None);
        }
        self.0.values().flatten().min().copied()
    }

    /// The nodes to count on.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarting_speaker_keeps_its_node_for_ten_seconds_unless_the_node_fails_too() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut standing = Standing::default();
        for (secs, ready, nodes_ready, again_at, expected) in [
            (0, vec!["a", "b"], true, None, vec!["a", "b"]),
            (1, vec!["a"], true, Some(11), vec!["a", "b"]),
            (5, vec!["a"], true, Some(11), vec!["a", "b"]),
            (6, vec!["a", "b"], true, None, vec!["a", "b"]), // back in time
            (7, vec!["b"], true, Some(17), vec!["a", "b"]),
            (17, vec!["b"], true, None, vec!["b"]), // not back in time
            (18, vec!["a", "b"], true, None, vec!["a", "b"]),
            (19, vec!["a"], false, None, vec!["a"]), // its node is not ready either: it is gone
        ] {
            let next = standing.update(&ready.into_iter().collect(), |_| nodes_ready, at(secs));
            assert_eq!(next, again_at.map(at), "at {secs} s");
            assert_eq!(standing.nodes().collect::<Vec<_>>(), expected, "at {secs} s");
        }
    }

    #[test]
    fn a_speaker_that_was_never_ready_does_not_count() {
        let mut standing = Standing::default();
        assert_eq!(standing.update(&BTreeSet::new(), |_| true, Instant::now()), None);
        assert_eq!(standing.nodes().count(), 0);
    }
}
