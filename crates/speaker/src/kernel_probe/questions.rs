//! Who was asked, and which answer belongs to whom. Pure: addresses, frames and the time in; requests and answers out.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_wire::{ArpFrame, Echo, Frame, MacAddr, NdpFrame, NdpMessage, Operation};

use crate::kernel_probe::Answered;
use crate::links::Attached;
use crate::packet_socket::Protocol;

/// A node asks those that it observes, which are few; this many only when the caller has lost count. A question by way of one
/// interface counts as one.
pub(super) const MAX_QUESTIONS: usize = 1024;
/// A question is forgotten when it was not asked again for so long. An answer that takes longer is of no use.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A whole frame for one interface.
    OnLink { interface: u32, protocol: Protocol, frame: Vec<u8> },
    /// An ICMP or ICMPv6 message, from its type on.
    Routed { address: IpAddr, message: [u8; Echo::LEN] },
}

/// Why nobody can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("its network is that of interface {interface}, which is down")]
    Down { interface: String },
    #[error("{MAX_QUESTIONS} others are being asked already; ask less nodes at a time")]
    TooMany,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Down { .. } => io::ErrorKind::NetworkDown,
            Refusal::TooMany => io::ErrorKind::QuotaExceeded,
        };
        Self::new(kind, refusal)
    }
}

/// A question to a node on-link, by one interface.
#[derive(Debug)]
struct Solicited {
    node: Arc<str>,
    asked_at: Instant,
    /// The MAC and the IP that the answer goes to.
    ours: (MacAddr, IpAddr),
    /// No answer came since it was asked last: each time it is asked, one answer is taken.
    waiting: bool,
}

/// A question to a node behind a router.
#[derive(Debug)]
struct Echoed {
    node: Arc<str>,
    asked_at: Instant,
    nonce: u64,
    /// That of the last request.
    sequence: u16,
    /// Bit n: the request with the sequence number `sequence` - n was not answered yet. So the answers of a node that is
    /// further away than the time between two questions count too.
    waiting: u16,
}

/// All questions of a prober.
#[derive(Debug)]
pub(super) struct Questions {
    identifier: u16,
    attached: Vec<Attached>,
    /// By the asked address and the interface.
    solicited: BTreeMap<(IpAddr, u32), Solicited>,
    /// By the asked address.
    echoed: BTreeMap<IpAddr, Echoed>,
}

impl Questions {
    /// `identifier` goes into every echo request.
    pub(super) fn new(identifier: u16) -> Self {
        Self { identifier, attached: Vec::new(), solicited: BTreeMap::new(), echoed: BTreeMap::new() }
    }

    /// The networks that this node is on.
    pub(super) fn set_attached(&mut self, attached: Vec<Attached>) {
        self.attached = attached;
    }

    /// Asks `node` at `address`. `nonce` is random, and used for the first of a run of echo requests. On-link it is asked by
    /// every interface that is up in the narrowest network that holds the address; else by way of a router.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was asked.
    pub(super) fn ask(
        &mut self,
        node: &Arc<str>,
        address: IpAddr,
        nonce: u64,
        now: Instant,
    ) -> Result<Vec<Request>, Refusal> {
        self.solicited.retain(|_, question| timely(question.asked_at, now));
        self.echoed.retain(|_, question| timely(question.asked_at, now));
        let ours = self.ours(address)?;
        if self.solicited.len() + self.echoed.len() + ours.len().max(1) > MAX_QUESTIONS {
            return Err(Refusal::TooMany);
        }
        if ours.is_empty() {
            return Ok(vec![self.ask_routed(node, address, nonce, now)]);
        }
        for (interface, ours) in &ours {
            let question = Solicited { node: Arc::clone(node), asked_at: now, ours: *ours, waiting: true };
            self.solicited.insert((address, *interface), question);
        }
        Ok(ours.into_iter().filter_map(|(interface, ours)| on_link_request(interface, address, ours)).collect())
    }

    fn ask_routed(&mut self, node: &Arc<str>, address: IpAddr, nonce: u64, now: Instant) -> Request {
        let question = self.echoed.entry(address).or_insert_with(|| Echoed {
            node: Arc::clone(node),
            asked_at: now,
            nonce,
            sequence: u16::MAX, // the first request has 0
            waiting: 0,
        });
        question.node = Arc::clone(node);
        question.asked_at = now;
        question.sequence = question.sequence.wrapping_add(1);
        question.waiting = question.waiting << 1 | 1;
        let echo = Echo { identifier: self.identifier, sequence: question.sequence, nonce: question.nonce };
        let message = if address.is_ipv4() { echo.v4_request() } else { echo.v6_request() };
        Request::Routed { address, message }
    }

    /// An ARP or neighbour message that came in by this interface: an answer to a question of ours? Anything else is ignored.
    pub(super) fn frame(&mut self, interface: u32, octets: &[u8], now: Instant) -> Option<Answered> {
        let (address, to, mac) = match Frame::parse(octets).ok()? {
            Frame::Arp(ArpFrame { destination, arp, .. }) => {
                let to_us = arp.operation == Operation::Reply && arp.target.0 == destination;
                let to = (destination, IpAddr::V4(arp.target.1));
                to_us.then_some((IpAddr::V4(arp.sender.1), to, arp.sender.0))?
            }
            Frame::Ndp(NdpFrame { destination_mac, source_mac, destination, message, .. }) => {
                let NdpMessage::Advertisement(advertisement) = message else { return None };
                let mac = advertisement.target_link_layer.unwrap_or(source_mac);
                let to = (destination_mac, IpAddr::V6(destination));
                advertisement.solicited.then_some((IpAddr::V6(advertisement.target), to, mac))?
            }
        };
        let question = self.solicited.get_mut(&(address, interface))?;
        let usable = !mac.is_multicast() && !mac.is_zero() && mac != question.ours.0;
        if !question.waiting || !timely(question.asked_at, now) || question.ours != to || !usable {
            return None;
        }
        question.waiting = false;
        Some(Answered { node: Arc::clone(&question.node), mac: Some((interface, mac)) })
    }

    /// An echo reply: to a question of ours? Anything else is ignored.
    pub(super) fn echo(&mut self, from: IpAddr, echo: &Echo, now: Instant) -> Option<Answered> {
        let question = self.echoed.get_mut(&from)?;
        let age = question.sequence.wrapping_sub(echo.sequence);
        let request = 1_u16.checked_shl(age.into()).unwrap_or(0);
        let ours = echo.identifier == self.identifier && echo.nonce == question.nonce;
        if !ours || question.waiting & request == 0 || !timely(question.asked_at, now) {
            return None;
        }
        question.waiting &= !request;
        Some(Answered { node: Arc::clone(&question.node), mac: None })
    }

    /// Our MAC and IP on each interface by which `address` is on-link; empty when it is behind a router.
    fn ours(&self, address: IpAddr) -> Result<BTreeMap<u32, (MacAddr, IpAddr)>, Refusal> {
        let holding = || self.attached.iter().filter(|network| network.network.contains(&address));
        let narrowest = holding().map(|network| network.network.prefix_len()).max();
        let nearest = || holding().filter(|network| Some(network.network.prefix_len()) == narrowest);
        let mut ours = BTreeMap::new();
        for network in nearest().filter(|network| network.up) {
            ours.entry(network.interface).or_insert((network.mac, network.local));
        }
        match nearest().next() {
            Some(network) if ours.is_empty() => Err(Refusal::Down { interface: network.name.clone() }),
            _ => Ok(ours),
        }
    }
}

/// Whether an answer may still come.
fn timely(asked_at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(asked_at) < PATIENCE
}

/// The frame that asks for `address` as `ours`. `None` never happens: an address, and ours in its network, are of one family.
fn on_link_request(interface: u32, address: IpAddr, ours: (MacAddr, IpAddr)) -> Option<Request> {
    let (protocol, frame) = match (address, ours.1) {
        (IpAddr::V4(address), IpAddr::V4(local)) => {
            (Protocol::Arp, ArpFrame::request(address, (ours.0, local)).to_octets().to_vec())
        }
        (IpAddr::V6(address), IpAddr::V6(local)) => {
            (Protocol::Ndp, NdpFrame::solicitation(address, (ours.0, local)).to_octets())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    Some(Request::OnLink { interface, protocol, frame })
}

#[cfg(test)]
mod tests;
