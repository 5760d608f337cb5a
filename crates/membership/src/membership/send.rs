//! What we say.

use std::time::Duration;

use super::Membership;
use crate::MemberId;
use crate::message::{Claim, MAX_OPINIONS, Message, Opinion, Phase, Stance, Status, WireCheck};
use crate::view::{Output, View};

/// What a message says beyond our status.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) ask: bool,
    pub(super) refutes: bool,
    pub(super) ack: Option<u64>,
    pub(super) opinions: Vec<Opinion>,
    pub(super) claim: Option<Claim>,
    pub(super) check: Option<WireCheck>,
}

impl Membership {
    fn status(&self) -> Status {
        let phase = match self.us.view {
            _ if self.us.restarting => Phase::Restarting,
            View::Joining => Phase::Joining,
            View::HoldDown { until } => {
                let left = until.saturating_duration_since(self.clock.at).as_millis();
                Phase::Held(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)))
            }
            View::Draining => Phase::Draining,
            View::Alive | View::Suspect | View::Covered { .. } | View::Out => Phase::Up,
        };
        let (live, leader) = self.rings.part;
        Status {
            incarnation: self.us.incarnation,
            phase,
            interval: self.settings.beat_interval,
            term: self.term,
            live,
            leader: leader.0,
        }
    }

    /// One datagram to each of these, sealed once.
    pub(super) fn send(&mut self, to: impl IntoIterator<Item = MemberId>, extra: Extra) {
        let to: Vec<_> = to.into_iter().filter_map(|id| self.peers.get(&id)).map(|peer| peer.member.address).collect();
        if to.is_empty() {
            return;
        }
        if self.us.number == u32::MAX {
            // No nonce comes twice: the numbers of this session are used up.
            (self.us.session, self.us.number) = (self.us.session.wrapping_add(1), 0);
            self.us.incarnation += 1;
        }
        self.us.number += 1;
        let Extra { ask, refutes, ack, opinions, claim, check } = extra;
        let (status, down, macs) = (self.status(), self.us.down.clone(), self.us.macs.clone());
        let octets = Message { status, down, macs, ask, refutes, ack, opinions, claim, check }.to_octets();
        let sealed = self.own_keys.seal(&self.keys, self.us.id, self.us.session, self.us.number, &octets);
        // Sealing fails for messages of more than 256 GB only.
        if let Ok(datagram) = sealed {
            self.outputs.push_back(Output::Send { to, datagram });
        }
    }

    /// Opinions to each of these, in as many datagrams as it takes.
    pub(super) fn send_opinions(&mut self, to: &[MemberId], ask: bool, opinions: &[Opinion]) {
        for opinions in opinions.chunks(MAX_OPINIONS) {
            self.send(to.iter().copied(), Extra { ask, opinions: opinions.to_vec(), ..Extra::default() });
        }
    }

    /// What we observe of a member that we watch.
    pub(super) fn opinion(&self, about: MemberId) -> Option<Opinion> {
        let peer = self.peers.get(&about)?;
        let watch = peer.watch.as_ref()?;
        let (incarnation, stance, verdict) = (peer.incarnation, watch.stance, watch.verdict);
        Some(Opinion { about, incarnation, stance, verdict, hold: Duration::ZERO })
    }

    /// What we have acted on with a majority: for those that were not there.
    pub(super) fn verdicts(&self) -> Vec<Opinion> {
        let standing = |view| matches!(view, View::Out | View::Covered { .. });
        let peers = self.peers.iter().filter(|(_, peer)| standing(peer.view));
        let verdicts = peers.filter_map(|(id, _)| self.opinion(*id));
        verdicts.filter(|opinion| opinion.stance != Stance::Hears).take(MAX_OPINIONS).collect()
    }

    /// What we tell a member about itself: that it is out and how long it is to wait, or that it is not.
    pub(super) fn word_to(&mut self, about: MemberId) -> Option<Opinion> {
        let now = self.clock.at;
        let peer = self.peers.get_mut(&about)?;
        let incarnation = peer.incarnation;
        if peer.view != View::Out {
            return Some(Opinion { about, incarnation, stance: Stance::Hears, verdict: false, hold: Duration::ZERO });
        }
        let hold = peer.damping.hold(&self.settings, now);
        Some(Opinion { about, incarnation, stance: Stance::Gone, verdict: true, hold })
    }

    /// Whether we may answer that member unasked: once in a beat interval, or two could go on for ever.
    pub(super) fn may_answer(&mut self, to: MemberId) -> bool {
        let (awake, interval) = (self.clock.awake, self.settings.beat_interval);
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        let may = peer.answered.is_none_or(|at| awake >= at + interval);
        if may {
            peer.answered = Some(awake);
        }
        may
    }
}
