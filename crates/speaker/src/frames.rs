//! Frames in, frames out: the only module that puts something on the wire.
//!
//! A [`Lane`] is one protocol on one interface: a packet socket and the task that serves it. The task may be aborted at any
//! time; it holds nothing but frames that wait to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_runtime::timer;
use landfall_wire::{ArpFrame, MacAddr, NdpFrame, solicited_node_multicast};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::announce::Manner;
use crate::askers::Askers;
use crate::groups::Groups;
use crate::packet_socket::{PacketSocket, Protocol};
use crate::respond::{Owned, Reason, Verdict, respond};
use crate::rivals::Claimed;
use crate::wire_metrics::WireMetrics;

/// Longer than any request; what is cut off is refused as truncated.
const LONGEST_FRAME: usize = 2048;
/// Batches of announcements and probes that may wait while the interface takes no frames. A newer one for the same addresses follows
/// within about a minute.
const WAITING_BATCHES: usize = 16;
/// Frames that may wait besides an answer that cannot be sent now. Who asked asks again after a second.
const WAITING_FRAMES: usize = 65_536;
/// Frames that are sent unasked in one go, and the pause after them. Who takes over a thousand addresses has thousands to send,
/// and a neighbour's socket holds less than three hundred by default.
const AT_ONCE: u32 = 64;
const REST: Duration = Duration::from_millis(1);
/// For so long after a check an answer belongs to it.
const CHECKED_FOR: Duration = Duration::from_secs(1);
/// Pause after an error of the socket, so that one which stays does not keep the processor busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What is to be said unasked of some addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// That they are here; these neighbours always have to know.
    Announce(Manner, BTreeSet<IpAddr>),
    /// Has anybody got one of them?
    Probe,
    /// Who answers for them, which are another's? What is heard of it goes where claims go.
    Check,
}

/// The same for each of these.
type Batch = (Unasked, Vec<IpAddr>);

/// One protocol on one interface. Dropping it ends the answers at once.
#[derive(Debug)]
pub(crate) struct Lane {
    socket: Arc<PacketSocket>,
    protocol: Protocol,
    owned: watch::Sender<Arc<Owned>>,
    unasked: mpsc::Sender<Batch>,
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
        let (sender, receiver) = watch::channel(Arc::new(Owned::nothing(owned.mac)));
        let (unasked, batches) = mpsc::channel(WAITING_BATCHES);
        let server = Server {
            socket: Arc::clone(&socket),
            interface,
            protocol,
            owned: receiver,
            claims: claims.clone(),
            batches,
            queue: VecDeque::new(),
            sent: 0,
            rests_until: None,
            askers: Askers::default(),
            checked: BTreeMap::new(),
            metrics: metrics.clone(),
        };
        let task = tokio::spawn(server.serve());
        let groups = Groups::new(interface);
        let metrics = metrics.clone();
        let mut lane = Self { socket, protocol, owned: sender, unasked, groups, metrics, task };
        lane.own(owned)?;
        Ok(lane)
    }

    /// Answers for `owned` from the next frame on, and for nothing else.
    ///
    /// # Errors
    /// When a solicited-node group cannot be joined. What could be done was done; call it again.
    pub(crate) fn own(&mut self, owned: Owned) -> io::Result<()> {
        let all = owned.addresses.iter().chain(&owned.on_trial).chain(&owned.handed_over).chain(owned.covered.keys());
        let groups = all.filter_map(|ip| solicited_node_group(*ip)).collect();
        self.owned.send_replace(Arc::new(owned));
        self.groups.follow(&self.socket, &groups)
    }

    /// Says this of each of the addresses once, as soon as the interface takes the frames. An address that was withdrawn until
    /// then is left out.
    pub(crate) fn say(&self, what: Unasked, addresses: Vec<IpAddr>) {
        if self.unasked.try_send((what, addresses)).is_err() {
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

/// What waits to be sent. All but answers are built at the last moment, with the MAC address of that moment.
#[derive(Debug)]
enum Waiting {
    Answer {
        ip: IpAddr,
        frame: Vec<u8>,
    },
    GratuitousRequest(Ipv4Addr),
    GratuitousReply(Ipv4Addr),
    UnsolicitedAdvertisement(Ipv6Addr),
    /// A question to a neighbour in the name of our address: who answers it takes note of who asks (RFC 826, "Packet
    /// Reception"), Linux at any time. By broadcast where its MAC address is not known.
    RequestFrom(Ipv4Addr, Ipv4Addr, Option<MacAddr>),
    /// The unsolicited advertisement, for one neighbour alone.
    AdvertisementTo(Ipv6Addr, Ipv6Addr, MacAddr),
    Probe(IpAddr),
    /// The same frame, for an address that is another's.
    Check(IpAddr),
}

impl Waiting {
    fn ip(&self) -> IpAddr {
        match self {
            Self::Answer { ip, .. } | Self::Probe(ip) | Self::Check(ip) => *ip,
            Self::GratuitousRequest(ip) | Self::GratuitousReply(ip) | Self::RequestFrom(ip, ..) => IpAddr::V4(*ip),
            Self::UnsolicitedAdvertisement(ip) | Self::AdvertisementTo(ip, ..) => IpAddr::V6(*ip),
        }
    }

    fn frame(&self, mac: MacAddr) -> Vec<u8> {
        match self {
            Self::Answer { frame, .. } => frame.clone(),
            Self::GratuitousRequest(ip) => ArpFrame::gratuitous_request(*ip, mac).to_octets().to_vec(),
            Self::GratuitousReply(ip) => ArpFrame::gratuitous_reply(*ip, mac).to_octets().to_vec(),
            Self::UnsolicitedAdvertisement(ip) => NdpFrame::unsolicited_advertisement(*ip, mac).to_octets(),
            Self::RequestFrom(ip, neighbour, at) => {
                let request = ArpFrame::request(*neighbour, (mac, *ip));
                ArpFrame { destination: at.unwrap_or(request.destination), ..request }.to_octets().to_vec()
            }
            Self::AdvertisementTo(ip, neighbour, at) => {
                let to_all = NdpFrame::unsolicited_advertisement(*ip, mac);
                NdpFrame { destination: *neighbour, destination_mac: *at, ..to_all }.to_octets()
            }
            Self::Probe(IpAddr::V4(ip)) | Self::Check(IpAddr::V4(ip)) => ArpFrame::probe(*ip, mac).to_octets().to_vec(),
            Self::Probe(IpAddr::V6(ip)) | Self::Check(IpAddr::V6(ip)) => NdpFrame::probe(*ip, mac).to_octets(),
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
    batches: mpsc::Receiver<Batch>,
    queue: VecDeque<Waiting>,
    /// Frames that were sent since the last pause, and when the present one ends.
    sent: u32,
    rests_until: Option<Instant>,
    askers: Askers,
    /// When others' addresses were asked for, lately.
    checked: BTreeMap<IpAddr, Instant>,
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
                () = timer::sleep_until(self.rests_until) => self.rests_until = None,
                sent = send_first(&self.socket, &self.queue, &self.owned), if self.may_send() => {
                    if let Some(waiting) = self.queue.pop_front() {
                        self.count(&waiting, sent);
                        self.sent += 1;
                        if self.sent == AT_ONCE {
                            (self.sent, self.rests_until) = (0, Some(Instant::now() + REST));
                        }
                    }
                }
                batch = self.batches.recv(), if self.queue.is_empty() => match batch {
                    Some((what, addresses)) => {
                        if what == Unasked::Check {
                            self.expect_answers(&addresses, Instant::now());
                        }
                        let askers: Vec<_> = self.askers.lately(Instant::now()).collect();
                        self.queue.extend(unasked(&addresses, &what, &askers));
                    }
                    None => return,
                },
            }
        }
    }

    fn expect_answers(&mut self, addresses: &[IpAddr], now: Instant) {
        self.checked.retain(|_, at| now < *at + CHECKED_FOR);
        self.checked.extend(addresses.iter().map(|ip| (*ip, now)));
    }

    fn may_send(&self) -> bool {
        !self.queue.is_empty() && self.rests_until.is_none()
    }

    fn receive(&mut self, frame: &[u8]) {
        let protocol = self.protocol.name();
        let verdict = respond(frame, &self.owned.borrow());
        match verdict {
            Verdict::Answer { ip, frame, asker } => {
                self.metrics.request_received(ip);
                if let Some((ip, mac)) = asker {
                    self.askers.asked(ip, mac, Instant::now());
                }
                self.answer(ip, frame);
            }
            // Claims that come faster than they are looked at are the same again and again.
            Verdict::Claimed { ip, mac } => {
                let _ = self.claims.try_send(Claimed { ip, mac, interface: self.interface });
                self.metrics.ignored(protocol, "claim");
            }
            Verdict::Elsewhere { ip, mac } => {
                if self.checked.get(&ip).is_some_and(|at| at.elapsed() < CHECKED_FOR) {
                    let _ = self.claims.try_send(Claimed { ip, mac, interface: self.interface });
                }
                self.metrics.ignored(protocol, Reason::NotARequest.name());
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
            (
                Ok(Sent::Yes),
                Waiting::Probe(_) | Waiting::Check(_) | Waiting::RequestFrom(..) | Waiting::AdvertisementTo(..),
            ) => {}
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
        Waiting::Probe(ip) => owned.concerns(*ip),
        Waiting::Check(ip) => owned.answers_with(*ip).is_none(),
        announcement => owned.addresses.contains(&announcement.ip()),
    };
    if !is_ours {
        return Ok(Sent::NotOurs);
    }
    socket.send(&waiting.frame(owned.mac)).await.map(|()| Sent::Yes)
}

/// The frames, first those that concern everybody. Linux takes the request form of an announcement at any time; some devices
/// heed only the reply form. Neighbours that surely use an address hear of it once more, each for itself: some heed no
/// gratuitous frames, and some switches hold back broadcasts.
fn unasked(addresses: &[IpAddr], what: &Unasked, askers: &[(IpAddr, MacAddr)]) -> Vec<Waiting> {
    let probes = || addresses.iter().map(|ip| Waiting::Probe(*ip));
    let (manner, neighbours) = match what {
        Unasked::Announce(manner, neighbours) => (manner, neighbours),
        Unasked::Probe => return probes().collect(),
        Unasked::Check => return addresses.iter().map(|ip| Waiting::Check(*ip)).collect(),
    };
    let mut frames: Vec<Waiting> = addresses.iter().flat_map(|ip| announcement(*ip)).collect();
    if *manner == Manner::Opening {
        let unknown = neighbours.iter().filter(|ip| !askers.iter().any(|(asker, _)| asker == *ip));
        let all: Vec<_> =
            unknown.map(|ip| (*ip, None)).chain(askers.iter().map(|(ip, mac)| (*ip, Some(*mac)))).collect();
        frames.extend(addresses.iter().flat_map(|ip| all.iter().filter_map(|to| in_person(*ip, *to))));
    }
    if *manner == Manner::Refresh {
        frames.extend(probes());
    }
    frames
}

/// What says to all that the address is here.
fn announcement(ip: IpAddr) -> Vec<Waiting> {
    match ip {
        IpAddr::V4(ip) => vec![Waiting::GratuitousRequest(ip), Waiting::GratuitousReply(ip)],
        IpAddr::V6(ip) => vec![Waiting::UnsolicitedAdvertisement(ip)],
    }
}

/// What says so to one neighbour, if it can be reached.
fn in_person(ip: IpAddr, (neighbour, mac): (IpAddr, Option<MacAddr>)) -> Option<Waiting> {
    match (ip, neighbour) {
        (IpAddr::V4(ip), IpAddr::V4(neighbour)) => Some(Waiting::RequestFrom(ip, neighbour, mac)),
        (IpAddr::V6(ip), IpAddr::V6(neighbour)) => Some(Waiting::AdvertisementTo(ip, neighbour, mac?)),
        _ => None,
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
