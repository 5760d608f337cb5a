//! Membership at the edge: its datagrams, its questions to kernels, its clock, and what the API half tells it.
//!
//! Lives on the wire thread, so that reading ten thousand Services never delays a beat. Nothing is said to anybody before the API
//! half has its first lists: who beats may own addresses, and must be able to answer for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use landfall_membership::{
    Cause, Down, Keys, Leave, MAX_DATAGRAM, Macs, Member, Membership, Output, Start, View, WireCheck,
};
use landfall_runtime::{publish, random, timer};
use landfall_wire::MacAddr;
use tokio::sync::watch;

use crate::beat_socket::BeatSocket;
use crate::kernel_probe::{Answered, Prober};
use crate::keys::Keyring;
use crate::links::Links;

/// The nodes with a speaker and their addresses.
pub type Members = BTreeMap<Arc<str>, IpAddr>;

/// What this speaker is to do for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Own what falls to it.
    Serve,
    /// Own nothing as long as another can: `landfall.io/drain`. The others hear of it by the API, too, and rank this node last.
    Drain,
    /// Say that it ends and will be back: others are to cover it.
    Restart,
}

/// What the API half tells.
#[derive(Clone, Debug)]
pub struct LivenessInputs {
    /// How fast, how sure, how patient.
    pub settings: landfall_membership::Settings,
    /// Our own address, to which the others send.
    pub address: IpAddr,
    /// The port of all speakers.
    pub port: u16,
    /// `None` until the first lists are complete.
    pub members: watch::Receiver<Option<Arc<Members>>>,
    /// `None` until the Secret is known.
    pub keys: watch::Receiver<Option<Keyring>>,
    /// What we are to do.
    pub stance: watch::Receiver<Stance>,
    /// Where to tell what we observe, if anybody wants to know.
    pub observed: Option<watch::Sender<Observed>>,
}

/// What this speaker observes of the nodes whose observer it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// They are out by the verdict of their observers, and their kernels left our own questions unanswered.
    pub silent: BTreeSet<Arc<str>>,
    /// There is a node that we do not hear.
    pub misses_beats: bool,
}

/// Something happened.
pub(crate) enum News {
    /// A datagram of this length, from there, is in the buffer.
    Datagram(io::Result<(usize, SocketAddr)>),
    /// A kernel answered.
    Answered(Answered),
    /// It is time for a beat, or a deadline has come.
    Due,
    /// The API half said something.
    Told,
}

/// Why owners may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// All who are concerned live: the configuration or the interfaces have changed, a node drains, or one has been healthy for
    /// long enough to get its addresses back. Who gives an address away answers until the next owner is heard.
    Planned,
    /// A member has gone, or has the better right; or nothing, and it is only to be put right what is answered for.
    Unplanned,
}

impl Moves {
    /// When a member is seen in another state: it was in this one, and changed for this reason.
    fn of(from: View, cause: Cause) -> Self {
        match (from, cause) {
            (View::HoldDown { .. }, Cause::Fit) => Self::Planned,
            _ => Self::Unplanned,
        }
    }

    /// Of reasons that come together the more urgent one counts.
    fn beside(self, other: Option<Self>) -> Self {
        if other == Some(Self::Unplanned) { Self::Unplanned } else { self }
    }
}

/// What is left to do for the wire thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Find out anew who owns what, then ask again: what follows is only to be done after that.
    Elect(Moves),
    /// Others have looked after our addresses, and found this.
    Checked(Vec<(Arc<str>, WireCheck)>),
    /// We may end.
    HandedOver,
    /// Nothing until there is news.
    Wait,
}

/// See the module.
pub(crate) struct Liveness {
    node: Arc<str>,
    inputs: LivenessInputs,
    socket: BeatSocket,
    prober: Prober,
    membership: Option<Membership>,
    stance: Stance,
    /// What we were told last.
    members: Option<Arc<Members>>,
    keyring: Option<Keyring>,
    /// What we cannot serve.
    down: Down,
    /// Where we are to be found.
    macs: Macs,
    /// What our interfaces, by index, and those of the others that are on the same segment have in common.
    segments: BTreeMap<u32, Vec<String>>,
    /// The MAC addresses with which kernels answered, by node and interface: for segments that have no name in common.
    answered: BTreeMap<Arc<str>, BTreeMap<u32, MacAddr>>,
    buffer: Box<[u8]>,
    elect: Option<Moves>,
    handed_over: bool,
    /// What others have found out about our addresses.
    checks: Vec<(Arc<str>, WireCheck)>,
    /// What was taken from the machine and waits for an election.
    postponed: Option<Output>,
}

impl Liveness {
    /// For the speaker on `node`.
    ///
    /// # Errors
    /// When the socket cannot be had; the error says which, and the way out.
    pub(crate) fn open(node: Arc<str>, inputs: LivenessInputs) -> anyhow::Result<Self> {
        let prober = Prober::new().context("cannot ask the kernels of other nodes whether they live")?;
        let socket = BeatSocket::open(inputs.address, inputs.port)
            .with_context(|| format!("cannot tell the other speakers that this one lives, on {}", inputs.address))?;
        Ok(Self {
            node,
            inputs,
            socket,
            prober,
            membership: None,
            stance: Stance::Serve,
            members: None,
            keyring: None,
            down: Down::default(),
            macs: Macs::default(),
            segments: BTreeMap::new(),
            answered: BTreeMap::new(),
            buffer: vec![0; MAX_DATAGRAM + 1].into(),
            elect: None,
            handed_over: false,
            checks: Vec::new(),
            postponed: None,
        })
    }

    /// Waits for the next piece of news. Cancelling it loses none.
    pub(crate) async fn news(&mut self) -> News {
        let due = timer::sleep_until(self.membership.as_ref().map(Membership::next_due));
        tokio::select! {
            received = self.socket.receive(&mut self.buffer) => News::Datagram(received),
            answered = self.prober.answer() => News::Answered(answered),
            () = due => News::Due,
            Ok(()) = self.inputs.members.changed() => News::Told,
            Ok(()) = self.inputs.keys.changed() => News::Told,
            Ok(()) = self.inputs.stance.changed() => News::Told,
        }
    }

    /// Takes a piece of news; ask [`next`](Self::next) afterwards.
    pub(crate) fn take(&mut self, news: News, now: Instant) {
        match (news, &mut self.membership) {
            (News::Told, _) => self.be_told(now),
            (News::Datagram(Ok((length, from))), Some(membership)) => {
                let datagram = self.buffer.get(..length).unwrap_or_default();
                if let Err(refusal) = membership.receive(datagram, now) {
                    tracing::debug!(%from, reason = refusal.reason(), "refused a datagram");
                }
            }
            (News::Datagram(Err(error)), _) => tracing::debug!(%error, "cannot receive beats"),
            (News::Answered(Answered { node, mac }), Some(membership)) => {
                if let Some((interface, mac)) = mac {
                    let known = self.answered.entry(Arc::clone(&node)).or_default().insert(interface, mac);
                    if known != Some(mac) {
                        self.elect = Some(Moves::Unplanned); // it can be covered there from now on
                    }
                }
                membership.probe_answered(&node, now);
            }
            (News::Due, Some(membership)) if membership.next_due() <= now => membership.tick(now),
            (News::Datagram(Ok(_)) | News::Answered(_) | News::Due, _) => {}
        }
    }

    /// Members, keys and stance as they are told now.
    fn be_told(&mut self, now: Instant) {
        let keyring = self.inputs.keys.borrow_and_update().clone();
        let members = self.inputs.members.borrow_and_update().clone();
        let stance = *self.inputs.stance.borrow_and_update();
        let (Some(keyring), Some(members)) = (keyring, members) else { return };
        if self.keyring.as_ref() != Some(&keyring) {
            let secrets: Vec<&[u8]> = keyring.secrets.iter().map(Vec::as_slice).collect();
            match (Keys::new(&keyring.cluster, &secrets), &mut self.membership) {
                (Ok(keys), Some(membership)) => membership.set_keys(keys),
                (Ok(keys), none) => match start(&self.node, self.inputs.settings.clone(), keys, now) {
                    Ok(membership) => {
                        tracing::info!("telling the other speakers that this one lives");
                        let membership = none.insert(membership);
                        membership.set_down(self.down.clone(), now);
                        membership.set_macs(self.macs.clone(), now);
                    }
                    Err(error) => tracing::error!(%error, "cannot watch the other speakers"),
                },
                (Err(error), _) => tracing::error!(%error, "the speakers' key cannot be used"),
            }
            self.keyring = Some(keyring);
        }
        let Some(membership) = &mut self.membership else { return };
        if self.members.as_ref() != Some(&members) {
            let port = self.inputs.port;
            let member =
                |(node, ip): (&Arc<str>, &IpAddr)| Member { node: Arc::clone(node), address: (*ip, port).into() };
            tracing::info!(members = ?members.keys().collect::<Vec<_>>(), "the nodes with a speaker");
            membership.set_members(members.iter().map(member), now);
            self.answered.retain(|node, _| members.contains_key(node));
            self.members = Some(members);
            self.elect = Some(Moves::Unplanned);
        }
        if stance != std::mem::replace(&mut self.stance, stance) {
            self.handed_over = false;
            match stance {
                Stance::Serve => membership.stay(now),
                Stance::Drain => membership.leave(Leave::Drain, now),
                Stance::Restart => membership.leave(Leave::Restart, now),
            }
        }
    }

    /// Carries out what membership wants done, until something is left for the wire thread.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            let membership = self.membership.as_mut();
            let Some(output) = self.postponed.take().or_else(|| membership.and_then(Membership::poll)) else { break };
            match output {
                // What goes out may tell another that it can stop to answer: first we must answer ourselves.
                Output::Send { .. } | Output::HandedOver if self.elect.is_some() => {
                    self.postponed = Some(output);
                    break;
                }
                Output::Send { to, datagram } => {
                    self.socket.send(&datagram, &to);
                }
                Output::HandedOver => {
                    self.handed_over = true;
                    // Others own them now, so we need not any more.
                    if self.stance == Stance::Drain {
                        self.must_elect(Moves::Planned);
                    }
                }
                Output::Probe { node } => {
                    self.ask(&node);
                }
                Output::Changed { node, from, to, cause } => {
                    log(&node, from, to, cause);
                    let suspects = |view| matches!(view, View::Alive | View::Suspect);
                    if !(suspects(from) && suspects(to)) {
                        self.must_elect(Moves::of(from, cause));
                    }
                }
                Output::LinksChanged { .. } | Output::Retry { .. } => self.must_elect(Moves::Unplanned),
                Output::Checked { by, check } => self.checks.push((by, check)),
                Output::Yield { address, to } => {
                    tracing::info!(%address, %to, "another speaker has the better right to an address");
                    self.must_elect(Moves::Unplanned);
                }
            }
        }
        if let Some(moves) = self.elect.take() {
            return Next::Elect(moves);
        }
        if !self.checks.is_empty() {
            return Next::Checked(std::mem::take(&mut self.checks));
        }
        self.tell_observed();
        if self.handed_over && self.stance == Stance::Restart { Next::HandedOver } else { Next::Wait }
    }

    fn must_elect(&mut self, moves: Moves) {
        self.elect = Some(moves.beside(self.elect));
    }

    fn tell_observed(&self) {
        if let (Some(observed), Some(membership)) = (&self.inputs.observed, &self.membership) {
            let silent = membership.silent().map(Arc::clone).collect();
            publish::if_changed(observed, Observed { silent, misses_beats: membership.misses_beats() });
        }
    }

    /// Whether we drain and the others have not taken over yet: until then we go on answering.
    pub(crate) fn hands_over(&self) -> bool {
        self.stance == Stance::Drain && !self.handed_over
    }

    /// Membership, once we may own something.
    pub(crate) fn membership(&mut self) -> Option<&mut Membership> {
        self.membership.as_mut().filter(|membership| membership.own_view() != View::Joining)
    }

    /// The MAC address of a node on the segment of one of our interfaces: by its own word, or else by its kernel's, which is
    /// asked where nothing is known.
    pub(crate) fn mac(&mut self, node: &Arc<str>, interface: u32) -> Option<MacAddr> {
        let macs = self.membership.as_ref().and_then(|membership| membership.macs(node));
        let mut names = self.segments.get(&interface).into_iter().flatten();
        let said = names.find_map(|name| macs?.get(name)).map(MacAddr::from);
        let heard = || self.answered.get(node).and_then(|macs| macs.get(&interface)).copied();
        let known = said.or_else(heard);
        if known.is_none() {
            self.ask(node);
        }
        known
    }

    /// Somebody with this MAC address answers for an address that is ours: says whether it is a peer. Then its term and ours
    /// decide; see [`next`](Self::next).
    pub(crate) fn heard_owner(&mut self, ip: IpAddr, mac: MacAddr, interface: u32, now: Instant) -> bool {
        let Some(membership) = &mut self.membership else { return false };
        let has_it = |(_, macs): &(&Arc<str>, &BTreeMap<u32, MacAddr>)| macs.get(&interface) == Some(&mac);
        let heard = || self.answered.iter().find(has_it).map(|(node, _)| node);
        let Some(node) = membership.node_at(mac.octets()).or_else(heard).map(Arc::clone) else { return false };
        membership.heard_owner(ip, &node, now);
        true
    }

    /// We asked on the wire for an address that is this node's: tells it who answered.
    pub(crate) fn tell_owner(&mut self, owner: &str, check: WireCheck, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.tell_owner(owner, check, now);
        }
    }

    /// Asks the kernels of all members, to learn their MAC addresses.
    pub(crate) fn ask_all(&mut self) {
        let (us, members) = (Arc::clone(&self.node), self.members.clone().unwrap_or_default());
        for node in members.keys().filter(|node| **node != us) {
            self.ask(node);
        }
    }

    fn ask(&mut self, node: &Arc<str>) {
        if let Some(address) = self.members.as_ref().and_then(|members| members.get(node))
            && let Err(error) = self.prober.ask(node, *address)
        {
            tracing::debug!(%error);
        }
    }

    /// The interfaces have changed.
    pub(crate) fn set_links(&mut self, links: &Links, now: Instant) {
        self.prober.set_attached(links.attached());
        let segments: Vec<_> = links.segments().collect();
        let names = segments.iter().flat_map(|(_, mac, names)| names.iter().map(|name| (name.as_str(), mac.octets())));
        self.macs = Macs::new(names);
        self.segments = segments.into_iter().map(|(interface, _, names)| (interface, names)).collect();
        if let Some(membership) = &mut self.membership {
            membership.set_macs(self.macs.clone(), now);
        }
    }

    /// What we cannot serve from now on.
    pub(crate) fn set_down(&mut self, down: Down, now: Instant) {
        if let Some(membership) = &mut self.membership {
            membership.set_down(down.clone(), now);
        }
        self.down = down;
    }
}

fn start(
    node: &Arc<str>,
    settings: landfall_membership::Settings,
    keys: Keys,
    now: Instant,
) -> anyhow::Result<Membership> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Start {
        node: Arc::clone(node),
        incarnation: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        session: u64::from_ne_bytes(random::octets()?),
    };
    Ok(Membership::new(settings, keys, start, now)?)
}

fn log(node: &str, from: View, to: View, cause: Cause) {
    match to {
        View::Suspect => tracing::debug!(node, ?from, why = %cause, "a speaker is suspected"),
        View::Alive if from == View::Suspect => {
            tracing::debug!(node, why = %cause, "a speaker is not suspected any more")
        }
        View::Out => tracing::warn!(node, ?from, why = %cause, "a node is out, others answer for its addresses"),
        _ => tracing::info!(node, ?from, ?to, why = %cause, "a speaker is seen in another state"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_return_after_the_hold_down_is_planned_and_nothing_urgent_waits_for_it() {
        let (planned, unplanned) = (Moves::Planned, Moves::Unplanned);
        let held = View::HoldDown { until: Instant::now() };
        for (from, cause, moves) in [
            (held, Cause::Fit, planned),
            (held, Cause::NodeSilent, unplanned),
            (View::Out, Cause::Fit, unplanned), // it was never out, and has answered all the time
            (View::Alive, Cause::NodeSilent, unplanned),
            (View::Alive, Cause::Drains, unplanned),
        ] {
            assert_eq!(Moves::of(from, cause), moves, "{from:?} {cause}");
        }
        for (one, other, both) in [
            (planned, None, planned),
            (planned, Some(planned), planned),
            (planned, Some(unplanned), unplanned),
            (unplanned, Some(planned), unplanned),
            (unplanned, None, unplanned),
        ] {
            assert_eq!(one.beside(other), both, "{one:?} beside {other:?}");
        }
    }
}
