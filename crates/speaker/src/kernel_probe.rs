//! Does the kernel of another node live, though its speaker is silent?
//!
//! A node is asked at the address that the cluster knows it by:
//! - **On-link**, where an Ethernet interface of ours is in a network that holds the address: by an ARP request or a neighbour
//!   solicitation of our own, from a packet socket. Our kernel's neighbour table has no part in it. An ICMP echo would not do
//!   there: for a node that was just switched off the table still says REACHABLE or STALE, so the kernel would send the echo
//!   to its last MAC address, learn nothing for seconds, and could not tell us the MAC address either, without which nobody
//!   can answer in the node's name. And the answer is what we would rely on: a kernel that answers ARP for its address
//!   still takes the frames that its neighbours send.
//! - **Behind a router** otherwise: by ICMP or ICMPv6 echo. What the kernel looks up then is the router's entry.
//!
//! # What a liar can do
//! Nothing authenticates ARP and NDP: a machine on the segment can answer for a dead node, and on purpose or not so do a
//! router with proxy ARP, and a switch that suppresses ARP (EVPN) until it forgets the node. A forged answer makes the node
//! look alive, so a takeover is delayed; membership bounds that by `coverFor`, after which the addresses move whatever is
//! answered. And who covers the node tells neighbours the forged MAC address: the liar gets traffic of the node's addresses
//! for that long, which on such a segment it could get by forging ARP to the neighbours themselves. It cannot make a living
//! node look dead, cannot cause a takeover, and an answer nobody asked for counts for nothing. An echo can be forged only by
//! who sees the request: its answer must come from the asked address and carry a random number that was sent to it alone.

mod echo_socket;
mod questions;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use landfall_runtime::random;
use landfall_wire::MacAddr;

use crate::kernel_probe::echo_socket::{EchoSocket, Family};
use crate::kernel_probe::questions::{Questions, Request};
use crate::links::Attached;
use crate::packet_socket::{PacketSocket, Protocol};

/// Sockets are closed when nobody was asked for so long: each makes the kernel look at every frame of its protocol.
const IDLE: Duration = Duration::from_secs(5);
/// Longer than any answer; what is cut off is refused.
const LONGEST_FRAME: usize = 2048;

/// A kernel that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The node that was asked.
    pub node: Arc<str>,
    /// Where the node is on-link: the index of the interface that the answer came in by, and the node's MAC address there. An
    /// answer by another interface may follow.
    pub mac: Option<(u32, MacAddr)>,
}

/// Asks kernels. Holds at most one socket for each interface and protocol and one for each kind of echo, and those only while
/// somebody is asked; remembers at most 1,024 questions.
#[derive(Debug)]
pub struct Prober {
    questions: Questions,
    identifier: u16,
    segments: BTreeMap<(u32, Protocol), PacketSocket>,
    echoes: BTreeMap<Family, EchoSocket>,
    /// When somebody was asked last.
    asked_at: Option<Instant>,
}

impl Prober {
    /// Knows no network yet: everything is behind a router.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new() -> io::Result<Self> {
        let identifier = u16::from_be_bytes(random::octets()?);
        Ok(Self {
            questions: Questions::new(identifier),
            identifier,
            segments: BTreeMap::new(),
            echoes: BTreeMap::new(),
            asked_at: None,
        })
    }

    /// Tells it the networks that this node is on; to be called again whenever they change.
    pub fn set_attached(&mut self, attached: Vec<Attached>) {
        self.segments.retain(|(interface, _), _| attached.iter().any(|network| network.interface == *interface));
        self.questions.set_attached(attached);
    }

    /// Asks the kernel of `node` at `address` once, without waiting. Must be called in the context of a tokio runtime. Ask
    /// again, every 100 ms, for as long as it matters: questions and answers get lost.
    ///
    /// # Errors
    /// The question could not be sent, so silence says nothing about the node: the interface towards it is down, there is no
    /// route, no CAP_NET_RAW, no memory. The error names the node and the address, and the way out where there is one.
    pub fn ask(&mut self, node: &Arc<str>, address: IpAddr) -> io::Result<()> {
        let now = Instant::now();
        self.asked_at = Some(now);
        let sent = self.try_ask(node, address, now);
        sent.map_err(|error| {
            let way_out = match error.kind() {
                io::ErrorKind::PermissionDenied => "; give the speaker CAP_NET_RAW",
                _ => "",
            };
            let text = format!("cannot ask the kernel of node {node} at {address} whether it lives: {error}{way_out}");
            io::Error::new(error.kind(), text)
        })
    }

    fn try_ask(&mut self, node: &Arc<str>, address: IpAddr, now: Instant) -> io::Result<()> {
        let nonce = u64::from_be_bytes(random::octets()?);
        let requests = self.questions.ask(node, address, nonce, now)?;
        // Where several interfaces lead to the node, one that takes the question is enough.
        let mut outcome = Ok(());
        for (at, request) in requests.iter().enumerate() {
            let sent = self.send(request);
            outcome = if at == 0 { sent } else { outcome.or(sent) };
        }
        outcome
    }

    fn send(&mut self, request: &Request) -> io::Result<()> {
        match request {
            Request::OnLink { interface, protocol, frame } => {
                let socket = match self.segments.entry((*interface, *protocol)) {
                    Entry::Occupied(socket) => socket.into_mut(),
                    Entry::Vacant(none) => none.insert(PacketSocket::open_for_answers(*interface, *protocol)?),
                };
                socket.send_now(frame)
            }
            Request::Routed { address, message } => {
                let family = Family::of(*address);
                let socket = match self.echoes.entry(family) {
                    Entry::Occupied(socket) => socket.into_mut(),
                    Entry::Vacant(none) => none.insert(EchoSocket::open(family, self.identifier)?),
                };
                socket.send_now(message, *address)
            }
        }
    }

    /// Waits for the next kernel that answers: for ever, when none is asked. Cancelling it loses no answer.
    pub async fn answer(&mut self) -> Answered {
        loop {
            let waiting =
                poll_fn(|context| poll_answer(&mut self.segments, &mut self.echoes, &mut self.questions, context));
            let Some(asked_at) = self.asked_at else { return waiting.await };
            match tokio::time::timeout_at((asked_at + IDLE).into(), waiting).await {
                Ok(answered) => return answered,
                Err(_) => {
                    self.segments.clear();
                    self.echoes.clear();
                    self.asked_at = None;
                }
            }
        }
    }
}

/// Takes what the sockets hold, a frame from each in turn, so that a flood on one does not keep the others waiting, until one
/// is an answer. A socket that fails is closed: the interface went down or is gone; the next question opens it again.
fn poll_answer(
    segments: &mut BTreeMap<(u32, Protocol), PacketSocket>,
    echoes: &mut BTreeMap<Family, EchoSocket>,
    questions: &mut Questions,
    context: &mut Context<'_>,
) -> Poll<Answered> {
    let mut buffer = [0; LONGEST_FRAME];
    loop {
        let (mut answered, mut progress) = (None, false);
        segments.retain(|(interface, protocol), socket| {
            if answered.is_some() {
                return true;
            }
            match socket.poll_receive(context, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(Ok(length)) => {
                    progress = true;
                    let frame = buffer.get(..length).unwrap_or_default();
                    answered = questions.frame(*interface, frame, Instant::now());
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(interface, protocol = protocol.name(), %error, "cannot receive answers");
                    return false;
                }
            }
            true
        });
        echoes.retain(|family, socket| {
            if answered.is_some() {
                return true;
            }
            match socket.poll_receive(context, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(Ok((length, from))) => {
                    progress = true;
                    let packet = buffer.get(..length).unwrap_or_default();
                    answered = family.parse(packet).ok().and_then(|echo| questions.echo(from, &echo, Instant::now()));
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(?family, %error, "cannot receive echo replies");
                    return false;
                }
            }
            true
        });
        match answered {
            Some(answered) => return Poll::Ready(answered),
            None if progress => {}
            None => return Poll::Pending,
        }
    }
}
