//! When to say unasked that an address is here. Pure: time comes in, batches to send come out.
//!
//! Each address on each interface has a schedule of its own. At once, because neighbours send to the old place until they
//! hear of the new one; after 0.1 s, in case the first was lost; after 1.1 s, past the second in which Linux refuses changes
//! of a fresh entry (locktime); after 3 s once more, when the links of a failing network have settled; and from then on
//! about each minute, because switches (300 s) and routers forget.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::due::Due;
use crate::refresh::Refresh;

/// Time from the start to each announcement of the opening burst.
const BURST: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(1100), Duration::from_secs(3)];

/// What happens to addresses on one interface, by the interface's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// They are here from now on, or are to be announced afresh.
    Start(u32, BTreeSet<IpAddr>),
    /// They are no longer here.
    Stop(u32, BTreeSet<IpAddr>),
    /// Time passed.
    Tick,
}

/// Whom an announcement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manner {
    /// The first one: for all, and once more for each neighbour that surely has to know.
    Opening,
    /// The next ones of the burst: for all.
    Repeat,
    /// The last of the burst, and those that keep tables fresh: for all, and whether somebody else has the address is asked on this
    /// occasion. Not earlier: who hands an address over to us still answers, for IPv6 to all, and would draw neighbours back.
    Refresh,
}

/// Send one announcement of each of the addresses on the interface, as one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announce {
    /// The interface's index.
    pub(crate) interface: u32,
    /// Whom it is for.
    pub(crate) manner: Manner,
    /// The addresses, in order.
    pub(crate) addresses: Vec<IpAddr>,
}

/// An address on an interface.
type Place = (u32, IpAddr);

/// How far a place is in its schedule.
#[derive(Clone, Copy, Debug)]
struct Progress {
    started: Instant,
    /// Announcements that were sent.
    sent: u32,
}

/// The schedules of all addresses on all interfaces.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    refresh: Refresh,
    places: Due<Place, Progress>,
}

impl Announcer {
    /// Nothing yet.
    pub(crate) fn new(refresh: Refresh) -> Self {
        Self { refresh, ..Self::default() }
    }

    /// Takes an event and says what to send now. Called late, it sends what is overdue once.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<Announce> {
        match event {
            Event::Start(interface, addresses) => {
                for ip in addresses {
                    self.places.set((interface, ip), now, Progress { started: now, sent: 0 });
                }
            }
            Event::Stop(interface, addresses) => {
                for ip in addresses {
                    self.places.remove((interface, ip));
                }
            }
            Event::Tick => {}
        }
        self.send_due(now)
    }

    /// When to call [`handle`](Self::handle) with a tick.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.places.next()
    }

    fn send_due(&mut self, now: Instant) -> Vec<Announce> {
        let mut batches: BTreeMap<(u32, Manner), Vec<IpAddr>> = BTreeMap::new();
        while let Some((place, due, mut progress)) = self.places.pop(now) {
            let manner = manner(progress, due);
            progress.sent += 1;
            self.places.set(place, self.next(place, progress, now), progress);
            batches.entry((place.0, manner)).or_default().push(place.1);
        }
        batches
            .into_iter()
            .map(|((interface, manner), mut addresses)| {
                addresses.sort_unstable();
                Announce { interface, manner, addresses }
            })
            .collect()
    }

    /// When the next announcement is due. What a late call has missed is not made up for.
    fn next(&self, place: Place, progress: Progress, now: Instant) -> Instant {
        let in_burst = BURST.iter().map(|after_start| progress.started + *after_start).find(|due| *due > now);
        in_burst.unwrap_or_else(|| now + self.refresh.pause((place, progress.sent)))
    }
}

/// That of the announcement that is due.
fn manner(progress: Progress, due: Instant) -> Manner {
    let [.., last] = BURST;
    match progress.sent {
        0 => Manner::Opening,
        _ if due < progress.started + last => Manner::Repeat,
        _ => Manner::Refresh,
    }
}

#[cfg(test)]
mod tests;
