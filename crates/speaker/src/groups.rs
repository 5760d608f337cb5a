//! The multicast groups to which neighbours send solicitations: an interface must listen to one for each IPv6 address.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;

use landfall_wire::multicast_mac;
use socket2::{Domain, Socket, Type};

use crate::packet_socket::PacketSocket;

/// The groups that one interface listens to for us.
///
/// Each is joined twice. On the packet socket, so that the interface takes the frames: this needs nothing else. And on an
/// IPv6 socket, so that the kernel reports the membership (MLD): a switch that snoops on these reports sends the frames of a
/// group only to who reported it. The second can fail, where IPv6 is switched off on the interface, and then the
/// switch rarely snoops; so it is tried and not insisted on.
#[derive(Debug)]
pub(crate) struct Groups {
    interface: u32,
    /// Each group with the number of the IPv6 socket that joined it, if one did.
    joined: BTreeMap<Ipv6Addr, Option<usize>>,
    /// More than one when there are many groups: the kernel bounds the memory for those of one socket.
    sockets: Vec<Socket>,
}

impl Groups {
    /// No groups, on the interface with this index.
    pub(crate) fn new(interface: u32) -> Self {
        Self { interface, joined: BTreeMap::new(), sockets: Vec::new() }
    }

    /// Joins and leaves groups until they are those that are `wanted`.
    ///
    /// # Errors
    /// When the packet socket cannot join one. The others before it were joined.
    pub(crate) fn follow(&mut self, packets: &PacketSocket, wanted: &BTreeSet<Ipv6Addr>) -> io::Result<()> {
        let unwanted: Vec<Ipv6Addr> = self.joined.keys().filter(|group| !wanted.contains(group)).copied().collect();
        for group in unwanted {
            self.leave(packets, group);
        }
        for group in wanted {
            if !self.joined.contains_key(group) {
                packets.join(multicast_mac(*group))?;
                let socket = self.report(*group);
                self.joined.insert(*group, socket);
            }
        }
        Ok(())
    }

    /// Should the kernel refuse, the interface hears of a group too many, and the answers stay right.
    fn leave(&mut self, packets: &PacketSocket, group: Ipv6Addr) {
        if let Err(error) = packets.leave(multicast_mac(group)) {
            tracing::debug!(%group, %error, "cannot leave a multicast group");
        }
        let reported_by = self.joined.remove(&group).flatten().and_then(|socket| self.sockets.get(socket));
        if let Some(socket) = reported_by
            && let Err(error) = socket.leave_multicast_v6(&group, self.interface)
        {
            tracing::debug!(%group, %error, "cannot end the report of a multicast group");
        }
    }

    /// Makes the kernel report the group; the number of the socket that did.
    fn report(&mut self, group: Ipv6Addr) -> Option<usize> {
        for (number, socket) in self.sockets.iter().enumerate() {
            match socket.join_multicast_v6(&group, self.interface) {
                Ok(()) => return Some(number),
                Err(error) if is_full(&error) => {}
                Err(error) => return self.unreported(group, &error),
            }
        }
        let joined = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)
            .and_then(|socket| socket.join_multicast_v6(&group, self.interface).map(|()| socket));
        match joined {
            Ok(socket) => {
                self.sockets.push(socket);
                Some(self.sockets.len() - 1)
            }
            Err(error) => self.unreported(group, &error),
        }
    }

    fn unreported(&self, group: Ipv6Addr, error: &io::Error) -> Option<usize> {
        tracing::debug!(interface = self.interface, %group, %error, "a multicast group is not reported to switches");
        None
    }
}

/// The socket has as many groups as the kernel gives it memory for (`net.core.optmem_max`).
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}
