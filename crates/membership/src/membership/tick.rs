//! What the passing of time brings.

use std::time::{Duration, Instant};

use super::Membership;
use super::send::Extra;
use crate::MemberId;
use crate::message::{MAX_OPINIONS, Opinion, Stance};
use crate::ring::successors;
use crate::verdict::Verdict;
use crate::view::{Cause, Output, View};
use crate::watch::Pace;

/// Those that are out are asked every so many beats, so that a network that is whole again is noticed; at most so many at a
/// time, so that the cost stays bounded.
const ASK_EVERY: u64 = 5;
const ASK_AT_MOST: usize = 20;
/// Every so many beats one member is told how things stand, each in its turn: whatever was lost is mended in the end.
const GOSSIP_EVERY: u64 = 10;

impl Membership {
    /// Does what is due. To be called at [`next_due`](Self::next_due), or earlier.
    pub fn tick(&mut self, now: Instant) {
        self.advance(now);
        for id in self.rings.watched.clone() {
            self.observe(id, now);
        }
        for id in std::mem::take(&mut self.doubted) {
            self.judge(id, now);
        }
        self.judge_ourselves(now);
        self.outputs.extend(self.claims.retries(now).into_iter().map(|address| Output::Retry { address }));
        if now >= self.rounds.beat {
            self.pass_on();
            self.beat(now);
        }
    }

    /// When something is to be done that no datagram brings about.
    #[must_use]
    pub fn next_due(&self) -> Instant {
        let (now, awake) = (self.clock.at, self.clock.awake);
        let watched = self.rings.watched.iter().filter_map(|id| self.peers.get(id));
        let watches = watched.filter(|peer| peer.view != View::Out).filter_map(|peer| {
            let (pace, gone) = (self.pace(peer.status.map(|status| status.interval)), peer.view.is_covered());
            Some(now + peer.watch.as_ref()?.due(&pace, gone).saturating_sub(awake))
        });
        let undecided = !self.doubted.is_empty() || self.us.view == View::Joining;
        let doubts = undecided.then(|| now + self.settings.slack());
        let own = match self.us.view {
            View::HoldDown { until } => Some(until),
            _ => self.us.draining.as_ref().map(|draining| draining.until),
        };
        let retry = self.claims.next_retry();
        watches.chain(doubts).chain(own).chain(retry).fold(self.rounds.beat, Instant::min)
    }

    fn pace(&self, interval: Option<Duration>) -> Pace {
        let beat = interval.unwrap_or(self.settings.beat_interval);
        let (window, slack) = (self.settings.window_for(beat), self.settings.slack());
        Pace { beat, window, ask: self.settings.beat_interval, slack }
    }

    /// Looks at a member that we watch.
    pub(super) fn observe(&mut self, id: MemberId, now: Instant) {
        let awake = self.clock.awake;
        let Some((view, status)) = self.peers.get(&id).map(|peer| (peer.view, peer.status)) else { return };
        let pace = self.pace(status.map(|status| status.interval));
        let (gone, expired) = match view {
            View::Out => return,
            View::Covered { since } => (true, now >= since + self.settings.cover_for),
            _ => (false, false),
        };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(watch) = &mut peer.watch else { return };
        let before = watch.stance;
        let look = watch.look(&pace, awake, gone, expired);
        let changed = watch.stance != before;
        if watch.stance != Stance::Hears {
            peer.ballot.open(now);
        }
        if look.probe {
            self.outputs.push_back(Output::Probe { node: peer.member.node.clone() });
        }
        if look.say {
            let mut to: Vec<_> = successors(&self.rings.observing, id, self.settings.observers).collect();
            to.push(id);
            let word = self.opinion(id);
            self.send(to, Extra { opinions: word.into_iter().collect(), ..Extra::default() });
        }
        if changed {
            self.judge(id, now);
        }
    }

    /// Decides about a member that somebody doubts.
    pub(super) fn judge(&mut self, id: MemberId, now: Instant) {
        let (confirm, isolated) = (self.settings.confirm(), self.is_isolated());
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let own = peer.watch.as_ref().map(|watch| watch.stance);
        let (view, open) = (peer.view, peer.ballot.is_open(now, own));
        if view == View::Out || !open {
            if view == View::Suspect {
                self.set_view(id, View::Alive, Cause::Heard);
            }
            return;
        }
        let confirmed = peer.ballot.confirmed_at(confirm).is_some_and(|at| now >= at);
        self.doubted.insert(id);
        let Some(peer) = self.peers.get(&id) else { return };
        let observers = successors(&self.rings.observing, id, self.settings.observers);
        let ours = |observer| if observer == self.us.id { own } else { None };
        let verdict = peer.ballot.count(observers, ours, |observer| self.is_heard(observer), confirmed).verdict();
        let misses = own.is_some_and(|stance| stance != Stance::Hears);
        let change = match (view, verdict) {
            (View::Alive | View::Suspect | View::Covered { .. }, Verdict::Gone) if !isolated => {
                Some((View::Out, Cause::NodeSilent))
            }
            (View::HoldDown { .. } | View::Draining, Verdict::Gone | Verdict::SpeakerGone) => {
                Some((View::Out, Cause::NodeSilent))
            }
            (View::Alive | View::Suspect, Verdict::SpeakerGone) => {
                Some((View::Covered { since: now }, Cause::SpeakerSilent))
            }
            (View::Covered { .. }, Verdict::Alive) => Some((View::Alive, Cause::Heard)),
            (View::Alive, _) if misses => Some((View::Suspect, Cause::MissedBeats)),
            (View::Suspect, _) if !misses => Some((View::Alive, Cause::Heard)),
            _ => None,
        };
        if let Some((to, cause)) = change {
            self.act(id, to, cause, now);
        }
    }

    /// The verdict takes effect.
    fn act(&mut self, id: MemberId, to: View, cause: Cause, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if to == View::Out && peer.view != View::Draining {
            peer.damping.went_out(&self.settings, now);
        }
        if let (View::Out | View::Covered { .. }, Some(watch)) = (to, &mut peer.watch) {
            (watch.verdict, watch.flood) = (true, super::TELL_ALL);
            if to == View::Out {
                watch.follow_majority();
            }
            self.rounds.beat = self.rounds.beat.min(now);
        }
        self.set_view(id, to, cause);
    }

    /// Whether we hear nobody at all, and not for long enough to believe that all the others are gone. Of two members each
    /// is the other's only witness: there it is no sign of anything.
    fn is_isolated(&self) -> bool {
        let silence = self.clock.awake.saturating_sub(self.heard_anybody);
        self.peers.len() > 1 && silence >= self.settings.window() && silence < self.settings.isolation()
    }

    fn is_heard(&self, id: MemberId) -> bool {
        let watch = self.peers.get(&id).and_then(|peer| peer.watch.as_ref());
        watch.is_some_and(|watch| watch.stance == Stance::Hears)
    }

    /// Decides whether we are out ourselves, and ends what has had its time.
    pub(super) fn judge_ourselves(&mut self, now: Instant) {
        match self.us.view {
            View::HoldDown { until } if now >= until => {
                self.set_own_view(View::Alive, Cause::Fit);
                self.tell_all(now);
            }
            View::Draining => self.hand_over_when_taken(now),
            View::Joining | View::Alive => self.judge_words_about_us(now),
            _ => {}
        }
    }

    fn judge_words_about_us(&mut self, now: Instant) {
        let joining = self.us.view == View::Joining;
        if !self.us.ballot.is_open(now, None) && !joining {
            return;
        }
        let confirmed = if joining {
            now >= self.us.joining_until
        } else {
            self.us.ballot.confirmed_at(self.settings.confirm()).is_some_and(|at| now >= at)
        };
        let observers = successors(&self.rings.observing, self.us.id, self.settings.observers);
        let heard = |observer| !joining && self.is_heard(observer);
        match self.us.ballot.count(observers, |_| None, heard, confirmed).about_us() {
            Some(Some(hold)) => self.hold_ourselves(hold, Cause::Returned, now),
            Some(None) => self.we_are_not_out(now),
            None if confirmed => self.we_are_not_out(now),
            None => {}
        }
    }

    fn we_are_not_out(&mut self, now: Instant) {
        if self.us.view == View::Joining {
            self.set_own_view(View::Alive, Cause::Fit);
            self.tell_all(now);
        }
        if self.us.ballot.is_open(now, None) {
            self.refute(true);
        }
        self.us.ballot.clear();
    }

    /// Make before break: we stop once all that may own addresses have taken theirs, or have had the time for it.
    pub(super) fn hand_over_when_taken(&mut self, now: Instant) {
        let Some(draining) = &self.us.draining else { return };
        let mut owners = self.rings.owners.iter().filter(|id| **id != self.us.id);
        if now >= draining.until || owners.all(|id| draining.acknowledged.contains(id)) {
            self.us.draining = None;
            self.outputs.push_back(Output::HandedOver);
        }
    }

    /// Our beat, and what comes round with it.
    pub(super) fn beat(&mut self, now: Instant) {
        let next = self.rounds.beat + self.settings.beat_interval;
        self.rounds.beat = if next > now { next } else { now + self.settings.beat_interval };
        self.rounds.count += 1;
        if self.us.flood > 0 || self.us.draining.is_some() {
            self.us.flood = self.us.flood.saturating_sub(1);
            let all: Vec<_> = self.peers.keys().copied().collect();
            self.send(all, Extra { ask: self.us.ask, ..Extra::default() });
            self.us.ask = self.us.view == View::Joining;
        } else {
            self.send(self.rings.ours.clone(), Extra::default());
        }
        if self.rounds.ask_all || self.rounds.count.is_multiple_of(ASK_EVERY) {
            self.ask_the_absent(now);
        }
        if self.rounds.count.is_multiple_of(GOSSIP_EVERY) {
            self.rounds.gossip = next_after(&self.rings.all, self.us.id, self.rounds.gossip);
            let opinions = self.verdicts();
            self.send(self.rounds.gossip, Extra { opinions, ..Extra::default() });
        }
    }

    /// Our words that are for all members.
    fn pass_on(&mut self) {
        let mut words = Vec::new();
        for id in self.rings.watched.clone() {
            words.extend(self.opinion(id).filter(|_| {
                let watch = self.peers.get_mut(&id).and_then(|peer| peer.watch.as_mut());
                watch.is_some_and(|watch| watch.take_flood())
            }));
        }
        if !words.is_empty() {
            let all: Vec<_> = self.peers.keys().copied().collect();
            self.send_opinions(&all, false, &words);
        }
    }

    /// Asks those that are out, and those whose hold-down should be over, how they are: when the network is whole again
    /// nobody else tells us.
    fn ask_the_absent(&mut self, now: Instant) {
        let is_absent = |view| match view {
            View::HoldDown { until } => now > until + self.settings.beat_interval,
            view => view == View::Out,
        };
        let absent: Vec<_> = self.peers.iter().filter(|(_, peer)| is_absent(peer.view)).map(|(id, _)| *id).collect();
        let most = if std::mem::take(&mut self.rounds.ask_all) { absent.len() } else { ASK_AT_MOST };
        let start = absent.partition_point(|id| Some(*id) <= self.rounds.asked);
        let asked: Vec<_> = absent[start..].iter().chain(&absent[..start]).copied().take(most).collect();
        self.rounds.asked = asked.last().copied();
        for some in asked.chunks(MAX_OPINIONS) {
            let words: Vec<Opinion> = some.iter().filter_map(|id| self.word_to(*id)).collect();
            self.send_opinions(some, true, &words);
        }
    }
}

/// The member after `last` on the ring, leaving ourselves out.
fn next_after(all: &[MemberId], us: MemberId, last: Option<MemberId>) -> Option<MemberId> {
    successors(all, last.unwrap_or(us), 2).find(|id| *id != us)
}
