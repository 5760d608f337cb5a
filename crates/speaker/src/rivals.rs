//! Others that say to have an address that is ours. Pure.
//!
//! A peer is told so by membership, and the better right decides. Anybody else is a stranger: a machine to which somebody gave
//! the same address. With strangers nobody can agree; we say what we see, and defend the address as RFC 5227 section 2.4
//! (b) has it: one announcement, and no more than one in ten seconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_wire::MacAddr;

/// How long the kernels of our peers have to answer, so that we learn whose MAC address it is; and the shortest time between
/// two such questions to all of them, however many MAC addresses a stranger makes up.
pub(crate) const ASKED_FOR: Duration = Duration::from_secs(1);
/// RFC 5227 section 1.1, DEFEND_INTERVAL.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A stranger that was not heard for so long is gone: neighbours ask anew for what they use within a minute or two.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// Somebody else's word, from the wire, that an address of ours is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// The address.
    pub(crate) ip: IpAddr,
    /// Where they say it is.
    pub(crate) mac: MacAddr,
    /// The index of the interface on which it was said.
    pub(crate) interface: u32,
}

/// What is to be done about one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Ask the peers' kernels, so that their MAC addresses are known.
    pub(crate) ask: bool,
    /// It is a stranger, and this was not known: say so.
    pub(crate) new: bool,
    /// Announce the address.
    pub(crate) defend: bool,
}

/// Those who are no peer as far as we know, by the address that they claim: at most one for each address of ours.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    rivals: BTreeMap<IpAddr, Rival>,
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Rival {
    mac: MacAddr,
    since: Instant,
    heard: Instant,
    defended: Option<Instant>,
    is_stranger: bool,
}

impl Rivals {
    /// Takes the claim of somebody whose MAC address is no peer's that we know.
    pub(crate) fn heard(&mut self, claimed: Claimed, now: Instant) -> Finding {
        let rival = match self.rivals.get_mut(&claimed.ip).filter(|rival| rival.mac == claimed.mac) {
            Some(rival) => rival,
            None => {
                let new = Rival { mac: claimed.mac, since: now, heard: now, defended: None, is_stranger: false };
                self.rivals.insert(claimed.ip, new);
                // Their answers to a question of less than this ago come in time for this one, too.
                let ask = self.asked.is_none_or(|asked| now >= asked + ASKED_FOR);
                if ask {
                    self.asked = Some(now);
                }
                return Finding { ask, ..Finding::default() };
            }
        };
        rival.heard = now;
        if now < rival.since + ASKED_FOR {
            return Finding::default();
        }
        let new = !std::mem::replace(&mut rival.is_stranger, true);
        let defend = rival.defended.is_none_or(|last| now >= last + DEFEND_INTERVAL);
        if defend {
            rival.defended = Some(now);
        }
        Finding { ask: false, new, defend }
    }

    /// The address is claimed by nobody but peers now, or is not ours any more.
    pub(crate) fn forget(&mut self, ip: IpAddr) {
        self.rivals.remove(&ip);
    }

    /// Whether the address is claimed by somebody who is a stranger for all we know.
    pub(crate) fn is_stranger(&self, ip: IpAddr) -> bool {
        self.rivals.get(&ip).is_some_and(|rival| rival.is_stranger)
    }

    /// When a stranger will be forgotten who is not heard again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.rivals.values().map(|rival| rival.heard + FORGOTTEN_AFTER).min()
    }

    /// The addresses that a stranger claims, with its MAC address, and forgets those that were not heard for long.
    pub(crate) fn strangers(&mut self, now: Instant) -> BTreeMap<IpAddr, MacAddr> {
        self.rivals.retain(|_, rival| now < rival.heard + FORGOTTEN_AFTER);
        self.rivals.iter().filter(|(_, rival)| rival.is_stranger).map(|(ip, rival)| (*ip, rival.mac)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_known_as_one_when_no_peer_turns_out_to_have_its_mac_and_is_answered_rarely() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let claimed = |last| Claimed { ip, mac: MacAddr::new(2, 0, 0, 0, 0, last), interface: 2 };
        let (nothing, ask) = (Finding::default(), Finding { ask: true, ..Finding::default() });
        let defend = Finding { defend: true, ..Finding::default() };
        let mut rivals = Rivals::default();
        for (ms, mac, finding) in [
            (0, 9, ask),
            (999, 9, nothing),
            (1_000, 9, Finding { new: true, ..defend }),
            (5_000, 9, nothing),
            (10_999, 9, nothing),
            (11_000, 9, defend),
            (11_001, 8, ask), // another one
            (12_001, 8, Finding { new: true, ..defend }),
        ] {
            assert_eq!(rivals.heard(claimed(mac), at(ms)), finding, "after {ms} ms");
        }
        assert_eq!(rivals.strangers(at(12_001)), BTreeMap::from([(ip, claimed(8).mac)]));
        assert_eq!(rivals.next_due(), Some(at(312_001)));
        assert_eq!(rivals.strangers(at(312_001)), BTreeMap::new(), "it has not been heard for long");
    }

    #[test]
    fn a_stranger_that_makes_up_mac_addresses_lets_us_ask_once_a_second() {
        let (start, mut rivals) = (Instant::now(), Rivals::default());
        let asked = (0..2_000_u64).filter(|ms| {
            let [.., a, b] = ms.to_be_bytes();
            let claimed = Claimed { ip: [192, 0, 2, b].into(), mac: MacAddr::new(2, 0, 0, 0, a, b), interface: 2 };
            rivals.heard(claimed, start + Duration::from_millis(*ms)).ask
        });
        assert_eq!(asked.collect::<Vec<_>>(), [0, 1_000]);
    }

    #[test]
    fn who_turns_out_to_be_a_peer_is_no_stranger() {
        let start = Instant::now();
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        let claimed = Claimed { ip, mac: MacAddr::new(2, 0, 0, 0, 0, 9), interface: 2 };
        let mut rivals = Rivals::default();
        assert!(rivals.heard(claimed, start).ask);
        rivals.forget(ip);
        assert!(rivals.heard(claimed, start + Duration::from_secs(2)).ask, "asked anew, not judged");
        assert!(!rivals.is_stranger(ip));
        assert_eq!(rivals.strangers(start + Duration::from_secs(2)), BTreeMap::new());
    }
}
