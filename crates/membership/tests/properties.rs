//! The property of the fuzz target, on the stable toolchain: over the fuzzer's kept corpus and over generated octets.
#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../../../tests/fuzz/membership.rs"]
mod membership;

#[test]
fn the_property_holds_for_every_input_that_the_fuzzer_kept() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/membership");
    let inputs: Vec<_> = fs::read_dir(corpus).expect("corpus").map(|file| file.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "the corpus is empty");
    for input in inputs {
        membership::membership(&fs::read(input).unwrap());
    }
}

proptest! {
    #[test]
    fn no_octets_make_a_member_panic_or_answer(octets in proptest::collection::vec(any::<u8>(), 0..1_300)) {
        membership::membership(&octets);
    }
}
