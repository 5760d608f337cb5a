//! The properties of the fuzz targets, on the stable toolchain: over the fuzzers' kept corpus, over generated octets,
//! and over frames that are one mutation away from real ones.
#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use landfall_wire::{
    Arp, ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, NeighborAdvertisement, NeighborSolicitation, Operation,
};
use proptest::prelude::*;

#[path = "../../../tests/fuzz/properties.rs"]
mod properties;
#[path = "../../../tests/fuzz/seal.rs"]
mod seal;

type Property = fn(&[u8]);
const PROPERTIES: [(&str, Property); 3] =
    [("arp", properties::arp), ("ndp", properties::ndp), ("frame", properties::frame)];

#[test]
fn properties_hold_for_every_input_that_the_fuzzers_kept() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    for (target, property) in PROPERTIES {
        let inputs: Vec<_> =
            fs::read_dir(corpus.join(target)).expect("corpus").map(|file| file.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "the corpus of {target} is empty");
        for input in inputs {
            property(&fs::read(input).unwrap());
        }
    }
}

fn any_mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr::from)
}

fn any_arp() -> impl Strategy<Value = ArpFrame> {
    let end = || (any_mac(), any::<Ipv4Addr>());
    (any_mac(), any_mac(), any::<bool>(), end(), end()).prop_map(|(destination, source, request, sender, target)| {
        let operation = if request { Operation::Request } else { Operation::Reply };
        ArpFrame { destination, source, arp: Arp { operation, sender, target } }
    })
}

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<Ipv6Addr>().prop_filter("unicast", |ip| !ip.is_multicast() && !ip.is_unspecified())
}

fn any_ndp() -> impl Strategy<Value = NdpFrame> {
    let ends = (any_mac(), any_mac(), unicast(), unicast());
    (ends, any::<[bool; 4]>(), unicast(), proptest::option::of(any_mac())).prop_map(|(ends, flags, target, mac)| {
        let [solicitation, router, solicited, override_] = flags;
        let message = if solicitation {
            NdpMessage::Solicitation(NeighborSolicitation { target, source_link_layer: mac })
        } else {
            let advertisement = NeighborAdvertisement { router, solicited, override_, target, target_link_layer: mac };
            NdpMessage::Advertisement(advertisement)
        };
        NdpFrame { destination_mac: ends.0, source_mac: ends.1, source: ends.2, destination: ends.3, message }
    })
}

proptest! {
    #[test]
    fn no_octets_make_a_parser_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (_, property) in PROPERTIES {
            property(&octets);
        }
    }

    #[test]
    fn built_arp_frames_read_the_same(frame in any_arp()) {
        prop_assert_eq!(Frame::parse(&frame.to_octets()), Ok(Frame::Arp(frame)));
    }

    #[test]
    fn built_neighbour_messages_read_the_same(frame in any_ndp()) {
        prop_assert_eq!(Frame::parse(&frame.to_octets()), Ok(Frame::Ndp(frame)));
    }

    #[test]
    fn properties_hold_for_damaged_frames(
        arp in any_arp(),
        ndp in any_ndp(),
        at in any::<proptest::sample::Index>(),
        octet in any::<u8>(),
        keep in any::<proptest::sample::Index>(),
    ) {
        for mut octets in [arp.to_octets().to_vec(), ndp.to_octets()] {
            let at = at.index(octets.len());
            octets[at] = octet;
            octets.truncate(keep.index(octets.len()) + 1);
            for (_, property) in PROPERTIES {
                property(&octets);
                property(octets.get(14..).unwrap_or_default());
            }
        }
    }
}
