//! An ear and a mouth on the client's wire: hears every ARP packet and neighbour message, and asks.
//!
//! One packet socket in this process instead of tcpdump and arping: a thousand addresses are asked for in a moment, fifty
//! times a second if need be, and what is heard has the clock of the probes.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use landfall_wire::{
    Arp, ArpFrame, MacAddr, NdpFrame, NdpMessage, NeighborSolicitation, Operation, multicast_mac,
    solicited_node_multicast,
};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::claims::Claim;
use super::reachability::Step;
use crate::lab::Lab;

/// ETH_P_ALL in network byte order, as packet(7) wants it.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;
/// Room for the answers to a thousand questions asked at once, with the kernel's overhead for each.
const BUFFER: usize = 8 << 20;
/// How long the reader waits before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// So many questions leave at once, `BREATH` apart: an answerer's own buffer is not as large as ours.
const BURST: usize = 50;
const BREATH: Duration = Duration::from_millis(2);

/// A wiretap at work; it ends when this is dropped.
pub(super) struct Wiretap {
    mouth: Mouth,
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Heard>>,
    reader: Option<JoinHandle<()>>,
}

/// Each in the order in which it was heard.
#[derive(Default)]
struct Heard {
    claims: Vec<Claim>,
    steps: Vec<Step>,
}

/// Asks who has an address; cheap to clone.
#[derive(Clone)]
pub(super) struct Mouth {
    socket: Arc<Socket>,
    mac: MacAddr,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

impl Wiretap {
    /// Starts to listen on an interface of `place`; frames are being heard when this returns.
    pub(super) fn open(lab: &Lab, place: &str, interface: &str) -> Result<Wiretap> {
        let mouth = lab.in_netns(place, || open(interface))?;
        let mouth = mouth.with_context(|| format!("packet socket on {interface} of {place}"))?;
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (ear, stopped, into) = (mouth.clone(), stop.clone(), Arc::clone(&heard));
        let reader = thread::spawn(move || ear.listen(&stopped, &into));
        Ok(Wiretap { mouth, stop, heard, reader: Some(reader) })
    }

    /// What was claimed from `since` on, in the order in which it was heard.
    pub(super) fn claims_since(&self, since: Instant) -> Vec<Claim> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let first = heard.claims.partition_point(|claim| claim.at < since);
        heard.claims[first..].to_vec()
    }

    /// How the kernel of the place checked its neighbours from `since` on, in the order in which it was heard.
    pub(super) fn steps_since(&self, since: Instant) -> Vec<Step> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let first = heard.steps.partition_point(|step| step.at < since);
        heard.steps[first..].to_vec()
    }

    /// To ask with, also while others listen.
    pub(super) fn mouth(&self) -> Mouth {
        self.mouth.clone()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Mouth {
    /// Asks everybody, once, for each of these addresses.
    /// # Errors
    /// The interface does not take a frame.
    pub(super) fn ask(&self, addresses: &[IpAddr]) -> Result<()> {
        for burst in addresses.chunks(BURST) {
            for address in burst {
                let question = self.question(*address);
                self.socket.send(&question).with_context(|| format!("ask for {address}"))?;
            }
            if addresses.len() > BURST {
                thread::sleep(BREATH);
            }
        }
        Ok(())
    }

    /// Hears until it is told to stop. What this socket itself sends is not among what it hears; what the kernel sends is.
    fn listen(&self, stop: &AtomicBool, into: &Mutex<Heard>) {
        let mut frame = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            match (&*self.socket).read(&mut frame) {
                Ok(length) => {
                    let (frame, now) = (&frame[..length], Instant::now());
                    let mut heard = into.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.claims.extend(Claim::read(frame, now));
                    heard.steps.extend(Step::read(frame, now, self.mac));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The interface went down or came back: it says so once.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn question(&self, address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(target) => {
                let (sender, target) = ((self.mac, self.ipv4), (MacAddr::zero(), target));
                let arp = Arp { operation: Operation::Request, sender, target };
                ArpFrame { destination: MacAddr::broadcast(), source: self.mac, arp }.to_octets().to_vec()
            }
            IpAddr::V6(target) => {
                let group = solicited_node_multicast(target);
                let message = NeighborSolicitation { target, source_link_layer: Some(self.mac) };
                NdpFrame {
                    destination_mac: multicast_mac(group),
                    source_mac: self.mac,
                    source: self.ipv6,
                    destination: group,
                    message: NdpMessage::Solicitation(message),
                }
                .to_octets()
            }
        }
    }
}

/// In the network namespace of the calling thread.
fn open(interface: &str) -> Result<Mouth> {
    let (mut link, mut ipv4, mut ipv6) = (None, None, None);
    for address in getifaddrs()?.filter(|one| one.interface_name == interface).filter_map(|one| one.address) {
        link = link.or(address.as_link_addr().copied());
        ipv4 = ipv4.or(address.as_sockaddr_in().map(|v4| v4.ip()));
        let global = address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| !ip.is_unicast_link_local());
        ipv6 = ipv6.or(global);
    }
    let link: LinkAddr = link.with_context(|| format!("there is no {interface}"))?;
    let [a, b, c, d, e, f] = link.addr().with_context(|| format!("{interface} has no MAC address"))?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS)))?;
    socket.attach_filter(&neighbours_only())?;
    socket.set_read_timeout(Some(LOOK))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("receive buffer")?;
    bind(socket.as_raw_fd(), &link).context("bind")?;
    Ok(Mouth {
        socket: Arc::new(socket),
        mac: MacAddr(a, b, c, d, e, f),
        ipv4: ipv4.with_context(|| format!("{interface} has no IPv4 address"))?,
        ipv6: ipv6.with_context(|| format!("{interface} has no IPv6 address"))?,
    })
}

/// A program for the kernel: ARP and neighbour messages pass, the probes' own traffic does not.
/// Source: the kernel's Documentation/networking/filter.rst (classic BPF).
fn neighbours_only() -> [SockFilter; 10] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_OCTET: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let op = SockFilter::new;
    [
        op(LOAD_HALF, 0, 0, 12), // EtherType
        op(JUMP_EQUAL, 6, 0, 0x0806),
        op(JUMP_EQUAL, 0, 6, 0x86dd),
        op(LOAD_OCTET, 0, 0, 14 + 6), // next header
        op(JUMP_EQUAL, 0, 4, 58),     // ICMPv6
        op(LOAD_OCTET, 0, 0, 14 + 40),
        op(JUMP_EQUAL, 1, 0, 135), // neighbour solicitation
        op(JUMP_EQUAL, 0, 1, 136), // neighbour advertisement
        op(RETURN, 0, 0, 0xffff),
        op(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
    const OTHER: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);

    /// The kernel runs the same program on what comes to any kind of socket, and this one needs no privileges.
    #[test]
    fn arp_and_neighbour_messages_pass_the_filter_and_other_frames_do_not() {
        let (from, to) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
        to.attach_filter(&neighbours_only()).unwrap();
        to.set_nonblocking(true).unwrap();
        let passes = |frame: &[u8]| {
            from.send(frame).unwrap();
            (&to).read(&mut [0; 2048]).is_ok_and(|length| length == frame.len())
        };
        let (four, six) = ([192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap());
        let arp = ArpFrame::request(four, (ONE, [192, 0, 2, 9].into())).to_octets();
        let solicitation = NdpFrame::solicitation(six, (ONE, "2001:db8::9".parse().unwrap())).to_octets();
        let advertisement = NdpFrame::unsolicited_advertisement(six, OTHER).to_octets();
        assert_eq!([&arp[..], &solicitation, &advertisement].map(passes), [true; 3]);
        let changed = |frame: &[u8], index: usize, octet| {
            let mut frame = frame.to_vec();
            frame[index] = octet;
            frame
        };
        let ipv4 = changed(&arp, 13, 0x00);
        let udp = changed(&solicitation, 14 + 6, 17);
        let router = changed(&solicitation, 14 + 40, 134);
        let echo = changed(&solicitation, 14 + 40, 128);
        assert_eq!([&ipv4[..], &udp, &router, &echo, b"short"].map(passes), [false; 5]);
    }
}
