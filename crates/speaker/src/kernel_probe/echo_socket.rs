//! A raw socket for the echo replies to our own requests.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, ready};

use landfall_wire::{Echo, ParseError};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::beat_socket::mark_as_network_control;
use crate::socket_options::{JUMP_EQUAL, RETURN, instruction};

/// Room for about 80 replies: each observer asks a few nodes at a time.
const RECEIVE_BUFFER: usize = 1 << 16;

/// Which echo: ICMP or ICMPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The echo reply in what a socket of this family received.
    ///
    /// # Errors
    /// For everything else.
    pub(super) fn parse(self, packet: &[u8]) -> Result<Echo, ParseError> {
        match self {
            Self::V4 => Echo::parse_v4_reply(packet),
            Self::V6 => Echo::parse_v6_reply(packet),
        }
    }
}

/// Sends echo requests, and receives the replies that carry one identifier.
#[derive(Debug)]
pub(super) struct EchoSocket {
    /// A raw socket; tokio's type for it asks only that it has addresses and datagrams.
    socket: UdpSocket,
}

impl EchoSocket {
    /// Needs CAP_NET_RAW. Must be called in the context of a tokio runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn open(family: Family, identifier: u16) -> io::Result<Self> {
        let (domain, protocol, any): (_, _, IpAddr) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4, Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        socket.attach_filter(&filter(family, identifier))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        mark_as_network_control(&socket, any)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())? })
    }

    /// Sends a message, from its type on, by the route that the kernel has.
    ///
    /// # Errors
    /// `WouldBlock` while the send buffer is full; those of the system, as for no route.
    pub(super) fn send_now(&self, message: &[u8], to: IpAddr) -> io::Result<()> {
        // Past tokio, which sends nothing before it has seen that the socket is writable. The socket never blocks. A raw
        // socket has no ports.
        SockRef::from(&self.socket).send_to(message, &SocketAddr::new(to, 0).into()).map(|_| ())
    }

    /// Receives what [`Family::parse`] reads, and who sent it. Wakes the last task that asked.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, IpAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        let from = ready!(self.socket.poll_recv_from(context, &mut buffer))?;
        Poll::Ready(Ok((buffer.filled().len(), from.ip())))
    }
}

/// The program that the kernel runs over every ICMP message that comes in: accepts echo replies with our identifier. What
/// slipped in before it was attached is told apart by whoever asked.
fn filter(family: Family, identifier: u16) -> [SockFilter; 7] {
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
    const IPV4_HEADER_LEN: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
    const ZERO: u32 = libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM;
    const IDENTIFIER_AT: u32 = 4;

    // The message starts after the IPv4 header; an IPv6 socket shows no header.
    let (message_at, echo_reply) = match family {
        Family::V4 => (IPV4_HEADER_LEN, 0),
        Family::V6 => (ZERO, 129),
    };
    [
        instruction(message_at, 0, 0, 0),
        instruction(LOAD_BYTE, 0, 0, 0),
        instruction(JUMP_EQUAL, 0, 3, echo_reply),
        instruction(LOAD_HALF, 0, 0, IDENTIFIER_AT),
        instruction(JUMP_EQUAL, 0, 1, identifier.into()),
        instruction(RETURN, 0, 0, u32::MAX),
        instruction(RETURN, 0, 0, 0),
    ]
}
