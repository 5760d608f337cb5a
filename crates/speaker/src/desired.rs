//! What the two halves of the speaker say to each other: what may be answered for here, and who does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_wire::MacAddr;

/// The names of the nodes that may answer for an address, in the order in which they take it over; the same on all of them.
/// Never empty.
pub type Ranking = Arc<[Arc<str>]>;

/// What this node may have to answer for; replaced whole on each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The addresses for which this node is one of the ranking.
    pub addresses: BTreeMap<IpAddr, Wanted>,
    /// Addresses that only other nodes may answer for.
    pub others: BTreeSet<IpAddr>,
}

/// An address that this node may have to answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub interfaces: Interfaces,
    /// Who, in which order.
    pub ranking: Ranking,
}

/// On which interfaces an address shall be answered for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interfaces {
    /// On those that fit the address best; the wire half knows them.
    All,
    /// On those of these names that exist and are usable.
    Named(BTreeSet<String>),
}

/// Who answers for each of the [`Desired`] addresses, and where: sent whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// By address.
    pub addresses: BTreeMap<IpAddr, Answers>,
    /// Of those that are answered here: a machine that is no node of ours was heard to answer for them, from this MAC address.
    pub conflicts: BTreeMap<IpAddr, MacAddr>,
    /// Of those that are answered here: this node has asked for them on the wire again and again, and heard no answer from here.
    pub unheard: BTreeMap<IpAddr, Arc<str>>,
}

/// Who answers for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// This node: it is on these interfaces; on none when no interface is usable.
    Here(BTreeSet<String>),
    /// Another node is the owner; `None` when no node can be at present.
    Elsewhere(Option<Arc<str>>),
}

impl Answers {
    /// The interfaces on which this node answers as the owner; `None` when it is not.
    pub fn here(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::Here(interfaces) => Some(interfaces),
            Self::Elsewhere(_) => None,
        }
    }
}
