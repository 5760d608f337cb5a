//! Octets of echo messages. The checksums were computed by a program of another language.

use landfall_wire::{Echo, Layer, ParseError};
use proptest::prelude::*;

#[expect(dead_code, reason = "echo messages hold no MAC addresses")]
mod octets;
use octets::hex;

const ECHO: Echo = Echo { identifier: 0x1234, sequence: 7, nonce: 0x0102_0304_0506_0708 };
const REQUEST: &str = "08 00 d5b0 1234 0007 0102030405060708";
const REPLY: &str = "4500 0024 1f3a 0000 40 01 d79b c0000202 c0000201  00 00 ddb0 1234 0007 0102030405060708";
/// Options of the IPv4 header: four octets of no operation.
const REPLY_WITH_OPTIONS: &str =
    "4600 0028 1f3a 0000 40 01 d495 c0000202 c0000201 01010101  00 00 ddb0 1234 0007 0102030405060708";
const V6_REQUEST: &str = "80 00 0000 1234 0007 0102030405060708";
const V6_REPLY: &str = "81 00 00f1 1234 0007 0102030405060708";

#[test]
fn requests_have_the_octets_of_the_rfcs() {
    assert_eq!(ECHO.v4_request().as_slice(), hex(REQUEST));
    assert_eq!(ECHO.v6_request().as_slice(), hex(V6_REQUEST), "the kernel writes the checksum");
}

#[test]
fn replies_are_read_with_and_without_options_of_the_header() {
    for text in [REPLY, REPLY_WITH_OPTIONS] {
        assert_eq!(Echo::parse_v4_reply(&hex(text)), Ok(ECHO));
    }
    assert_eq!(Echo::parse_v6_reply(&hex(V6_REPLY)), Ok(ECHO));
}

#[test]
fn truncated_replies_say_what_is_missing() {
    let (v4, v6) = (hex(REPLY), hex(V6_REPLY));
    for have in 0..20 {
        let truncated = ParseError::Truncated { what: Layer::Ipv4, need: 20, have };
        assert_eq!((Echo::parse_v4_reply(&v4[..have]), truncated.reason()), (Err(truncated), "truncated_ipv4"));
    }
    for have in 0..Echo::LEN {
        let truncated = ParseError::Truncated { what: Layer::Echo, need: 16, have };
        assert_eq!(Echo::parse_v4_reply(&v4[..20 + have]), Err(truncated));
        assert_eq!((Echo::parse_v6_reply(&v6[..have]), truncated.reason()), (Err(truncated), "truncated_echo"));
    }
}

#[test]
fn what_is_no_echo_reply_is_refused_with_its_value() {
    for (at, octet, error, reason) in [
        (0, 0x65, ParseError::Ipv4Header { version: 6, octets: 20 }, "ipv4_header"),
        (0, 0x44, ParseError::Ipv4Header { version: 4, octets: 16 }, "ipv4_header"),
        (0, 0x4f, ParseError::Truncated { what: Layer::Ipv4, need: 60, have: 36 }, "truncated_ipv4"),
        (20, 8, ParseError::EchoType { have: 8, code: 0 }, "echo_type"),
        (21, 1, ParseError::EchoType { have: 0, code: 1 }, "echo_type"),
        (35, 9, ParseError::EchoChecksum { have: 0xddb0 }, "echo_checksum"),
    ] {
        let mut octets = hex(REPLY);
        octets[at] = octet;
        assert_eq!((Echo::parse_v4_reply(&octets), error.reason()), (Err(error), reason));
    }
    let mut octets = hex(V6_REPLY);
    octets[0] = 128;
    assert_eq!(Echo::parse_v6_reply(&octets), Err(ParseError::EchoType { have: 128, code: 0 }));
}

proptest! {
    #[test]
    fn nothing_makes_a_parser_panic(octets in proptest::collection::vec(any::<u8>(), 0..100), first in 0x44..0x50_u8) {
        let _ = Echo::parse_v6_reply(&octets);
        let _ = Echo::parse_v4_reply(&octets);
        let _ = Echo::parse_v4_reply(&[&[first], octets.as_slice()].concat());
    }
}
