//! What is said unasked, when, and what it does to neighbours.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_wire::{ArpFrame, Frame, NdpFrame};

use crate::segment::{Segment, eventually, mac};
use crate::{Scene, VIP4, VIP6};
use landfall_speaker::links::InterfaceFilter;

/// The three frames that say: VIP4 and VIP6 are at `mac(last)`.
fn announcements(last: u8) -> [Frame; 3] {
    let (v4, v6) = (VIP4.parse().unwrap(), VIP6.parse().unwrap());
    [
        Frame::Arp(ArpFrame::gratuitous_request(v4, mac(last))),
        Frame::Arp(ArpFrame::gratuitous_reply(v4, mac(last))),
        Frame::Ndp(NdpFrame::unsolicited_advertisement(v6, mac(last))),
    ]
}

#[test]
fn takeover_corrects_the_neighbours_fresh_entries_at_once() {
    let mut scene = Scene::new();
    for ip in [VIP4, VIP6] {
        scene.client.ip(&format!("neighbour replace {ip} lladdr 02:00:00:00:00:99 dev eth0 nud reachable"));
    }
    let start = Instant::now();
    scene.speaker.own(&[VIP4, VIP6]);
    for ip in [VIP4, VIP6] {
        eventually("the entry has the new owner's MAC", || {
            scene.client.ip(&format!("neighbour show {ip}")).contains("lladdr 02:00:00:00:00:02").then_some(())
        });
    }
    // Within the second in which Linux refuses an ordinary reply, so it was taken for what it is.
    assert!(start.elapsed() < Duration::from_millis(900), "took {:?}", start.elapsed());
}

#[test]
fn addresses_are_announced_in_a_burst_of_four() {
    let mut scene = Scene::new();
    let start = Instant::now();
    scene.speaker.own(&[VIP4, VIP6]);
    let mut heard = [const { Vec::new() }; 3];
    while heard.iter().any(|times| times.len() < 4) {
        let (frame, _) = scene.neighbour.until("four announcements", |frame| announcements(2).contains(frame));
        let which = announcements(2).iter().position(|wanted| *wanted == frame).unwrap();
        heard[which].push(start.elapsed());
    }
    for times in heard {
        for (at, due) in times.iter().zip([0, 100, 1100, 3000].map(Duration::from_millis)) {
            // The machine may be busy; early is wrong in any case.
            assert!((due..due + Duration::from_millis(600)).contains(at), "{times:?}");
        }
    }
    for line in [r#"{ip="192.0.2.10"} 8"#, r#"{ip="2001:db8::10"} 4"#] {
        scene.speaker.shows(&format!("metallb_layer2_gratuitous_sent{line}"));
    }
}

#[test]
fn another_address_does_not_repeat_the_announcements_of_the_first() {
    let mut scene = Scene::new();
    let burst = |scene: &mut Scene, ip: &str| {
        let wanted = Frame::Arp(ArpFrame::gratuitous_request(ip.parse().unwrap(), mac(2)));
        (0..4).flat_map(|_| scene.neighbour.until("the burst", |frame| *frame == wanted).1).collect::<Vec<_>>()
    };
    scene.speaker.own(&[VIP4]);
    burst(&mut scene, VIP4);
    scene.speaker.own(&[VIP4, "192.0.2.11"]);
    let meanwhile = burst(&mut scene, "192.0.2.11");
    let repeated = Frame::Arp(ArpFrame::gratuitous_request(VIP4.parse().unwrap(), mac(2)));
    assert!(!meanwhile.contains(&repeated), "{meanwhile:?}");
}

#[test]
fn thousand_addresses_are_announced_within_half_a_second() {
    let mut scene = Scene::new();
    let addresses: Vec<String> = (0..1000).map(|n| format!("198.18.{}.{}", n / 250, n % 250 + 1)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut missing: std::collections::BTreeSet<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    std::thread::scope(|scope| {
        let (speaker, neighbour) = (&mut scene.speaker, &mut scene.neighbour);
        let listener = scope.spawn(move || {
            let mut first = None;
            while !missing.is_empty() {
                let (frame, _) = neighbour.until("an announcement", |frame| matches!(frame, Frame::Arp(_)));
                if let Frame::Arp(ArpFrame { arp, .. }) = frame {
                    first.get_or_insert_with(Instant::now);
                    missing.remove(&IpAddr::V4(arp.sender.1));
                }
            }
            first.unwrap().elapsed()
        });
        speaker.own(&addresses);
        let took = listener.join().unwrap();
        assert!(took < Duration::from_millis(500), "from the first to the last: {took:?}");
    });
}

#[test]
fn address_that_moves_by_plan_is_answered_until_the_next_owner_is_heard_or_for_a_second() {
    for next_owner_speaks in [true, false] {
        let mut scene = Scene::new();
        scene.speaker.own(&[VIP4, VIP6]);
        scene.speaker.leave_to_others(&[VIP4, VIP6]);
        let left = Instant::now();
        assert_eq!((scene.neighbour.who_has(VIP4), scene.neighbour.who_has(VIP6)), (mac(2), mac(2)));
        // With nothing left to answer for, its sockets are closed.
        if next_owner_speaks {
            scene.neighbour.send(&ArpFrame::gratuitous_request(VIP4.parse().unwrap(), mac(1)).to_octets());
            scene.neighbour.send(&NdpFrame::unsolicited_advertisement(VIP6.parse().unwrap(), mac(1)).to_octets());
        }
        eventually("no packet socket", || (scene.node.packet_sockets() == 0).then_some(()));
        let took = left.elapsed();
        assert_eq!(took < Duration::from_millis(900), next_owner_speaks, "{took:?}");
    }
}

#[test]
fn address_that_moves_is_answered_by_its_new_owner_only() {
    let mut segment = Segment::new();
    let client = segment.host("client", 1, &["192.0.2.1/24", "2001:db8::1/64"]);
    let nodes = [2, 3].map(|last| {
        let addresses = [format!("192.0.2.{last}/24"), format!("2001:db8::{last}/64")];
        segment.host(&format!("node{last}"), last, &[&addresses[0], &addresses[1]])
    });
    let [mut old, mut new] = nodes.each_ref().map(|node| node.speaker(InterfaceFilter::default()));
    let mut neighbour = client.neighbour(1, "192.0.2.1", "2001:db8::1");
    old.own(&[VIP4, VIP6]);
    assert_eq!((neighbour.who_has(VIP4), neighbour.who_has(VIP6)), (mac(2), mac(2)));
    // Make before break, as a planned move does it: the old owner hears the new one's announcement and does not argue.
    new.own(&[VIP4, VIP6]);
    for wanted in announcements(3) {
        neighbour.until(&format!("{wanted:?}"), |frame| *frame == wanted);
    }
    old.own(&[]);
    for _ in 0..5 {
        assert_eq!((neighbour.who_has(VIP4), neighbour.who_has(VIP6)), (mac(3), mac(3)));
    }
}
