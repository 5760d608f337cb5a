//! The thread that holds the wire: it owns the interfaces, the sockets and the schedule of announcements.
//!
//! It has a runtime of its own, so that reading ten thousand Services on the other side never delays an answer. Tasks on it:
//! the loop of [`Wire::run`] (never aborted), netlink's connection (ends with the loop), and one task for each
//! [`Lane`](crate::frames::Lane) (aborted when its addresses or its interface go).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::FutureExt as _;
use ipnet::IpNet;
use landfall_wire::MacAddr;
use tokio::sync::{oneshot, watch};

use crate::announce::{Announcer, Event};
use crate::desired::{Announced, Desired};
use crate::frames::Lane;
use crate::links::{InterfaceFilter, Links, Placed, Placement};
use crate::netlink::Netlink;
use crate::packet_socket::Protocol;
use crate::respond::Owned;
use crate::wire_metrics::WireMetrics;

/// How soon a socket that could not be opened, or a group that could not be joined, is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Pieces of news that are taken together before the sockets follow: hundreds come at once when a node starts its Pods.
const NEWS_AT_ONCE: usize = 256;

/// How the wire half is to behave.
#[derive(Clone, Debug, Default)]
pub struct WireSettings {
    /// The interfaces that may be used.
    pub interfaces: InterfaceFilter,
}

/// The running thread. Dropping it lets the thread run on; it ends when the sender of `desired` is dropped.
#[derive(Debug)]
pub struct WireThread {
    ready: watch::Receiver<bool>,
    networks: watch::Receiver<BTreeSet<IpNet>>,
    outcome: oneshot::Receiver<anyhow::Result<()>>,
    thread: JoinHandle<()>,
}

impl WireThread {
    /// Waits until the interfaces are known and the first `desired` is in force.
    ///
    /// # Errors
    /// When the thread ended before; [`finished`](Self::finished) says why.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        self.ready.wait_for(|ready| *ready).await.context("the wire thread ended before it was ready")?;
        Ok(())
    }

    /// The networks of the interfaces that may be used now; empty before the thread is [`ready`](Self::ready).
    pub fn networks(&self) -> watch::Receiver<BTreeSet<IpNet>> {
        self.networks.clone()
    }

    /// Waits for the end of the thread: for ever while all is well and the sender of `desired` lives.
    ///
    /// # Errors
    /// Why the thread could not go on.
    pub async fn finished(self) -> anyhow::Result<()> {
        let outcome = self.outcome.await;
        // It has said its last word, so this does not block for long.
        if self.thread.join().is_err() {
            anyhow::bail!("the wire thread panicked");
        }
        outcome.context("the wire thread ended without a word")?
    }
}

/// Starts the thread, in the network namespace of the calling thread. `desired` goes in, what is answered comes out of
/// `announced`. Ends when the sender of `desired` is dropped; nothing is answered from then on.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    settings: WireSettings,
    desired: watch::Receiver<Arc<Desired>>,
    announced: watch::Sender<Arc<Announced>>,
    metrics: WireMetrics,
) -> anyhow::Result<WireThread> {
    let (ready_sender, ready) = watch::channel(false);
    let (networks_sender, networks) = watch::channel(BTreeSet::new());
    let (outcome_sender, outcome) = oneshot::channel();
    let body = move || {
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the wire thread")
            .and_then(|runtime| {
                let wire = Wire::new(settings, announced, networks_sender, metrics);
                runtime.block_on(wire.run(desired, &ready_sender))
            });
        // The receiver may be gone: then nobody wants to know.
        let _ = outcome_sender.send(result);
    };
    let thread =
        std::thread::Builder::new().name("wire".to_owned()).spawn(body).context("cannot start the wire thread")?;
    Ok(WireThread { ready, networks, outcome, thread })
}

/// A lane by its interface's index and its protocol.
type LaneKey = (u32, Protocol);

/// What the thread holds.
struct Wire {
    links: Links,
    lanes: BTreeMap<LaneKey, Lane>,
    /// What the lanes were last told.
    placement: Placement,
    announcer: Announcer,
    announced: watch::Sender<Arc<Announced>>,
    networks: watch::Sender<BTreeSet<IpNet>>,
    metrics: WireMetrics,
    /// Something could not be opened; try again then.
    retry_at: Option<Instant>,
}

impl Wire {
    fn new(
        settings: WireSettings,
        announced: watch::Sender<Arc<Announced>>,
        networks: watch::Sender<BTreeSet<IpNet>>,
        metrics: WireMetrics,
    ) -> Self {
        Self {
            links: Links::new(settings.interfaces),
            lanes: BTreeMap::new(),
            placement: Placement::new(),
            announcer: Announcer::default(),
            announced,
            networks,
            metrics,
            retry_at: None,
        }
    }

    async fn run(
        mut self,
        mut desired: watch::Receiver<Arc<Desired>>,
        ready: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        let mut netlink = Netlink::open()?;
        self.links.apply(netlink.next().await?); // all interfaces
        loop {
            let wanted = Arc::clone(&desired.borrow_and_update());
            self.follow(&wanted, Instant::now());
            let networks = self.links.networks();
            self.networks.send_if_modified(|told| std::mem::replace(told, networks.clone()) != networks);
            ready.send_replace(true);
            loop {
                let wake_at = self.announcer.next_due().into_iter().chain(self.retry_at).min();
                tokio::select! {
                    changed = desired.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    event = netlink.next() => {
                        self.links.apply(event?);
                        for _ in 1..NEWS_AT_ONCE {
                            let Some(event) = netlink.next().now_or_never() else { break };
                            self.links.apply(event?);
                        }
                        break;
                    }
                    () = sleep_until(wake_at) => {
                        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
                            break;
                        }
                        self.announce(Event::Tick, Instant::now());
                    }
                }
            }
        }
    }

    /// Brings lanes, schedule and report in line with what is wanted and with the interfaces as they are.
    fn follow(&mut self, desired: &Desired, now: Instant) {
        self.retry_at = None;
        let wanted = self.links.place(desired);
        let before = lane_tables(&self.placement);
        let after = lane_tables(&wanted);
        self.log_interfaces(&wanted);
        // First the withdrawals: an address that moves to another interface is never answered on both.
        for (key, was) in &before {
            let stays = after.get(key);
            if stays.is_none() {
                self.lanes.remove(key);
            }
            let gone = was.addresses.iter().filter(|ip| !stays.is_some_and(|stays| stays.addresses.contains(ip)));
            let gone: BTreeSet<IpAddr> = gone.copied().collect();
            if !gone.is_empty() {
                self.announce(Event::Stop(key.0, gone), now);
            }
        }
        for (key, wanted) in after {
            let was = self.lanes.contains_key(&key).then(|| before.get(&key)).flatten();
            if was == Some(&wanted) {
                continue;
            }
            let moved = was.is_none_or(|was| was.mac != wanted.mac);
            let fresh =
                wanted.addresses.iter().filter(|ip| moved || !was.is_some_and(|was| was.addresses.contains(ip)));
            let fresh: BTreeSet<IpAddr> = fresh.copied().collect();
            if self.serve(key, wanted, now) && !fresh.is_empty() {
                self.announce(Event::Start(key.0, fresh), now);
            }
        }
        self.forget_counters(desired);
        self.placement = wanted;
        self.report(desired);
    }

    /// Opens the lane or tells it what it answers for; `false` when it does not stand, and is to be tried again.
    fn serve(&mut self, key: LaneKey, owned: Owned, now: Instant) -> bool {
        let (interface, protocol) = key;
        let result = match self.lanes.get_mut(&key) {
            Some(lane) => lane.own(owned),
            None => Lane::open(interface, protocol, owned, &self.metrics).map(|lane| {
                self.lanes.insert(key, lane);
            }),
        };
        if let Err(error) = result {
            tracing::warn!(interface, protocol = protocol.name(), %error, "cannot serve an interface; trying again");
            self.lanes.remove(&key);
            self.retry_at = Some(now + RETRY);
            return false;
        }
        true
    }

    fn announce(&mut self, event: Event, now: Instant) {
        for batch in self.announcer.handle(event, now) {
            let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = batch.addresses.into_iter().partition(IpAddr::is_ipv4);
            for (protocol, addresses) in [(Protocol::Arp, v4), (Protocol::Ndp, v6)] {
                if let Some(lane) = self.lanes.get(&(batch.interface, protocol)).filter(|_| !addresses.is_empty()) {
                    lane.announce(addresses);
                }
            }
        }
    }

    /// The series of an address end when it is no longer wanted here. (While it merely waits for an interface, they stay.)
    fn forget_counters(&self, desired: &Desired) {
        for ip in self.announced.borrow().addresses.keys() {
            if !desired.addresses.contains_key(ip) {
                self.metrics.forget(*ip);
            }
        }
    }

    /// Says where each wanted address is answered, if that changed.
    fn report(&self, desired: &Desired) {
        let mut addresses: BTreeMap<IpAddr, BTreeSet<String>> =
            desired.addresses.keys().map(|ip| (*ip, BTreeSet::new())).collect();
        for (interface, placed) in &self.placement {
            for ip in &placed.addresses {
                if self.lanes.contains_key(&(*interface, protocol_of(*ip))) {
                    addresses.entry(*ip).or_default().insert(placed.name.clone());
                }
            }
        }
        self.announced.send_if_modified(|announced| {
            let changed = announced.addresses != addresses;
            if changed {
                *announced = Arc::new(Announced { addresses });
            }
            changed
        });
    }

    fn log_interfaces(&self, wanted: &Placement) {
        let told = |placed: Option<&Placed>| placed.map(|placed| (placed.name.clone(), placed.mac));
        for (index, placed) in wanted {
            if told(self.placement.get(index)) != told(Some(placed)) {
                let (interface, mac) = (&placed.name, placed.mac);
                tracing::info!(interface, %mac, addresses = placed.addresses.len(), "answering on an interface");
            }
        }
        for (index, placed) in &self.placement {
            if !wanted.contains_key(index) {
                tracing::info!(interface = placed.name, "no longer answering on an interface");
            }
        }
    }
}

async fn sleep_until(wake_at: Option<Instant>) {
    match wake_at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn protocol_of(ip: IpAddr) -> Protocol {
    if ip.is_ipv4() { Protocol::Arp } else { Protocol::Ndp }
}

/// What each lane is to answer for.
fn lane_tables(placement: &Placement) -> BTreeMap<LaneKey, Owned> {
    let mut tables: BTreeMap<LaneKey, Owned> = BTreeMap::new();
    for (interface, placed) in placement {
        let empty = |mac: MacAddr| Owned { mac, addresses: BTreeSet::new() };
        for ip in &placed.addresses {
            let table = tables.entry((*interface, protocol_of(*ip))).or_insert_with(|| empty(placed.mac));
            table.addresses.insert(*ip);
        }
    }
    tables
}
