//! Which addresses are ours, since which term, and who yields when two nodes answer for one.
//!
//! A term is a Lamport clock: whoever takes an address takes it in a term above every one that it has seen, and every
//! datagram carries the highest term that its sender has seen. So of two owners that know nothing of each other the later one
//! has the higher term, and it stays; the other's view is the older. Equal terms (both took it without having
//! heard of each other) stay with the lower id. Who wins so and then finds that the address is another's after all says so
//! to the loser, which need not wait then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::MemberId;
use crate::message::Claim;

/// What one node owns.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    owned: BTreeMap<IpAddr, Owned>,
    /// Until when we do not take it again, and to whom we yielded it.
    yielded: BTreeMap<IpAddr, (Instant, MemberId)>,
}

/// An address that is ours.
#[derive(Debug)]
struct Owned {
    term: u64,
    /// When we last said so to another that answers for it, and to which.
    said: Option<(Instant, MemberId)>,
    /// Who gave it up to us, and the terms in which they had owned it: their claims may come after that, and mean nothing then.
    released: BTreeMap<MemberId, u64>,
}

impl Claims {
    /// The term in which we own the address: the one we took it in, or `next` when we take it now. None while we have
    /// yielded it.
    pub(crate) fn own(&mut self, address: IpAddr, next: u64, now: Instant) -> Option<u64> {
        if self.yielded.get(&address).is_some_and(|(until, _)| now < *until) {
            return None;
        }
        Some(self.owned.entry(address).or_insert(Owned { term: next, said: None, released: BTreeMap::new() }).term)
    }

    /// It is ours no longer. Returns who is to be told, since we said to it that it is ours.
    pub(crate) fn disown(&mut self, address: IpAddr) -> Option<(MemberId, Claim)> {
        let owned = self.owned.remove(&address)?;
        owned.said.map(|(_, to)| (to, Claim { address, term: owned.term, released: true }))
    }

    /// `they` have given it up. If we yielded it to them, we need not wait.
    fn released(&mut self, claim: Claim, they: MemberId, now: Instant) {
        if let Some(owned) = self.owned.get_mut(&claim.address) {
            owned.released.insert(they, claim.term);
        } else if let Some((until, _)) = self.yielded.get_mut(&claim.address).filter(|(_, to)| *to == they) {
            *until = now;
        }
    }

    /// The addresses that were yielded long enough ago to be taken again; each is returned once.
    pub(crate) fn retries(&mut self, now: Instant) -> Vec<IpAddr> {
        self.yielded.extract_if(.., |_, (until, _)| *until <= now).map(|(address, _)| address).collect()
    }

    /// When the next of these is due.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.yielded.values().map(|(until, _)| *until).min()
    }

    /// That an address is ours, to be said `to` another that answers for it: once in `pause`, or two would go on for ever.
    pub(crate) fn restate(&mut self, address: IpAddr, to: MemberId, pause: Duration, now: Instant) -> Option<Claim> {
        let may_say = |owned: &&mut Owned| owned.said.is_none_or(|(said, _)| now >= said + pause);
        let owned = self.owned.get_mut(&address).filter(may_say)?;
        owned.said = Some((now, to));
        Some(Claim { address, term: owned.term, released: false })
    }

    /// `they` claim an address, or give it up. Returns whether `we` yield it, for `pause` at least: their term is the higher, or the same and
    /// their id the lower.
    pub(crate) fn contest(
        &mut self,
        claim: Claim,
        we: MemberId,
        they: MemberId,
        pause: Duration,
        now: Instant,
    ) -> bool {
        if claim.released {
            self.released(claim, they, now);
            return false;
        }
        let Some(ours) = self.owned.get(&claim.address) else { return false };
        let is_over = ours.released.get(&they).is_some_and(|term| *term >= claim.term);
        let yields = !is_over && (claim.term, we) > (ours.term, they);
        if yields {
            self.owned.remove(&claim.address);
            self.yielded.insert(claim.address, (now + pause, they));
        }
        yields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(address: IpAddr, term: u64) -> Claim {
        Claim { address, term, released: false }
    }

    #[test]
    fn the_lower_term_yields_and_of_equal_ones_the_higher_id() {
        let (address, now, pause) = ("192.0.2.1".parse().unwrap(), Instant::now(), Duration::from_millis(300));
        let (low, high) = (MemberId([1; 8]), MemberId([2; 8]));
        for (we, they, term, yields) in [
            (low, high, 6, true),
            (low, high, 5, false),
            (high, low, 5, true),
            (high, low, 4, false),
            (high, low, 6, true),
        ] {
            let mut claims = Claims::default();
            assert_eq!(claims.own(address, 5, now), Some(5));
            assert_eq!(claims.own(address, 9, now), Some(5), "the term stays while the address does");
            assert_eq!(claims.contest(claim(address, term), we, they, pause, now), yields, "{term} against 5");
            assert_eq!(claims.own(address, 9, now), if yields { None } else { Some(5) });
            if yields {
                assert_eq!((claims.next_retry(), claims.retries(now)), (Some(now + pause), vec![]));
                assert_eq!(claims.retries(now + pause), [address], "after the pause");
                assert_eq!((claims.next_retry(), claims.retries(now + pause)), (None, vec![]));
                assert_eq!(claims.own(address, 9, now + pause), Some(9));
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_not_contested() {
        let (address, now) = ("192.0.2.1".parse().unwrap(), Instant::now());
        let mut claims = Claims::default();
        claims.own(address, 5, now);
        assert_eq!(claims.disown(address), None, "nobody was told that it is ours");
        assert!(!claims.contest(claim(address, 9), MemberId([1; 8]), MemberId([2; 8]), Duration::ZERO, now));
        assert_eq!(claims.restate(address, MemberId([2; 8]), Duration::ZERO, now), None);
    }

    #[test]
    fn who_won_an_address_and_gives_it_up_tells_the_loser_which_then_waits_no_longer() {
        let (address, now, pause) = ("192.0.2.1".parse().unwrap(), Instant::now(), Duration::from_millis(300));
        let (winner, loser, third) = (MemberId([1; 8]), MemberId([2; 8]), MemberId([3; 8]));
        for overtaken in [false, true] {
            let (mut won, mut lost) = (Claims::default(), Claims::default());
            assert_eq!((won.own(address, 5, now), lost.own(address, 5, now)), (Some(5), Some(5)));
            let claims = won.restate(address, loser, pause, now).expect("it owns the address");
            assert_eq!(won.restate(address, third, pause, now), None, "once in the pause");
            let (to, gives_up) = won.disown(address).expect("it has claimed the address");
            assert_eq!(to, loser);
            if overtaken {
                for they in [winner, third] {
                    assert!(!lost.contest(gives_up, loser, they, pause, now));
                }
                assert!(!lost.contest(claims, loser, winner, pause, now), "it was given up before this came");
                assert_eq!(lost.own(address, 6, now), Some(5));
                assert!(lost.contest(claims, loser, MemberId::default(), pause, now), "another has not given it up");
            } else {
                assert!(lost.contest(claims, loser, winner, pause, now));
                assert!(!lost.contest(gives_up, loser, third, pause, now));
                assert_eq!(lost.own(address, 6, now), None, "it was not yielded to the third");
                assert!(!lost.contest(gives_up, loser, winner, pause, now));
                assert_eq!((lost.retries(now), lost.own(address, 6, now)), (vec![address], Some(6)));
            }
        }
    }
}
