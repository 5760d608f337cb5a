//! What a node makes of another, and why it changed its mind.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::message::WireCheck;

/// What a member is taken to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// We ourselves have just started and do not know yet whether we were missed: we may own nothing.
    Joining,
    /// It may own addresses.
    Alive,
    /// We have missed beats of it; it still owns what it owns.
    Suspect,
    /// Its speaker is gone and its kernel answers: it owns what it owns, and the next in the ranking answers in its name.
    Covered {
        /// Since when.
        since: Instant,
    },
    /// It hands its addresses over: others own them.
    Draining,
    /// Others own its addresses.
    Out,
    /// It was out and is healthy again, and others own its addresses until it has been so for long enough.
    HoldDown {
        /// When that is expected.
        until: Instant,
    },
}

impl View {
    /// How fit it is to own an address: addresses belong to the fittest. 0: fit. 1: only where nobody is fit. 2: only where
    /// there is none of 1 either. None: never.
    pub(crate) fn fitness(self) -> Option<u8> {
        match self {
            Self::Alive | Self::Suspect | Self::Covered { .. } => Some(0),
            Self::HoldDown { .. } => Some(1),
            Self::Draining => Some(2),
            Self::Joining | Self::Out => None,
        }
    }

    /// Whether the node's kernel is taken to do its work, whatever its speaker does.
    pub fn forwards(self) -> bool {
        match self {
            Self::Alive | Self::Suspect | Self::Covered { .. } | Self::Draining | Self::HoldDown { .. } => true,
            Self::Joining | Self::Out => false,
        }
    }

    /// Whether another answers in its name.
    pub(crate) fn is_covered(self) -> bool {
        matches!(self, Self::Covered { .. })
    }

    /// Whether its speaker takes part, and so observes others.
    pub(crate) fn takes_part(self) -> bool {
        match self {
            Self::Joining | Self::Alive | Self::Suspect | Self::HoldDown { .. } => true,
            Self::Covered { .. } | Self::Draining | Self::Out => false,
        }
    }
}

/// Why a view changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Beats stayed away.
    MissedBeats,
    /// A majority of its observers hears neither speaker nor kernel.
    NodeSilent,
    /// A majority of its observers does not hear its speaker, and its kernel answers.
    SpeakerSilent,
    /// It said that its speaker restarts.
    Restarts,
    /// It said that its node is drained.
    Drains,
    /// It is heard.
    Heard,
    /// It was out and has begun its hold-down.
    Returned,
    /// Its hold-down is over, or it has shown that it was never out.
    Fit,
    /// The network was split; the other part is the larger and keeps its addresses.
    SmallerPart,
    /// We were out ourselves: it is taken to be alive until its observers find otherwise.
    JudgedAnew,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissedBeats => "its beats stay away",
            Self::NodeSilent => "most of its observers hear neither its speaker nor its kernel",
            Self::SpeakerSilent => "its speaker is silent and its kernel answers",
            Self::Restarts => "its speaker restarts",
            Self::Drains => "its node is drained",
            Self::Heard => "it is heard",
            Self::Returned => "it is back and must be healthy for a while first",
            Self::Fit => "it is fit to own addresses",
            Self::SmallerPart => "the network was split and the other part is the larger",
            Self::JudgedAnew => "we were out ourselves and judge it anew",
        })
    }
}

/// How a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The speaker ends and will start again: its kernel goes on, another covers, nothing moves.
    Restart,
    /// The node is to own nothing: its addresses move, and it answers until they have.
    Drain,
}

/// What the machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram to each of these.
    Send {
        /// The receivers.
        to: Vec<SocketAddr>,
        /// The sealed octets: the same for all.
        datagram: Vec<u8>,
    },
    /// Ask the kernel of this node (ARP or NDP for its node address where it is on-link, else ICMP echo) and report an
    /// answer with [`probe_answered`](crate::Membership::probe_answered). Silence need not be reported.
    Probe {
        /// The node's name.
        node: Arc<str>,
    },
    /// A member is taken to be something else than before. Addresses that change hands by it are to be announced before
    /// the outputs that follow are carried out: among them is what tells a draining node that it may stop.
    Changed {
        /// The node's name: ours, too.
        node: Arc<str>,
        /// What it was taken to be.
        from: View,
        /// What it is taken to be now.
        to: View,
        /// Why.
        cause: Cause,
    },
    /// What a member cannot serve, or where it is to be found, is something else than before: ask
    /// [`is_down`](crate::Membership::is_down) and [`macs`](crate::Membership::macs).
    LinksChanged {
        /// The node's name.
        node: Arc<str>,
    },
    /// Another node owns this address with a better right: stop to answer for it, at once. A [`Retry`](Self::Retry) follows.
    Yield {
        /// The address.
        address: IpAddr,
        /// The other node's name.
        to: Arc<str>,
    },
    /// The views have had time to agree since this address was yielded: if it is still ours by the ranking, it may be owned
    /// again.
    Retry {
        /// The address.
        address: IpAddr,
    },
    /// Another member has asked on the wire for an address that it takes to be ours.
    Checked {
        /// Who.
        by: Arc<str>,
        /// What it found.
        check: WireCheck,
    },
    /// Others have taken what was ours (or have had their time for it): we may stop to answer and end.
    HandedOver,
}
