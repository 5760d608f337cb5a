//! What others say.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::Membership;
use super::send::Extra;
use crate::message::{MAX_MESSAGE, Message, Opinion, Phase, Stance, Status};
use crate::ring::successors;
use crate::seal::{Refusal, Sealed};
use crate::verdict::{Ballot, Vote};
use crate::view::{Cause, Output, View};
use crate::{Down, LONGEST_HOLD_DOWN, Macs, MemberId};

/// Where a message comes from.
#[derive(Clone, Copy)]
struct Origin {
    from: MemberId,
    number: u32,
    /// A later datagram of the sender was here first: the status in this one is out of date.
    overtaken: bool,
}

impl Origin {
    fn vote(self, opinion: &Opinion, ballot: &mut Ballot, now: Instant) {
        let vote = Vote { stance: opinion.stance, hold: opinion.hold, at: now, number: self.number };
        ballot.enter(self.from, vote, self.overtaken);
    }
}

impl Membership {
    /// A datagram has come. Where from does not matter: the seal says whose it is, and answers go to the address that the
    /// API names.
    ///
    /// # Errors
    /// Why it was refused, to be counted; it has changed nothing then.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<(), Refusal> {
        let sealed = Sealed::parse(datagram)?;
        let from = sealed.sender;
        let peer = self.peers.get_mut(&from).ok_or(Refusal::Sender { have: from })?;
        peer.may_be_new(sealed.session, sealed.number)?;
        let mut buffer = [0; MAX_MESSAGE];
        let octets = peer.open(from, &self.keys, &sealed, &mut buffer)?;
        let message = Message::parse(octets)?;
        let newest = peer.accept(sealed.session, sealed.number, message.status.incarnation);
        self.advance(now);
        match newest {
            Ok(newest) => {
                self.heard(from, message.status.phase);
                let origin = Origin { from, number: sealed.number, overtaken: !newest };
                self.read(origin, message, now);
                Ok(())
            }
            Err(refusal) => {
                self.tell_of_later_start(from);
                Err(refusal)
            }
        }
    }

    /// A sign of life.
    fn heard(&mut self, from: MemberId, phase: Phase) {
        let awake = self.clock.awake;
        self.heard_anybody = awake;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        self.rounds.ask_all |= peer.view == View::Out;
        let Some(watch) = &mut peer.watch else { return };
        match (peer.view, phase) {
            // It has started again and does not answer yet: it is covered for a moment longer.
            (View::Covered { .. }, Phase::Joining | Phase::Restarting) => watch.answered(),
            _ => watch.heard(awake),
        }
    }

    /// Somebody speaks for a start of that member that is over. Either its datagrams are replayed, or its clock was set back:
    /// then it goes on above what we know.
    fn tell_of_later_start(&mut self, id: MemberId) {
        if !self.may_answer(id) {
            return;
        }
        let Some(incarnation) = self.peers.get(&id).map(|peer| peer.incarnation) else { return };
        let opinion = Opinion { about: id, incarnation, stance: Stance::Hears, verdict: false, hold: Duration::ZERO };
        self.send_opinions(&[id], false, &[opinion]);
    }

    fn read(&mut self, origin: Origin, message: Message, now: Instant) {
        let Message { status, down, macs, ask, refutes, ack, opinions, claim, check } = message;
        let from = origin.from;
        self.term = self.term.max(status.term);
        if !origin.overtaken {
            self.read_links(from, down, macs);
            self.read_status(from, status, refutes, now);
        }
        for opinion in opinions {
            if opinion.about == self.us.id {
                self.read_word_about_us(origin, opinion, now);
            } else {
                self.read_opinion(origin, opinion, now);
            }
        }
        if ask {
            let mut opinions: Vec<_> = self.word_to(from).into_iter().collect();
            opinions.extend(self.verdicts().into_iter().filter(|opinion| opinion.about != from));
            self.send_opinions(&[from], false, &opinions);
        }
        if let (Some(incarnation), Some(draining)) = (ack, &mut self.us.draining)
            && incarnation == self.us.incarnation
        {
            draining.acknowledged.insert(from);
            self.hand_over_when_taken(now);
        }
        if let Some(claim) = claim
            && let Some(node) = self.peers.get(&from).map(|peer| peer.member.node.clone())
        {
            if self.claims.contest(claim, self.us.id, from, self.settings.yield_for(), now) {
                self.outputs.push_back(Output::Yield { address: claim.address, to: node });
            } else if !claim.released {
                self.heard_owner(claim.address, &node, now);
            }
        }
        if let (Some(check), Some(peer)) = (check, self.peers.get(&from)) {
            self.outputs.push_back(Output::Checked { by: peer.member.node.clone(), check });
        }
    }

    fn read_links(&mut self, from: MemberId, down: Down, macs: Macs) {
        if let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.down != down || peer.macs != macs) {
            (peer.down, peer.macs) = (down, macs);
            self.outputs.push_back(Output::LinksChanged { node: peer.member.node.clone() });
        }
    }

    fn read_status(&mut self, from: MemberId, status: Status, refutes: bool, now: Instant) {
        let confirm = self.settings.confirm();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if status.incarnation > peer.incarnation {
            peer.incarnation = status.incarnation;
            peer.ballot.clear();
            peer.refuted_until = Some(now + confirm);
        }
        peer.status = Some(status);
        let view = peer.view;
        // It has asked its observers. And who has itself been held to be out believes the others.
        let back = refutes || matches!(self.us.view, View::HoldDown { .. });
        let change = match (view, status.phase) {
            (View::Draining, Phase::Draining) => None,
            (_, Phase::Draining) => Some((View::Draining, Cause::Drains)),
            (View::Alive | View::Suspect, Phase::Restarting) => Some((View::Covered { since: now }, Cause::Restarts)),
            (View::HoldDown { .. }, Phase::Restarting | Phase::Joining) => Some((View::Out, Cause::Restarts)),
            (View::Draining, Phase::Joining) => Some((View::Out, Cause::Restarts)),
            (_, Phase::Restarting | Phase::Joining) => None,
            (_, Phase::Held(left)) => {
                Some((View::HoldDown { until: now + left.min(LONGEST_HOLD_DOWN) }, Cause::Returned))
            }
            (View::Out, Phase::Up) => back.then_some((View::Alive, Cause::Fit)),
            (View::HoldDown { .. } | View::Draining, Phase::Up) => Some((View::Alive, Cause::Fit)),
            (View::Covered { .. }, Phase::Up) => Some((View::Alive, Cause::Heard)),
            (View::Alive | View::Suspect | View::Joining, Phase::Up) => None,
        };
        if let Some((to, cause)) = change {
            // One of our part yields to another part: that one is there for us, too.
            self.rounds.ask_all |= view.fitness() == Some(0) && matches!(to, View::HoldDown { .. });
            self.set_view(from, to, cause);
            self.doubted.insert(from);
        }
        if self.peers.get(&from).and_then(|peer| peer.watch.as_ref()).is_some_and(|w| w.stance != Stance::Hears) {
            self.observe(from, now);
        }
        if status.phase == Phase::Draining {
            self.send([from], Extra { ack: Some(status.incarnation), ..Extra::default() });
        }
        if self.view_of(from) == Some(View::Out) && self.may_answer(from) {
            let word = self.word_to(from);
            self.send([from], Extra { opinions: word.into_iter().collect(), ..Extra::default() });
        }
    }

    /// What an observer says of a third member.
    fn read_opinion(&mut self, origin: Origin, opinion: Opinion, now: Instant) {
        let Some(peer) = self.peers.get_mut(&opinion.about) else { return };
        let late = opinion.incarnation < peer.incarnation && peer.refuted_until.is_some_and(|until| now < until);
        peer.incarnation = peer.incarnation.max(opinion.incarnation);
        let of_another_part = self.view_of(origin.from) == Some(View::Out);
        if late || of_another_part || origin.overtaken && self.has_yielded(origin.from) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&opinion.about) else { return };
        if peer.view == View::Out {
            // Whoever doubts it has missed the verdict.
            if opinion.stance != Stance::Hears && !opinion.verdict {
                let word = self.opinion(opinion.about);
                self.send([origin.from], Extra { opinions: word.into_iter().collect(), ..Extra::default() });
            }
            return;
        }
        origin.vote(&opinion, &mut peer.ballot, now);
        self.doubted.insert(opinion.about);
        if let Some(watch) = &mut peer.watch
            && (watch.stance, opinion.stance != Stance::Hears) == (Stance::Hears, true)
        {
            if opinion.verdict && watch.flood == 0 {
                watch.flood = 1; // it acts on what we know to be wrong: all must hear that
            }
            let word = self.opinion(opinion.about);
            self.send([origin.from], Extra { opinions: word.into_iter().collect(), ..Extra::default() });
        }
        self.judge(opinion.about, now);
    }

    /// What another says of us.
    fn read_word_about_us(&mut self, origin: Origin, opinion: Opinion, now: Instant) {
        if opinion.incarnation > self.us.incarnation {
            // We have lived before, and the clock was set back since.
            self.us.incarnation = opinion.incarnation.saturating_add(1);
            self.tell_all(now);
            return;
        }
        let from = origin.from;
        let against = opinion.stance != Stance::Hears;
        if opinion.incarnation < self.us.incarnation {
            if against {
                self.send([from], Extra::default());
            }
            return;
        }
        let held = opinion.hold > Duration::ZERO;
        if held && self.has_yielded(from) && self.us.view != View::Joining {
            return; // it said so before it yielded to our part, and counts us among its own by now
        }
        if held && self.view_of(from) == Some(View::Out) {
            self.meet_other_part(from, opinion.hold, now);
            return;
        }
        origin.vote(&opinion, &mut self.us.ballot, now);
        if against && !held && self.us.view != View::Joining {
            self.refute(false); // while we join, our start's incarnation is the refutation: another would make words void that we need
        } else if held {
            self.ask_our_observers();
        }
        self.judge_ourselves(now);
    }

    /// Whether that member was out by its own word, and has not come through its hold-down yet.
    fn has_yielded(&self, id: MemberId) -> bool {
        let status = self.peers.get(&id).and_then(|peer| peer.status);
        status.is_some_and(|status| matches!(status.phase, Phase::Held(_)))
    }

    /// Somebody holds us to be out: what do our observers say?
    fn ask_our_observers(&mut self) {
        let (awake, interval) = (self.clock.awake, self.settings.beat_interval);
        if self.us.asked.is_none_or(|at| awake >= at + interval) {
            self.us.asked = Some(awake);
            let observers: Vec<_> = successors(&self.rings.observing, self.us.id, self.settings.observers).collect();
            self.send(observers, Extra { ask: true, ..Extra::default() });
        }
    }

    /// We hold a member to be out that holds us to be out: the network was split and is whole again. The larger part keeps
    /// its addresses; of equal ones that with the lowest id.
    fn meet_other_part(&mut self, from: MemberId, hold: Duration, now: Instant) {
        let Some(status) = self.peers.get(&from).and_then(|peer| peer.status) else { return };
        let theirs = (status.live, Reverse(status.leader), Reverse(from));
        let (live, leader) = self.rings.part;
        if theirs > (live, leader, Reverse(self.us.id)) && matches!(self.us.view, View::Alive | View::Joining) {
            self.hold_ourselves(hold, Cause::SmallerPart, now);
        }
    }

    /// We are here: said to our observers and to those who doubt it, under a higher incarnation. `refutes` says that our
    /// observers have been asked.
    pub(super) fn refute(&mut self, refutes: bool) {
        self.us.incarnation += 1;
        let mut to: Vec<_> = self.us.ballot.voters().collect();
        to.extend(successors(&self.rings.observing, self.us.id, self.settings.observers));
        to.sort_unstable();
        to.dedup();
        self.us.ballot.clear();
        self.send(to, Extra { refutes, ..Extra::default() });
    }
}
