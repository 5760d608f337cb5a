//! Who answers for an address: what the speaker asks, and what it tells of its own addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Membership, send};
use crate::message::{Stance, WireCheck};
use crate::view::View;
use crate::{Down, Macs, MemberId};

/// A member as it is seen.
#[derive(Clone, Copy, Debug)]
pub struct MemberState<'a> {
    /// The Node's name.
    pub node: &'a str,
    /// What it is taken to be.
    pub view: View,
    /// What it cannot serve, by its own word.
    pub down: &'a Down,
}

/// Who answers for one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers<'a> {
    /// The node that owns it; none where no candidate may.
    pub owner: Option<&'a str>,
    /// The node that answers in the owner's name, with its MAC address, while its speaker is silent. None where
    /// the owner answers itself, or no other candidate can answer.
    pub cover: Option<&'a str>,
    /// The node that would own it if the owner could not: the next candidate that can answer.
    pub next: Option<&'a str>,
}

impl Membership {
    /// Every member, ourselves first.
    pub fn members(&self) -> impl Iterator<Item = MemberState<'_>> {
        let us = MemberState { node: &self.us.node, view: self.us.view, down: &self.us.down };
        let them = self.peers.values();
        let them = them.map(|peer| MemberState { node: &peer.member.node, view: peer.view, down: &peer.down });
        std::iter::once(us).chain(them)
    }

    /// What we are ourselves: joining, alive, in our hold-down, draining, or covered once we have said that we restart.
    #[must_use]
    pub fn own_view(&self) -> View {
        self.us.view
    }

    /// The view of a node; none when it is no member.
    #[must_use]
    pub fn view(&self, node: &str) -> Option<View> {
        self.view_of(MemberId::of(node))
    }

    /// Whether a node has said that this name (of an interface, say) is down there. Not so for one that is no member.
    #[must_use]
    pub fn is_down(&self, node: &str, name: &str) -> bool {
        let id = MemberId::of(node);
        let down = if id == self.us.id { Some(&self.us.down) } else { self.peers.get(&id).map(|peer| &peer.down) };
        down.is_some_and(|down| down.contains(name))
    }

    /// Where a node says that it is to be found. Nothing is known of one that is no member.
    #[must_use]
    pub fn macs(&self, node: &str) -> Option<&Macs> {
        let id = MemberId::of(node);
        if id == self.us.id { Some(&self.us.macs) } else { self.peers.get(&id).map(|peer| &peer.macs) }
    }

    /// The other member that says to be found at this MAC address.
    #[must_use]
    pub fn node_at(&self, mac: [u8; 6]) -> Option<&Arc<str>> {
        self.peers.values().find(|peer| peer.macs.contains(mac)).map(|peer| &peer.member.node)
    }

    /// The nodes that are out by the verdict of their observers, of which we are one and have asked the kernel ourselves, in vain.
    /// One whose speaker is merely gone is not among them, however long.
    pub fn silent(&self) -> impl Iterator<Item = &Arc<str>> {
        let out = self.rings.watched.iter().filter_map(|id| self.peers.get(id)).filter(|peer| peer.view == View::Out);
        out.filter(|peer| peer.watch.as_ref().is_some_and(|watch| watch.asked_in_vain)).map(|peer| &peer.member.node)
    }

    /// Whether there is a member that we watch and do not hear. Who is cut off misses everybody, and holds nobody to be out yet.
    #[must_use]
    pub fn misses_beats(&self) -> bool {
        let watches = self.rings.watched.iter().filter_map(|id| self.peers.get(id)?.watch.as_ref());
        watches.into_iter().any(|watch| watch.stance != Stance::Hears)
    }

    /// Whether this node may own addresses. These are the nodes that are alive, suspect or covered; where there is none of
    /// them, those in their hold-down; and where there is none of those either, those that drain.
    #[must_use]
    pub fn may_own(&self, node: &str) -> bool {
        self.rings.owners.contains(&MemberId::of(node))
    }

    /// Who answers for an address, given the candidates in the order in which they take it over and whether each can serve
    /// it (`landfall_election::ranking`, and [`is_down`](Self::is_down) of the interfaces). The owner is the
    /// first that may own it and can serve it. While it is covered, the next such answers in its name, unless it is
    /// covered itself.
    pub fn answers<'a>(
        &self,
        ranking: impl IntoIterator<Item = &'a str>,
        can_serve: impl Fn(&str) -> bool,
    ) -> Answers<'a> {
        let mut able = ranking.into_iter().filter(|node| self.may_own(node) && can_serve(node));
        let is_covered = |node: &str| self.view(node).is_some_and(View::is_covered);
        let owner = able.next();
        let next = able.find(|node| !is_covered(node));
        let cover = next.filter(|_| owner.is_some_and(is_covered));
        Answers { owner, cover, next }
    }

    /// We are the owner of this address by the ranking. Returns the term in which we own it: the one it was taken in, or a
    /// new one above all that were seen. None while we have yielded it to a node with a better right, until
    /// [`Output::Retry`](crate::Output::Retry).
    pub fn own(&mut self, address: IpAddr, now: Instant) -> Option<u64> {
        let term = self.claims.own(address, self.term.saturating_add(1), now)?;
        self.term = self.term.max(term);
        Some(term)
    }

    /// Another is the owner of this address.
    pub fn disown(&mut self, address: IpAddr) {
        if let Some((loser, claim)) = self.claims.disown(address) {
            self.send([loser], send::Extra { claim: Some(claim), ..Default::default() });
        }
    }

    /// We asked on the wire for an address that is this node's: tells it who answered.
    pub fn tell_owner(&mut self, node: &str, check: WireCheck, now: Instant) {
        self.advance(now);
        self.send([MemberId::of(node)], send::Extra { check: Some(check), ..Default::default() });
    }

    /// Another member was heard to answer for an address that is ours: the two compare their terms. What comes of it is an
    /// [`Output::Yield`](crate::Output::Yield) here or there. Nothing happens where the address is not ours.
    pub fn heard_owner(&mut self, address: IpAddr, node: &str, now: Instant) {
        self.advance(now);
        let id = MemberId::of(node);
        if self.peers.contains_key(&id)
            && let Some(claim) = self.claims.restate(address, id, self.settings.beat_interval, now)
        {
            self.send([id], send::Extra { claim: Some(claim), ..Default::default() });
        }
    }
}
