//! What the two halves of the speaker say to each other: what shall be answered for, and what is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What this node shall answer for; replaced whole on each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The addresses, and on which interfaces each of them.
    pub addresses: BTreeMap<IpAddr, Interfaces>,
}

/// On which interfaces an address shall be answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interfaces {
    /// On those that fit the address best; the wire half knows them.
    All,
    /// On those of these names that exist and are usable.
    Named(BTreeSet<String>),
}

/// What is being answered, and where: sent whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The interfaces on which each address is answered; an empty set means that no interface is usable.
    pub addresses: BTreeMap<IpAddr, BTreeSet<String>>,
}
