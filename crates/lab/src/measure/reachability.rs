//! How a client's kernel makes sure that whom it sends to is still there, read from frames.
//!
//! An entry of Linux' neighbour table that nothing has confirmed for 15 to 45 s is stale. What is sent goes out all the same;
//! 5 s later the kernel asks the one MAC address that it knows, three times, a second apart, and forgets it when no answer
//! comes. Source: RFC 4861 section 7.3 (neighbour unreachability detection); for ARP RFC 1122 section 2.3.2.1 ("unicast
//! poll") and arp(7). TCP confirms an entry with each acknowledgement, so that a client of a busy connection never asks; UDP
//! confirms nothing.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_wire::{Frame, MacAddr, NdpMessage, Operation};

/// After this time the kernel asks again: an answer that comes later came too late for its question.
const AGAIN: Duration = Duration::from_secs(1);

/// A step of such a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// When it was heard.
    pub(super) at: Instant,
    /// The neighbour in question.
    address: IpAddr,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The client asked the MAC address that it knows, and nobody else.
    Probe,
    /// Somebody told the client alone where the address is.
    Answer,
}

/// How such checks ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Unicast questions.
    pub(super) probes: usize,
    /// Those that had no answer when the next was due.
    pub(super) unanswered: usize,
}

impl Step {
    /// Reads a frame on the wire of the client that has this MAC address; `None` when it belongs to no check of the client's.
    pub(super) fn read(octets: &[u8], at: Instant, client: MacAddr) -> Option<Step> {
        let (from, to, address, kind): (_, _, IpAddr, _) = match Frame::parse(octets).ok()? {
            Frame::Arp(frame) => match frame.arp.operation {
                Operation::Request => (frame.source, frame.destination, frame.arp.target.1.into(), Kind::Probe),
                Operation::Reply => (frame.source, frame.destination, frame.arp.sender.1.into(), Kind::Answer),
            },
            Frame::Ndp(frame) => match frame.message {
                NdpMessage::Solicitation(asked) => {
                    (frame.source_mac, frame.destination_mac, asked.target.into(), Kind::Probe)
                }
                // One that is not solicited confirms nothing (RFC 4861 section 7.2.5).
                NdpMessage::Advertisement(said) if said.solicited => {
                    (frame.source_mac, frame.destination_mac, said.target.into(), Kind::Answer)
                }
                NdpMessage::Advertisement(_) => return None,
            },
        };
        let ours = match kind {
            Kind::Probe => from == client && to.is_unicast(),
            Kind::Answer => to == client,
        };
        ours.then_some(Step { at, address, kind })
    }
}

/// What became of the probes for an address that were sent between these moments. `steps` are in the order in which they were
/// heard, and go on for a second after `until`.
pub(super) fn checked(steps: &[Step], address: IpAddr, from: Instant, until: Instant) -> Checked {
    let steps: Vec<&Step> = steps.iter().filter(|step| step.address == address).collect();
    let mut checked = Checked::default();
    for (index, probe) in steps.iter().enumerate() {
        if probe.kind != Kind::Probe || probe.at < from || probe.at >= until {
            continue;
        }
        let next = steps.get(index + 1);
        let answered = next.is_some_and(|next| next.kind == Kind::Answer && next.at <= probe.at + AGAIN);
        checked.probes += 1;
        checked.unanswered += usize::from(!answered);
    }
    checked
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use landfall_wire::{Arp, ArpFrame, NdpFrame};

    use super::*;

    const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
    const OWNER_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const CLIENT_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);

    fn kind(frame: &[u8]) -> Option<Kind> {
        let step = Step::read(frame, Instant::now(), CLIENT_MAC)?;
        assert!([IpAddr::from(SERVICE), six(1).into()].contains(&step.address), "{step:?}");
        Some(step.kind)
    }

    fn six(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    #[test]
    fn a_question_to_one_machine_is_a_probe_and_one_to_everybody_is_not() {
        let broadcast = ArpFrame::request(SERVICE, (CLIENT_MAC, CLIENT));
        let unicast = ArpFrame { destination: OWNER_MAC, ..broadcast };
        let others = ArpFrame { source: OWNER_MAC, destination: CLIENT_MAC, ..broadcast };
        let found = [unicast, broadcast, others].map(|frame| kind(&frame.to_octets()));
        assert_eq!(found, [Some(Kind::Probe), None, None]);

        let multicast = NdpFrame::solicitation(six(1), (CLIENT_MAC, six(9)));
        let unicast = NdpFrame { destination_mac: OWNER_MAC, destination: six(1), ..multicast };
        let others = NdpFrame { source_mac: OWNER_MAC, destination_mac: CLIENT_MAC, ..unicast };
        let found = [unicast, multicast, others].map(|frame| kind(&frame.to_octets()));
        assert_eq!(found, [Some(Kind::Probe), None, None]);
    }

    #[test]
    fn what_is_said_to_the_client_alone_is_an_answer_and_an_announcement_is_none() {
        let asked =
            Arp { operation: Operation::Request, sender: (CLIENT_MAC, CLIENT), target: (MacAddr::zero(), SERVICE) };
        let answer = ArpFrame::reply(&asked, OWNER_MAC);
        assert_eq!(kind(&answer.to_octets()), Some(Kind::Answer));
        let to_another = ArpFrame { destination: OWNER_MAC, ..answer };
        assert_eq!(kind(&to_another.to_octets()), None);
        assert_eq!(kind(&ArpFrame::gratuitous_reply(SERVICE, OWNER_MAC).to_octets()), None);

        let announced = NdpFrame::unsolicited_advertisement(six(1), OWNER_MAC);
        assert_eq!(kind(&announced.to_octets()), None);
        let refresh = NdpFrame { destination_mac: CLIENT_MAC, destination: six(9), ..announced };
        assert_eq!(kind(&refresh.to_octets()), None, "nobody asked");
        let question = NdpFrame::solicitation(six(1), (CLIENT_MAC, six(9)));
        let NdpMessage::Solicitation(solicitation) = question.message else { panic!("{question:?}") };
        let answer = NdpFrame::answer(&question, &solicitation, OWNER_MAC);
        assert_eq!(kind(&answer.to_octets()), Some(Kind::Answer));
    }

    /// Captured between two network namespaces of Linux 6.18, whose kernels asked and answered.
    #[test]
    fn a_check_as_linux_makes_it_is_read_in_both_families() {
        let octets = |hex: &str| -> Vec<u8> {
            let digits = hex.replace(' ', "");
            let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(octet).collect()
        };
        let client = MacAddr(2, 0x1f, 0xac, 0x1e, 0, 0x64);
        let (four, six) = (IpAddr::from([172, 30, 0, 240]), "fd00:30::240".parse().unwrap());
        for (frame, address, kind) in [
            (
                "021fac1e000b 021fac1e0064 0806 0001 0800 06 04 0001 021fac1e0064 ac1e0064 000000000000 ac1e00f0",
                four,
                Kind::Probe,
            ),
            (
                "021fac1e0064 021fac1e000b 0806 0001 0800 06 04 0002 021fac1e000b ac1e00f0 021fac1e0064 ac1e0064",
                four,
                Kind::Answer,
            ),
            (
                "021fac1e000b 021fac1e0064 86dd 60000000 0020 3a ff fe80000000000000 001facfffe1e0064 \
                 fd00003000000000 0000000000000240 87001ffe 00000000 fd00003000000000 0000000000000240 0101 021fac1e0064",
                six,
                Kind::Probe,
            ),
            (
                "021fac1e0064 021fac1e000b 86dd 60000000 0018 3a ff fd00003000000000 0000000000000240 \
                 fe80000000000000 001facfffe1e0064 88008ea8 40000000 fd00003000000000 0000000000000240",
                six,
                Kind::Answer,
            ),
        ] {
            let at = Instant::now();
            assert_eq!(Step::read(&octets(frame), at, client), Some(Step { at, address, kind }), "{frame}");
        }
    }

    #[test]
    fn a_probe_is_answered_before_the_next_one_is_due_or_not_at_all() {
        let start = Instant::now();
        let ms = |after| start + Duration::from_millis(after);
        let step =
            |(after, address, kind): (u64, Ipv4Addr, Kind)| Step { at: ms(after), address: address.into(), kind };
        let (probe, answer) = (Kind::Probe, Kind::Answer);
        for (steps, probes, unanswered) in [
            (&[][..], 0, 0),
            (&[(100, SERVICE, probe), (101, SERVICE, answer)], 1, 0),
            (&[(100, SERVICE, probe), (1100, SERVICE, answer)], 1, 0),
            (&[(100, SERVICE, probe), (1101, SERVICE, answer)], 1, 1),
            (&[(100, SERVICE, probe)], 1, 1),
            (&[(100, SERVICE, probe), (101, CLIENT, answer)], 1, 1),
            (&[(100, SERVICE, probe), (101, CLIENT, probe), (102, SERVICE, answer)], 1, 0),
            (&[(100, SERVICE, probe), (900, SERVICE, probe), (901, SERVICE, answer)], 2, 1),
            (&[(99, SERVICE, probe), (4000, SERVICE, probe)], 0, 0),
            (&[(3999, SERVICE, probe), (4001, SERVICE, answer)], 1, 0),
        ] {
            let steps: Vec<Step> = steps.iter().copied().map(step).collect();
            let expected = Checked { probes, unanswered };
            assert_eq!(checked(&steps, SERVICE.into(), ms(100), ms(4000)), expected, "{steps:?}");
        }
    }
}
