//! Who answers for each address now? Pure: the rankings, the views of the members and what each of them can serve go in.
//!
//! Every speaker computes this alone. With membership the owner is the first of the ranking that lives and can serve; while
//! its speaker is silent and its kernel goes on, the next one covers: it answers in the owner's name. Without (a speaker
//! that was given no Secret) it is the first of the ranking, which then only names nodes that the API holds to be ready.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use landfall_membership::{Membership, View};

use crate::desired::{Desired, Interfaces, Wanted};

/// What is said to be down of a node of which no interface can be used.
pub(crate) const EVERYTHING: &str = "*";

/// Who answers for each of the desired addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// We do, as the owner.
    pub(crate) owned: BTreeSet<IpAddr>,
    /// We do, in the name of this node.
    pub(crate) covered: BTreeMap<IpAddr, Arc<str>>,
    /// We would take it over from this node, which is alive: we see to it that it answers.
    pub(crate) looked_after: BTreeMap<IpAddr, Arc<str>>,
    /// We are not the owner: who is, if anybody.
    pub(crate) elsewhere: BTreeMap<IpAddr, Option<Arc<str>>>,
}

/// Decides for the node `us`. What it owns it owns in a term from then on, and what it owned and does not any more (`before`)
/// it gives up; while it `hands_over`, it goes on answering for what it owned. `networks` are those that addresses may be in,
/// whether or not their interfaces work at present.
pub(crate) fn decide(
    us: &str,
    desired: &Desired,
    membership: Option<&mut Membership>,
    networks: &BTreeSet<IpNet>,
    before: &Ownership,
    hands_over: bool,
    now: Instant,
) -> Ownership {
    let mut after = Ownership::default();
    let Some(membership) = membership else {
        for (ip, wanted) in &desired.addresses {
            match &wanted.ranking[..] {
                [first, ..] if **first == *us => drop(after.owned.insert(*ip)),
                ranking => drop(after.elsewhere.insert(*ip, ranking.first().cloned())),
            }
        }
        return after;
    };
    for ip in before.owned.iter().filter(|ip| !desired.addresses.contains_key(ip)) {
        membership.disown(*ip);
    }
    // Most addresses have a ranking in common with many others, and what follows from it is the same for all of them.
    let mut known: BTreeMap<Situation<'_>, (Option<Arc<str>>, Part)> = BTreeMap::new();
    for (ip, wanted) in &desired.addresses {
        let situation = Situation::of(*ip, wanted, networks);
        let (owner, part) =
            known.entry(situation).or_insert_with_key(|situation| situation.answers(us, membership)).clone();
        let is_ours = owner.as_deref() == Some(us) || hands_over && before.owned.contains(ip);
        if is_ours && membership.own(*ip, now).is_some() {
            after.owned.insert(*ip);
            continue;
        }
        if !is_ours {
            membership.disown(*ip);
        }
        if let Some(owner) = owner.clone() {
            match part {
                Part::Cover => drop(after.covered.insert(*ip, owner)),
                Part::LookAfter => drop(after.looked_after.insert(*ip, owner)),
                Part::None => {}
            }
        }
        after.elsewhere.insert(*ip, owner.filter(|_| !is_ours));
    }
    after
}

/// What we have to do with another's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Answer in its name.
    Cover,
    /// See to it that it answers.
    LookAfter,
    None,
}

/// Everything that the owner of an address depends on besides the members.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Situation<'a> {
    ranking: &'a [Arc<str>],
    interfaces: &'a Interfaces,
    /// The networks that the address is in.
    around: Vec<&'a IpNet>,
}

impl<'a> Situation<'a> {
    fn of(ip: IpAddr, wanted: &'a Wanted, networks: &'a BTreeSet<IpNet>) -> Self {
        let around = networks.iter().filter(|network| network.contains(&ip)).collect();
        Self { ranking: &wanted.ranking, interfaces: &wanted.interfaces, around }
    }

    /// The owner, and our part.
    fn answers(&self, us: &str, membership: &Membership) -> (Option<Arc<str>>, Part) {
        let nodes = || self.ranking.iter().map(|node| &**node);
        let mut answers = membership.answers(nodes(), |node| self.can_serve(membership, node));
        if answers.owner.is_none() {
            // Nobody has an interface for it: then one node is to say so.
            answers = membership.answers(nodes(), |_| true);
        }
        let owner = answers.owner.and_then(|owner| self.ranking.iter().find(|node| ***node == *owner)).cloned();
        let is_alive = |owner: &str| membership.view(owner) == Some(View::Alive);
        let part = if answers.cover == Some(us) {
            Part::Cover
        } else if answers.next == Some(us) && answers.owner.is_some_and(is_alive) {
            Part::LookAfter
        } else {
            Part::None
        };
        (owner, part)
    }

    /// By what the node says of itself: its interface for the address is not down. Where advertisements name interfaces, one
    /// of those; else the ones in the address's network.
    fn can_serve(&self, membership: &Membership, node: &str) -> bool {
        let is_down = |name: &str| membership.is_down(node, name);
        if is_down(EVERYTHING) {
            return false;
        }
        match self.interfaces {
            Interfaces::Named(names) => names.is_empty() || names.iter().any(|name| !is_down(name)),
            Interfaces::All => {
                self.around.is_empty() || self.around.iter().any(|network| !is_down(&network.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
