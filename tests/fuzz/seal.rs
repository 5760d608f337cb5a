//! Makes any octets a packet whose lengths and checksum are right: what a parser must look at beyond them.

/// Octets of Ethernet and IPv6 headers; the ICMPv6 message follows.
const HEADERS: usize = 54;

/// Puts the IPv6 payload length and the ICMPv6 checksum of a frame right, whatever else it holds. Frames that end before
/// the checksum stay as they are.
pub(crate) fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let message = frame.len().saturating_sub(HEADERS);
    let Ok(length) = u16::try_from(message) else { return frame };
    if message < 4 {
        return frame;
    }
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[56..58].fill(0);
    // RFC 8200 section 8.1: addresses, length and next header as a pseudo-header, then the message.
    let mut sum = u32::from(length) + 58;
    for pair in frame[22..].chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame
}
