//! Which questions are answered, and how.

use std::net::{Ipv4Addr, Ipv6Addr};

use landfall_wire::{Arp, ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, NeighborSolicitation, Operation};

use crate::segment::{eventually, mac};
use crate::{Scene, VIP4, VIP6};

#[test]
fn arp_requests_for_an_owned_address_are_answered_with_this_nodes_mac() {
    let Scene { mut speaker, mut neighbour, segment: _segment, .. } = Scene::new();
    speaker.own(&[VIP4, VIP6]);
    let vip: Ipv4Addr = VIP4.parse().unwrap();
    let broadcast = neighbour.arp_request(vip);
    let unicast = ArpFrame { destination: mac(2), ..broadcast };
    let probe = Arp { sender: (mac(1), Ipv4Addr::UNSPECIFIED), ..broadcast.arp };
    for request in [broadcast, unicast, ArpFrame { arp: probe, ..broadcast }] {
        neighbour.send(&request.to_octets());
        let reply = ArpFrame {
            destination: mac(1),
            source: mac(2),
            arp: Arp { operation: Operation::Reply, sender: (mac(2), vip), target: request.arp.sender },
        };
        neighbour.until(&format!("{reply:?}"), |frame| *frame == Frame::Arp(reply));
    }
}

#[test]
fn solicitations_for_an_owned_address_are_answered_with_this_nodes_mac() {
    let Scene { mut speaker, mut neighbour, segment: _segment, .. } = Scene::new();
    speaker.own(&[VIP4, VIP6]);
    let vip: Ipv6Addr = VIP6.parse().unwrap();
    let multicast = neighbour.solicitation(vip);
    let unicast = NdpFrame { destination_mac: mac(2), destination: vip, ..multicast };
    let bare = NdpMessage::Solicitation(NeighborSolicitation { target: vip, source_link_layer: None });
    let probe = NdpFrame { source: Ipv6Addr::UNSPECIFIED, message: bare, ..multicast };
    let to_all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let to_all_mac = MacAddr::new(0x33, 0x33, 0, 0, 0, 1);
    for (request, destination, destination_mac, solicited) in [
        (multicast, neighbour.v6, mac(1), true),
        (unicast, neighbour.v6, mac(1), true),
        (NdpFrame { message: bare, ..unicast }, neighbour.v6, mac(1), true),
        (probe, to_all, to_all_mac, false),
    ] {
        neighbour.send(&request.to_octets());
        neighbour.until(&format!("an answer to {request:?}"), |frame| {
            let Frame::Ndp(frame) = frame else { return false };
            let NdpMessage::Advertisement(na) = frame.message else { return false };
            (frame.destination, frame.destination_mac) == (destination, destination_mac)
                && (na.solicited, na.override_, na.router) == (solicited, true, false)
                && (na.target, na.target_link_layer) == (vip, Some(mac(2)))
                && (frame.source, frame.source_mac) == (vip, mac(2))
        });
    }
}

#[test]
fn nobody_answers_for_an_address_that_is_not_owned() {
    let Scene { mut speaker, mut neighbour, segment: _segment, .. } = Scene::new();
    speaker.own(&[VIP4, VIP6]);
    neighbour.nobody_has("192.0.2.11", VIP4);
    // The same solicited-node group as the owned one, so that the solicitation does reach the node.
    neighbour.nobody_has("2001:db8:0:1::10", VIP6);
}

#[test]
fn withdrawn_address_is_silent_from_the_next_question_on() {
    let mut scene = Scene::new();
    let (stays4, stays6) = ("192.0.2.11", "2001:db8::11");
    scene.speaker.own(&[VIP4, VIP6, stays4, stays6]);
    assert_eq!((scene.neighbour.who_has(VIP4), scene.neighbour.who_has(VIP6)), (mac(2), mac(2)));
    scene.speaker.own(&[stays4, stays6]);
    scene.neighbour.nobody_has(VIP4, stays4);
    scene.neighbour.nobody_has(VIP6, stays6);
}

#[test]
fn last_address_of_an_interface_is_silent_when_it_is_withdrawn() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    assert_eq!((scene.neighbour.who_has(VIP4), scene.neighbour.who_has(VIP6)), (mac(2), mac(2)));
    assert_eq!(scene.node.packet_sockets(), 2);
    scene.speaker.own(&[]);
    // Nothing is left that could answer. (Who answers first would prove nothing: the node's kernel is quicker than we are.)
    eventually("no packet sockets", || (scene.node.packet_sockets() == 0).then_some(()));
}

#[test]
fn arping_and_ndisc6_find_one_answerer() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    let answers = scene.client.run(&format!("arping -r -C 3 -w 10 -W 0.1 -i eth0 {VIP4}"));
    assert_eq!(answers.split_whitespace().collect::<Vec<_>>(), ["02:00:00:00:00:02"; 3]);
    let answers = scene.client.run(&format!("ndisc6 -m -q -n -r 1 -w 300 {VIP6} eth0"));
    assert_eq!(answers.split_whitespace().collect::<Vec<_>>(), ["02:00:00:00:00:02"]);
}

#[test]
fn linux_client_learns_where_the_addresses_are() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    for ip in [VIP4, VIP6] {
        scene.client.send_datagram(ip);
        eventually("a neighbour entry with the node's MAC", || {
            scene.client.ip(&format!("neighbour show {ip}")).contains("lladdr 02:00:00:00:00:02").then_some(())
        });
    }
}

#[test]
fn linux_host_that_takes_an_owned_address_finds_it_a_duplicate() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP6]);
    scene.client.ip(&format!("address add {VIP6}/64 dev eth0"));
    eventually("duplicate address detection fails", || {
        scene.client.ip("-6 address show dev eth0").contains(&format!("{VIP6}/64 scope global dadfailed")).then_some(())
    });
}

#[test]
fn malformed_frames_are_counted_by_reason_and_the_next_question_is_answered() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    let request = scene.neighbour.arp_request(VIP4.parse().unwrap()).to_octets();
    let mut not_ipv4 = request;
    not_ipv4[16..18].copy_from_slice(&[0x86, 0xdd]);
    let solicitation = scene.neighbour.solicitation(VIP6.parse().unwrap()).to_octets();
    let mut forwarded = solicitation.clone();
    forwarded[21] = 64;
    let mut damaged = solicitation.clone();
    damaged[85] ^= 1;
    // An option of length 0, with the checksum put right: one less there is one more here.
    let mut endless = solicitation.clone();
    endless[79] = 0;
    let checksum = u16::from_be_bytes([endless[56], endless[57]]) + 1;
    endless[56..58].copy_from_slice(&checksum.to_be_bytes());
    for frame in [&request[..30], &not_ipv4, &forwarded, &damaged, &endless] {
        scene.neighbour.send(frame);
    }
    assert_eq!((scene.neighbour.who_has(VIP4), scene.neighbour.who_has(VIP6)), (mac(2), mac(2)));
    for line in [
        r#"landfall_wire_frames_malformed_total{protocol="arp",reason="truncated_arp"} 1"#,
        r#"landfall_wire_frames_malformed_total{protocol="arp",reason="arp_protocol"} 1"#,
        r#"landfall_wire_frames_malformed_total{protocol="ndp",reason="hop_limit"} 1"#,
        r#"landfall_wire_frames_malformed_total{protocol="ndp",reason="checksum"} 1"#,
        r#"landfall_wire_frames_malformed_total{protocol="ndp",reason="option_length_0"} 1"#,
        r#"metallb_layer2_requests_received{ip="192.0.2.10"} 1"#,
        r#"metallb_layer2_responses_sent{ip="192.0.2.10"} 1"#,
        r#"metallb_layer2_responses_sent{ip="2001:db8::10"} 1"#,
    ] {
        scene.speaker.shows(line);
    }
}

#[test]
fn counters_of_an_address_end_with_it_and_strangers_get_none() {
    let mut scene = Scene::new();
    let stays = "192.0.2.11";
    scene.speaker.own(&[VIP4, stays]);
    scene.neighbour.who_has(VIP4);
    scene.neighbour.nobody_has("192.0.2.77", stays);
    assert!(scene.speaker.metrics().contains(VIP4));
    scene.speaker.own(&[stays]);
    scene.neighbour.nobody_has(VIP4, stays);
    let metrics = scene.speaker.metrics();
    assert!(!metrics.contains(VIP4) && !metrics.contains("192.0.2.77"), "{metrics}");
}

#[test]
fn question_to_an_interface_on_top_of_ours_never_leaves_the_kernel() {
    let mut scene = Scene::new();
    scene.node.ip("link add link eth0 name above0 address 02:00:00:00:00:33 type macvlan mode private");
    scene.node.ip("link set above0 up");
    scene.speaker.own(&[VIP4]);
    let request = scene.neighbour.arp_request(VIP4.parse().unwrap());
    scene.neighbour.send(&ArpFrame { destination: mac(0x33), ..request }.to_octets());
    assert_eq!(scene.neighbour.who_has(VIP4), mac(2));
    let metrics = scene.speaker.metrics();
    assert!(!metrics.contains("for_another_mac"), "the filter let a frame for above0 pass:\n{metrics}");
}

#[test]
fn question_to_another_machine_is_not_answered_while_a_capture_runs() {
    let mut scene = Scene::new();
    scene.node.ip("link set eth0 promisc on");
    scene.speaker.own(&[VIP4]);
    let request = scene.neighbour.arp_request(VIP4.parse().unwrap());
    // Nobody has this MAC, so the bridge floods the frame to the node too.
    scene.neighbour.send(&ArpFrame { destination: mac(0x44), ..request }.to_octets());
    assert_eq!(scene.neighbour.who_has(VIP4), mac(2));
    let metrics = scene.speaker.metrics();
    assert!(metrics.contains("metallb_layer2_requests_received{ip=\"192.0.2.10\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("for_another_mac"), "the filter let a frame for another machine pass:\n{metrics}");
}

#[test]
fn solicited_node_groups_are_reported_while_an_address_is_owned() {
    let mut scene = Scene::new();
    let groups = |scene: &Scene| scene.node.ip("maddress show dev eth0");
    scene.speaker.own(&[VIP6, "2001:db8:0:1::10"]);
    let joined = groups(&scene);
    // The MAC address has two users: the packet socket, and the kernel for the group that it reports.
    assert!(joined.contains("inet6 ff02::1:ff00:10\n"), "{joined}");
    assert!(joined.contains("link  33:33:ff:00:00:10 users 2\n"), "{joined}");
    scene.speaker.own(&[VIP6]);
    assert!(groups(&scene).contains("inet6 ff02::1:ff00:10"), "another address of the group is still owned");
    scene.speaker.own(&["2001:db8::11"]);
    let joined = groups(&scene);
    assert!(!joined.contains("ff00:10") && !joined.contains("33:33:ff:00:00:10"), "{joined}");
}

#[test]
fn interface_with_ipv6_switched_off_takes_solicitations_all_the_same() {
    let mut scene = Scene::new();
    scene.node.run("sysctl -q -w net.ipv6.conf.eth0.disable_ipv6=1");
    scene.speaker.own(&[VIP6]);
    assert_eq!(scene.neighbour.who_has(VIP6), mac(2));
}

#[test]
fn thousands_of_groups_are_joined_though_one_socket_holds_fewer() {
    let mut scene = Scene::new();
    let addresses: Vec<String> = (0..3000).map(|n| format!("2001:db8::1:{n:x}")).collect();
    scene.speaker.own(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let joined = scene.node.ip("maddress show dev eth0");
    assert_eq!(joined.lines().filter(|line| line.contains("inet6 ff02::1:ff01:")).count(), 3000);
}

#[test]
fn nothing_is_left_when_the_thread_has_ended() {
    let mut scene = Scene::new();
    scene.speaker.own(&[VIP4, VIP6]);
    assert_eq!((scene.neighbour.who_has(VIP4), scene.neighbour.who_has(VIP6)), (mac(2), mac(2)));
    drop(scene.speaker);
    // A process that another test starts at this moment has them too, until it becomes the program that it is to be.
    eventually("no packet socket", || (scene.node.packet_sockets() == 0).then_some(()));
    let groups = scene.node.ip("maddress show dev eth0");
    // ff02::1:ff00:2 is the node's own.
    assert!(!groups.contains("ff00:10") && !groups.contains("33:33:ff:00:00:10"), "{groups}");
}
