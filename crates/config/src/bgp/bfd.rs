//! BFD profiles: how fast a session notices that the path to its peer is gone.

use std::time::Duration;

use landfall_api::BFDProfile as Object;

use super::BFD_PROFILE;
use crate::problem::{Problem, Problems};

/// What a `BFDProfile` means. What the user left out is `None`: the implementation's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdProfile {
    /// The object's name.
    pub name: String,
    /// The shortest interval between control packets that we are able to receive.
    pub receive_interval: Option<Duration>,
    /// The shortest interval between control packets that we wish to send.
    pub transmit_interval: Option<Duration>,
    /// How many packets in a row may be missing.
    pub detect_multiplier: Option<u8>,
    /// The shortest interval between echo packets that we are able to handle.
    pub echo_interval: Option<Duration>,
    /// Whether echo packets are used.
    pub echo_mode: bool,
    /// Whether to wait for the peer's first packet.
    pub passive_mode: bool,
    /// The smallest TTL accepted over several hops.
    pub minimum_ttl: Option<u8>,
}

impl BfdProfile {
    /// Reads the object; `None` if it has a problem.
    pub(super) fn read(object: &Object, found: &mut Vec<Problem>) -> Option<Self> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of(BFD_PROFILE, &name, found);
        let spec = &object.spec;
        let mut number = |field: &str, called: &str, given: Option<u32>, from: u32, to: u32| {
            let given = given?;
            if !(from..=to).contains(&given) {
                problems.add(
                    format!("spec.{field}"),
                    given.to_string(),
                    format!("invalid {called} value: must be in {from}-{to} range; write a number in it, or leave the field out"),
                );
            }
            Some(given)
        };
        let receive = number("receiveInterval", "receive interval", spec.receive_interval, 10, 60_000);
        let transmit = number("transmitInterval", "transmit interval", spec.transmit_interval, 10, 60_000);
        let echo = number("echoInterval", "echo interval", spec.echo_interval, 10, 60_000);
        let multiplier = number("detectMultiplier", "detect multiplier", spec.detect_multiplier, 2, 255);
        let ttl = number("minimumTtl", "minimum ttl", spec.minimum_ttl, 1, 254);
        let sound = problems.is_sound();
        let millis = |given: Option<u32>| given.map(|millis| Duration::from_millis(millis.into()));
        let octet = |given: Option<u32>| given.and_then(|number| u8::try_from(number).ok());
        sound.then(|| Self {
            receive_interval: millis(receive),
            transmit_interval: millis(transmit),
            detect_multiplier: octet(multiplier),
            echo_interval: millis(echo),
            echo_mode: spec.echo_mode.unwrap_or(false),
            passive_mode: spec.passive_mode.unwrap_or(false),
            minimum_ttl: octet(ttl),
            name,
        })
    }
}
