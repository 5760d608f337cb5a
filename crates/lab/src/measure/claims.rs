//! Who says to have which address: read from frames, without asking the implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use landfall_wire::{Frame, MacAddr, NdpMessage};

/// A frame said that an address is at a MAC address: an answer, or an announcement that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// When it was heard.
    pub(super) at: Instant,
    /// The address in question.
    pub(super) address: IpAddr,
    /// Where it is said to be. Who covers for another names that one's MAC, whatever the Ethernet header says.
    pub(super) mac: MacAddr,
}

impl Claim {
    /// Reads a frame; `None` when it claims nothing, like a request of a client for another's address or a probe.
    pub(super) fn read(octets: &[u8], at: Instant) -> Option<Claim> {
        let (address, mac): (IpAddr, _) = match Frame::parse(octets).ok()? {
            // Whoever sends ARP says who it is, in requests too: an announcement is a request for the sender's own address.
            Frame::Arp(frame) if !frame.arp.sender.1.is_unspecified() => {
                (frame.arp.sender.1.into(), frame.arp.sender.0)
            }
            Frame::Ndp(frame) => match frame.message {
                NdpMessage::Advertisement(said) => {
                    (said.target.into(), said.target_link_layer.unwrap_or(frame.source_mac))
                }
                NdpMessage::Solicitation(_) => return None,
            },
            Frame::Arp(_) => return None,
        };
        Some(Claim { at, address, mac })
    }
}

/// How often the address changed its MAC, in the order of the claims.
pub(super) fn moves(claims: &[Claim], address: IpAddr) -> usize {
    let macs: Vec<MacAddr> = claims.iter().filter(|claim| claim.address == address).map(|claim| claim.mac).collect();
    macs.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// When the address was first said to be elsewhere than at first.
pub(super) fn moved_at(claims: &[Claim], address: IpAddr) -> Option<Instant> {
    let mut heard = claims.iter().filter(|claim| claim.address == address);
    let first = heard.next()?.mac;
    heard.find(|claim| claim.mac != first).map(|claim| claim.at)
}

/// Every MAC that each address was said to be at.
pub(super) fn answerers(claims: &[Claim]) -> BTreeMap<IpAddr, BTreeSet<MacAddr>> {
    let mut by_address: BTreeMap<IpAddr, BTreeSet<MacAddr>> = BTreeMap::new();
    for claim in claims {
        by_address.entry(claim.address).or_default().insert(claim.mac);
    }
    by_address
}

/// When the address was last claimed for another MAC than the one that claimed it last of all: from then on there was one
/// answerer. `None` when there never was another.
pub(super) fn last_rival(claims: &[Claim], address: IpAddr) -> Option<Instant> {
    let mut latest_first = claims.iter().rev().filter(|claim| claim.address == address);
    let winner = latest_first.next()?.mac;
    latest_first.find(|claim| claim.mac != winner).map(|claim| claim.at)
}

/// Whether the address was heard of until then, and of one owner only: whoever has this MAC.
pub(super) fn is_held(claims: &[Claim], address: IpAddr, until: Instant, is_owner: impl Fn(MacAddr) -> bool) -> bool {
    let mut heard = claims.iter().filter(|claim| claim.address == address && claim.at < until).peekable();
    heard.peek().is_some() && heard.all(|claim| is_owner(claim.mac))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use landfall_wire::{Arp, ArpFrame, NdpFrame, Operation};

    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

    const fn mac(last: u8) -> MacAddr {
        MacAddr(2, 0, 0, 0, 0, last)
    }

    fn claimed(frame: &[u8]) -> Option<(IpAddr, MacAddr)> {
        Claim::read(frame, Instant::now()).map(|claim| (claim.address, claim.mac))
    }

    #[test]
    fn announcements_and_answers_claim_and_questions_do_not() {
        let here = Some((SERVICE.into(), mac(1)));
        let ask = |sender| Arp { operation: Operation::Request, sender: (mac(9), sender), target: (mac(0), SERVICE) };
        let question = ask(CLIENT);
        assert_eq!(claimed(&ArpFrame::gratuitous_request(SERVICE, mac(1)).to_octets()), here);
        assert_eq!(claimed(&ArpFrame::gratuitous_reply(SERVICE, mac(1)).to_octets()), here);
        assert_eq!(claimed(&ArpFrame::reply(&question, mac(1)).to_octets()), here);
        let frame = |arp| ArpFrame { destination: MacAddr::broadcast(), source: mac(9), arp };
        assert_eq!(claimed(&frame(question).to_octets()), Some((CLIENT.into(), mac(9))), "the asker names itself only");
        assert_eq!(claimed(&frame(ask(Ipv4Addr::UNSPECIFIED)).to_octets()), None, "a probe claims nothing");
        let six = "2001:db8::1".parse().unwrap();
        assert_eq!(claimed(&NdpFrame::unsolicited_advertisement(six, mac(1)).to_octets()), Some((six.into(), mac(1))));
        assert_eq!(claimed(b"not a frame"), None);
    }

    #[test]
    fn who_covers_names_the_owner_and_that_is_no_move() {
        let mut cover = ArpFrame::gratuitous_reply(SERVICE, mac(1));
        cover.source = mac(2);
        assert_eq!(claimed(&cover.to_octets()), Some((SERVICE.into(), mac(1))));
    }

    fn claims(macs: &[u8]) -> Vec<Claim> {
        let start = Instant::now();
        let at = |index| start + Duration::from_millis(index as u64 * 10);
        macs.iter()
            .enumerate()
            .map(|(index, last)| Claim { at: at(index), address: SERVICE.into(), mac: mac(*last) })
            .collect()
    }

    #[test]
    fn a_move_is_another_mac_than_before() {
        for (macs, count) in [(&[][..], 0), (&[1], 0), (&[1, 1, 1], 0), (&[1, 1, 2, 2], 1), (&[1, 2, 1], 2)] {
            assert_eq!(moves(&claims(macs), SERVICE.into()), count, "{macs:?}");
            let heard = claims(macs);
            let first = heard.iter().find(|claim| claim.mac != heard[0].mac).map(|claim| claim.at);
            assert_eq!(moved_at(&heard, SERVICE.into()), first, "{macs:?}");
        }
        assert_eq!(moves(&claims(&[1, 2]), CLIENT.into()), 0, "another address");
    }

    #[test]
    fn an_address_is_held_while_only_its_owner_is_heard() {
        let heard = claims(&[1, 1, 2]);
        let held = |from: usize, until: Instant, address: Ipv4Addr| {
            is_held(&heard[from..], address.into(), until, |one| one == mac(1))
        };
        assert!(held(0, heard[2].at, SERVICE), "what comes afterwards does not matter");
        assert!(!held(0, heard[2].at + Duration::from_millis(1), SERVICE), "it was given away before");
        assert!(!held(0, heard[0].at, SERVICE), "nobody was heard");
        assert!(!held(0, heard[2].at, CLIENT), "another address");
        assert!(!held(2, heard[2].at + Duration::from_millis(1), SERVICE), "another owner");
    }

    #[test]
    fn there_is_one_answerer_from_the_last_rival_on() {
        let heard = claims(&[1, 2, 1, 2, 2, 2]);
        assert_eq!(last_rival(&heard, SERVICE.into()), Some(heard[2].at));
        assert_eq!(last_rival(&claims(&[2, 2]), SERVICE.into()), None);
        assert_eq!(answerers(&heard), BTreeMap::from([(SERVICE.into(), BTreeSet::from([mac(1), mac(2)]))]));
    }
}
