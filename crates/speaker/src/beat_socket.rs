//! The socket that beats and the other messages of `landfall-membership` travel on.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use crate::socket_options::{set_receive_buffer, set_send_buffer};

/// Room for one datagram of the largest size from each of 1,000 members, with the kernel's bookkeeping: a full page and a
/// small head each (2,304 octets). The kernel doubles what it is given.
const RECEIVE_BUFFER: usize = 1_000 * 2_304 / 2;
/// Room for one small datagram to each of 1,000 members while the interface takes no frames.
const SEND_BUFFER: usize = 1_000 * 1_024 / 2;
/// DSCP CS6 in its place in the traffic class: network control, before all that users send (RFC 4594 section 3.1).
const NETWORK_CONTROL: u32 = 0xc0;
/// The highest queueing priority that needs no CAP_NET_ADMIN: the first band of the default queue.
const QUEUE_PRIORITY: u32 = 6;

/// A UDP socket on the node's own address. Datagrams come and go whole; it knows nothing of what they hold.
///
/// It is not connected and does not ask for errors that the network reports. So a member whose speaker is down, and whose
/// kernel says so by ICMP, is no error here: who is silent is membership's question.
#[derive(Debug)]
pub struct BeatSocket {
    socket: UdpSocket,
    local: SocketAddr,
}

impl BeatSocket {
    /// Listens on `port` of the node's own `address`; on a free port for 0. Beats come from that address too, whatever the
    /// routing table prefers. Must be called in the context of a tokio runtime. Needs no capability; without CAP_NET_ADMIN the
    /// buffers are as large as `net.core.rmem_max` and `net.core.wmem_max` allow.
    ///
    /// # Errors
    /// Those of the system, with the address, the port, and the way out where the port is taken or the address is not the
    /// node's.
    pub fn open(address: IpAddr, port: u16) -> io::Result<Self> {
        Self::bind(SocketAddr::new(address, port)).map_err(|error| {
            let way_out = match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "; another program has the port: `ss --udp --listening --processes 'sport = :{port}'` names it. Stop \
                     it, or give all speakers another port"
                ),
                io::ErrorKind::AddrNotAvailable => {
                    "; no interface of this node has the address: it must be one of the Node's InternalIPs".to_owned()
                }
                _ => String::new(),
            };
            let text = format!("cannot listen for beats on address {address}, UDP port {port}: {error}{way_out}");
            io::Error::new(error.kind(), text)
        })
    }

    fn bind(wanted: SocketAddr) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(wanted), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if wanted.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        mark_as_network_control(&socket, wanted.ip())?;
        set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        set_send_buffer(&socket, SEND_BUFFER)?;
        socket.bind(&wanted.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// The address and the port that others send to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a datagram, copies it into `buffer`, which cuts off what is longer, and says how long it is and who claims
    /// to have sent it. Cancelling it loses no datagram.
    ///
    /// # Errors
    /// Those of the system, of which none is a member's.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }

    /// Sends the datagram to each of these at once, or not at all to those that it cannot be sent to now: a beat that waits
    /// is worse than one that is lost. Returns to how many it was not sent: for no route, a full send buffer, or a rule of the
    /// node's own firewall.
    pub fn send(&self, datagram: &[u8], to: &[SocketAddr]) -> usize {
        // Past tokio, which sends nothing before it has seen that the socket is writable. The socket never blocks.
        let socket = SockRef::from(&self.socket);
        let mut failed = 0;
        for receiver in to {
            if let Err(error) = socket.send_to(datagram, &(*receiver).into()) {
                tracing::debug!(%receiver, %error, "cannot send to a member");
                failed += 1;
            }
        }
        failed
    }
}

/// Lets routers and this node's own queues prefer what the socket sends.
pub(crate) fn mark_as_network_control(socket: &Socket, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_tos_v4(NETWORK_CONTROL)?,
        IpAddr::V6(_) => socket.set_tclass_v6(NETWORK_CONTROL)?,
    }
    socket.set_priority(QUEUE_PRIORITY) // after the former, which resets it
}

#[cfg(test)]
mod tests;
