//! Frames in, frames out: the only module that puts something on the wire.
//!
//! A [`Lane`] is one protocol on one interface: a packet socket and the task that serves it. The task may be aborted at any
//! time; it holds nothing but frames that wait to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use landfall_wire::{ArpFrame, MacAddr, NdpFrame, solicited_node_multicast};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::groups::Groups;
use crate::packet_socket::{PacketSocket, Protocol};
use crate::respond::{Owned, Verdict, respond};
use crate::rivals::Claimed;
use crate::wire_metrics::WireMetrics;

/// Longer than any request; what is cut off is refused as truncated.
const LONGEST_FRAME: usize = 2048;
/// Batches of announcements that may wait while the interface takes no frames. A newer one for the same addresses follows
/// within about a minute.
const WAITING_BATCHES: usize = 16;
/// Frames that may wait besides an answer that cannot be sent now. Who asked asks again after a second.
const WAITING_FRAMES: usize = 65_536;
/// Pause after an error of the socket, so that one which stays does not keep the processor busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// One protocol on one interface. Dropping it ends the answers at once.
#[derive(Debug)]
pub(crate) struct Lane {
    socket: Arc<PacketSocket>,
    protocol: Protocol,
    owned: watch::Sender<Arc<Owned>>,
    announcements: mpsc::Sender<Vec<IpAddr>>,
    groups: Groups,
    metrics: WireMetrics,
    task: JoinHandle<()>,
}

impl Lane {
    /// Starts to answer for `owned` on the interface with this index; what others say to have of it goes to `claims`.
    ///
    /// # Errors
    /// Those of [`PacketSocket::open`] and [`PacketSocket::join`].
    pub(crate) fn open(
        interface: u32,
        protocol: Protocol,
        owned: Owned,
        claims: &mpsc::Sender<Claimed>,
        metrics: &WireMetrics,
    ) -> io::Result<Self> {
        let socket = Arc::new(PacketSocket::open(interface, protocol)?);
        let nothing = Owned { mac: owned.mac, addresses: BTreeSet::new(), covered: BTreeMap::new() };
        let (sender, receiver) = watch::channel(Arc::new(nothing));
        let (announcements, batches) = mpsc::channel(WAITING_BATCHES);
        let server = Server {
            socket: Arc::clone(&socket),
            interface,
            protocol,
            owned: receiver,
            claims: claims.clone(),
            batches,
            queue: VecDeque::new(),
            metrics: metrics.clone(),
        };
        let task = tokio::spawn(server.serve());
        let groups = Groups::new(interface);
        let metrics = metrics.clone();
        let mut lane = Self { socket, protocol, owned: sender, announcements, groups, metrics, task };
        lane.own(owned)?;
        Ok(lane)
    }

    /// Answers for `owned` from the next frame on, and for nothing else.
    ///
    /// # Errors
    /// When a solicited-node group cannot be joined. What could be done was done; call it again.
    pub(crate) fn own(&mut self, owned: Owned) -> io::Result<()> {
        let all = owned.addresses.iter().chain(owned.covered.keys());
        let groups = all.filter_map(|ip| solicited_node_group(*ip)).collect();
        self.owned.send_replace(Arc::new(owned));
        self.groups.follow(&self.socket, &groups)
    }

    /// Announces each of the addresses once, as soon as the interface takes the frames. An address that was withdrawn until
    /// then is left out.
    pub(crate) fn announce(&self, addresses: Vec<IpAddr>) {
        if self.announcements.try_send(addresses).is_err() {
            self.metrics.send_error(self.protocol.name(), "queue_full");
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The group to which neighbours send solicitations for `ip`.
fn solicited_node_group(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(solicited_node_multicast(ip)),
    }
}

/// What waits to be sent. Announcements are built at the last moment, with the MAC address of that moment.
#[derive(Debug)]
enum Waiting {
    Answer { ip: IpAddr, frame: Vec<u8> },
    GratuitousRequest(Ipv4Addr),
    GratuitousReply(Ipv4Addr),
    UnsolicitedAdvertisement(Ipv6Addr),
}

impl Waiting {
    fn ip(&self) -> IpAddr {
        match self {
            Self::Answer { ip, .. } => *ip,
            Self::GratuitousRequest(ip) | Self::GratuitousReply(ip) => IpAddr::V4(*ip),
            Self::UnsolicitedAdvertisement(ip) => IpAddr::V6(*ip),
        }
    }

    fn frame(&self, mac: MacAddr) -> Vec<u8> {
        match self {
            Self::Answer { frame, .. } => frame.clone(),
            Self::GratuitousRequest(ip) => ArpFrame::gratuitous_request(*ip, mac).to_octets().to_vec(),
            Self::GratuitousReply(ip) => ArpFrame::gratuitous_reply(*ip, mac).to_octets().to_vec(),
            Self::UnsolicitedAdvertisement(ip) => NdpFrame::unsolicited_advertisement(*ip, mac).to_octets(),
        }
    }
}

/// The task of a lane.
struct Server {
    socket: Arc<PacketSocket>,
    interface: u32,
    protocol: Protocol,
    owned: watch::Receiver<Arc<Owned>>,
    claims: mpsc::Sender<Claimed>,
    batches: mpsc::Receiver<Vec<IpAddr>>,
    queue: VecDeque<Waiting>,
    metrics: WireMetrics,
}

impl Server {
    /// Until the lane is dropped.
    async fn serve(mut self) {
        let mut buffer = [0; LONGEST_FRAME];
        loop {
            tokio::select! {
                received = self.socket.receive(&mut buffer) => match received {
                    Ok(length) => self.receive(buffer.get(..length).unwrap_or_default()),
                    Err(error) => {
                        // The interface went down; netlink says so too, and then this lane ends.
                        tracing::debug!(protocol = self.protocol.name(), %error, "cannot receive");
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                },
                sent = send_first(&self.socket, &self.queue, &self.owned), if !self.queue.is_empty() => {
                    if let Some(waiting) = self.queue.pop_front() {
                        self.count(&waiting, sent);
                    }
                }
                batch = self.batches.recv(), if self.queue.is_empty() => match batch {
                    Some(addresses) => self.queue.extend(addresses.into_iter().flat_map(announcement)),
                    None => return,
                },
            }
        }
    }

    fn receive(&mut self, frame: &[u8]) {
        let protocol = self.protocol.name();
        let verdict = respond(frame, &self.owned.borrow());
        match verdict {
            Verdict::Answer { ip, frame } => {
                self.metrics.request_received(ip);
                self.answer(ip, frame);
            }
            // Claims that come faster than they are looked at are the same again and again.
            Verdict::Claimed { ip, mac } => {
                let _ = self.claims.try_send(Claimed { ip, mac, interface: self.interface });
                self.metrics.ignored(protocol, "claim");
            }
            Verdict::Ignored(reason) => self.metrics.ignored(protocol, reason.name()),
            Verdict::Malformed(error) => {
                tracing::debug!(protocol, %error, "refused a frame");
                self.metrics.malformed(protocol, error.reason());
            }
        }
    }

    /// Sends an answer now, or before everything else that waits.
    fn answer(&mut self, ip: IpAddr, frame: Vec<u8>) {
        let sent = self.socket.try_send(&frame);
        let waiting = Waiting::Answer { ip, frame };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.queue.len() < WAITING_FRAMES {
                    self.queue.push_front(waiting);
                } else {
                    self.metrics.send_error(self.protocol.name(), "queue_full");
                }
            }
            sent => self.count(&waiting, sent.map(|()| Sent::Yes)),
        }
    }

    fn count(&self, waiting: &Waiting, sent: io::Result<Sent>) {
        let ip = waiting.ip();
        match (sent, waiting) {
            (Ok(Sent::Yes), Waiting::Answer { .. }) => {
                tracing::debug!(protocol = self.protocol.name(), %ip, "answered");
                self.metrics.response_sent(ip);
            }
            (Ok(Sent::Yes), _) => self.metrics.gratuitous_sent(ip),
            (Ok(Sent::NotOurs), _) => {}
            (Err(error), _) => {
                tracing::debug!(protocol = self.protocol.name(), %ip, %error, "cannot send");
                self.metrics.send_error(self.protocol.name(), reason(&error));
            }
        }
    }
}

/// What became of a waiting frame.
enum Sent {
    Yes,
    /// The address was withdrawn meanwhile.
    NotOurs,
}

/// Sends the first waiting frame as soon as the interface takes it. Cancelled, it has sent nothing.
async fn send_first(
    socket: &PacketSocket,
    queue: &VecDeque<Waiting>,
    owned: &watch::Receiver<Arc<Owned>>,
) -> io::Result<Sent> {
    let Some(waiting) = queue.front() else { return Ok(Sent::NotOurs) };
    let owned = Arc::clone(&owned.borrow());
    let is_ours = match waiting {
        Waiting::Answer { ip, .. } => owned.answers_with(*ip).is_some(),
        announcement => owned.addresses.contains(&announcement.ip()),
    };
    if !is_ours {
        return Ok(Sent::NotOurs);
    }
    socket.send(&waiting.frame(owned.mac)).await.map(|()| Sent::Yes)
}

/// The frames that announce an address. Linux takes the request form at any time; some devices heed only the reply form.
fn announcement(ip: IpAddr) -> Vec<Waiting> {
    match ip {
        IpAddr::V4(ip) => vec![Waiting::GratuitousRequest(ip), Waiting::GratuitousReply(ip)],
        IpAddr::V6(ip) => vec![Waiting::UnsolicitedAdvertisement(ip)],
    }
}

/// A word for the counter of send errors, from a closed set.
fn reason(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENETDOWN) => "interface_down",
        Some(libc::ENXIO | libc::ENODEV) => "interface_gone",
        Some(libc::ENOBUFS | libc::ENOMEM) => "no_buffers",
        _ => "other",
    }
}
