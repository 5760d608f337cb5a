use super::*;
use proptest::prelude::*;

fn status() -> Status {
    Status {
        incarnation: 0x0102_0304_0506_0708,
        phase: Phase::Held(Duration::from_millis(20_000)),
        interval: Duration::from_millis(100),
        term: 9,
        live: 3,
        leader: MemberId([0xab; 8]),
    }
}

/// Without blanks.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|byte| *byte != b' ').collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const STATUS_HEX: &str = "0102030405060708 02 00004e20 0064 0000000000000009 0003 abababababababab";

#[test]
fn a_message_is_the_same_octets_both_ways() {
    let opinion = Opinion {
        about: MemberId([0xcd; 8]),
        incarnation: 6,
        stance: Stance::Gone,
        verdict: true,
        hold: Duration::from_millis(40_000),
    };
    let claim = Claim { address: "192.0.2.240".parse().unwrap(), term: 17, released: true };
    let message = Message {
        status: status(),
        down: Down::from_hashes([7, 0x0a0b_0c0d]),
        macs: Macs::from_hashes([(8, [2, 0, 0, 0, 0, 1]), (9, [2, 0, 0, 0, 0, 2])]),
        ask: true,
        refutes: true,
        ack: Some(4),
        opinions: vec![opinion],
        claim: Some(claim),
        check: Some(WireCheck { address: "2001:db8::1".parse().unwrap(), finding: Finding::AnotherAnswers }),
    };
    let octets = hex(&format!(
        "{STATUS_HEX} 0508 00000007 0a0b0c0d 0714 00000008 020000000001 00000009 020000000002 0100 0600 0208 0000000000000004 0315 cdcdcdcdcdcdcdcd 0000000000000006 83 00009c40 \
         0419 00000000000000000000ffffc00002f0 0000000000000011 01 \
         0811 20010db8000000000000000000000001 02"
    ));
    assert_eq!(message.to_octets(), octets);
    assert_eq!(Message::parse(&octets), Ok(message));
}

#[test]
fn items_of_later_versions_are_skipped_and_so_is_what_they_add_to_known_ones() {
    let plain = Message {
        status: status(),
        down: Down::default(),
        macs: Macs::default(),
        ask: false,
        refutes: false,
        ack: None,
        opinions: vec![],
        claim: None,
        check: None,
    };
    for (items, expected) in [
        ("c803 aabbcc 0100", Message { ask: true, ..plain.clone() }),
        ("0209 0000000000000004 ff", Message { ack: Some(4), ..plain.clone() }),
        ("ff00", plain),
    ] {
        assert_eq!(Message::parse(&hex(&format!("{STATUS_HEX} {items}"))), Ok(expected), "{items}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_the_field_and_its_value() {
    let long = vec!["0315 cdcdcdcdcdcdcdcd 0000000000000006 83 00009c40"; MAX_OPINIONS + 1].concat();
    let truncated = |what, need, have| MessageError::Truncated { what, need, have };
    let value = |field, have| MessageError::Value { field, have };
    for (octets, expected) in [
        ("01".to_owned(), truncated("the status", 33, 1)),
        (STATUS_HEX.replacen(" 02 ", " 05 ", 1), value("the phase", 5)),
        (STATUS_HEX.replacen("0064", "0009", 1), value("the beat interval", 9)),
        (STATUS_HEX.replacen("0064", "03e9", 1), value("the beat interval", 1001)),
        (format!("{STATUS_HEX} 01"), truncated("an item's head", 2, 1)),
        (format!("{STATUS_HEX} 0208 00"), truncated("an item's value", 8, 1)),
        (format!("{STATUS_HEX} 0207 00000000000000"), truncated("an acknowledgement", 8, 7)),
        (format!("{STATUS_HEX} 0300"), truncated("an opinion", 21, 0)),
        (format!("{STATUS_HEX} 0400"), truncated("a claim", 25, 0)),
        (format!("{STATUS_HEX} 0315 cdcdcdcdcdcdcdcd 0000000000000006 84 00000000"), value("the stance", 4)),
        (format!("{STATUS_HEX} {long}"), MessageError::TooMany),
    ] {
        assert_eq!(Message::parse(&hex(&octets)), Err(expected), "{octets}");
    }
}

fn any_status() -> impl Strategy<Value = Status> {
    let left = || any::<u32>().prop_map(|ms| Duration::from_millis(ms.into()));
    let phase = prop_oneof![
        Just(Phase::Joining),
        Just(Phase::Up),
        left().prop_map(Phase::Held),
        Just(Phase::Draining),
        Just(Phase::Restarting)
    ];
    let numbers = (any::<u64>(), 10u64..=1000, any::<u64>(), any::<u16>());
    (phase, numbers, any::<[u8; 8]>()).prop_map(|(phase, (incarnation, interval, term, live), leader)| Status {
        incarnation,
        phase,
        interval: Duration::from_millis(interval),
        term,
        live,
        leader: MemberId(leader),
    })
}

fn any_opinion() -> impl Strategy<Value = Opinion> {
    let stance = prop_oneof![Just(Stance::Hears), Just(Stance::Silent), Just(Stance::SpeakerGone), Just(Stance::Gone)];
    (any::<[u8; 8]>(), any::<u64>(), stance, any::<bool>(), any::<u32>()).prop_map(
        |(about, incarnation, stance, verdict, hold)| Opinion {
            about: MemberId(about),
            incarnation,
            stance,
            verdict,
            hold: Duration::from_millis(hold.into()),
        },
    )
}

proptest! {
    #[test]
    fn any_message_reads_the_same_and_fits_a_datagram(
        status in any_status(),
        down in proptest::collection::vec(any::<u32>(), 0..=crate::MAX_DOWN),
        macs in proptest::collection::vec(any::<(u32, [u8; 6])>(), 0..=crate::MAX_MACS),
        ask in any::<bool>(),
        refutes in any::<bool>(),
        ack in any::<Option<u64>>(),
        opinions in proptest::collection::vec(any_opinion(), 0..=MAX_OPINIONS),
        claim in any::<Option<(std::net::IpAddr, u64, bool)>>(),
        check in any::<Option<(std::net::IpAddr, u8)>>(),
    ) {
        // Addresses that are IPv4 in IPv6 are read as IPv4.
        let claim = claim.map(|(address, term, released)| Claim { address: address.to_canonical(), term, released });
        let finding = |octet| [Finding::Heard, Finding::Silent, Finding::AnotherAnswers][usize::from(octet) % 3];
        let check = check.map(|(ip, found)| WireCheck { address: ip.to_canonical(), finding: finding(found) });
        let (down, macs) = (Down::from_hashes(down), Macs::from_hashes(macs));
        let message = Message { status, down, macs, ask, refutes, ack, opinions, claim, check };
        let octets = message.to_octets();
        prop_assert!(octets.len() <= MAX_MESSAGE);
        prop_assert_eq!(Message::parse(&octets), Ok(message));
    }

    #[test]
    fn any_octets_behind_a_status_are_read_or_refused(items in proptest::collection::vec(any::<u8>(), 0..120)) {
        let octets = [hex(STATUS_HEX), items].concat();
        if let Ok(message) = Message::parse(&octets) {
            prop_assert_eq!(Message::parse(&message.to_octets()), Ok(message));
        }
    }
}
