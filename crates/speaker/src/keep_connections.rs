//! `failover.keepConnections`: what [`PassingOn`] wants, told to the kernel, and what the kernel does, told to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::nftables::{self, Rules};
use crate::ownership::Ownership;
use crate::passing_on::{NodeAddresses, PassingOn};

/// Lives on the wire thread; the kernel is told by a thread of its own.
#[derive(Debug)]
pub(crate) struct KeepConnections {
    passing_on: PassingOn,
    rules: Rules,
    nodes: watch::Receiver<Arc<NodeAddresses>>,
    /// What the kernel did before us is known.
    adopted: bool,
}

impl KeepConnections {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(nodes: watch::Receiver<Arc<NodeAddresses>>) -> anyhow::Result<Self> {
        Ok(Self { passing_on: PassingOn::default(), rules: nftables::spawn()?, nodes, adopted: false })
    }

    /// Waits until other rules are in force. Cancelling loses nothing.
    pub(crate) async fn changed(&mut self) {
        if self.rules.in_force.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Owners have changed, or members. `lives` says of a node that its kernel forwards, `on_link` of an address that it is in a
    /// network of ours: by a router nothing can be passed on, it would come back.
    pub(crate) fn follow(
        &mut self,
        before: &Ownership,
        after: &Ownership,
        lives: impl Fn(&str) -> bool,
        on_link: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) {
        let Some(in_force) = self.rules.in_force.borrow().clone() else { return };
        let nodes = Arc::clone(&self.nodes.borrow());
        let is_known = !nodes.is_empty() && (!after.owned.is_empty() || !after.elsewhere.is_empty());
        if is_known && !std::mem::replace(&mut self.adopted, true) {
            for (ip, to) in in_force.iter() {
                if let Some((node, _)) = nodes.iter().find(|(_, addresses)| addresses.contains(to)) {
                    self.passing_on.adopt(*ip, Arc::clone(node), *to, now);
                }
            }
        }
        for ip in after.owned.difference(&before.owned) {
            let Some(Some(node)) = before.elsewhere.get(ip) else { continue };
            let reached = |to: &&IpAddr| to.is_ipv4() == ip.is_ipv4() && on_link(**to);
            let to = nodes.get(node).into_iter().flatten().find(reached);
            if let Some(to) = to.filter(|_| lives(node)) {
                self.passing_on.begin(*ip, Arc::clone(node), *to, now);
            }
        }
        self.passing_on.retain(lives, |ip| after.elsewhere.get(ip).cloned().flatten());
        self.tell();
    }

    /// Whether the address is not to be used yet.
    pub(crate) fn waits(&self, ip: IpAddr) -> bool {
        self.passing_on.waits(ip)
    }

    /// Takes note of the rules that are in force; says whether an address may be used now.
    pub(crate) fn are_in_force(&mut self) -> bool {
        let rules = self.rules.in_force.borrow_and_update().clone();
        self.passing_on.are_in_force(&rules.unwrap_or_default())
    }

    /// See [`PassingOn::tick`].
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let ended = self.passing_on.tick(now);
        if ended {
            self.tell();
        }
        ended
    }

    /// See [`PassingOn::next_due`].
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.passing_on.next_due()
    }

    fn tell(&self) {
        if !self.adopted {
            return;
        }
        let rules = self.passing_on.rules();
        // Until it was told anything, the kernel does what it did before us.
        let told = self.rules.wanted.borrow().clone().or_else(|| self.rules.in_force.borrow().clone());
        if told.as_deref() != Some(&rules) {
            self.rules.wanted.send_replace(Some(Arc::new(rules)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passing_on::PassedOn;

    fn ownership(owned: &[IpAddr], elsewhere: &[(IpAddr, &str)]) -> Ownership {
        Ownership {
            owned: owned.iter().copied().collect(),
            elsewhere: elsewhere.iter().map(|(ip, node)| (*ip, Some(Arc::from(*node)))).collect(),
            ..Ownership::default()
        }
    }

    type Told = Option<Arc<PassedOn>>;

    /// With what the kernel is told, and does.
    fn keeper(does: Option<PassedOn>) -> (KeepConnections, watch::Receiver<Told>, watch::Sender<Told>) {
        let node = |name: &str, last: u8| {
            let addresses: [IpAddr; 2] = [
                [198, 51, 100, last].into(),
                std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(last)).into(),
            ];
            (Arc::from(name), addresses.into())
        };
        let nodes = watch::channel(Arc::new([node("n1", 1), node("n2", 2)].into())).1;
        let (wanted, told) = watch::channel(None);
        let (in_force_out, in_force) = watch::channel(does.map(Arc::new));
        let rules = Rules { wanted, in_force };
        let keeper = KeepConnections { passing_on: PassingOn::default(), rules, nodes, adopted: false };
        (keeper, told, in_force_out)
    }

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const VIP6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1));

    #[test]
    fn what_comes_from_a_node_that_lives_waits_for_a_rule_of_its_family() {
        for (from, lives, on_link, works, begins) in [
            ("n2", true, true, true, true),
            ("n2", false, true, true, false),
            ("n2", true, false, true, false),
            ("n9", true, true, true, false), // of which no address is known
            ("n2", true, true, false, false),
        ] {
            let (mut keeper, told, _out) = keeper(works.then(PassedOn::new));
            let before = ownership(&[], &[(VIP, from), (VIP6, from)]);
            keeper.follow(&before, &ownership(&[VIP, VIP6], &[]), |_| lives, |_| on_link, Instant::now());
            assert_eq!([VIP, VIP6].map(|ip| keeper.waits(ip)), [begins; 2], "{from} {lives} {on_link} {works}");
            let expected: PassedOn = [(VIP, [198, 51, 100, 2].into()), (VIP6, "2001:db8::2".parse().unwrap())].into();
            assert_eq!(told.borrow().as_deref(), begins.then_some(&expected));
        }
        // Who begins with an address has it from nobody.
        let (mut keeper, told, _out) = keeper(Some(PassedOn::new()));
        keeper.follow(&Ownership::default(), &ownership(&[VIP], &[]), |_| true, |_| true, Instant::now());
        assert!(!keeper.waits(VIP) && told.borrow().is_none());
    }

    #[test]
    fn a_speaker_that_starts_goes_on_with_what_the_kernel_does() {
        let does: PassedOn = [(VIP, [198, 51, 100, 2].into())].into();
        let (mut keeper, told, _out) = keeper(Some(does.clone()));
        let now = Instant::now();
        let owned = ownership(&[VIP], &[(VIP6, "n1")]);
        keeper.follow(&Ownership::default(), &Ownership::default(), |_| true, |_| true, now);
        assert!(!keeper.adopted, "nothing is known yet");
        keeper.follow(&Ownership::default(), &owned, |_| true, |_| true, now);
        assert!(keeper.adopted && told.borrow().is_none(), "nothing has changed");
        // Another address comes, and then the first one's node dies.
        let both = ownership(&[VIP, VIP6], &[]);
        keeper.follow(&owned, &both, |_| true, |_| true, now);
        assert_eq!(told.borrow().as_ref().map(|rules| rules.len()), Some(2));
        keeper.follow(&both, &both, |node| node != "n2", |_| true, now);
        assert_eq!(told.borrow().as_ref().map(|rules| rules.len()), Some(1));
    }
}
