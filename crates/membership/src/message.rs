//! What members say to each other, and its octets.
//!
//! Every datagram carries its sender's whole status, so each is a sign of life; what else there is to say follows as items.
//! A **beat** is a status alone. **Suspect** is an [`Opinion`] other than [`Stance::Hears`]. **Refute** is a status with a
//! higher incarnation, and says so where the receiver holds the sender to be out. **Leave** is a status with the phase [`Phase::Restarting`] or [`Phase::Draining`].
//!
//! ```text
//! status  incarnation 8 | phase 1 | hold left ms 4 | beat interval ms 2 | term 8 | live 2 | leader 8
//! item    type 1 | length 1 | value        (again and again, to the end)
//! ```
//! All numbers are big-endian. An item of an unknown type is skipped, and so is what follows the known part of a known one:
//! later versions may add to both. What cannot be read that way gets a new version number, which stands outside the seal.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::{Down, Macs, MemberId};

/// Octets of a status.
const STATUS: usize = 33;
/// The most octets of a whole message: with the seal it fits the smallest packet that IPv6 must carry (1,280 octets).
pub const MAX_MESSAGE: usize = 1_150;
/// The most opinions in one message.
pub(crate) const MAX_OPINIONS: usize = 36;
/// The bounds of a beat interval, in milliseconds: those of the settings.
const INTERVALS: std::ops::RangeInclusive<u16> = 10..=1_000;

const ASK: u8 = 1;
const ACK: u8 = 2;
const OPINION: u8 = 3;
const CLAIM: u8 = 4;
const DOWN: u8 = 5;
const REFUTES: u8 = 6;
const MACS: u8 = 7;
const WIRE_CHECK: u8 = 8;

/// What a member says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Raised by every start and every refutation: what is said about a lower one is out of date.
    pub incarnation: u64,
    /// Where it stands.
    pub phase: Phase,
    /// How often it beats. From 10 ms to 1 s, in whole milliseconds.
    pub interval: Duration,
    /// The highest term that it has seen.
    pub term: u64,
    /// How many members may own addresses as it sees them, itself included.
    pub live: u16,
    /// The lowest id among these.
    pub leader: MemberId,
}

/// Where a member stands, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Just started: it does not know yet whether it was missed.
    Joining,
    /// It may own addresses.
    Up,
    /// It was out and may own addresses again in this time (whole milliseconds).
    Held(Duration),
    /// It hands its addresses over.
    Draining,
    /// Its speaker ends and will start again; its kernel goes on.
    Restarting,
}

/// What an observer has to say about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It beats.
    Hears,
    /// Too many beats are missing; its kernel has not answered, and has not been asked for long enough.
    Silent,
    /// Too many beats are missing, and its kernel answers.
    SpeakerGone,
    /// Too many beats are missing, and its kernel is silent too.
    Gone,
}

/// An observer's word about another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Whom it is about.
    pub about: MemberId,
    /// The highest incarnation of that member that the sender knows.
    pub incarnation: u64,
    /// What the sender observes.
    pub stance: Stance,
    /// The sender has acted on it, with a majority of the observers.
    pub verdict: bool,
    /// Said to the member itself: it is held to be out and is to wait this long (whole milliseconds). Zero: it is not.
    pub hold: Duration,
}

/// "This address is mine": said to a node that was heard to answer for it too. And "it is mine no longer" afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The contested address.
    pub address: IpAddr,
    /// The term in which the sender took it.
    pub term: u64,
    /// The sender has given it up.
    pub released: bool,
}

/// What the sender found when it asked on the wire for an address that the receiver owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireCheck {
    /// The address.
    pub address: IpAddr,
    /// Who answered.
    pub finding: Finding,
}

/// Who answers on the wire for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// Its owner.
    Heard,
    /// Nobody.
    Silent,
    /// Somebody else, whether or not the owner does too.
    AnotherAnswers,
}

/// One datagram's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender's status.
    pub status: Status,
    /// What it cannot serve.
    pub down: Down,
    /// Where it is to be found.
    pub macs: Macs,
    /// Asks the receiver what it thinks of the sender and of those that it watches.
    pub ask: bool,
    /// The receiver holds the sender to be out, and the sender's observers do not.
    pub refutes: bool,
    /// The receiver's leave of this incarnation has been acted on.
    pub ack: Option<u64>,
    /// At most 36.
    pub opinions: Vec<Opinion>,
    /// At most one: conflicts are rare.
    pub claim: Option<Claim>,
    /// At most one: said when something is amiss, and when it is so no more.
    pub check: Option<WireCheck>,
}

/// Why sealed octets are no message: a fault of the sender's program, since the seal was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The octets end too early.
    #[error("{what} needs {need} octets and has {have}")]
    Truncated {
        /// The part that is cut short.
        what: &'static str,
        /// Octets that it needs.
        need: usize,
        /// Octets that are there.
        have: usize,
    },
    /// A field with a value that means nothing.
    #[error("{field} is {have}, which means nothing")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        have: u64,
    },
    /// More opinions than one message holds.
    #[error("more than {MAX_OPINIONS} opinions")]
    TooMany,
}

impl Message {
    /// Reads a message. The octets have been checked for length and origin by the seal.
    ///
    /// # Errors
    /// [`MessageError`] says what is wrong. Never panics (fuzz target `membership`).
    pub fn parse(octets: &[u8]) -> Result<Self, MessageError> {
        let mut rest = octets;
        let mut status = Reader::take(&mut rest, STATUS, "the status")?;
        let incarnation = status.u64();
        let (phase, left, interval) = (status.u8(), status.millis(), status.u16());
        let phase = match phase {
            0 => Phase::Joining,
            1 => Phase::Up,
            2 => Phase::Held(left),
            3 => Phase::Draining,
            4 => Phase::Restarting,
            have => return Err(MessageError::Value { field: "the phase", have: have.into() }),
        };
        if !INTERVALS.contains(&interval) {
            return Err(MessageError::Value { field: "the beat interval", have: interval.into() });
        }
        let status = Status {
            incarnation,
            phase,
            interval: Duration::from_millis(interval.into()),
            term: status.u64(),
            live: status.u16(),
            leader: status.id(),
        };
        let (down, macs) = (Down::default(), Macs::default());
        let mut message = Message {
            status,
            down,
            macs,
            ask: false,
            refutes: false,
            ack: None,
            opinions: Vec::new(),
            claim: None,
            check: None,
        };
        while !rest.is_empty() {
            let mut head = Reader::take(&mut rest, 2, "an item's head")?;
            let (kind, length) = (head.u8(), head.u8());
            let value = Reader::take(&mut rest, length.into(), "an item's value")?;
            message.read_item(kind, value)?;
        }
        Ok(message)
    }

    fn read_item(&mut self, kind: u8, mut value: Reader<'_>) -> Result<(), MessageError> {
        match kind {
            ASK => self.ask = true,
            REFUTES => self.refutes = true,
            ACK => self.ack = Some(Reader::take(&mut value.0, 8, "an acknowledgement")?.u64()),
            OPINION => {
                let mut value = Reader::take(&mut value.0, 21, "an opinion")?;
                if self.opinions.len() == MAX_OPINIONS {
                    return Err(MessageError::TooMany);
                }
                let (about, incarnation, flags) = (value.id(), value.u64(), value.u8());
                let stance = match flags & 0x7f {
                    0 => Stance::Hears,
                    1 => Stance::Silent,
                    2 => Stance::SpeakerGone,
                    3 => Stance::Gone,
                    have => return Err(MessageError::Value { field: "the stance", have: have.into() }),
                };
                let verdict = flags & 0x80 != 0;
                self.opinions.push(Opinion { about, incarnation, stance, verdict, hold: value.millis() });
            }
            CLAIM => {
                let mut value = Reader::take(&mut value.0, 25, "a claim")?;
                self.claim = Some(Claim { address: value.address(), term: value.u64(), released: value.u8() != 0 });
            }
            WIRE_CHECK => {
                let mut value = Reader::take(&mut value.0, 17, "a check of the wire")?;
                let (address, finding) = (value.address(), value.u8());
                let finding = match finding {
                    0 => Finding::Heard,
                    1 => Finding::Silent,
                    2 => Finding::AnotherAnswers,
                    have => return Err(MessageError::Value { field: "the finding", have: have.into() }),
                };
                self.check = Some(WireCheck { address, finding });
            }
            DOWN => {
                let hash = |octets: &[u8; 4]| u32::from_be_bytes(*octets);
                self.down = Down::from_hashes(value.0.as_chunks().0.iter().map(hash));
            }
            MACS => {
                let entry = |octets: &[u8; 10]| {
                    let [a, b, c, d, mac @ ..] = *octets;
                    (u32::from_be_bytes([a, b, c, d]), mac)
                };
                self.macs = Macs::from_hashes(value.0.as_chunks().0.iter().map(entry));
            }
            _ => {} // of a later version
        }
        Ok(())
    }

    /// The message's octets, at most [`MAX_MESSAGE`]; the sender puts at most 36 opinions in.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        let Status { incarnation, phase, interval, term, live, leader } = self.status;
        let (phase, left) = match phase {
            Phase::Joining => (0, Duration::ZERO),
            Phase::Up => (1, Duration::ZERO),
            Phase::Held(left) => (2, left),
            Phase::Draining => (3, Duration::ZERO),
            Phase::Restarting => (4, Duration::ZERO),
        };
        let items = 4 * self.down.hashes().len() + 10 * self.macs.hashes().len() + 23 * self.opinions.len();
        let mut out = Vec::with_capacity(STATUS + items + 64);
        out.extend(incarnation.to_be_bytes());
        out.push(phase);
        out.extend(millis(left));
        out.extend(u16::try_from(interval.as_millis()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend(term.to_be_bytes());
        out.extend(live.to_be_bytes());
        out.extend(leader.0);
        if !self.down.is_empty() {
            // At most 32 of four octets.
            out.extend([DOWN, (self.down.hashes().len() * 4) as u8]);
            self.down.hashes().iter().for_each(|hash| out.extend(hash.to_be_bytes()));
        }
        if !self.macs.hashes().is_empty() {
            // At most 8 of ten octets.
            out.extend([MACS, (self.macs.hashes().len() * 10) as u8]);
            for (name, mac) in self.macs.hashes() {
                out.extend(name.to_be_bytes());
                out.extend(mac);
            }
        }
        if self.ask {
            out.extend([ASK, 0]);
        }
        if self.refutes {
            out.extend([REFUTES, 0]);
        }
        if let Some(incarnation) = self.ack {
            out.extend([ACK, 8]);
            out.extend(incarnation.to_be_bytes());
        }
        for opinion in &self.opinions {
            out.extend([OPINION, 21]);
            out.extend(opinion.about.0);
            out.extend(opinion.incarnation.to_be_bytes());
            let stance = match opinion.stance {
                Stance::Hears => 0,
                Stance::Silent => 1,
                Stance::SpeakerGone => 2,
                Stance::Gone => 3,
            };
            out.push(stance | if opinion.verdict { 0x80 } else { 0 });
            out.extend(millis(opinion.hold));
        }
        if let Some(Claim { address, term, released }) = self.claim {
            out.extend([CLAIM, 25]);
            out.extend(mapped(address));
            out.extend(term.to_be_bytes());
            out.push(released.into());
        }
        if let Some(WireCheck { address, finding }) = self.check {
            out.extend([WIRE_CHECK, 17]);
            out.extend(mapped(address));
            out.push(match finding {
                Finding::Heard => 0,
                Finding::Silent => 1,
                Finding::AnotherAnswers => 2,
            });
        }
        out
    }
}

/// An address of either family (RFC 4291 section 2.5.5.2).
fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn millis(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Octets whose number was checked when they were taken.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes `need` octets from the front of `rest`.
    fn take(rest: &mut &'a [u8], need: usize, what: &'static str) -> Result<Self, MessageError> {
        let have = rest.len();
        let (taken, after) = rest.split_at_checked(need).ok_or(MessageError::Truncated { what, need, have })?;
        *rest = after;
        Ok(Self(taken))
    }

    /// The next octets; zeros where the caller reads more than it took.
    fn octets<const N: usize>(&mut self) -> [u8; N] {
        let Some((octets, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *octets
    }

    fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.octets())
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.octets())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.octets())
    }

    fn id(&mut self) -> MemberId {
        MemberId(self.octets())
    }

    fn address(&mut self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.octets::<16>())).to_canonical()
    }

    fn millis(&mut self) -> Duration {
        Duration::from_millis(u32::from_be_bytes(self.octets()).into())
    }
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
