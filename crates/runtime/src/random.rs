//! Octets that nobody can foresee.

use std::io;

use ring::rand::{SecureRandom as _, SystemRandom};

/// From the kernel's random source.
///
/// # Errors
/// The kernel gives none.
pub fn octets<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| io::Error::other("the kernel gives no random octets"))?;
    Ok(octets)
}
