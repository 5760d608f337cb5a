//! Packet sockets: whole Ethernet frames of one protocol on one interface. The only unsafe code of the project.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use landfall_wire::{EtherType, MacAddr};
use socket2::{Domain, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::socket_options::{JUMP_EQUAL, RETURN, instruction, set_receive_buffer};

/// Room for what arrives while the thread is busy: about 1,300 small frames, each of which the kernel counts with its
/// bookkeeping (768 octets). Beyond it the kernel drops; who asked asks again after a second.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What a packet socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    /// ARP.
    Arp,
    /// Neighbour solicitations and advertisements.
    Ndp,
}

/// Which frames of its protocol pass a socket's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Also requests and solicitations.
    All,
    /// ARP replies, neighbour advertisements.
    Answers,
}

impl Protocol {
    fn ether_type(self) -> EtherType {
        match self {
            Self::Arp => EtherType::ARP,
            Self::Ndp => EtherType::IPV6,
        }
    }

    /// A word for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::Ndp => "ndp",
        }
    }
}

/// A socket for the frames of one protocol on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: AsyncFd<Socket>,
    interface: i32,
}

impl PacketSocket {
    /// Opens a socket for requests on the interface with this index. It is filtered before it is bound: nothing unfiltered
    /// is ever queued. Must be called in the context of a tokio runtime.
    ///
    /// # Errors
    /// Those of the system: without CAP_NET_RAW `PermissionDenied`, for an interface that is gone `ENODEV`.
    pub(crate) fn open(interface: u32, protocol: Protocol) -> io::Result<Self> {
        Self::open_filtered(interface, protocol, Wanted::All)
    }

    /// The same for who asks himself: ARP replies or neighbour advertisements that are sent to the interface's own MAC
    /// address.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_for_answers(interface: u32, protocol: Protocol) -> io::Result<Self> {
        Self::open_filtered(interface, protocol, Wanted::Answers)
    }

    fn open_filtered(interface: u32, protocol: Protocol, wanted: Wanted) -> io::Result<Self> {
        // Protocol 0 receives nothing until bind() names one.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        socket.attach_filter(&filter(interface, protocol, wanted))?;
        set_receive_buffer(&socket, RECEIVE_BUFFER)?;
        let index = i32::try_from(interface).map_err(io::Error::other)?;
        socket.bind(&link_layer_address(index, protocol))?;
        // SAFETY: the AsyncFd owns the socket, whose descriptor stays open and the same until it is dropped; nothing
        // here replaces it.
        let fd = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { fd, interface: index })
    }

    /// Waits for a frame and copies it into `buffer`, which cuts off what is longer. Cancelling it loses no frame.
    ///
    /// # Errors
    /// `ENETDOWN`, once, after the interface went down.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fd.async_io(Interest::READABLE, |mut socket| socket.read(buffer)).await
    }

    /// As [`Self::receive`], for who waits for several sockets at once: wakes the last task that asked.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(context))?;
            if let Ok(received) = ready.try_io(|fd| fd.get_ref().read(buffer)) {
                return Poll::Ready(received);
            }
        }
    }

    /// Sends a frame at once, or not; also on a socket that the runtime has not looked at since it was opened, on which
    /// [`Self::try_send`] sends nothing.
    ///
    /// # Errors
    /// As [`Self::try_send`].
    pub(crate) fn send_now(&self, frame: &[u8]) -> io::Result<()> {
        self.fd.get_ref().write(frame).map(|_| ())
    }

    /// Sends a frame at once, or not.
    ///
    /// # Errors
    /// `WouldBlock` while the send buffer is full; `ENETDOWN`, `ENXIO` when the interface is down or gone.
    pub(crate) fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.fd.try_io(Interest::WRITABLE, |mut socket| socket.write(frame)).map(|_| ())
    }

    /// Waits until there is room for a frame, and sends it. Cancelling it sends the frame not at all.
    ///
    /// # Errors
    /// As [`Self::try_send`], without `WouldBlock`.
    pub(crate) async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.fd.async_io(Interest::WRITABLE, |mut socket| socket.write(frame)).await.map(|_| ())
    }

    /// Makes the interface receive frames to a multicast address. The kernel counts: leave as often as you join; a
    /// closed socket leaves by itself.
    ///
    /// # Errors
    /// Those of the system, when memory runs out or the interface is gone.
    pub(crate) fn join(&self, group: MacAddr) -> io::Result<()> {
        self.membership(libc::PACKET_ADD_MEMBERSHIP, group)
    }

    /// Undoes [`Self::join`].
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn leave(&self, group: MacAddr) -> io::Result<()> {
        self.membership(libc::PACKET_DROP_MEMBERSHIP, group)
    }

    fn membership(&self, option: libc::c_int, group: MacAddr) -> io::Result<()> {
        let [a, b, c, d, e, f] = group.octets();
        let request = libc::packet_mreq {
            mr_ifindex: self.interface,
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: [a, b, c, d, e, f, 0, 0],
        };
        // SAFETY: the pointer and the length are those of a live `packet_mreq`, which the kernel only reads.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const request).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.get_ref().as_raw_fd()
    }
}

/// Where to bind: one protocol on one interface.
fn link_layer_address(interface: i32, protocol: Protocol) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the system's socket address types.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.ether_type().0.to_be();
    address.sll_ifindex = interface;
    // SAFETY: the storage holds a `sockaddr_ll` of this length, with its family set.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// The program that the kernel runs over every frame of the protocol. It accepts whole frames that are
/// - for this machine: to its own address; what others ask and announce also by broadcast or multicast. A capture that puts the interface into
///   promiscuous mode brings others'; and frames that this machine sends are no questions either;
/// - of this interface: the kernel also shows a parent what is for a VLAN or macvlan interface on top of it;
/// - what is wanted: an ARP request or reply, a neighbour solicitation or advertisement without extension headers.
///
/// The addresses are not in the filter: they change often, and a look-up in the process is cheap.
fn filter(interface: u32, protocol: Protocol, wanted: Wanted) -> Vec<SockFilter> {
    const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const JUMP_GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    const JUMP_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const INTERFACE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32;
    const TO_OUR_MAC: u32 = libc::PACKET_HOST as u32; // the smallest
    const TO_US_OR_A_GROUP: u32 = libc::PACKET_MULTICAST as u32; // after PACKET_HOST and PACKET_BROADCAST
    const ARP_OPERATION: u32 = 20;
    const ARP_REQUEST: u32 = 1;
    const ARP_REPLY: u32 = 2;
    const IPV6_NEXT_HEADER: u32 = 20;
    const ICMPV6: u32 = 58;
    const ICMPV6_TYPE: u32 = 54;
    const NEIGHBOR_SOLICITATION: u32 = 135;
    const NEIGHBOR_ADVERTISEMENT: u32 = 136;

    /// What must hold of one loaded value for a frame to pass.
    enum Test {
        Equals(u32),
        AtLeast(u32),
        AtMost(u32),
    }
    let (packet_type, arp_operation, icmpv6_type) = match wanted {
        Wanted::All => (TO_US_OR_A_GROUP, ARP_REQUEST, NEIGHBOR_SOLICITATION),
        Wanted::Answers => (TO_OUR_MAC, ARP_REPLY, NEIGHBOR_ADVERTISEMENT),
    };
    let mut tests =
        vec![(LOAD_WORD, PACKET_TYPE, Test::AtMost(packet_type)), (LOAD_WORD, INTERFACE, Test::Equals(interface))];
    match protocol {
        Protocol::Arp => tests.extend([
            (LOAD_HALF, ARP_OPERATION, Test::AtLeast(arp_operation)),
            (LOAD_HALF, ARP_OPERATION, Test::AtMost(ARP_REPLY)),
        ]),
        Protocol::Ndp => tests.extend([
            (LOAD_BYTE, IPV6_NEXT_HEADER, Test::Equals(ICMPV6)),
            (LOAD_BYTE, ICMPV6_TYPE, Test::AtLeast(icmpv6_type)),
            (LOAD_BYTE, ICMPV6_TYPE, Test::AtMost(NEIGHBOR_ADVERTISEMENT)),
        ]),
    }
    let count = tests.len();
    let mut program = Vec::with_capacity(2 * count + 2);
    for (at, (load, offset, test)) in tests.into_iter().enumerate() {
        program.push(instruction(load, 0, 0, offset));
        // From the jump over the remaining pairs and the accepting return to the refusing one.
        let refuse = (2 * (count - at - 1) + 1) as u8;
        program.push(match test {
            Test::Equals(value) => instruction(JUMP_EQUAL, 0, refuse, value),
            Test::AtLeast(value) => instruction(JUMP_AT_LEAST, 0, refuse, value),
            Test::AtMost(value) => instruction(JUMP_GREATER, refuse, 0, value),
        });
    }
    program.push(instruction(RETURN, 0, 0, u32::MAX));
    program.push(instruction(RETURN, 0, 0, 0));
    program
}
