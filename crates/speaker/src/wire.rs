//! What the wire thread holds, and its loop: interfaces, sockets, the schedule of announcements, membership.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use ipnet::IpNet;
use landfall_membership::{View, WireCheck};
use landfall_runtime::{publish, timer};
use tokio::sync::{mpsc, watch};

use crate::announce::{Announce, Announcer, Event, Manner};
use crate::desired::{Announced, Answers, Desired, Interfaces};
use crate::frames::{Lane, Unasked};
use crate::handing_over::HandingOver;
use crate::inspection::Inspection;
use crate::ipvs::Held;
use crate::keep_connections::KeepConnections;
use crate::links::{Links, Placed, Placement};
use crate::liveness::{Liveness, Moves, News, Next};
use crate::netlink::Netlink;
use crate::ownership::{self, Ownership};
use crate::packet_socket::Protocol;
use crate::probation::{Probation, TRY_AGAIN};
use crate::respond::Owned;
use crate::rivals::{ASKED_FOR, Claimed, Rivals};
use crate::tables::{LaneKey, cover, lane_tables, look_after, protocol_of, table};
use crate::unheard::{Remedy, Unheard};
use crate::wire_metrics::WireMetrics;
use crate::wire_thread::WireSettings;

/// How soon a socket that could not be opened, or a group that could not be joined, is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the gateway is looked up besides, since its changes are no news of interfaces.
const LOOK_FOR_GATEWAY: Duration = Duration::from_secs(60);
/// Pieces of news that are taken together before the sockets follow: hundreds come at once when a node starts its Pods.
const NEWS_AT_ONCE: usize = 256;

/// Claims of others that wait to be looked at; they are repeated.
const CLAIMS_AT_ONCE: usize = 256;
/// What the thread tells.
pub(crate) struct Reports {
    pub(crate) announced: watch::Sender<Arc<Announced>>,
    pub(crate) networks: watch::Sender<BTreeSet<IpNet>>,
    pub(crate) held_by_ipvs: watch::Sender<Option<Held>>,
}

/// What the thread holds.
pub(crate) struct Wire {
    node: Arc<str>,
    links: Links,
    liveness: Option<Liveness>,
    /// Every network that a usable interface was in since the start.
    networks_seen: BTreeSet<IpNet>,
    ownership: Ownership,
    /// What others say to have of ours.
    claims: (mpsc::Sender<Claimed>, mpsc::Receiver<Claimed>),
    rivals: Rivals,
    probation: Probation,
    handing_over: HandingOver,
    keep_connections: Option<KeepConnections>,
    /// Whether others answer for what is theirs, and where we ask for it; and whether others hear us.
    inspection: Inspection,
    looked_after: Placement,
    unheard: Unheard,
    /// The gateway, and the interface towards it.
    gateway: Option<(u32, Ipv4Addr)>,
    lanes: BTreeMap<LaneKey, Lane>,
    /// What the lanes were last told.
    tables: BTreeMap<LaneKey, Owned>,
    /// Where our own addresses are.
    placement: Placement,
    announcer: Announcer,
    reports: Reports,
    metrics: WireMetrics,
    /// Something could not be opened; try again then.
    retry_at: Option<Instant>,
}

impl Wire {
    pub(crate) fn new(settings: WireSettings, reports: Reports, metrics: WireMetrics) -> anyhow::Result<Self> {
        let open = |inputs| Liveness::open(Arc::clone(&settings.node), inputs);
        Ok(Self {
            liveness: settings.liveness.clone().map(open).transpose()?,
            keep_connections: settings.keep_connections.map(KeepConnections::start).transpose()?,
            node: settings.node,
            links: Links::new(settings.interfaces),
            networks_seen: BTreeSet::new(),
            ownership: Ownership::default(),
            claims: mpsc::channel(CLAIMS_AT_ONCE),
            rivals: Rivals::default(),
            probation: Probation::default(),
            handing_over: HandingOver::default(),
            inspection: Inspection::new(settings.refresh, Instant::now()),
            looked_after: Placement::new(),
            unheard: Unheard::default(),
            gateway: None,
            lanes: BTreeMap::new(),
            tables: BTreeMap::new(),
            placement: Placement::new(),
            announcer: Announcer::new(settings.refresh),
            reports,
            metrics,
            retry_at: None,
        })
    }

    /// Until the sender of `desired` is gone, or what this speaker owned is handed over.
    pub(crate) async fn run(
        mut self,
        mut desired: watch::Receiver<Arc<Desired>>,
        ready: &watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        let mut netlink = Netlink::open()?;
        self.links.apply(netlink.next().await?); // all interfaces
        self.links_changed();
        let mut look_for_gateway_at = Instant::now();
        loop {
            if look_for_gateway_at <= Instant::now() {
                self.gateway = netlink.gateway().await;
                look_for_gateway_at = Instant::now() + LOOK_FOR_GATEWAY;
            }
            let wanted = Arc::clone(&desired.borrow_and_update());
            self.follow(&wanted, Instant::now());
            self.say_when(ready);
            loop {
                let timers = [
                    self.announcer.next_due(),
                    self.probation.next_due(),
                    self.handing_over.next_due(),
                    self.keep_connections.as_ref().and_then(KeepConnections::next_due),
                    self.rivals.next_due(),
                    self.inspection.next_due(),
                    self.unheard.next_due(),
                    self.retry_at,
                ];
                let wake_at = timers.into_iter().flatten().chain([look_for_gateway_at]).min();
                tokio::select! {
                    news = news(&mut self.liveness) => {
                        if self.live(news, &wanted, Instant::now()) {
                            return Ok(());
                        }
                        self.say_when(ready);
                    }
                    Some(claimed) = self.claims.1.recv() => {
                        let now = Instant::now();
                        let mut handed_over = self.contest(claimed, &wanted, now);
                        // Many come at once when many addresses move.
                        while let Ok(claimed) = self.claims.1.try_recv() {
                            handed_over |= self.contest(claimed, &wanted, now);
                        }
                        if handed_over {
                            self.serve_all(&wanted, Moves::Unplanned, now);
                        }
                    }
                    () = rules(&mut self.keep_connections) => {
                        if self.keep_connections.as_mut().is_some_and(KeepConnections::are_in_force) {
                            self.serve_all(&wanted, Moves::Unplanned, Instant::now());
                        }
                    }
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
                        self.links_changed();
                        look_for_gateway_at = Instant::now();
                        break;
                    }
                    () = timer::sleep_until(wake_at) => {
                        let now = Instant::now();
                        self.announce(Event::Tick, now);
                        self.look_after(now);
                        let kept = self.keep_connections.as_mut().is_some_and(|keep| keep.tick(now));
                        let changed = self.probe(now) | self.handing_over.tick(now) | kept;
                        let words = [self.rivals.next_due(), self.unheard.next_due()];
                        if words.into_iter().flatten().any(|at| at <= now) {
                            self.report(now);
                        }
                        let looks = [self.retry_at, Some(look_for_gateway_at)];
                        if changed || looks.into_iter().flatten().any(|at| at <= now) {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn say_when(&mut self, ready: &watch::Sender<bool>) {
        let known = self.liveness.as_mut().is_none_or(|liveness| liveness.membership().is_some());
        ready.send_if_modified(|ready| known && !std::mem::replace(ready, true));
    }

    fn links_changed(&mut self) {
        let networks = self.links.networks();
        self.networks_seen.extend(networks.iter().copied());
        publish::if_changed(&self.reports.networks, networks);
        if let Some(liveness) = &mut self.liveness {
            liveness.set_links(&self.links, Instant::now());
        }
    }

    /// Takes news of the members; says whether we may end.
    fn live(&mut self, news: News, desired: &Desired, now: Instant) -> bool {
        if let Some(liveness) = &mut self.liveness {
            liveness.take(news, now);
        }
        self.carry_out(desired, now)
    }

    /// Does what membership wants done, in its order; says whether we may end.
    fn carry_out(&mut self, desired: &Desired, now: Instant) -> bool {
        loop {
            match self.liveness.as_mut().map_or(Next::Wait, Liveness::next) {
                Next::Elect(moves) => self.serve_all(desired, moves, now),
                Next::Checked(checks) => self.checked(checks, now),
                Next::HandedOver => return true,
                Next::Wait => return false,
            }
        }
    }

    /// Somebody else says to have an address. A peer with the better right gets it; a stranger is told about, and told off. Returns
    /// whether it is the next owner of one that we were still answering for.
    fn contest(&mut self, claimed: Claimed, desired: &Desired, now: Instant) -> bool {
        let Claimed { ip, mac, interface } = claimed;
        if self.links.has_mac(mac) {
            return false; // two interfaces of ours on one segment
        }
        if self.handing_over.heard(ip, now) {
            return true;
        }
        if !self.ownership.owned.contains(&ip) {
            self.rivals.forget(ip);
            self.hear_of_another(claimed, now);
            return false;
        }
        if let Some(liveness) = &mut self.liveness
            && liveness.heard_owner(ip, mac, interface, now)
        {
            self.rivals.forget(ip);
            self.carry_out(desired, now);
            return false;
        }
        let finding = self.rivals.heard(claimed, now);
        if let Some(liveness) = self.liveness.as_mut().filter(|_| finding.ask) {
            liveness.ask_all();
        }
        let on_trial = self.probation.holds(ip);
        let pause = if self.rivals.is_stranger(ip) { TRY_AGAIN } else { ASKED_FOR };
        self.probation.is_taken(ip, pause, now);
        if finding.new {
            let way_out = "take the address from it, or out of the pool";
            tracing::warn!(%ip, %mac, interface, on_trial, way_out, "a machine that is no node of ours has an address of ours");
            self.metrics.conflict(ip);
            self.report(now);
        }
        if finding.defend && !on_trial {
            self.say(interface, &Unasked::Announce(Manner::Repeat, BTreeSet::new()), vec![ip]);
        }
        false
    }

    /// Asks for addresses of others that we look after, and tells their owners what is amiss.
    fn look_after(&mut self, now: Instant) {
        let looks = self.inspection.tick(now);
        for (interface, placed) in &self.looked_after {
            let here: Vec<IpAddr> = looks.ask.iter().filter(|ip| placed.addresses.contains(ip)).copied().collect();
            self.say(*interface, &Unasked::Check, here);
        }
        for (owner, check) in looks.tell {
            self.tell_owner(&owner, check, now);
        }
    }

    /// Somebody has an address that is not ours. If we look after it just now, it is to be its owner.
    fn hear_of_another(&mut self, claimed: Claimed, now: Instant) {
        let Claimed { ip, mac, interface } = claimed;
        let Some(liveness) = &mut self.liveness else { return };
        let Some(owner) = self.inspection.asks_for(ip) else { return };
        // Where nothing is known of its MAC address, it may be the owner's.
        let is_owner = liveness.mac(owner, interface).is_none_or(|known| known == mac);
        if let Some((owner, check)) = self.inspection.heard(ip, is_owner, now) {
            self.tell_owner(&owner, check, now);
        }
    }

    fn tell_owner(&mut self, owner: &str, check: WireCheck, now: Instant) {
        let WireCheck { address: ip, finding } = check;
        tracing::info!(%ip, owner, ?finding, "asked for another node's address on the wire");
        self.metrics.checked(finding);
        if let Some(liveness) = &mut self.liveness {
            liveness.tell_owner(owner, check, now);
        }
    }

    /// Others have looked after addresses of ours, and something is amiss, or no more.
    fn checked(&mut self, checks: Vec<(Arc<str>, WireCheck)>, now: Instant) {
        let mut anew: BTreeMap<LaneKey, (Remedy, BTreeSet<IpAddr>)> = BTreeMap::new();
        for (by, check) in checks {
            let WireCheck { address: ip, finding } = check;
            if !self.ownership.owned.contains(&ip) || self.probation.holds(ip) {
                continue;
            }
            tracing::warn!(%ip, %by, ?finding, "another node has asked on the wire for an address of ours");
            let remedy = self.unheard.note(by, check, now);
            let here = self.tables.iter().filter(|(_, table)| table.addresses.contains(&ip));
            for (key, _) in here.filter(|_| remedy != Remedy::Nothing) {
                let (strongest, addresses) = anew.entry(*key).or_insert((remedy, BTreeSet::new()));
                *strongest = remedy.max(*strongest);
                addresses.insert(ip);
            }
        }
        for (key, (remedy, addresses)) in anew {
            let Some(table) = self.tables.get(&key).cloned() else { continue };
            if remedy != Remedy::Reopen || self.open(key, table, now) {
                self.announce(Event::Start(key.0, addresses), now);
            }
        }
        self.report(now);
    }

    /// Asks for addresses on trial, where they would be announced; says whether any has passed.
    fn probe(&mut self, now: Instant) -> bool {
        let due = self.probation.tick(now);
        for (interface, placed) in &self.placement {
            let here: Vec<IpAddr> = due.probe.iter().filter(|ip| placed.addresses.contains(ip)).copied().collect();
            self.say(*interface, &Unasked::Probe, here);
        }
        due.passed
    }

    /// Brings everything in line with what is wanted and with the interfaces as they are.
    fn follow(&mut self, desired: &Desired, now: Instant) {
        if let Some(liveness) = &mut self.liveness {
            let named = desired.addresses.values().filter_map(|wanted| match &wanted.interfaces {
                Interfaces::Named(names) => Some(names),
                Interfaces::All => None,
            });
            let named = named.flatten().map(String::as_str).collect();
            liveness.set_down(self.links.down(&named, &self.networks_seen), now);
        }
        publish::if_changed(&self.reports.held_by_ipvs, self.links.held_by_ipvs(desired.addresses.keys()));
        self.serve_all(desired, Moves::Planned, now);
        self.carry_out(desired, now);
    }

    /// Brings lanes, schedule and report in line with who owns what.
    fn serve_all(&mut self, desired: &Desired, moves: Moves, now: Instant) {
        self.retry_at = None;
        let ownership = self.elect(desired, now);
        if self.is_known(desired) {
            let addresses = &desired.addresses;
            self.probation.follow(addresses.keys(), |ip| addresses.contains_key(ip), &ownership.owned, now);
        }
        self.pass_on(&ownership, now);
        let owned = desired.addresses.iter().filter(|(ip, _)| ownership.owned.contains(*ip) && !self.waits(**ip));
        let placement = self.links.place(owned.map(|(ip, wanted)| (ip, &wanted.interfaces)));
        let covered = desired.addresses.iter().filter(|(ip, _)| ownership.covered.contains_key(*ip));
        let covered = self.links.place(covered.map(|(ip, wanted)| (ip, &wanted.interfaces)));
        let looked_after = desired.addresses.iter().filter(|(ip, _)| ownership.looked_after.contains_key(*ip));
        self.looked_after = self.links.place(looked_after.map(|(ip, wanted)| (ip, &wanted.interfaces)));
        self.inspection.follow(&ownership.looked_after, now);
        self.hand_over(desired, &ownership, moves, now);
        let mut tables = lane_tables(&placement, &self.probation);
        for (interface, mac, _) in self.links.segments() {
            let going = self.handing_over.going().filter(|(_, on)| on.contains(&interface));
            for (ip, _) in going {
                table(&mut tables, (interface, protocol_of(ip)), mac).handed_over.insert(ip);
            }
        }
        look_after(&mut tables, &self.looked_after);
        if let Some(liveness) = &mut self.liveness {
            cover(&mut tables, &covered, &ownership, |node, interface| liveness.mac(node, interface));
        }
        self.log_interfaces(&placement);
        self.log_ownership(&ownership);
        let before = std::mem::take(&mut self.tables);
        // First the withdrawals: an address that moves to another interface is never answered on both.
        for (key, was) in &before {
            let stays = tables.get(key);
            if stays.is_none() {
                self.lanes.remove(key);
            }
            let gone = was.addresses.iter().filter(|ip| !stays.is_some_and(|stays| stays.addresses.contains(ip)));
            let gone: BTreeSet<IpAddr> = gone.copied().collect();
            if !gone.is_empty() {
                self.announce(Event::Stop(key.0, gone), now);
            }
        }
        for (key, wanted) in &tables {
            let was = self.lanes.contains_key(key).then(|| before.get(key)).flatten();
            if was == Some(wanted) {
                continue;
            }
            let moved = was.is_none_or(|was| was.mac != wanted.mac);
            let fresh =
                wanted.addresses.iter().filter(|ip| moved || !was.is_some_and(|was| was.addresses.contains(ip)));
            let fresh: BTreeSet<IpAddr> = fresh.copied().collect();
            if self.serve(*key, wanted.clone(), now) && !fresh.is_empty() {
                self.announce(Event::Start(key.0, fresh), now);
            }
        }
        self.forget_counters(desired);
        self.tables = tables;
        self.placement = placement;
        self.ownership = ownership;
        self.report(now);
    }

    /// What was ours and is another's by the configuration is answered for until that one is heard.
    fn hand_over(&mut self, desired: &Desired, after: &Ownership, moves: Moves, now: Instant) {
        let is_elsewhere =
            |ip: &IpAddr| desired.others.contains(ip) || after.elsewhere.get(ip).is_some_and(Option::is_some);
        self.handing_over.retain(is_elsewhere);
        if moves == Moves::Unplanned {
            return;
        }
        for ip in self.ownership.owned.difference(&after.owned).filter(|ip| is_elsewhere(ip)) {
            let here = self.tables.iter().filter(|(_, table)| table.addresses.contains(ip));
            self.handing_over.begin(*ip, here.map(|((interface, _), _)| *interface).collect(), now);
        }
    }

    /// Connections of addresses that become ours live on where they are.
    fn pass_on(&mut self, after: &Ownership, now: Instant) {
        let (Some(keep), Some(liveness)) = (&mut self.keep_connections, &mut self.liveness) else { return };
        let Some(membership) = liveness.membership() else { return };
        let attached = self.links.attached();
        let on_link = |ip: IpAddr| attached.iter().any(|network| network.up && network.network.contains(&ip));
        keep.follow(&self.ownership, after, |node| membership.view(node).is_some_and(View::forwards), on_link, now);
    }

    /// Whether the address is ours and not to be used yet.
    fn waits(&self, ip: IpAddr) -> bool {
        self.keep_connections.as_ref().is_some_and(|keep| keep.waits(ip))
    }

    /// Whether it is known who owns what: before that no address can be told to be new.
    fn is_known(&mut self, desired: &Desired) -> bool {
        match &mut self.liveness {
            Some(liveness) => liveness.membership().is_some(),
            None => !desired.addresses.is_empty(),
        }
    }

    fn elect(&mut self, desired: &Desired, now: Instant) -> Ownership {
        let hands_over = self.liveness.as_ref().is_some_and(Liveness::hands_over);
        let membership = match &mut self.liveness {
            None => None,
            Some(liveness) => match liveness.membership() {
                Some(membership) => Some(membership),
                None => return Ownership::default(), // not known yet: nothing is said either
            },
        };
        ownership::decide(&self.node, desired, membership, &self.networks_seen, &self.ownership, hands_over, now)
    }

    /// Opens the lane or tells it what it answers for; `false` when it does not stand, and is to be tried again.
    fn serve(&mut self, key: LaneKey, owned: Owned, now: Instant) -> bool {
        match self.lanes.get_mut(&key) {
            Some(lane) => {
                let told = lane.own(owned);
                self.stands(key, told, now)
            }
            None => self.open(key, owned, now),
        }
    }

    /// Opens the lane, in place of one that there may be, which answers until then; as [`serve`](Self::serve).
    fn open(&mut self, key: LaneKey, owned: Owned, now: Instant) -> bool {
        let lane = Lane::open(key.0, key.1, owned, &self.claims.0, &self.metrics);
        let opened = lane.map(|lane| drop(self.lanes.insert(key, lane)));
        self.stands(key, opened, now)
    }

    fn stands(&mut self, key: LaneKey, done: io::Result<()>, now: Instant) -> bool {
        let Err(error) = done else { return true };
        let (interface, protocol) = key;
        tracing::warn!(interface, protocol = protocol.name(), %error, "cannot serve an interface; trying again");
        self.lanes.remove(&key);
        self.retry_at = Some(now + RETRY);
        false
    }

    fn announce(&mut self, event: Event, now: Instant) {
        for Announce { interface, manner, addresses } in self.announcer.handle(event, now) {
            let gateway = self.gateway.filter(|(towards, _)| *towards == interface);
            let neighbours = gateway.into_iter().map(|(_, gateway)| gateway.into()).collect();
            self.say(interface, &Unasked::Announce(manner, neighbours), addresses);
        }
    }

    /// Says this of each of the addresses on the interface.
    fn say(&self, interface: u32, what: &Unasked, addresses: Vec<IpAddr>) {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        for (protocol, addresses) in [(Protocol::Arp, v4), (Protocol::Ndp, v6)] {
            if let Some(lane) = self.lanes.get(&(interface, protocol)).filter(|_| !addresses.is_empty()) {
                lane.say(what.clone(), addresses);
            }
        }
    }

    /// The series of an address end when it is no longer wanted here. (While it merely waits for an interface, they stay.)
    fn forget_counters(&self, desired: &Desired) {
        for ip in self.reports.announced.borrow().addresses.keys() {
            if !desired.addresses.contains_key(ip) {
                self.metrics.forget(*ip);
            }
        }
    }

    /// Says who answers for each address and where, if that changed.
    fn report(&mut self, now: Instant) {
        let Ownership { owned, elsewhere, .. } = &self.ownership;
        let mut addresses: BTreeMap<IpAddr, Answers> =
            elsewhere.iter().map(|(ip, owner)| (*ip, Answers::Elsewhere(owner.clone()))).collect();
        // What is on trial is not looked at yet.
        let in_use = owned.iter().filter(|ip| !self.probation.holds(**ip) && !self.waits(**ip));
        let mut here: BTreeMap<IpAddr, BTreeSet<String>> = in_use.map(|ip| (*ip, BTreeSet::new())).collect();
        for (interface, placed) in &self.placement {
            for ip in &placed.addresses {
                if let Some(interfaces) = here.get_mut(ip)
                    && self.lanes.contains_key(&(*interface, protocol_of(*ip)))
                {
                    interfaces.insert(placed.name.clone());
                }
            }
        }
        addresses.extend(here.into_iter().map(|(ip, interfaces)| (ip, Answers::Here(interfaces))));
        let mut conflicts = self.rivals.strangers(now);
        conflicts.retain(|ip, _| self.ownership.owned.contains(ip));
        let unheard = self.unheard.lasting(|ip| self.ownership.owned.contains(ip), now);
        publish::if_changed(&self.reports.announced, Arc::new(Announced { addresses, conflicts, unheard }));
    }

    fn log_ownership(&self, ownership: &Ownership) {
        let (before, after) = (&self.ownership, ownership);
        let taken = after.owned.difference(&before.owned).count();
        let given = before.owned.difference(&after.owned).count();
        if taken + given > 0 || before.covered.len() != after.covered.len() {
            let (owned, covered) = (after.owned.len(), after.covered.len());
            tracing::info!(taken, given, owned, covered, "this node answers for other addresses than before");
        }
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

/// For ever where connections are not kept.
async fn rules(keep_connections: &mut Option<KeepConnections>) {
    match keep_connections {
        Some(keep) => keep.changed().await,
        None => std::future::pending().await,
    }
}

/// For ever where speakers do not watch each other.
async fn news(liveness: &mut Option<Liveness>) -> News {
    match liveness {
        Some(liveness) => liveness.news().await,
        None => std::future::pending().await,
    }
}
