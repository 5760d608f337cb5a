//! What holds for any octets inside a datagram of the membership: run by the fuzz target and, on the stable toolchain, by
//! `crates/membership/tests/properties.rs`.

use std::time::Instant;

use landfall_membership::message::{MAX_MESSAGE, Message};
use landfall_membership::{Keys, Member, Membership, Settings, Start};

/// A message that is read is written to octets that are read the same. And no datagram makes a member panic or answer that
/// was not sealed by another.
pub(crate) fn membership(octets: &[u8]) {
    if let Ok(message) = Message::parse(octets) {
        let again = message.to_octets();
        assert!(again.len() <= MAX_MESSAGE);
        assert_eq!(Message::parse(&again), Ok(message));
    }
    let (now, keys) = (Instant::now(), Keys::new("cluster", &[b"0123456789abcdef"]).expect("a key"));
    let start = Start { node: "n1".into(), incarnation: 1, session: 1 };
    let mut member = Membership::new(Settings::default(), keys, start, now).expect("settings");
    member.set_members([Member { node: "n2".into(), address: ([127, 0, 0, 1], 1).into() }], now);
    assert!(member.receive(octets, now).is_err(), "nobody has sealed it");
    assert_eq!(member.poll(), None, "no answer");
}
