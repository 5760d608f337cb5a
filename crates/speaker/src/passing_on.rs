//! Planned moves and the connections that live: who gets an address passes packets of connections that it does not know on to
//! the node that had it before. Pure.
//!
//! A connection belongs to the node through which it was opened: only the kernel there knows which Pod it leads to, and the Pod
//! sees that node's address, not the client's. So no bookkeeping can be handed over with the address; packets can. The kernel of
//! the new owner does it (see [`crate::nftables`]), for as long as the old one lives, an hour at most: by rules that have to be in
//! force before the first neighbour is told, or its next packet would be answered with a reset. Until then the old owner answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// By address of a Service: an address of the node that had it before.
pub(crate) type PassedOn = BTreeMap<IpAddr, IpAddr>;
/// The nodes' own addresses.
pub type NodeAddresses = BTreeMap<Arc<str>, BTreeSet<IpAddr>>;

/// Connections that have lived for so long after a move are left to their fate.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(3600);
/// The kernel takes new rules within some ten milliseconds. Who hands an address over waits for a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is passed on.
#[derive(Debug, Default)]
pub(crate) struct PassingOn {
    addresses: BTreeMap<IpAddr, Before>,
    /// Addresses that are not to be used before the rules are in force, and until when at most.
    waiting: BTreeMap<IpAddr, Instant>,
}

/// Who had an address before.
#[derive(Debug)]
struct Before {
    node: Arc<str>,
    address: IpAddr,
    until: Instant,
}

impl PassingOn {
    /// The address has become ours; `node` had it, lives, and is to be reached at `address`.
    pub(crate) fn begin(&mut self, ip: IpAddr, node: Arc<str>, address: IpAddr, now: Instant) {
        self.addresses.insert(ip, Before { node, address, until: now + KEPT_FOR });
        self.waiting.insert(ip, now + PATIENCE);
    }

    /// What the kernel was told by a speaker before us, and still does.
    pub(crate) fn adopt(&mut self, ip: IpAddr, node: Arc<str>, address: IpAddr, now: Instant) {
        self.addresses.entry(ip).or_insert(Before { node, address, until: now + KEPT_FOR });
    }

    /// Forgets what leads to nodes that do not live, and back to the owner: no packet goes in a circle. `owner` is an address's
    /// present one, if it is another node. Says whether anything was forgotten.
    pub(crate) fn retain(&mut self, lives: impl Fn(&str) -> bool, owner: impl Fn(&IpAddr) -> Option<Arc<str>>) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|ip, Before { node, .. }| lives(node) && owner(ip).as_ref() != Some(node));
        self.waiting.retain(|ip, _| self.addresses.contains_key(ip));
        self.addresses.len() < before
    }

    /// Whether the address is not to be used yet.
    pub(crate) fn waits(&self, ip: IpAddr) -> bool {
        self.waiting.contains_key(&ip)
    }

    /// These rules are in force; says whether an address may be used now that waited for one.
    pub(crate) fn are_in_force(&mut self, rules: &PassedOn) -> bool {
        let before = self.waiting.len();
        let to = |ip: &IpAddr| self.addresses.get(ip).map(|before| before.address);
        self.waiting.retain(|ip, _| to(ip).is_some_and(|to| rules.get(ip) != Some(&to)));
        self.waiting.len() < before
    }

    /// Ends what has lasted long enough; says whether there was any.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let before = (self.addresses.len(), self.waiting.len());
        self.addresses.retain(|_, before| now < before.until);
        self.waiting.retain(|_, until| now < *until);
        (self.addresses.len(), self.waiting.len()) < before
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let kept = self.addresses.values().map(|before| before.until);
        kept.chain(self.waiting.values().copied()).min()
    }

    /// What the kernel is to do.
    pub(crate) fn rules(&self) -> PassedOn {
        self.addresses.iter().map(|(ip, before)| (*ip, before.address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const N2: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2));

    fn begun(now: Instant) -> PassingOn {
        let mut passing_on = PassingOn::default();
        passing_on.begin(VIP, "n2".into(), N2, now);
        passing_on
    }

    #[test]
    fn an_address_waits_for_its_rule_half_a_second_at_most() {
        let start = Instant::now();
        let mut passing_on = begun(start);
        assert_eq!(passing_on.rules(), [(VIP, N2)].into());
        assert!(passing_on.waits(VIP));
        assert!(!passing_on.are_in_force(&PassedOn::new()), "the rules from before");
        assert!(!passing_on.are_in_force(&[(VIP, [198, 51, 100, 9].into())].into()), "another node had it then");
        assert!(passing_on.are_in_force(&[(VIP, N2)].into()));
        assert!(!passing_on.waits(VIP));

        let mut passing_on = begun(start);
        assert_eq!(passing_on.next_due(), Some(start + PATIENCE));
        assert!(!passing_on.tick(start + PATIENCE - Duration::from_millis(1)));
        assert!(passing_on.tick(start + PATIENCE));
        assert!(!passing_on.waits(VIP) && !passing_on.rules().is_empty(), "the rule may still come");
    }

    #[test]
    fn it_ends_with_the_node_with_the_hour_and_when_that_node_is_the_owner_again() {
        let start = Instant::now();
        let nobody = |_: &IpAddr| None;
        for (lives, owner, kept) in [
            (true, None, true),
            (true, Some("n3"), true), // the address has moved on: what we know and what n2 knows still comes through us
            (true, Some("n2"), false),
            (false, None, false),
        ] {
            let mut passing_on = begun(start);
            let forgot = passing_on.retain(|node| node == "n2" && lives, |_| owner.map(Arc::from));
            assert_eq!((!forgot, !passing_on.rules().is_empty(), passing_on.waits(VIP)), (kept, kept, kept));
        }
        let mut passing_on = begun(start);
        assert!(!passing_on.retain(|_| true, nobody));
        passing_on.tick(start + KEPT_FOR - Duration::from_millis(1));
        assert_eq!((passing_on.rules().len(), passing_on.next_due()), (1, Some(start + KEPT_FOR)));
        assert!(passing_on.tick(start + KEPT_FOR));
        assert_eq!((passing_on.rules().len(), passing_on.next_due()), (0, None));
    }

    #[test]
    fn what_the_kernel_does_already_is_adopted_and_does_not_wait() {
        let now = Instant::now();
        let mut passing_on = begun(now);
        passing_on.adopt(VIP, "n9".into(), [198, 51, 100, 9].into(), now);
        passing_on.adopt([192, 0, 2, 7].into(), "n3".into(), [198, 51, 100, 3].into(), now);
        assert_eq!(passing_on.rules(), [(VIP, N2), ([192, 0, 2, 7].into(), [198, 51, 100, 3].into())].into());
        assert!(!passing_on.waits([192, 0, 2, 7].into()));
    }
}
