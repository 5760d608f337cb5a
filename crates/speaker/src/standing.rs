//! Which nodes have a speaker to count on, as far as the API knows. Pure.
//!
//! A speaker that restarts must move nothing: each move breaks the connections through an address, while its node's kernel
//! forwards all the time. So a node whose speaker is not ready any more stays for a while. How long depends on who else
//! watches: where speakers tell each other that they live ([`Watched::BySpeakers`]), the API only has to say who belongs
//! to them. All speakers see the same Pods at nearly the same time, so they agree.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a speaker may take to come back where nobody but the API watches it. A Pod of a DaemonSet is replaced on its
/// node within 2 to 5 s when the image is there: up to a second each for its end, its start and the readiness probe, and some
/// on a busy node.
pub const RESTART_GRACE: Duration = Duration::from_secs(10);

/// How long a node belongs to the members after its speaker's Pod was ready for the last time: longer than any cover, so that
/// membership has decided by then.
pub const MEMBER_GRACE: Duration = Duration::from_secs(20 * 60);

/// Who watches whether speakers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nobody but the API: a node stays for [`RESTART_GRACE`] while the Node itself is Ready.
    ByApi,
    /// The speakers each other: a node stays for [`MEMBER_GRACE`] while there is such a Node.
    BySpeakers,
}

/// Nodes with a speaker that is ready, or that was until lately.
#[derive(Clone, Debug)]
pub struct Standing {
    watched: Watched,
    nodes: BTreeMap<Arc<str>, Speaker>,
    begun: bool,
}

/// The speaker of one node.
#[derive(Clone, Debug)]
struct Speaker {
    /// `None` while it is ready; else it counts until then.
    until: Option<Instant>,
    /// Its Pod's address, which is its node's.
    address: Option<IpAddr>,
}

impl Standing {
    /// Nobody yet.
    pub fn new(watched: Watched) -> Self {
        Self { watched, nodes: BTreeMap::new(), begun: false }
    }

    /// What we would know had we been there before: the nodes with a speaker that was ready lately, or has just been made. When
    /// all speakers start at once none is ready, and each would take itself to be alone. Counts for the first time only, and
    /// where speakers watch each other.
    pub fn begin<'a>(&mut self, lately: impl Iterator<Item = (&'a str, Option<IpAddr>)>, now: Instant) {
        if !std::mem::replace(&mut self.begun, true) && self.watched == Watched::BySpeakers {
            let speaker = |address| Speaker { until: Some(now + MEMBER_GRACE), address };
            self.nodes.extend(lately.map(|(node, address)| (node.into(), speaker(address))));
        }
    }

    /// Takes the nodes whose speaker is ready now, with its address; `node_ready` says whether a Node itself is, `None` when there
    /// is no such Node. Returns when to look again because a grace ends.
    pub fn update(
        &mut self,
        ready: &BTreeMap<&str, Option<IpAddr>>,
        node_ready: impl Fn(&str) -> Option<bool>,
        now: Instant,
    ) -> Option<Instant> {
        let watched = self.watched;
        self.nodes.retain(|node, speaker| {
            if ready.contains_key(&**node) {
                return true;
            }
            let (grace, stands) = match watched {
                Watched::ByApi => (RESTART_GRACE, node_ready(node) == Some(true)),
                Watched::BySpeakers => (MEMBER_GRACE, node_ready(node).is_some()),
            };
            stands && now < *speaker.until.get_or_insert(now + grace)
        });
        for (node, address) in ready {
            let speaker = Speaker { until: None, address: *address };
            match self.nodes.get_mut(*node) {
                Some(known) => *known = speaker,
                None => drop(self.nodes.insert((*node).into(), speaker)),
            }
        }
        self.nodes.values().filter_map(|speaker| speaker.until).min()
    }

    /// Who watches whether speakers live.
    pub fn watched(&self) -> Watched {
        self.watched
    }

    /// The nodes to count on.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.keys()
    }

    /// The same, with the address of each that has one.
    pub fn addresses(&self) -> impl Iterator<Item = (&Arc<str>, IpAddr)> {
        self.nodes.iter().filter_map(|(node, speaker)| Some((node, speaker.address?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    fn nodes(standing: &Standing) -> Vec<&str> {
        standing.nodes().map(|node| &**node).collect()
    }

    #[test]
    fn a_restarting_speaker_keeps_its_node_for_ten_seconds_unless_the_node_fails_too() {
        let start = Instant::now();
        let mut standing = Standing::new(Watched::ByApi);
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
            let ready = ready.into_iter().map(|node| (node, None)).collect();
            let next = standing.update(&ready, |_| Some(nodes_ready), at(start, secs));
            assert_eq!(next, again_at.map(|secs| at(start, secs)), "at {secs} s");
            assert_eq!(nodes(&standing), expected, "at {secs} s");
        }
    }

    #[test]
    fn where_speakers_watch_each_other_a_node_stays_with_its_address_while_there_is_such_a_node() {
        let start = Instant::now();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let (ready, nobody) = (BTreeMap::from([("a", Some(address))]), BTreeMap::new());
        for (node, secs, stays) in
            [(Some(true), 1_190, true), (Some(false), 1_190, true), (None, 1, false), (Some(true), 1_211, false)]
        {
            let mut standing = Standing::new(Watched::BySpeakers);
            standing.update(&ready, |_| Some(true), start);
            standing.update(&nobody, |_| Some(true), at(start, 0));
            standing.update(&nobody, |_| node, at(start, secs));
            let found: Vec<_> = standing.addresses().map(|(node, address)| (&**node, address)).collect();
            assert_eq!(found, if stays { vec![("a", address)] } else { vec![] }, "{node:?} after {secs} s");
        }
    }

    #[test]
    fn who_starts_last_counts_on_those_that_were_ready_lately_as_the_others_do() {
        let (start, address) = (Instant::now(), "192.0.2.7".parse().ok());
        let (nobody, ready) = (BTreeMap::new(), BTreeMap::from([("b", address)]));
        for (watched, expected) in [(Watched::BySpeakers, vec!["a", "b"]), (Watched::ByApi, vec!["b"])] {
            let mut standing = Standing::new(watched);
            standing.begin([("a", address)].into_iter(), start);
            standing.begin([("c", address)].into_iter(), start); // not the first time
            standing.update(&ready, |_| Some(true), start);
            assert_eq!(nodes(&standing), expected);
            standing.update(&nobody, |_| Some(true), at(start, 1_201));
            assert!(!nodes(&standing).contains(&"a"), "not for ever");
        }
    }

    #[test]
    fn a_speaker_that_was_never_ready_does_not_count() {
        let mut standing = Standing::new(Watched::BySpeakers);
        assert_eq!(standing.update(&BTreeMap::new(), |_| Some(true), Instant::now()), None);
        assert_eq!(standing.nodes().count(), 0);
    }
}
