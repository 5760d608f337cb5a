//! The state machine: its parts, what it is told, and what it can be asked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::claims::Claims;
use crate::peer::Peer;
use crate::ring::{successors, watched_by};
use crate::seal::{Keys, SenderKeys};
use crate::verdict::Ballot;
use crate::view::{Cause, Leave, Output, View};
use crate::watch::Watch;
use crate::{Down, Macs, Member, MemberId, Settings, SettingsError};

mod receive;
mod send;
mod serve;
mod tick;

pub use serve::{Answers, MemberState};

/// How many times a change of our own status goes to all members.
const TELL_ALL: u8 = 3;
/// For how many beat intervals a draining node waits for the others to take over.
const HAND_OVER: u32 = 10;

/// Who we are in this life of the process.
#[derive(Clone, Debug)]
pub struct Start {
    /// Our Node's name.
    pub node: Arc<str>,
    /// Milliseconds since 1970 by the wall clock. When that is lower than before, peers say so and it is raised.
    pub incarnation: u64,
    /// 64 random bits. They must be new at each start: the seal rests on it.
    pub session: u64,
}

/// Which nodes are alive, as one node sees it. Time, datagrams and answers go in; what is to be done comes out of
/// [`poll`](Self::poll), which is to be emptied after each call.
pub struct Membership {
    settings: Settings,
    keys: Keys,
    own_keys: SenderKeys,
    us: Us,
    peers: BTreeMap<MemberId, Box<Peer>>,
    rings: Rings,
    clock: Clock,
    /// Awake time at which anybody was last heard.
    heard_anybody: Duration,
    /// Those about whom something is to be decided.
    doubted: BTreeSet<MemberId>,
    rounds: Rounds,
    /// The highest term that was seen.
    term: u64,
    claims: Claims,
    outputs: VecDeque<Output>,
}

/// Ourselves.
struct Us {
    id: MemberId,
    node: Arc<str>,
    incarnation: u64,
    session: u64,
    number: u32,
    view: View,
    /// We are restarting by our own word.
    restarting: bool,
    down: Down,
    macs: Macs,
    /// What others say of us.
    ballot: Ballot,
    /// How many more beats go to all members, and whether they ask for an answer.
    flood: u8,
    ask: bool,
    /// When we decide without those that have not answered, while joining.
    joining_until: Instant,
    /// Awake time at which we last asked our observers what they think of us.
    asked: Option<Duration>,
    draining: Option<Draining>,
}

struct Draining {
    until: Instant,
    acknowledged: BTreeSet<MemberId>,
}

/// What follows from the members and the views of them.
#[derive(Default)]
struct Rings {
    /// All members, ourselves too, in the order of the ring.
    all: Vec<MemberId>,
    /// Those that observe.
    observing: Vec<MemberId>,
    /// Whom we send our beats to.
    ours: Vec<MemberId>,
    /// Whose observer we are.
    watched: Vec<MemberId>,
    /// Those that may own addresses.
    owners: BTreeSet<MemberId>,
    /// How many are fit, and the lowest id of them: by this the parts of a split network are compared.
    part: (u16, Reverse<MemberId>),
}

/// Real time, and the time that we were awake.
struct Clock {
    at: Instant,
    awake: Duration,
}

/// What comes round.
struct Rounds {
    beat: Instant,
    /// Beats so far: other things come every so many of them.
    count: u64,
    /// The member that heard from us last for no reason, and the one that was out and asked last.
    gossip: Option<MemberId>,
    asked: Option<MemberId>,
    /// One that was out is heard: the network may be whole again, so all that are out are asked at once.
    ask_all: bool,
}

impl Membership {
    /// Begins with ourselves as the only member.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn new(settings: Settings, keys: Keys, start: Start, now: Instant) -> Result<Self, SettingsError> {
        settings.check()?;
        let id = MemberId::of(&start.node);
        let us = Us {
            id,
            node: start.node,
            incarnation: start.incarnation.max(1),
            session: start.session,
            number: 0,
            view: View::Joining,
            restarting: false,
            down: Down::default(),
            macs: Macs::default(),
            ballot: Ballot::default(),
            flood: TELL_ALL,
            ask: true,
            joining_until: now + settings.confirm(),
            asked: None,
            draining: None,
        };
        let mut membership = Self {
            own_keys: keys.of(id),
            settings,
            keys,
            us,
            peers: BTreeMap::new(),
            rings: Rings::default(),
            clock: Clock { at: now, awake: Duration::ZERO },
            heard_anybody: Duration::ZERO,
            doubted: BTreeSet::new(),
            rounds: Rounds { beat: now, count: 0, gossip: None, asked: None, ask_all: false },
            term: 0,
            claims: Claims::default(),
            outputs: VecDeque::new(),
        };
        membership.arrange();
        Ok(membership)
    }

    /// The nodes with a speaker, as the API knows them; ourselves among them or not. New ones are taken to be alive until
    /// their observers find otherwise; those that are named no longer are forgotten, without an output.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = Member>, now: Instant) {
        self.advance(now);
        let mut gone: BTreeSet<_> = self.peers.keys().copied().collect();
        for member in members {
            let id = MemberId::of(&member.node);
            if id == self.us.id {
                continue;
            }
            gone.remove(&id);
            match self.peers.get_mut(&id) {
                Some(peer) => peer.member = member,
                None => drop(self.peers.insert(id, Box::new(Peer::new(member)))),
            }
        }
        for id in gone {
            self.peers.remove(&id);
            self.doubted.remove(&id);
        }
        self.arrange();
    }

    /// Other keys, from a Secret that was changed.
    pub fn set_keys(&mut self, keys: Keys) {
        self.own_keys = keys.of(self.us.id);
        self.keys = keys;
        self.peers.values_mut().for_each(|peer| peer.forget_keys());
    }

    /// What we cannot serve from now on. All members are told at once.
    pub fn set_down(&mut self, down: Down, now: Instant) {
        self.advance(now);
        if self.us.down != down {
            self.us.down = down;
            self.tell_all(now);
        }
    }

    /// Where we are to be found from now on. All members are told at once.
    pub fn set_macs(&mut self, macs: Macs, now: Instant) {
        self.advance(now);
        if self.us.macs != macs {
            self.us.macs = macs;
            self.tell_all(now);
        }
    }

    /// We leave. [`Output::HandedOver`] says when nothing is left to do.
    pub fn leave(&mut self, how: Leave, now: Instant) {
        self.advance(now);
        self.us.incarnation += 1;
        match how {
            Leave::Restart => {
                self.us.restarting = true;
                self.set_own_view(View::Covered { since: now }, Cause::Restarts);
            }
            Leave::Drain => {
                let until = now + self.settings.beat_interval * HAND_OVER;
                self.us.draining = Some(Draining { until, acknowledged: BTreeSet::new() });
                self.set_own_view(View::Draining, Cause::Drains);
            }
        }
        self.tell_all(now);
        self.beat(now);
        if how == Leave::Restart {
            self.outputs.push_back(Output::HandedOver);
        }
    }

    /// The drain is called off, or over: after a hold-down we may own addresses again. Nothing happens where we do not drain.
    pub fn stay(&mut self, now: Instant) {
        self.advance(now);
        if self.us.view == View::Draining {
            self.us.draining = None;
            self.hold_ourselves(self.settings.hold_down, Cause::Returned, now);
        }
    }

    /// The kernel of this node answered a [`Output::Probe`].
    pub fn probe_answered(&mut self, node: &str, now: Instant) {
        self.advance(now);
        let id = MemberId::of(node);
        if let Some(watch) = self.peers.get_mut(&id).and_then(|peer| peer.watch.as_mut()) {
            watch.answered();
            self.observe(id, now);
        }
    }

    /// The next thing to do. None: nothing until [`next_due`](Self::next_due).
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn view_of(&self, id: MemberId) -> Option<View> {
        if id == self.us.id { Some(self.us.view) } else { self.peers.get(&id).map(|peer| peer.view) }
    }

    /// Takes note of the time. Whatever we slept through is nobody's silence.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.clock.at);
        self.clock.at = self.clock.at.max(now);
        self.clock.awake += passed.min(self.settings.beat_interval);
        if passed > self.settings.window() {
            let awake = self.clock.awake;
            self.heard_anybody = awake;
            for peer in self.peers.values_mut().filter(|peer| peer.view != View::Out) {
                peer.watch.iter_mut().for_each(|watch| watch.give_time(awake));
            }
        }
    }

    /// Our status has changed: the next beats go to everybody, the first of them at once.
    fn tell_all(&mut self, now: Instant) {
        self.us.flood = TELL_ALL;
        self.rounds.beat = now;
    }

    /// We were out, or are held to be: we own nothing for this long.
    fn hold_ourselves(&mut self, hold: Duration, cause: Cause, now: Instant) {
        self.us.incarnation += 1;
        self.us.ballot.clear();
        self.forget_verdicts();
        self.set_own_view(View::HoldDown { until: now + hold }, cause);
        self.tell_all(now);
    }

    /// Those whom we held to be out were of another part of the network, or were judged while we were not there: we judge
    /// them anew, so that what we thought then says nothing to those to whom we return.
    fn forget_verdicts(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| peer.view == View::Out) {
            let (node, to) = (peer.member.node.clone(), View::Alive);
            let from = std::mem::replace(&mut peer.view, to);
            peer.ballot.clear();
            peer.damping.was_mistaken();
            peer.watch = None;
            self.outputs.push_back(Output::Changed { node, from, to, cause: Cause::JudgedAnew });
        }
        // The rings are made anew with our own view, and with them the watches.
        self.rings.watched.retain(|id| self.peers.get(id).is_some_and(|peer| peer.watch.is_some()));
    }

    fn set_own_view(&mut self, to: View, cause: Cause) {
        let from = std::mem::replace(&mut self.us.view, to);
        self.arrange();
        self.outputs.push_back(Output::Changed { node: self.us.node.clone(), from, to, cause });
    }

    fn set_view(&mut self, id: MemberId, to: View, cause: Cause) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let from = std::mem::replace(&mut peer.view, to);
        if let (View::HoldDown { .. }, View::HoldDown { .. }) = (from, to) {
            return; // the same hold-down, told anew
        }
        if from == to {
            return;
        }
        let node = peer.member.node.clone();
        if from == View::Out || to == View::Out {
            peer.ballot.clear();
        }
        if from == View::Out && to == View::Alive {
            peer.damping.was_mistaken();
        }
        if from.takes_part() != to.takes_part() || from.fitness() != to.fitness() {
            self.arrange();
        }
        self.outputs.push_back(Output::Changed { node, from, to, cause });
    }

    /// Works out anew who observes whom and who may own addresses.
    fn arrange(&mut self) {
        let us = (self.us.id, self.us.view);
        let views = || self.peers.iter().map(|(id, peer)| (*id, peer.view)).chain([us]);
        let mut all: Vec<_> = views().map(|(id, _)| id).collect();
        let mut observing: Vec<_> = views().filter(|(_, view)| view.takes_part()).map(|(id, _)| id).collect();
        all.sort_unstable();
        observing.sort_unstable();
        let fittest = views().filter_map(|(_, view)| view.fitness()).min();
        let owners =
            views().filter(|(_, view)| fittest.is_some() && view.fitness() == fittest).map(|(id, _)| id).collect();
        let fit = || views().filter(|(_, view)| view.fitness() == Some(0)).map(|(id, _)| id);
        let lowest = fit().min().unwrap_or(MemberId([0xff; 8]));
        let part = (u16::try_from(fit().count()).unwrap_or(u16::MAX), Reverse(lowest));
        let count = self.settings.observers;
        let ours = successors(&observing, self.us.id, count).collect();
        let watched = watched_by(&all, self.us.id, count, |id| {
            id == self.us.id || self.peers.get(&id).is_some_and(|peer| peer.view.takes_part())
        });
        let no_longer = self.rings.watched.iter().filter(|id| !watched.contains(id));
        for id in no_longer {
            self.peers.get_mut(id).into_iter().for_each(|peer| peer.watch = None);
        }
        let awake = self.clock.awake;
        for id in &watched {
            if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.watch.is_none()) {
                let mut watch = Box::new(Watch::new(awake));
                if peer.view == View::Out {
                    watch.follow_majority(); // or whoever asks us would hear that it lives
                }
                peer.watch = Some(watch);
            }
        }
        self.rings = Rings { all, observing, ours, watched, owners, part };
    }
}

#[cfg(test)]
mod tests;
