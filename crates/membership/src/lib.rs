//! Which nodes are alive? Pure: datagrams, answers and the time in; datagrams, probes and views out.
//!
//! Each node runs one [`Membership`]. It sends a sealed beat to its observers (`ring`, [`message`], `seal`); an observer that
//! misses beats asks the node's kernel and says what it finds to the other observers, and more than half of them decide
//! (`verdict`). A node whose kernel answers is covered; one whose kernel is silent is out, and owns addresses again
//! after a hold-down (`damping`). Every node says of itself where it stands, and is believed, unless most of its observers
//! know better: then it believes them. `docs/decisions/0009-membership.md` says why.
//!
//! No sockets, no clock, no randomness of its own: the same inputs give the same outputs, and the simulator among the tests
//! runs hundreds of clusters in virtual time.
//!
//! # The loop around it
//!
//! One thread owns the [`Membership`]. It waits for a datagram, an answer to a probe, news of the API or of the interfaces, or
//! for [`next_due`](Membership::next_due), whichever comes first; makes the call that belongs to it; then carries out what
//! [`poll`](Membership::poll) gives, in that order, until it gives nothing more.
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use std::time::{Duration, Instant};
//! use landfall_membership::{Keys, Leave, Member, Membership, Output, Settings, Start, View};
//!
//! let address: IpAddr = Ipv4Addr::new(192, 0, 2, 240).into();
//! let nodes = ["n1", "n2"];
//! let members = || nodes.iter().zip(1..).map(|(node, port)| Member { node: (*node).into(), address: ([127, 0, 0, 1], port).into() });
//! let mut now = Instant::now();
//! let mut speakers = Vec::new();
//! for (node, session) in nodes.iter().zip(1..) {
//!     let keys = Keys::new("uid of kube-system", &[b"32 random octets from the Secret"])?;
//!     // In earnest: milliseconds since 1970, and 64 random bits.
//!     let start = Start { node: (*node).into(), incarnation: 1_700_000_000_000, session };
//!     let mut speaker = Membership::new(Settings::default(), keys, start, now)?;
//!     speaker.set_members(members(), now);
//!     speakers.push(speaker);
//! }
//!
//! let mut announced = vec![false; speakers.len()];
//! let end = now + Duration::from_secs(2);
//! while now < end {
//!     now = speakers.iter().map(Membership::next_due).min().expect("two").max(now + Duration::from_millis(1));
//!     for at in 0..speakers.len() {
//!         if now >= speakers[at].next_due() {
//!             speakers[at].tick(now);
//!         }
//!         let mut elect = false;
//!         while let Some(output) = speakers[at].poll() {
//!             match output {
//!                 // The socket. Here the others get it at once.
//!                 Output::Send { to, datagram } => {
//!                     for address in to {
//!                         speakers[usize::from(address.port()) - 1].receive(&datagram, now)?;
//!                     }
//!                 }
//!                 // ARP, NDP or ICMP; an answer is reported by `probe_answered`. Here no kernel answers.
//!                 Output::Probe { .. } => {}
//!                 // Logs and metrics; and who owns what may have changed.
//!                 Output::Changed { .. } | Output::LinksChanged { .. } => elect = true,
//!                 Output::Yield { .. } | Output::Retry { .. } => elect = true,
//!                 // After `leave`: the process may end.
//!                 Output::HandedOver => {}
//!                 // Of `tell_owner`: an owner that is not heard announces the address anew.
//!                 Output::Checked { .. } => {}
//!             }
//!             if std::mem::take(&mut elect) {
//!                 // `ranking` is the election's. Who owns the address announces it, in this turn of the loop.
//!                 let ranking = ["n2", "n1"];
//!                 let speaker = &mut speakers[at];
//!                 let answers = speaker.answers(ranking, |node| !speaker.is_down(node, "eth0"));
//!                 announced[at] = if answers.owner == Some(nodes[at]) {
//!                     speaker.own(address, now).is_some()
//!                 } else {
//!                     // Where `answers.cover` is us, we answer in the owner's name and announce nothing.
//!                     speaker.disown(address);
//!                     false
//!                 };
//!             }
//!         }
//!     }
//! }
//! assert_eq!(announced, [false, true]);
//! assert_eq!(speakers[0].view("n2"), Some(View::Alive));
//!
//! // SIGTERM: leave, carry out what comes of it, end at `HandedOver`.
//! speakers[1].leave(Leave::Restart, now);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod claims;
mod damping;
mod down;
mod macs;
mod member;
mod membership;
pub mod message;
mod peer;
mod ring;
mod seal;
mod settings;
mod verdict;
mod view;
mod watch;
mod window;

pub use down::{Down, MAX_DOWN};
pub use macs::{MAX_MACS, Macs};
pub use member::{Member, MemberId};
pub use membership::{Answers, MemberState, Membership, Start};
pub use message::{Finding, Message, MessageError, WireCheck};
pub use seal::{KeyError, Keys, MAX_DATAGRAM, Refusal};
pub use settings::{LONGEST_HOLD_DOWN, Settings, SettingsError};
pub use view::{Cause, Leave, Output, View};

#[cfg(test)]
mod simulation;
