//! Is a node dead, and may its Pods be taken out of service? Pure. docs/decisions/0010-evict-endpoints.md is the safety case.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// After we began to listen no node is judged: what the API server and the speakers tell then may be old, and if they have all just
/// started, nothing means much.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// A word counts for this long; it is repeated every two seconds.
const BELIEVED_FOR: Duration = Duration::from_secs(5);
/// For so long a quorum must stand, so that the accused, and others that are accused with it, can make themselves heard.
const SETTLE: Duration = Duration::from_millis(500);
/// A word of the accused that came this long before the quorum, or later, is a sign of life.
const ALIBI: Duration = Duration::from_secs(1);
/// How many speakers watch one node (`landfall_membership::Settings::observers`).
const OBSERVERS: usize = 5;
/// In this time no more nodes are judged than may be out of service at once: long enough for kubelets to put right what was wrong.
const WITHIN: Duration = Duration::from_secs(60);
/// After more nodes seemed dead than are allowed, for so long nothing is done: when a broken network heals, its nodes are heard again
/// one after another, and the last of them would seem to be the only one.
const HEALING: Duration = Duration::from_secs(10);
/// A node that nobody accuses any more is given back after this time.
const ACQUITTED_AFTER: Duration = Duration::from_secs(10);

/// The Pods of this node are to be taken out of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The dead node.
    pub(crate) node: String,
    /// The nodes whose speakers say so.
    pub(crate) by: Vec<String>,
}

/// Why nothing is done, though a quorum holds a node to be dead. Said once for each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spared {
    pub(crate) node: String,
    pub(crate) why: Why,
}

/// A closed set: the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// Its own speaker is heard by the API server.
    Lives,
    /// So many nodes seem dead that it is rather the network.
    TooMany { seem_dead: usize, allowed: usize },
    /// There were too many lately.
    TooOften,
}

impl Why {
    /// A word for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lives => "lives",
            Self::TooMany { .. } => "too_many",
            Self::TooOften => "too_often",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lives => write!(
                f,
                "its own speaker is heard by the API server: the network between the nodes is broken, not the node"
            ),
            Self::TooMany { seem_dead, allowed } => write!(
                f,
                "{seem_dead} nodes seem dead at once and {allowed} may be taken out of service (failover.evictAtMost): that is \
                 rather a broken network"
            ),
            Self::TooOften => {
                write!(
                    f,
                    "as many as are allowed were taken out of service in the last {} s, so it waits",
                    WITHIN.as_secs()
                )
            }
        }
    }
}

/// What comes of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) dead: Vec<Verdict>,
    pub(crate) spared: Vec<Spared>,
}

/// What the speakers say, and what was made of it.
#[derive(Debug)]
pub(crate) struct Judge {
    at_most_percent: u8,
    began: Instant,
    /// Every speaker that there is, with its last word if we heard it being said.
    speakers: BTreeMap<String, Option<Word>>,
    /// Nodes that a quorum holds to be dead.
    cases: BTreeMap<String, Case>,
    /// Nodes that were judged dead, and when somebody last held them to be.
    dead: BTreeMap<String, Instant>,
    /// Verdicts of the last [`WITHIN`], oldest first.
    judged: VecDeque<(Instant, String)>,
    /// When too many nodes seemed dead at once.
    broken: Option<Instant>,
}

#[derive(Debug)]
struct Word {
    at: Instant,
    silent: BTreeSet<String>,
}

impl Word {
    fn is_believed(&self, now: Instant) -> bool {
        now < self.at + BELIEVED_FOR
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    since: Instant,
    /// It was said why nothing is done.
    told: bool,
}

impl Judge {
    /// Of the nodes `at_most_percent`, and one always, may be out of service at once.
    pub(crate) fn new(at_most_percent: u8, now: Instant) -> Self {
        Self {
            at_most_percent,
            began: now,
            speakers: BTreeMap::new(),
            cases: BTreeMap::new(),
            dead: BTreeMap::new(),
            judged: VecDeque::new(),
            broken: None,
        }
    }

    /// There is a speaker on this node. What it said before we listened is not believed.
    pub(crate) fn exists(&mut self, node: &str) {
        if !self.speakers.contains_key(node) {
            self.speakers.insert(node.to_owned(), None);
        }
    }

    /// There is none any more.
    pub(crate) fn is_gone(&mut self, node: &str) {
        self.speakers.remove(node);
    }

    /// A speaker says now which nodes it finds silent. Who speaks is not dead itself.
    pub(crate) fn says(&mut self, node: &str, silent: BTreeSet<String>, now: Instant) {
        self.dead.remove(node);
        self.speakers.insert(node.to_owned(), Some(Word { at: now, silent }));
    }

    /// The verdict was not carried out: with the next look it is found again, if it still stands.
    pub(crate) fn was_in_vain(&mut self, node: &str) {
        self.dead.remove(node);
        self.judged.retain(|(_, judged)| judged != node);
    }

    /// What was found until now was somebody else's to carry out, and to tell: what still stands is found again.
    pub(crate) fn judge_anew(&mut self) {
        self.cases.values_mut().for_each(|case| case.told = false);
        for node in self.cases.keys().cloned().collect::<Vec<_>>() {
            self.was_in_vain(&node);
        }
    }

    /// Looks at what was said. To be called after each word and at [`next_due`](Self::next_due).
    pub(crate) fn look(&mut self, now: Instant) -> Findings {
        let accused = self.accused(now);
        for node in &accused {
            self.dead.entry(node.clone()).and_modify(|last| *last = now);
        }
        self.dead.retain(|_, last| now < *last + ACQUITTED_AFTER);
        self.judged.retain(|(at, _)| now < *at + WITHIN);
        let quorum = self.quorum();
        let before = std::mem::take(&mut self.cases);
        let case = |node: &String| before.get(node).copied().unwrap_or(Case { since: now, told: false });
        let by_quorum = accused.iter().filter(|node| self.accusers(node, now).len() >= quorum);
        self.cases = by_quorum.map(|node| (node.clone(), case(node))).collect();

        let seem_dead: BTreeSet<&String> =
            accused.iter().filter(|node| !self.has_alibi(node, now)).chain(self.dead.keys()).collect();
        let (seem_dead, allowed) = (seem_dead.len(), self.allowed());
        if seem_dead > allowed {
            self.broken = Some(now);
        }
        let heals = self.heals_until().is_some_and(|until| now < until);
        let mut findings = Findings::default();
        for node in self.ripe(now) {
            let why = if self.has_alibi(&node, now) {
                Some(Why::Lives)
            } else if seem_dead > allowed {
                Some(Why::TooMany { seem_dead, allowed })
            } else if heals {
                continue;
            } else if self.judged.len() >= allowed {
                Some(Why::TooOften)
            } else {
                None
            };
            let Some(why) = why else {
                self.dead.insert(node.clone(), now);
                self.judged.push_back((now, node.clone()));
                findings.dead.push(Verdict { by: self.accusers(&node, now), node });
                continue;
            };
            let told = self.cases.get_mut(&node).is_none_or(|case| std::mem::replace(&mut case.told, true));
            if !told {
                findings.spared.push(Spared { node, why });
            }
        }
        findings
    }

    /// When [`look`](Self::look) may find something that no word brings about.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let open = self.cases.iter().filter(|(node, _)| !self.dead.contains_key(*node));
        let settled = open.map(|(_, case)| self.settled_at(case)).filter(|due| *due > now);
        // An alibi that is not renewed ends some time.
        let old = self.speakers.values().flatten().map(|word| word.at + BELIEVED_FOR).filter(|due| *due > now);
        let judged = self.judged.iter().map(|(at, _)| *at + WITHIN).filter(|due| *due > now);
        let healed = self.heals_until().filter(|due| *due > now);
        settled.chain(old).chain(judged).chain(healed).min()
    }

    fn heals_until(&self) -> Option<Instant> {
        self.broken.map(|at| at + HEALING)
    }

    fn settled_at(&self, case: &Case) -> Instant {
        (case.since + SETTLE).max(self.began + GRACE)
    }

    /// Cases that have stood for long enough, and are not judged yet.
    fn ripe(&self, now: Instant) -> Vec<String> {
        let open = self.cases.iter().filter(|(node, _)| !self.dead.contains_key(*node));
        open.filter(|(_, case)| now >= self.settled_at(case)).map(|(node, _)| node.clone()).collect()
    }

    /// Whom anybody holds to be dead, by a word that is believed.
    fn accused(&self, now: Instant) -> BTreeSet<String> {
        let words = self.speakers.values().flatten().filter(|word| word.is_believed(now));
        words.flat_map(|word| word.silent.iter().cloned()).collect()
    }

    /// Who holds this node to be dead.
    fn accusers(&self, node: &str, now: Instant) -> Vec<String> {
        let accuses = |word: &Word| word.is_believed(now) && word.silent.contains(node);
        let others = self.speakers.iter().filter(|(speaker, _)| *speaker != node);
        others.filter(|(_, word)| word.as_ref().is_some_and(accuses)).map(|(speaker, _)| speaker.clone()).collect()
    }

    /// Whether the node spoke itself: since shortly before a quorum accused it, and not long ago.
    fn has_alibi(&self, node: &str, now: Instant) -> bool {
        let Some(Some(word)) = self.speakers.get(node) else { return false };
        let since = self.cases.get(node).map(|case| case.since);
        word.is_believed(now) && since.is_none_or(|since| word.at + ALIBI >= since)
    }

    /// More than half of the speakers that watch a node, and never one alone.
    fn quorum(&self) -> usize {
        let observers = OBSERVERS.min(self.speakers.len().saturating_sub(1));
        (observers / 2 + 1).max(2)
    }

    fn allowed(&self) -> usize {
        (self.speakers.len() * usize::from(self.at_most_percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests;
