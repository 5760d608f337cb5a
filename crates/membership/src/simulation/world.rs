//! A cluster: its nodes, their kernels and speakers, and what happens to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_election::{Candidate, ranking};

use super::network::{Dice, Network};
use crate::{Keys, Leave, Member, MemberState, Membership, Output, Settings, Start, View};

/// Virtual time since the start of a run.
type Time = Duration;

enum Event {
    Wake {
        node: usize,
    },
    Arrive {
        node: usize,
        datagram: Arc<[u8]>,
    },
    Answer {
        node: usize,
        asked: usize,
    },
    /// An announcement of an address is heard.
    Heard {
        node: usize,
        owner: usize,
        address: usize,
    },
}

pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) speaker: Option<Membership>,
    /// Whether its kernel answers and forwards.
    pub(super) kernel: bool,
    /// Its speaker gets no processor; datagrams wait.
    frozen: bool,
    mail: Vec<Event>,
    wake: Option<Time>,
    /// The addresses that its speaker answers for as their owner.
    pub(super) owned: BTreeSet<usize>,
    /// The nodes that it is told of; all where there is none.
    pub(super) knows: Option<BTreeSet<usize>>,
    /// What its clock is set to, in milliseconds since 1970.
    pub(super) clock: u64,
    pub(super) handed_over: bool,
    pub(super) refusals: BTreeMap<&'static str, u64>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) dice: Dice,
    pub(super) now: Time,
    pub(super) network: Network,
    pub(super) nodes: Vec<Node>,
    pub(super) settings: Settings,
    epoch: Instant,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, Event>,
    ids: u64,
    /// For each address the nodes in the order in which they take it over.
    rankings: Vec<Vec<usize>>,
    /// Datagrams received, of each node: copies of one are counted as often as they arrive.
    pub(super) received: Vec<u64>,
    pub(super) sent: Vec<u64>,
    /// When a speaker began to own an address that it did not own: node and address.
    pub(super) taken: Vec<(Time, usize, usize)>,
    /// Who began to suspect whom.
    pub(super) suspected: Vec<(Time, usize, Arc<str>)>,
    /// Every datagram comes again this much later, from whoever recorded it.
    pub(super) replay_after: Option<Duration>,
    /// Prints every change of a view, when one seed is looked at.
    trace: bool,
}

/// Says which run it was.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "seed {} failed at {:?}; LANDFALL_MEMBERSHIP_SEED={} LANDFALL_MEMBERSHIP_SEEDS=1 runs it again",
                self.seed, self.now, self.seed
            );
            for node in &self.nodes {
                let unusual = |m: &MemberState<'_>| m.view != View::Alive;
                let views = node.speaker.iter().flat_map(Membership::members).filter(unusual);
                let views: Vec<_> = views.map(|m| format!("{} {:?}", m.node, m.view)).collect();
                println!("{} kernel {} owns {:?} sees {views:?}", node.name, node.kernel, node.owned);
            }
        }
    }
}

impl World {
    /// A cluster that has run for a second; each node owns `each` addresses, placed there.
    pub(super) fn new(seed: u64, count: usize, each: usize, settings: Settings) -> Self {
        let mut world = Self::empty(seed, count, each, settings);
        for node in 0..count {
            world.start(node);
        }
        world.run_for(Duration::from_secs(1));
        world.taken.clear();
        world
    }

    /// The same before any speaker was started.
    pub(super) fn empty(seed: u64, count: usize, each: usize, settings: Settings) -> Self {
        let names: Vec<Arc<str>> = (0..count).map(|n| format!("node-{n}").into()).collect();
        let rankings = (0..count * each).map(|address| {
            let candidates = names.iter().map(|node| Candidate { node, score: 0 });
            let ranked = ranking(ip(address), candidates, Some(&names[address % count]));
            ranked.iter().map(|name| names.iter().position(|n| **n == **name).unwrap()).collect()
        });
        let rankings = rankings.collect();
        let mut dice = Dice::new(seed);
        let node = |name| Node {
            name,
            speaker: None,
            kernel: true,
            frozen: false,
            mail: Vec::new(),
            wake: None,
            owned: BTreeSet::new(),
            knows: None,
            clock: 1_700_000_000_000 + dice.between(0, 100_000),
            handed_over: false,
            refusals: BTreeMap::new(),
        };
        Self {
            nodes: names.iter().cloned().map(node).collect(),
            seed,
            dice,
            now: Time::ZERO,
            network: Network::default(),
            settings,
            epoch: Instant::now(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            ids: 0,
            rankings,
            received: vec![0; count],
            sent: vec![0; count],
            taken: Vec::new(),
            suspected: Vec::new(),
            replay_after: None,
            trace: std::env::var("LANDFALL_MEMBERSHIP_SEEDS").is_ok_and(|seeds| seeds == "1"),
        }
    }

    pub(super) fn addresses(&self) -> usize {
        self.rankings.len()
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    fn at(&mut self, at: Time, event: Event) {
        self.ids += 1;
        self.queue.push(Reverse((at, self.ids)));
        self.events.insert(self.ids, event);
    }

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, id))) = self.queue.peek().copied().filter(|Reverse((at, _))| *at <= end) {
            self.queue.pop();
            self.now = at;
            if let Some(event) = self.events.remove(&id) {
                self.happen(event);
            }
        }
        self.now = end;
    }

    /// Runs until this holds; how long that took, or none if it did not within `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !holds(self) {
            if self.now >= start + limit {
                return None;
            }
            self.run_for(Duration::from_millis(1));
        }
        Some(self.now - start)
    }

    fn happen(&mut self, event: Event) {
        let (Event::Wake { node }
        | Event::Arrive { node, .. }
        | Event::Answer { node, .. }
        | Event::Heard { node, .. }) = event;
        if self.nodes[node].frozen {
            if self.nodes[node].kernel && self.nodes[node].mail.len() < 1_000 {
                self.nodes[node].mail.push(event);
            }
            return;
        }
        let now = self.instant();
        let names: Vec<_> = match &event {
            Event::Answer { asked, .. } => vec![self.nodes[*asked].name.clone()],
            Event::Heard { owner, .. } => vec![self.nodes[*owner].name.clone()],
            _ => Vec::new(),
        };
        let Node { speaker: Some(speaker), wake, owned, refusals, .. } = &mut self.nodes[node] else { return };
        match event {
            Event::Wake { .. } => {
                if *wake != Some(self.now) {
                    return;
                }
                speaker.tick(now);
            }
            Event::Arrive { datagram, .. } => {
                self.received[node] += 1;
                if let Err(refusal) = speaker.receive(&datagram, now) {
                    *refusals.entry(refusal.reason()).or_default() += 1;
                }
            }
            Event::Answer { .. } => speaker.probe_answered(&names[0], now),
            Event::Heard { address, .. } => {
                if owned.contains(&address) {
                    speaker.heard_owner(ip(address), &names[0], now);
                }
            }
        }
        self.carry_out(node);
    }

    /// Does what the speaker wants done, and sees when it wants to be woken.
    pub(super) fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].speaker.as_mut().and_then(Membership::poll) {
            if self.trace && matches!(output, Output::Yield { .. } | Output::Retry { .. }) {
                println!("{:?} {} {output:?}", self.now, self.nodes[node].name);
            }
            match output {
                Output::Send { to, datagram } => self.send(node, &to, datagram.into()),
                Output::Probe { node: asked } => self.probe(node, &asked),
                Output::HandedOver => self.nodes[node].handed_over = true,
                Output::Changed { node: of, from, to, cause } => {
                    if self.trace {
                        println!("{:?} {} sees {of} {from:?} -> {to:?}: {cause}", self.now, self.nodes[node].name);
                    }
                    if to == View::Suspect {
                        self.suspected.push((self.now, node, of));
                    }
                    self.elect(node);
                }
                Output::Yield { .. } | Output::Retry { .. } | Output::LinksChanged { .. } => self.elect(node),
                Output::Checked { .. } => {}
            }
        }
        let jitter = Duration::from_micros(self.dice.between(0, 2_000));
        let Some(speaker) = &self.nodes[node].speaker else { return };
        let due = (speaker.next_due() - self.epoch).max(self.now) + jitter;
        if self.nodes[node].wake.is_none_or(|wake| wake <= self.now || due + Duration::from_millis(3) < wake) {
            self.nodes[node].wake = Some(due);
            self.at(due, Event::Wake { node });
        }
    }

    fn send(&mut self, node: usize, to: &[SocketAddr], datagram: Arc<[u8]>) {
        for address in to {
            let to = usize::from(address.port());
            self.sent[node] += 1;
            for delay in self.network.pass(node, to, &mut self.dice) {
                self.at(self.now + delay, Event::Arrive { node: to, datagram: datagram.clone() });
            }
            if let Some(later) = self.replay_after {
                self.at(self.now + later, Event::Arrive { node: to, datagram: datagram.clone() });
            }
        }
    }

    fn probe(&mut self, node: usize, asked: &str) {
        let asked = self.nodes.iter().position(|n| *n.name == *asked).expect("a node");
        let there = self.network.pass(node, asked, &mut self.dice);
        let back = self.network.pass(asked, node, &mut self.dice);
        if let (Some(there), Some(back), true) = (there.first(), back.first(), self.nodes[asked].kernel) {
            self.at(self.now + *there + *back, Event::Answer { node, asked });
        }
    }

    /// What the speaker owns by its own view.
    fn elect(&mut self, node: usize) {
        let now = self.instant();
        for address in 0..self.rankings.len() {
            let names = self.rankings[address].iter().map(|n| self.nodes[*n].name.clone()).collect::<Vec<_>>();
            let Node { name, speaker: Some(speaker), owned, .. } = &mut self.nodes[node] else { return };
            let Some(owner) = speaker.answers(names.iter().map(|name| &**name), |_| true).owner else { continue };
            if *owner != **name {
                speaker.disown(ip(address));
                owned.remove(&address);
            } else if speaker.own(ip(address), now).is_none() {
                owned.remove(&address);
            } else if owned.insert(address) {
                self.taken.push((self.now, node, address));
                if self.trace {
                    println!("{:?} {} takes {}", self.now, self.nodes[node].name, ip(address));
                }
                self.announce(node, address);
            }
        }
    }

    /// At once, after 100 ms and after 1.1 s, as the speaker does.
    fn announce(&mut self, node: usize, address: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            for after in [0, 100, 1_100] {
                for delay in self.network.pass(node, other, &mut self.dice) {
                    let at = self.now + delay + Duration::from_millis(after);
                    self.at(at, Event::Heard { node: other, owner: node, address });
                }
            }
        }
    }

    fn members(&self) -> impl Iterator<Item = Member> {
        let address = |port| ([127, 0, 0, 1], port as u16).into();
        self.nodes.iter().enumerate().map(move |(n, node)| Member { node: node.name.clone(), address: address(n) })
    }

    /// Starts the speaker of a node, and the node where it was off.
    pub(super) fn start(&mut self, node: usize) {
        let now = self.instant();
        let known = &self.nodes[node].knows;
        let members = self.members().enumerate().filter(|(other, _)| known.as_ref().is_none_or(|k| k.contains(other)));
        let members: Vec<_> = members.map(|(_, member)| member).collect();
        let keys = Keys::new("a cluster", &[b"a secret that everybody here knows"]).expect("a key");
        let incarnation = self.nodes[node].clock + self.now.as_millis() as u64;
        let start = Start { node: self.nodes[node].name.clone(), incarnation, session: self.dice.draw() };
        let mut speaker = Membership::new(self.settings.clone(), keys, start, now).expect("settings");
        speaker.set_members(members, now);
        let this = &mut self.nodes[node];
        (this.kernel, this.frozen, this.handed_over) = (true, false, false);
        this.speaker = Some(speaker);
        this.wake = None;
        this.owned.clear();
        this.mail.clear();
        let at = self.now + self.dice.millis(0, 50);
        self.nodes[node].wake = Some(at);
        self.at(at, Event::Wake { node });
    }

    /// The speaker is killed. Its kernel goes on.
    pub(super) fn kill(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        (this.speaker, this.wake, this.frozen) = (None, None, false);
        this.owned.clear();
    }

    pub(super) fn power_off(&mut self, node: usize) {
        self.kill(node);
        self.nodes[node].kernel = false;
    }

    pub(super) fn leave(&mut self, node: usize, how: Leave) {
        let now = self.instant();
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.leave(how, now);
        }
        self.carry_out(node);
    }

    pub(super) fn stay(&mut self, node: usize) {
        let now = self.instant();
        if let Some(speaker) = &mut self.nodes[node].speaker {
            speaker.stay(now);
        }
        self.carry_out(node);
    }

    /// The speaker gets no processor; with `whole` the kernel does not either.
    pub(super) fn freeze(&mut self, node: usize, whole: bool) {
        self.nodes[node].frozen = true;
        self.nodes[node].kernel = !whole;
    }

    /// It goes on, with what has come in the meantime before or after what was due.
    pub(super) fn thaw(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        (this.frozen, this.kernel) = (false, true);
        let mail = std::mem::take(&mut this.mail);
        this.wake = Some(self.now);
        if self.dice.per_mille(500) {
            self.happen(Event::Wake { node });
        }
        for event in mail {
            self.happen(event);
        }
        self.nodes[node].wake = Some(self.now);
        self.happen(Event::Wake { node });
    }

    pub(super) fn thaw_if_frozen(&mut self, node: usize) {
        if self.nodes[node].frozen {
            self.thaw(node);
        }
    }

    /// What a node takes another to be.
    pub(super) fn view(&self, of: usize, by: usize) -> Option<View> {
        self.nodes[by].speaker.as_ref().and_then(|speaker| speaker.view(&self.nodes[of].name))
    }

    /// Who says that the kernel of a node is silent.
    pub(super) fn find_silent(&self, of: usize) -> usize {
        let speakers = self.nodes.iter().filter_map(|node| node.speaker.as_ref());
        speakers.filter(|speaker| speaker.silent().any(|node| *node == self.nodes[of].name)).count()
    }

    /// Nodes whose speaker runs.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].speaker.is_some() && !self.nodes[*n].frozen).collect()
    }

    /// Who of these answers for an address as its owner.
    pub(super) fn owners(&self, address: usize, among: &[usize]) -> Vec<usize> {
        among.iter().copied().filter(|node| self.nodes[*node].owned.contains(&address)).collect()
    }

    /// Each address has exactly one owner among these.
    pub(super) fn one_owner_each(&self, among: &[usize]) -> bool {
        (0..self.rankings.len()).all(|address| self.owners(address, among).len() == 1)
    }

    /// Each address is where it was placed.
    pub(super) fn all_at_home(&self) -> bool {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        (0..self.rankings.len()).all(|address| self.owners(address, &all) == [address % self.nodes.len()])
    }
}

fn ip(address: usize) -> IpAddr {
    IpAddr::from([10, 0, (address >> 8) as u8, address as u8])
}
