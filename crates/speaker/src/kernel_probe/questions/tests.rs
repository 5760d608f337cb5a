use landfall_wire::NeighborAdvertisement;

use super::*;

const IDENTIFIER: u16 = 0x4c46;
const NONCE: u64 = 0x0102_0304_0506_0708;

fn mac(last: u8) -> MacAddr {
    MacAddr::new(2, 0, 0, 0, 0, last)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address of interface `index`, which is eth`index` with the MAC address 02:00:00:00:00:`index`.
fn attached(index: u32, address: &str, up: bool) -> Attached {
    let network: ipnet::IpNet = address.parse().unwrap();
    Attached {
        interface: index,
        name: format!("eth{index}"),
        mac: mac(index as u8),
        up,
        local: network.addr(),
        network: network.trunc(),
    }
}

/// Questions of a node with eth2 in 192.0.2.0/24 and 2001:db8::/64, and the time at which they begin.
fn questions() -> (Questions, Instant) {
    let mut questions = Questions::new(IDENTIFIER);
    questions.set_attached(vec![attached(2, "192.0.2.2/24", true), attached(2, "2001:db8::2/64", true)]);
    (questions, Instant::now())
}

fn ask(questions: &mut Questions, address: &str, now: Instant) -> Result<Vec<Request>, Refusal> {
    questions.ask(&"n1".into(), ip(address), NONCE, now)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// 192.0.2.1 is at `mac(1)`, said to who asked from eth2.
fn arp_reply() -> ArpFrame {
    let request = ArpFrame::request("192.0.2.1".parse().unwrap(), (mac(2), "192.0.2.2".parse().unwrap()));
    ArpFrame::reply(&request.arp, mac(1))
}

/// The same for 2001:db8::1.
fn advertisement() -> (NdpFrame, NeighborAdvertisement) {
    let request = NdpFrame::solicitation("2001:db8::1".parse().unwrap(), (mac(2), "2001:db8::2".parse().unwrap()));
    let NdpMessage::Solicitation(solicitation) = &request.message else { panic!("{request:?}") };
    let answer = NdpFrame::answer(&request, solicitation, mac(1));
    let NdpMessage::Advertisement(advertisement) = answer.message else { panic!("{answer:?}") };
    (answer, advertisement)
}

fn echo(sequence: u16) -> Echo {
    Echo { identifier: IDENTIFIER, sequence, nonce: NONCE }
}

fn answered(mac: Option<(u32, MacAddr)>) -> Option<Answered> {
    Some(Answered { node: "n1".into(), mac })
}

#[test]
fn neighbour_is_asked_from_our_mac_and_our_address_in_its_network() {
    let (mut questions, now) = questions();
    let frame = ArpFrame::request("192.0.2.1".parse().unwrap(), (mac(2), "192.0.2.2".parse().unwrap()));
    let arp = Request::OnLink { interface: 2, protocol: Protocol::Arp, frame: frame.to_octets().to_vec() };
    assert_eq!(ask(&mut questions, "192.0.2.1", now), Ok(vec![arp]));
    let frame = NdpFrame::solicitation("2001:db8::1".parse().unwrap(), (mac(2), "2001:db8::2".parse().unwrap()));
    let ndp = Request::OnLink { interface: 2, protocol: Protocol::Ndp, frame: frame.to_octets() };
    assert_eq!(ask(&mut questions, "2001:db8::1", now), Ok(vec![ndp]));
}

#[test]
fn node_in_no_network_of_ours_is_asked_by_an_echo_that_counts_up() {
    let (mut questions, now) = questions();
    for (sequence, address) in [(0, "203.0.113.1"), (0, "2001:db8:1::1"), (1, "203.0.113.1"), (1, "2001:db8:1::1")] {
        let echo = echo(sequence);
        let message = if ip(address).is_ipv4() { echo.v4_request() } else { echo.v6_request() };
        let request = Request::Routed { address: ip(address), message };
        assert_eq!(ask(&mut questions, address, now), Ok(vec![request]));
    }
}

#[test]
fn every_interface_that_is_up_in_the_narrowest_network_asks_once() {
    let (mut questions, now) = questions();
    questions.set_attached(vec![
        attached(2, "10.0.0.2/8", true),
        attached(3, "10.1.0.3/16", true),
        attached(3, "10.1.0.33/16", true),
        attached(4, "10.1.0.4/16", false),
        attached(5, "10.1.0.5/16", true),
    ]);
    let interfaces: Vec<u32> = ask(&mut questions, "10.1.0.1", now)
        .unwrap()
        .into_iter()
        .map(|request| match request {
            Request::OnLink { interface, .. } => interface,
            Request::Routed { .. } => panic!("{request:?}"),
        })
        .collect();
    assert_eq!(interfaces, [3, 5]);
}

#[test]
fn node_behind_an_interface_that_is_down_is_not_asked_by_way_of_a_router() {
    let (mut questions, now) = questions();
    questions.set_attached(vec![attached(2, "10.0.0.2/8", true), attached(3, "10.1.0.3/16", false)]);
    let refusal = ask(&mut questions, "10.1.0.1", now).unwrap_err();
    assert_eq!(refusal, Refusal::Down { interface: "eth3".to_owned() });
    assert_eq!(refusal.to_string(), "its network is that of interface eth3, which is down");
}

#[test]
fn neighbours_answer_is_its_mac_and_is_taken_once_for_each_time_it_was_asked() {
    let (mut questions, now) = questions();
    let (ndp, _) = advertisement();
    for (address, octets) in [("192.0.2.1", arp_reply().to_octets().to_vec()), ("2001:db8::1", ndp.to_octets())] {
        assert_eq!(questions.frame(2, &octets, now), None, "nobody asked yet");
        for _ in 0..2 {
            ask(&mut questions, address, now).unwrap();
            assert_eq!(questions.frame(2, &octets, now + ms(1)), answered(Some((2, mac(1)))));
            assert_eq!(questions.frame(2, &octets, now + ms(1)), None);
        }
    }
}

#[test]
fn arp_that_does_not_answer_our_question_is_ignored() {
    let (mut questions, now) = questions();
    ask(&mut questions, "192.0.2.1", now).unwrap();
    let good = arp_reply();
    let stranger = "192.0.2.66".parse().unwrap();
    let with = |change: fn(&mut ArpFrame)| {
        let mut frame = good;
        change(&mut frame);
        frame
    };
    let gratuitous = ArpFrame::gratuitous_reply("192.0.2.1".parse().unwrap(), mac(1));
    for (why, frame) in [
        ("another's address", ArpFrame { arp: landfall_wire::Arp { sender: (mac(1), stranger), ..good.arp }, ..good }),
        ("a request", with(|frame| frame.arp.operation = Operation::Request)),
        ("to another machine", with(|frame| (frame.destination, frame.arp.target.0) = (mac(9), mac(9)))),
        ("in a frame to another than it says", with(|frame| frame.destination = mac(9))),
        ("to an address that did not ask", with(|frame| frame.arp.target.1 = "192.0.2.3".parse().unwrap())),
        ("an announcement", gratuitous),
        ("from a group", with(|frame| frame.arp.sender.0 = MacAddr::broadcast())),
        ("from nowhere", with(|frame| frame.arp.sender.0 = MacAddr::zero())),
        ("from ourselves", with(|frame| frame.arp.sender.0 = mac(2))),
    ] {
        assert_eq!(questions.frame(2, &frame.to_octets(), now), None, "{why}");
    }
    let octets = good.to_octets();
    assert_eq!(questions.frame(3, &octets, now), None, "by another interface");
    assert_eq!(questions.frame(2, &octets[..41], now), None, "cut off");
    assert_eq!(questions.frame(2, &octets, now), answered(Some((2, mac(1)))), "none of them used the question up");
}

#[test]
fn advertisement_that_does_not_answer_our_question_is_ignored() {
    let (mut questions, now) = questions();
    ask(&mut questions, "2001:db8::1", now).unwrap();
    let (good, said) = advertisement();
    let says = |message: NeighborAdvertisement| NdpFrame { message: NdpMessage::Advertisement(message), ..good };
    for (why, frame) in [
        ("another's address", says(NeighborAdvertisement { target: "2001:db8::66".parse().unwrap(), ..said })),
        ("unasked", says(NeighborAdvertisement { solicited: false, ..said })),
        ("from a group", says(NeighborAdvertisement { target_link_layer: Some(MacAddr::broadcast()), ..said })),
        ("from ourselves", says(NeighborAdvertisement { target_link_layer: Some(mac(2)), ..said })),
        ("to another machine", NdpFrame { destination_mac: mac(9), ..good }),
        ("to an address that did not ask", NdpFrame { destination: "2001:db8::3".parse().unwrap(), ..good }),
    ] {
        assert_eq!(questions.frame(2, &frame.to_octets(), now), None, "{why}");
    }
    assert_eq!(questions.frame(2, &good.to_octets(), now), answered(Some((2, mac(1)))));
}

#[test]
fn advertisement_that_names_no_mac_came_from_its_frames() {
    let (mut questions, now) = questions();
    ask(&mut questions, "2001:db8::1", now).unwrap();
    let (good, said) = advertisement();
    let message = NdpMessage::Advertisement(NeighborAdvertisement { target_link_layer: None, ..said });
    let frame = NdpFrame { message, source_mac: mac(7), ..good };
    assert_eq!(questions.frame(2, &frame.to_octets(), now), answered(Some((2, mac(7)))));
}

#[test]
fn echo_reply_of_a_stranger_or_to_a_stranger_is_ignored() {
    let (mut questions, now) = questions();
    ask(&mut questions, "203.0.113.1", now).unwrap();
    for (why, from, reply) in [
        ("another address", "203.0.113.2", echo(0)),
        ("another identifier", "203.0.113.1", Echo { identifier: 1, ..echo(0) }),
        ("another nonce", "203.0.113.1", Echo { nonce: 1, ..echo(0) }),
        ("not asked yet", "203.0.113.1", echo(1)),
        ("never asked", "203.0.113.1", echo(u16::MAX)),
    ] {
        assert_eq!(questions.echo(ip(from), &reply, now), None, "{why}");
    }
    assert_eq!(questions.echo(ip("203.0.113.1"), &echo(0), now), answered(None));
    assert_eq!(questions.echo(ip("203.0.113.1"), &echo(0), now), None, "a duplicate");
}

#[test]
fn node_further_away_than_the_time_between_questions_is_heard_for_each_of_them() {
    let (mut questions, start) = questions();
    for asked in 0..20 {
        let now = start + ms(100 * asked);
        ask(&mut questions, "203.0.113.1", now).unwrap();
        if let Some(reply) = asked.checked_sub(3) {
            assert_eq!(questions.echo(ip("203.0.113.1"), &echo(reply as u16), now), answered(None), "{asked}");
        }
    }
    assert_eq!(questions.echo(ip("203.0.113.1"), &echo(2), start + ms(1900)), None, "too many questions ago");
}

#[test]
fn answer_that_comes_a_second_after_the_question_is_too_late() {
    let (mut questions, now) = questions();
    for (after, heard) in [(999, true), (1000, false)] {
        ask(&mut questions, "192.0.2.1", now).unwrap();
        ask(&mut questions, "203.0.113.1", now).unwrap();
        let sequence = u16::from(!heard); // the second question of the run
        assert_eq!(questions.frame(2, &arp_reply().to_octets(), now + ms(after)).is_some(), heard);
        assert_eq!(questions.echo(ip("203.0.113.1"), &echo(sequence), now + ms(after)).is_some(), heard);
    }
}

#[test]
fn questions_that_nobody_repeats_are_forgotten_and_there_are_never_more_than_their_limit() {
    let (mut questions, now) = questions();
    let ask_many = |questions: &mut Questions, many: usize, now| {
        (0..many).filter(|n| ask(questions, &format!("203.0.{}.{}", n / 250, n % 250), now).is_ok()).count()
    };
    assert_eq!(ask_many(&mut questions, MAX_QUESTIONS + 5, now), MAX_QUESTIONS);
    assert_eq!(ask(&mut questions, "192.0.2.1", now + ms(999)), Err(Refusal::TooMany));
    assert!(ask(&mut questions, "192.0.2.1", now + ms(1000)).is_ok());
    assert_eq!(questions.solicited.len() + questions.echoed.len(), 1);
}
