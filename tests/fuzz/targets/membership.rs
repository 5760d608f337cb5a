#![no_main]

#[path = "../membership.rs"]
mod membership;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| membership::membership(octets));
