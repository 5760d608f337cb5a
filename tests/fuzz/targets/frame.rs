#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target runs one property")]
mod properties;
#[path = "../seal.rs"]
#[allow(dead_code, reason = "ARP has nothing to seal")]
mod seal;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| properties::frame(octets));
