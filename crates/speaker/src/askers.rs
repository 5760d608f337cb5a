//! The neighbours that asked lately: they use addresses of ours, and are told in person when one comes here. Pure.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_wire::MacAddr;

/// How many are remembered. A gateway is among them, and the machines of the segment that open connections most often.
const MAX: usize = 8;
/// Who asked longer ago has forgotten, or asks anew (Linux after half a minute, routers after minutes).
const LATELY: Duration = Duration::from_secs(300);

/// Those that asked last, on one interface and by one protocol.
#[derive(Debug, Default)]
pub(crate) struct Askers(Vec<(IpAddr, MacAddr, Instant)>);

impl Askers {
    /// One asked, from this address. The one that has been silent for longest is forgotten for it when there is no more room.
    pub(crate) fn asked(&mut self, ip: IpAddr, mac: MacAddr, now: Instant) {
        self.0.retain(|(known, ..)| *known != ip);
        if self.0.len() == MAX {
            self.0.remove(0);
        }
        self.0.push((ip, mac, now));
    }

    /// Who asked lately, the last one first.
    pub(crate) fn lately(&self, now: Instant) -> impl Iterator<Item = (IpAddr, MacAddr)> + '_ {
        let lately = move |at: Instant| now < at + LATELY;
        self.0.iter().rev().filter(move |(.., at)| lately(*at)).map(|(ip, mac, _)| (*ip, *mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_that_asked_within_five_minutes_are_known() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let neighbour = |last| (IpAddr::from([192, 0, 2, last]), MacAddr::new(2, 0, 0, 0, 0, last));
        let mut askers = Askers::default();
        for last in [1, 2, 1, 3, 4, 5, 6, 7, 8, 9] {
            let (ip, mac) = neighbour(last);
            askers.asked(ip, mac, at(last.into()));
        }
        let known = |now| askers.lately(now).collect::<Vec<_>>();
        assert_eq!(known(at(10)), [9, 8, 7, 6, 5, 4, 3, 1].map(neighbour), "2 is silent for longest");
        assert_eq!(known(at(308)), [9].map(neighbour));
    }
}
