//! Which frame answers this frame? Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use landfall_wire::{ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, Operation, ParseError};

/// What one interface answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The MAC address of the interface, which the answers for our own addresses carry.
    pub(crate) mac: MacAddr,
    /// Our own addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// New ones of ours, which are not answered for before it is known that nobody else has them.
    pub(crate) on_trial: BTreeSet<IpAddr>,
    /// Those that are another's now, until it is heard.
    pub(crate) handed_over: BTreeSet<IpAddr>,
    /// Those of other nodes whose speakers are silent, with the MAC addresses of their interfaces, which the answers carry.
    pub(crate) covered: BTreeMap<IpAddr, MacAddr>,
}

impl Owned {
    /// Nothing yet, on an interface with this MAC address.
    pub(crate) fn nothing(mac: MacAddr) -> Self {
        Self {
            mac,
            addresses: BTreeSet::new(),
            on_trial: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            covered: BTreeMap::new(),
        }
    }

    /// Whether it matters who else has `ip`.
    pub(crate) fn concerns(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) || self.on_trial.contains(&ip) || self.handed_over.contains(&ip)
    }

    /// The MAC address that an answer for `ip` carries, if it is to be answered for.
    pub(crate) fn answers_with(&self, ip: IpAddr) -> Option<MacAddr> {
        if self.addresses.contains(&ip) || self.handed_over.contains(&ip) {
            Some(self.mac)
        } else {
            self.covered.get(&ip).copied()
        }
    }
}

/// What to do about one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send `frame`: it says that `ip` is here.
    Answer {
        /// The address that was asked for.
        ip: IpAddr,
        /// The answer's octets.
        frame: Vec<u8>,
        /// Who asked, and from where; `None` for who has no address yet.
        asker: Option<(IpAddr, MacAddr)>,
    },
    /// Somebody else says that `ip`, which is ours, is at `mac`.
    Claimed {
        /// The address.
        ip: IpAddr,
        /// Where they say it is.
        mac: MacAddr,
    },
    /// Somebody says that `ip`, which is not ours, is at `mac`.
    Elsewhere {
        /// The address.
        ip: IpAddr,
        /// Where they say it is.
        mac: MacAddr,
    },
    /// A good frame that asks nothing of us.
    Ignored(Reason),
    /// Not a frame that a neighbour of good will sends.
    Malformed(ParseError),
}

/// Why a good frame gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It asks for an address which is not ours. On an ordinary segment nearly all do.
    NotOwned,
    /// It is no question: an ARP reply or a neighbour advertisement, of no station.
    NotARequest,
    /// Its sender announces the address that it seems to ask for (gratuitous ARP).
    Announcement,
    /// Its Ethernet destination is another machine.
    ForAnotherMac,
    /// Our own frame came back to us.
    FromOurselves,
    /// The answer would go to a group: nobody honest asks in the name of one.
    UnusableSender,
}

impl Reason {
    /// A word for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotOwned => "not_owned",
            Self::NotARequest => "not_a_request",
            Self::Announcement => "announcement",
            Self::ForAnotherMac => "for_another_mac",
            Self::FromOurselves => "from_ourselves",
            Self::UnusableSender => "unusable_sender",
        }
    }
}

/// What to do about `octets`, one frame as it came from an interface that answers for `owned`. Never panics, whatever the
/// octets are.
pub(crate) fn respond(octets: &[u8], owned: &Owned) -> Verdict {
    match Frame::parse(octets) {
        Ok(Frame::Arp(frame)) => to_arp(&frame, owned),
        Ok(Frame::Ndp(frame)) => to_ndp(&frame, owned),
        Err(error) => Verdict::Malformed(error),
    }
}

/// Broadcast and unicast requests alike: neighbours ask by unicast whether an entry that they know still holds.
fn to_arp(frame: &ArpFrame, owned: &Owned) -> Verdict {
    let arp = &frame.arp;
    let (sender, ip) = (IpAddr::V4(arp.sender.1), IpAddr::V4(arp.target.1));
    // Whoever sends from an address says to have it: an announcement, an answer, or a question in its name.
    let claims = arp.sender.0 != owned.mac && is_station(arp.sender.0);
    if claims && owned.concerns(sender) {
        return Verdict::Claimed { ip: sender, mac: arp.sender.0 };
    }
    if arp.operation != Operation::Request {
        return match claims {
            true => Verdict::Elsewhere { ip: sender, mac: arp.sender.0 },
            false => Verdict::Ignored(Reason::NotARequest),
        };
    }
    let Some(mac) = owned.answers_with(ip) else { return Verdict::Ignored(Reason::NotOwned) };
    let refusal = if frame.source == owned.mac || arp.sender.0 == owned.mac {
        Some(Reason::FromOurselves)
    } else if !(frame.destination.is_broadcast() || frame.destination == owned.mac) {
        Some(Reason::ForAnotherMac)
    } else if arp.sender.1 == arp.target.1 {
        Some(Reason::Announcement)
    } else if !is_station(arp.sender.0) {
        Some(Reason::UnusableSender)
    } else {
        None
    };
    match refusal {
        Some(reason) => Verdict::Ignored(reason),
        // Whatever MAC address it speaks of, the frame is ours: switches would look for the owner behind our port.
        None => {
            let answer = ArpFrame { source: owned.mac, ..ArpFrame::reply(arp, mac) };
            let asker = (!arp.sender.1.is_unspecified()).then_some((sender, arp.sender.0));
            Verdict::Answer { ip, frame: answer.to_octets().to_vec(), asker }
        }
    }
}

/// Solicitations to the solicited-node group and to our MAC address alike, and duplicate address probes.
fn to_ndp(frame: &NdpFrame, owned: &Owned) -> Verdict {
    let solicitation = match frame.message {
        NdpMessage::Solicitation(solicitation) => solicitation,
        NdpMessage::Advertisement(advertisement) => {
            let (ip, mac) = (IpAddr::V6(advertisement.target), advertisement.target_link_layer);
            let mac = mac.filter(|mac| *mac != owned.mac && is_station(*mac));
            return match mac {
                Some(mac) if owned.concerns(ip) => Verdict::Claimed { ip, mac },
                Some(mac) => Verdict::Elsewhere { ip, mac },
                None => Verdict::Ignored(Reason::NotARequest),
            };
        }
    };
    let ip = IpAddr::V6(solicitation.target);
    let Some(mac) = owned.answers_with(ip) else { return Verdict::Ignored(Reason::NotOwned) };
    let answer = NdpFrame { source_mac: owned.mac, ..NdpFrame::answer(frame, &solicitation, mac) };
    let refusal = if frame.source_mac == owned.mac {
        Some(Reason::FromOurselves)
    } else if !(frame.destination_mac.is_multicast() || frame.destination_mac == owned.mac) {
        Some(Reason::ForAnotherMac)
    } else if !frame.source.is_unspecified() && !is_station(answer.destination_mac) {
        Some(Reason::UnusableSender)
    } else {
        None
    };
    match refusal {
        Some(reason) => Verdict::Ignored(reason),
        None => {
            let asker = (!frame.source.is_unspecified()).then_some((frame.source.into(), answer.destination_mac));
            Verdict::Answer { ip, frame: answer.to_octets(), asker }
        }
    }
}

/// The MAC address of one machine: neither a group's nor all zeros.
fn is_station(mac: MacAddr) -> bool {
    !mac.is_multicast() && !mac.is_zero()
}

#[cfg(test)]
mod tests;
