//! Asking a kernel whether it lives: on the segment, behind a router, and with liars about.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use landfall_speaker::kernel_probe::{Answered, Prober};
use landfall_speaker::links::Attached;
use landfall_wire::{ArpFrame, Frame, MacAddr};
use socket2::{Domain, Protocol, Socket, Type};

use crate::segment::{Host, Segment, eventually, inside, mac, wait};

/// As often as membership asks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long the last answer may take on a busy machine.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A node that asks (eth0 has 02:00:00:00:00:02), and one that is asked (02:00:00:00:00:01).
struct Pair {
    segment: Segment,
    asker: Host,
    asked: Host,
}

const ASKER: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];
const ASKED: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

impl Pair {
    fn new() -> Self {
        let mut segment = Segment::new();
        let asker = segment.host("asker", 2, &ASKER);
        let asked = segment.host("asked", 1, &["192.0.2.1/24", "2001:db8::1/64"]);
        Self { segment, asker, asked }
    }
}

fn index(host: &Host, interface: &str) -> u32 {
    let line = host.ip(&format!("-oneline link show {interface}"));
    line.split(':').next().and_then(|index| index.parse().ok()).expect("an index")
}

/// What the wire thread would tell the prober of eth0.
fn eth0(host: &Host, mac: MacAddr, addresses: &[&str]) -> Vec<Attached> {
    let attached = |address: &&str| {
        let network: IpNet = address.parse().expect("an address with a prefix");
        let (interface, name) = (index(host, "eth0"), "eth0".to_owned());
        Attached { interface, name, mac, up: true, local: network.addr(), network: network.trunc() }
    };
    addresses.iter().map(attached).collect()
}

/// Asks for `address` from a host `times` times, as membership does, and returns what was heard.
fn ask(host: &Host, attached: &[Attached], address: &str, times: usize) -> io::Result<Vec<Answered>> {
    let (attached, address) = (attached.to_vec(), address.parse().expect("an address"));
    inside(&host.namespace, move || {
        wait(async {
            let mut prober = Prober::new()?;
            prober.set_attached(attached);
            let mut heard = Vec::new();
            for asked in 1..=times {
                prober.ask(&"n1".into(), address)?;
                let pause = if asked < times { INTERVAL } else { LAST_WORD };
                let until = Instant::now() + pause;
                while heard.len() < times
                    && let Ok(answered) = tokio::time::timeout_at(until.into(), prober.answer()).await
                {
                    heard.push(answered);
                }
            }
            Ok(heard)
        })
    })
}

fn answers(mac: Option<(u32, MacAddr)>, times: usize) -> Vec<Answered> {
    vec![Answered { node: "n1".into(), mac }; times]
}

#[test]
fn neighbour_answers_each_question_with_its_mac_and_our_kernel_learns_nothing() {
    let pair = Pair::new();
    let attached = eth0(&pair.asker, mac(2), &ASKER);
    for ip in ASKED {
        let heard = ask(&pair.asker, &attached, ip, 3).unwrap();
        assert_eq!(heard, answers(Some((attached[0].interface, mac(1))), 3), "{ip}");
        assert_eq!(pair.asker.ip(&format!("neighbour show {ip}")), "");
    }
}

#[test]
fn neighbour_whose_link_is_cut_is_silent_though_our_kernel_still_knows_it() {
    let pair = Pair::new();
    let attached = eth0(&pair.asker, mac(2), &ASKER);
    for (ip, state) in [(ASKED[0], "reachable"), (ASKED[0], "stale"), (ASKED[1], "reachable"), (ASKED[1], "stale")] {
        pair.segment.cable(&pair.asked, "eth0", "down");
        pair.asker.ip(&format!("neighbour replace {ip} lladdr 02:00:00:00:00:01 dev eth0 nud {state}"));
        assert_eq!(ask(&pair.asker, &attached, ip, 3).unwrap(), []);
        let known = pair.asker.ip(&format!("neighbour show {ip}"));
        assert!(known.contains("02:00:00:00:00:01") && known.contains(&state.to_uppercase()), "{known}");
        pair.segment.cable(&pair.asked, "eth0", "up");
        eventually("it answers again", || {
            let heard = ask(&pair.asker, &attached, ip, 1).unwrap();
            (heard == answers(Some((attached[0].interface, mac(1))), 1)).then_some(())
        });
    }
}

#[test]
fn neighbour_whose_interface_is_switched_off_is_silent() {
    let pair = Pair::new();
    let attached = eth0(&pair.asker, mac(2), &ASKER);
    pair.asked.ip("link set eth0 down");
    for ip in ASKED {
        assert_eq!(ask(&pair.asker, &attached, ip, 2).unwrap(), [], "{ip}");
    }
}

#[test]
fn node_behind_a_router_answers_an_echo_and_is_silent_when_its_link_is_cut() {
    let Pair { mut segment, asker, asked: router } = Pair::new();
    segment.plug(&router, "eth1", 3, &["198.51.100.1/24", "2001:db8:1::1/64"]);
    for forwarding in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        router.run(&format!("sysctl -q -w {forwarding}"));
    }
    let far = segment.host("far", 9, &["198.51.100.9/24", "2001:db8:1::9/64"]);
    for (host, network, by) in [
        (&asker, "198.51.100.0/24", "192.0.2.1"),
        (&asker, "2001:db8:1::/64", "2001:db8::1"),
        (&far, "192.0.2.0/24", "198.51.100.1"),
        (&far, "2001:db8::/64", "2001:db8:1::1"),
    ] {
        host.ip(&format!("route add {network} via {by}"));
    }
    let attached = eth0(&asker, mac(2), &ASKER);
    let asked = ["198.51.100.9", "2001:db8:1::9"];
    for ip in asked {
        // IPv6 takes a second or two to find its link-local addresses free, and solicits from none before.
        eventually("the way is open", || (!ask(&asker, &attached, ip, 1).unwrap().is_empty()).then_some(()));
        assert_eq!(ask(&asker, &attached, ip, 3).unwrap(), answers(None, 3), "{ip}");
    }
    segment.cable(&far, "eth0", "down");
    for ip in asked {
        assert_eq!(ask(&asker, &attached, ip, 3).unwrap(), [], "{ip}");
    }
}

#[test]
fn question_that_cannot_be_sent_is_an_error_and_no_silence() {
    let pair = Pair::new();
    let mut attached = eth0(&pair.asker, mac(2), &ASKER);
    let error = |attached: &[Attached], ip| ask(&pair.asker, attached, ip, 1).unwrap_err().to_string();
    assert_eq!(
        error(&attached, "203.0.113.1"),
        "cannot ask the kernel of node n1 at 203.0.113.1 whether it lives: Network is unreachable (os error 101)"
    );
    pair.asker.ip("link set eth0 down");
    assert_eq!(
        error(&attached, "192.0.2.1"),
        "cannot ask the kernel of node n1 at 192.0.2.1 whether it lives: Network is down (os error 100)"
    );
    attached[0].up = false;
    assert_eq!(
        error(&attached, "192.0.2.1"),
        "cannot ask the kernel of node n1 at 192.0.2.1 whether it lives: its network is that of interface eth0, which is down"
    );
}

#[test]
fn strangers_arp_is_no_answer_for_a_node_that_is_gone() {
    let Pair { mut segment, asker, asked } = Pair::new();
    segment.cable(&asked, "eth0", "down");
    let stranger = segment.host("stranger", 9, &["192.0.2.9/24", "2001:db8::9/64"]);
    let mut neighbour = stranger.neighbour(9, "192.0.2.9", "2001:db8::9");
    let attached = eth0(&asker, mac(2), &ASKER);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&asker, &attached, "192.0.2.1", 3).unwrap());
        for _ in 0..3 {
            let wanted = |frame: &Frame| matches!(frame, Frame::Arp(frame) if frame.arp.sender.0 == mac(2));
            let (Frame::Arp(request), _) = neighbour.until("a question", wanted) else { unreachable!() };
            // It answers for itself, and announces the node's address to all.
            let mut own = ArpFrame::reply(&request.arp, mac(9));
            own.arp.sender.1 = neighbour.v4;
            neighbour.send(&own.to_octets());
            neighbour.send(&ArpFrame::gratuitous_reply("192.0.2.1".parse().unwrap(), mac(9)).to_octets());
        }
        assert_eq!(asking.join().unwrap(), []);
    });
}

/// Answers echo requests, from this address of the host, from the barrier `ready` on until `end`.
fn answer_echoes(host: &Host, from: &str, ready: &Arc<Barrier>, end: &Arc<AtomicBool>) {
    let from: IpAddr = from.parse().expect("an address");
    let (ready, end) = (Arc::clone(ready), Arc::clone(end));
    inside(&host.namespace, move || {
        let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("a raw socket");
        let (mut receiver, sender) = (open(), open());
        receiver.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
        sender.bind(&SocketAddr::new(from, 0).into()).expect("bound");
        ready.wait();
        while !end.load(Ordering::Relaxed) {
            let mut packet = [0; 128];
            let Ok(length) = receiver.read(&mut packet) else { continue };
            let (header, message) = packet[..length].split_at_mut(20);
            if message[0] != 8 {
                continue;
            }
            let requester = Ipv4Addr::from(*header[12..].first_chunk().expect("an address"));
            // A reply differs from its request in its type, 0 for 8, and so in its checksum.
            message[0] = 0;
            let sum = u32::from(u16::from_be_bytes([message[2], message[3]])) + 0x0800;
            message[2..4].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
            sender.send_to(message, &SocketAddr::new(requester.into(), 0).into()).expect("sent");
        }
    });
}

#[test]
fn echo_reply_counts_only_from_the_asked_address() {
    let pair = Pair::new();
    pair.asked.ip("address add 192.0.2.66/24 dev eth0");
    pair.asked.run("sysctl -q -w net.ipv4.icmp_echo_ignore_all=1");
    for (from, heard) in [("192.0.2.66", 0), ("192.0.2.1", 3)] {
        let (ready, end) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
        std::thread::scope(|scope| {
            scope.spawn(|| answer_echoes(&pair.asked, from, &ready, &end));
            ready.wait();
            // Told of no network, it asks by way of the routing table.
            let answered = ask(&pair.asker, &[], "192.0.2.1", 3);
            end.store(true, Ordering::Relaxed);
            assert_eq!(answered.unwrap(), answers(None, heard), "from {from}");
        });
    }
}

#[test]
fn there_is_one_socket_for_each_interface_and_protocol_and_none_after_a_while() {
    let pair = Pair::new();
    let attached = eth0(&pair.asker, mac(2), &ASKER);
    let host = pair.asker.clone();
    let counts = inside(&pair.asker.namespace, move || {
        wait(async {
            let mut prober = Prober::new().expect("random numbers");
            prober.set_attached(attached);
            let before = host.packet_sockets();
            for last in 101..120 {
                for network in ["192.0.2.", "2001:db8::"] {
                    let address = format!("{network}{last}").parse().expect("an address");
                    prober.ask(&"n1".into(), address).expect("asked");
                }
            }
            let asked = host.packet_sockets();
            // Nobody has these addresses. It is longer than sockets are kept, and shorter than a test may take.
            let answer = tokio::time::timeout(Duration::from_secs(7), prober.answer()).await;
            let after = host.packet_sockets();
            // The prober lives until here, so it was not its end that closed them.
            prober.set_attached(Vec::new());
            answer.expect_err("nobody to answer");
            [before, asked, after]
        })
    });
    assert_eq!(counts, [0, 2, 0]);
}
