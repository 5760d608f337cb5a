//! What several kinds of our sockets ask of the kernel.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockFilter, SockRef};

/// Room for what arrives while nobody reads. Without CAP_NET_ADMIN the system's limit stands (`net.core.rmem_max`).
///
/// # Errors
/// Those of the system.
pub(crate) fn set_receive_buffer(socket: &impl AsFd, octets: usize) -> io::Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &octets).or_else(|_| SockRef::from(socket).set_recv_buffer_size(octets))
}

/// Room for what the interface does not take yet. Without CAP_NET_ADMIN the system's limit stands (`net.core.wmem_max`).
///
/// # Errors
/// Those of the system.
pub(crate) fn set_send_buffer(socket: &impl AsFd, octets: usize) -> io::Result<()> {
    setsockopt(socket, sockopt::SndBufForce, &octets).or_else(|_| SockRef::from(socket).set_send_buffer_size(octets))
}

/// Of a filter program (`linux/filter.h`): compares what was loaded with a constant, and goes on by `jump_true` or `jump_false`.
pub(crate) const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
/// Ends a filter program: so many octets of the frame pass.
pub(crate) const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// One instruction of a filter program.
pub(crate) fn instruction(code: u32, jump_true: u8, jump_false: u8, k: u32) -> SockFilter {
    // The codes are below 256, so they fit the 16 bits of the instruction.
    SockFilter::new(code as u16, jump_true, jump_false, k)
}
