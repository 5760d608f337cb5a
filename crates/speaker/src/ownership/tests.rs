//! What follows from rankings and views; the views come about by membership itself, among nodes that hear each other or not.

use std::time::Duration;

use landfall_membership::{Down, Keys, Leave, Member, Output, Settings, Start, View};

use super::*;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// All of NODES, but for the clocks and wires of a real segment.
struct Segment {
    nodes: Vec<Membership>,
    /// These neither send nor hear, and their kernels do not answer.
    dead: Vec<usize>,
    /// Only the speakers of these are silent.
    silent: Vec<usize>,
    now: Instant,
}

impl Segment {
    fn new() -> Self {
        let now = Instant::now();
        let start = |(node, session): (&&str, u64)| {
            let keys = Keys::new("cluster", &[b"a secret that nobody knows......"]).expect("a good key");
            let start = Start { node: (*node).into(), incarnation: 1, session };
            let mut node = Membership::new(Settings::default(), keys, start, now).expect("good settings");
            let port = |name: &str| u16::from(name.as_bytes()[1] - b'0');
            let member = |name: &&str| Member { node: (*name).into(), address: ([127, 0, 0, 1], port(name)).into() };
            node.set_members(NODES.iter().map(member), now);
            node
        };
        let nodes = NODES.iter().zip(1..).map(start).collect();
        let mut segment = Self { nodes, dead: vec![], silent: vec![], now };
        segment.pass(Duration::from_secs(1));
        segment
    }

    fn is_mute(&self, node: usize) -> bool {
        self.dead.contains(&node) || self.silent.contains(&node)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(5);
            for at in 0..self.nodes.len() {
                if self.nodes[at].next_due() <= self.now {
                    self.nodes[at].tick(self.now);
                }
                self.carry_out(at);
            }
        }
    }

    fn carry_out(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].poll() {
            match output {
                Output::Send { to, datagram } if !self.is_mute(at) => {
                    for to in to.iter().map(|to| usize::from(to.port()) - 1) {
                        if !self.is_mute(to) {
                            self.nodes[to].receive(&datagram, self.now).expect("a good datagram");
                        }
                    }
                }
                Output::Probe { node } => {
                    let asked = NODES.iter().position(|name| *name == &*node).expect("one of them");
                    if !self.dead.contains(&asked) && !self.dead.contains(&at) {
                        self.nodes[at].probe_answered(&node, self.now);
                    }
                }
                _ => {}
            }
        }
    }

    fn decide(&mut self, at: usize, desired: &Desired, before: &Ownership) -> Ownership {
        let networks = BTreeSet::from(["192.0.2.0/24".parse().expect("a network")]);
        decide(NODES[at], desired, Some(&mut self.nodes[at]), &networks, before, false, self.now)
    }

    /// What each node makes of one address whose ranking is n1, n2, n3: `o`wner, `c`overs, or a dot.
    fn answers(&mut self, desired: &Desired) -> String {
        let address = *desired.addresses.keys().next().expect("one address");
        let letter = |ownership: &Ownership| match () {
            () if ownership.owned.contains(&address) => 'o',
            () if ownership.covered.contains_key(&address) => 'c',
            () => '.',
        };
        (0..3).map(|at| letter(&self.decide(at, desired, &Ownership::default()))).collect()
    }
}

fn desired(address: &str, interfaces: Interfaces) -> Desired {
    let ranking = NODES.iter().map(|node| Arc::from(*node)).collect();
    Desired { addresses: BTreeMap::from([(ip(address), Wanted { interfaces, ranking })]), others: BTreeSet::new() }
}

#[test]
fn the_first_that_lives_owns_and_the_next_takes_over_from_the_dead() {
    let mut segment = Segment::new();
    let wanted = desired("192.0.2.1", Interfaces::All);
    assert_eq!(segment.answers(&wanted), "o..");
    segment.dead = vec![0];
    segment.pass(Duration::from_secs(1));
    assert_eq!(segment.answers(&wanted)[1..], *"o.");
    segment.dead = vec![0, 1];
    segment.pass(Duration::from_secs(10));
    assert_eq!(segment.answers(&wanted)[2..], *"o");
}

#[test]
fn a_silent_speaker_is_covered_by_the_next_and_its_node_stays_the_owner() {
    let mut segment = Segment::new();
    let wanted = desired("192.0.2.1", Interfaces::All);
    segment.silent = vec![0];
    segment.pass(Duration::from_secs(1));
    assert_eq!(segment.answers(&wanted)[1..], *"c.");
    let second = segment.decide(1, &wanted, &Ownership::default());
    assert_eq!(second.covered, BTreeMap::from([(ip("192.0.2.1"), Arc::from("n1"))]));
    assert_eq!(second.elsewhere, BTreeMap::from([(ip("192.0.2.1"), Some(Arc::from("n1")))]), "nothing is claimed");
    segment.silent = vec![];
    segment.pass(Duration::from_secs(1));
    assert_eq!(segment.answers(&wanted), "o..");
}

#[test]
fn who_says_that_it_restarts_is_covered_at_once_and_who_drains_is_replaced() {
    for (how, after) in [(Leave::Restart, "c."), (Leave::Drain, "o.")] {
        let mut segment = Segment::new();
        let wanted = desired("192.0.2.1", Interfaces::All);
        let now = segment.now;
        segment.nodes[0].leave(how, now);
        segment.carry_out(0);
        assert_eq!(segment.answers(&wanted)[1..], *after, "{how:?}");
    }
}

#[test]
fn whose_interfaces_for_the_address_are_down_does_not_own_it() {
    let named = |names: &[&str]| Interfaces::Named(names.iter().map(|name| (*name).to_owned()).collect());
    for (address, interfaces, down, owner) in [
        ("192.0.2.1", Interfaces::All, "192.0.2.0/24", ".o."),
        ("192.0.2.1", Interfaces::All, EVERYTHING, ".o."),
        ("192.0.2.1", Interfaces::All, "198.51.100.0/24", "o.."),
        ("203.0.113.1", Interfaces::All, "192.0.2.0/24", "o.."),
        ("192.0.2.1", named(&["eth0"]), "eth0", ".o."),
        ("192.0.2.1", named(&["eth0", "eth1"]), "eth0", "o.."),
        ("192.0.2.1", named(&["eth0"]), "192.0.2.0/24", "o.."),
    ] {
        let mut segment = Segment::new();
        let now = segment.now;
        segment.nodes[0].set_down(Down::new([down]), now);
        segment.pass(Duration::from_millis(200));
        assert_eq!(segment.answers(&desired(address, interfaces.clone())), owner, "{address} {interfaces:?} {down}");
    }
}

#[test]
fn what_is_not_wanted_any_more_is_given_up_and_taken_in_a_new_term_afterwards() {
    let mut segment = Segment::new();
    let (address, wanted) = (ip("192.0.2.1"), desired("192.0.2.1", Interfaces::All));
    let owned = segment.decide(0, &wanted, &Ownership::default());
    let term = |segment: &mut Segment| {
        let now = segment.now;
        segment.nodes[0].own(address, now)
    };
    let first = term(&mut segment);
    segment.decide(0, &wanted, &owned);
    assert_eq!(term(&mut segment), first, "as long as it is owned");
    segment.decide(0, &Desired::default(), &owned);
    assert!(term(&mut segment) > first);
}

#[test]
fn where_nobody_watches_the_first_of_the_ranking_answers() {
    let wanted = desired("192.0.2.1", Interfaces::All);
    let of = |node: &str| decide(node, &wanted, None, &BTreeSet::new(), &Ownership::default(), false, Instant::now());
    assert_eq!(of("n1").owned, BTreeSet::from([ip("192.0.2.1")]));
    assert_eq!(
        of("n2"),
        Ownership { elsewhere: BTreeMap::from([(ip("192.0.2.1"), Some("n1".into()))]), ..Ownership::default() }
    );
}

#[test]
fn a_node_in_its_hold_down_owns_nothing_while_another_can() {
    let mut segment = Segment::new();
    let wanted = desired("192.0.2.1", Interfaces::All);
    segment.dead = vec![0];
    segment.pass(Duration::from_secs(2));
    segment.dead = vec![];
    segment.pass(Duration::from_secs(5));
    assert!(matches!(segment.nodes[1].view("n1"), Some(View::HoldDown { .. })), "{:?}", segment.nodes[1].view("n1"));
    assert_eq!(segment.answers(&wanted), ".o.");
    segment.pass(Duration::from_secs(20));
    assert_eq!(segment.answers(&wanted), "o..");
}

#[test]
fn who_hands_over_goes_on_answering_for_what_it_owned_and_for_nothing_else() {
    let mut segment = Segment::new();
    let wanted = desired("192.0.2.1", Interfaces::All);
    let (owned, nothing) = (segment.decide(0, &wanted, &Ownership::default()), Ownership::default());
    let now = segment.now;
    segment.nodes[0].leave(Leave::Drain, now);
    segment.carry_out(0);
    for (before, hands_over, answers) in [(&owned, true, true), (&owned, false, false), (&nothing, true, false)] {
        let after = decide("n1", &wanted, Some(&mut segment.nodes[0]), &BTreeSet::new(), before, hands_over, now);
        assert_eq!(after.owned.contains(&ip("192.0.2.1")), answers, "{before:?} {hands_over}");
    }
}

#[test]
fn where_no_node_has_an_interface_for_the_address_one_owns_it_and_can_say_so() {
    let mut segment = Segment::new();
    for at in 0..3 {
        let now = segment.now;
        segment.nodes[at].set_down(Down::new(["eth9"]), now);
    }
    segment.pass(Duration::from_millis(200));
    let nowhere = Interfaces::Named(BTreeSet::from(["eth9".to_owned()]));
    assert_eq!(segment.answers(&desired("192.0.2.1", nowhere)), "o..");
}
