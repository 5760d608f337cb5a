//! The cluster as the controller knows it. Pure: [`Event`]s in, [`Write`]s out, time as a value.
//!
//! Allocation is a global question, so one model answers it for all Services. Nothing is decided before every first list
//! is complete and every address that a Service holds is entered in the books.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use landfall_api::{BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement};
use landfall_config::{Config, Labels, Loader, Problem, Resources};
use landfall_ipam::{Ipam, ServiceKey};
use landfall_runtime::events;
use landfall_runtime::settling::Settling;
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change;
use serde_json::Value;

use crate::contest::{Contested, Contests};
use crate::converge::{InForce, Outcome, adopt, converge, same};
use crate::placement::{Node, Place, Placements};
use crate::queue::Queue;
use crate::report::Kind;
use crate::service::Service;
use crate::watch::Event;
use crate::{patch, status_event};

/// Counters of pools follow the allocations after this pause, so that a burst of Services costs few writes.
const REPORT_PAUSE: Duration = Duration::from_millis(500);

/// Now, on both clocks: the one that only runs forward, for waiting, and the one that people read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For what is due.
    pub instant: Instant,
    /// For what is written down.
    pub wall: Timestamp,
}

/// One write to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// What is patched.
    pub target: Target,
    /// The patch of its `/status`.
    pub patch: Value,
    /// What to say once it is written.
    pub events: Vec<events::Event>,
    outcome: Option<Outcome>,
}

/// The object that a [`Write`] patches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A Service, by strategic merge.
    Service(ServiceKey),
    /// A configuration object in our namespace, by merge.
    Object(Kind, String),
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done; the object's resourceVersion after it.
    Done(String),
    /// The object is gone, or is not any more what it was when this was decided: the watch will tell.
    Gone,
    /// It did not work this time.
    Failed,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Model {
    services: Table<ServiceKey, Box<Service>>,
    namespaces: Table<String, Labels>,
    nodes: Table<String, Node>,
    /// The networks that each node is in.
    networks: Table<String, Vec<IpNet>>,
    pools: Table<String, IPAddressPool>,
    advertisements: Table<String, L2Advertisement>,
    bgp_peers: Table<String, BGPPeer>,
    bgp_advertisements: Table<String, BGPAdvertisement>,
    bfd_profiles: Table<String, BFDProfile>,
    communities: Table<String, Community>,
    loader: Loader,
    ipam: Ipam,
    ready: bool,
    queue: Queue,
    /// Services that want more than they have: looked at again when somebody gives something back.
    waiting: BTreeSet<ServiceKey>,
    placements: Placements,
    /// Services with an address and without a placement, because no node may answer for them.
    unplaced: BTreeMap<ServiceKey, Place>,
    contests: Contests,
    /// Edits of what decides about every Service.
    edits: Settling,
    /// Services that would lose an address by the edits made so far.
    threatened: BTreeSet<ServiceKey>,
    /// What is still to be said of Services whose write failed.
    unsaid: BTreeMap<ServiceKey, Vec<events::Event>>,
    /// When the objects' status is to be compared with what we know.
    report_due: Option<Instant>,
    /// The one report that is under way.
    reporting: bool,
}

impl Model {
    /// Takes what changed. Decides nothing yet: ask [`next`](Self::next) afterwards.
    /// Says whether the [`problems`](Self::problems) of the configuration are others than before.
    pub fn apply(&mut self, event: Event, now: Instant) -> bool {
        let problems_changed = match event {
            Event::Service(change) => {
                self.apply_service(change, now);
                false
            }
            Event::Namespace(change) => {
                // Labels of a Namespace decide which pools its Services may use.
                if !self.namespaces.apply(change).is_empty() && self.ready {
                    self.edits.edited(now);
                    self.queue_all();
                }
                false
            }
            Event::Node(change) => self.apply_node(change) && !self.bgp_peers.entries().is_empty() && self.reload(now),
            Event::Networks(change) => {
                // What is placed stays; who comes from now on is placed by what is known then.
                self.networks.apply(change);
                false
            }
            Event::Pool(change) => !self.pools.apply(change).is_empty() && self.reload(now),
            Event::L2Advertisement(change) => !self.advertisements.apply(change).is_empty() && self.reload(now),
            Event::BgpPeer(change) => !self.bgp_peers.apply(change).is_empty() && self.reload(now),
            Event::BgpAdvertisement(change) => !self.bgp_advertisements.apply(change).is_empty() && self.reload(now),
            Event::BfdProfile(change) => !self.bfd_profiles.apply(change).is_empty() && self.reload(now),
            Event::Community(change) => !self.communities.apply(change).is_empty() && self.reload(now),
        };
        let became_ready = !self.ready && self.start(now);
        problems_changed || became_ready && !self.loader.problems().is_empty()
    }

    /// Whether every first list is complete and decisions are made.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The mistakes in the configuration.
    pub fn problems(&self) -> &[Problem] {
        self.loader.problems()
    }

    /// The next write that is due, or nothing. Each Service has at most one write under way.
    pub fn next(&mut self, now: Now) -> Option<Write> {
        if !self.ready {
            return None;
        }
        for key in self.contests.due(now.instant) {
            self.queue.push(key);
        }
        if !self.edits.is_on(now.instant) {
            for key in std::mem::take(&mut self.threatened) {
                self.queue.push(&key);
            }
        }
        while let Some(key) = self.queue.pop(now.instant) {
            if let Some(write) = self.decide(&key, now) {
                self.queue.started(&key);
                return Some(write);
            }
        }
        if !self.reporting && self.report_due.is_some_and(|due| due <= now.instant) {
            let write = self.next_report(now.wall);
            self.reporting = write.is_some();
            if write.is_none() {
                self.report_due = None;
            }
            return write;
        }
        None
    }

    /// When [`next`](Self::next) is to be asked again, though nothing has changed.
    pub fn next_due(&self) -> Option<Instant> {
        let report = self.report_due.filter(|_| !self.reporting);
        let edits = self.edits.until().filter(|_| !self.threatened.is_empty());
        [report, edits, self.queue.next_due(), self.contests.next_due()].into_iter().flatten().min()
    }

    /// How many writes of Services are under way.
    pub fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// A write has ended.
    pub fn written(&mut self, write: &Write, how: &Written, now: Now) {
        match &write.target {
            Target::Object(kind, name) => {
                self.reporting = false;
                if let Written::Done(_) = how {
                    self.take_report(*kind, name, &write.patch);
                } else {
                    self.report_due = Some(now.instant + Duration::from_secs(1));
                }
            }
            Target::Service(key) => {
                if let Written::Done(version) = how {
                    // The watch will say the same in a moment; until then nothing is written twice. If it has said it already,
                    // or something newer, what it said stands: nothing comes between what was patched and the patch.
                    let patched = |field: &str| write.patch["metadata"][field].as_str();
                    if let (Some(service), Some(outcome)) = (self.services.get(key), &write.outcome)
                        && Some(service.uid.as_str()) == patched("uid")
                        && Some(service.resource_version.as_str()) == patched("resourceVersion")
                    {
                        let after = patch::applied(service, outcome, now.wall, version);
                        let kept = outcome.verdict.is_some().then(|| Box::new(after));
                        self.services.apply(Change::Applied((key.clone(), kept)));
                    }
                    self.let_go(key, now.instant);
                    self.queue.succeeded(key);
                } else {
                    if !write.events.is_empty() {
                        self.unsaid.insert(key.clone(), write.events.clone());
                    }
                    self.queue.failed(key, now.instant);
                }
            }
        }
    }

    fn apply_service(&mut self, change: Change<(ServiceKey, Option<Box<Service>>)>, now: Instant) {
        for (key, before) in self.services.apply(change) {
            if !self.ready {
                continue;
            }
            let uid = self.services.get(&key).map(|after| &after.uid);
            let another = uid != before.as_ref().map(|before| &before.uid);
            if another {
                self.release(&key, now);
            }
            self.readopt(&key);
            if !another {
                self.notice_foreign_writer(&key, before.as_deref(), now);
            }
            self.queue.push(&key);
        }
    }

    /// Counts it when somebody else has just written addresses that are not those in the books: over what the Service
    /// holds, or to one that waits, where they will be cleared.
    fn notice_foreign_writer(&mut self, key: &ServiceKey, before: Option<&Service>, now: Instant) {
        let (Some(after), Some(before)) = (self.services.get(key), before) else { return };
        let Some(manager) = after.foreign_writer.as_ref().filter(|_| after.ingress != before.ingress) else { return };
        let held = self.ipam.held(key);
        let ours = if held.is_empty() { after.ingress.is_empty() } else { same(held, &after.ingress_ips()) };
        if !ours {
            self.contests.overwritten(key, manager, now);
        }
    }

    /// What a Service holds it holds on its new terms at once, before anybody else's turn to decide comes; and so it does
    /// what its status shows and nobody else holds.
    /// Says whether there is nothing that it may not keep.
    fn readopt(&mut self, key: &ServiceKey) -> bool {
        let (Some(service), Some(config)) = (self.services.get(key), self.loader.config()) else { return true };
        let mut held = self.ipam.held(key).to_vec();
        if held.is_empty() {
            held = service.ingress_ips();
        }
        let labels = labels_of(&self.namespaces, key);
        let given_up = self.ipam.given_up();
        let kept = adopt(key, service, &held, config, labels, &mut self.ipam);
        if !kept {
            // Until its turn comes it is seen with what it will have to give up.
            let books = self.ipam.held(key);
            let seen: Vec<IpAddr> = service.ingress_ips().into_iter().filter(|ip| !books.contains(ip)).collect();
            self.ipam.set_leaving(key, &seen);
        }
        if self.ipam.given_up() != given_up {
            self.wake();
        }
        kept
    }

    /// Nobody sees the Service any more with what it has given up.
    fn let_go(&mut self, key: &ServiceKey, now: Instant) {
        let given_up = self.ipam.given_up();
        self.ipam.set_leaving(key, &[]);
        if self.ipam.given_up() != given_up {
            self.wake();
            self.report_soon(now);
        }
    }

    /// Decides for one Service; the write, if its status must change.
    fn decide(&mut self, key: &ServiceKey, now: Now) -> Option<Write> {
        let Some(service) = self.services.get(key) else {
            self.waiting.remove(key);
            self.queue.forget(key);
            return None;
        };
        if let Some(contested) = self.contests.verdict(key, service, now.instant) {
            // What somebody else writes there keeps nothing from others.
            self.let_go(key, now.instant);
            return match contested {
                Contested::Say(outcome) => self.write(key, outcome, now),
                Contested::LeaveAlone => None,
            };
        }
        if self.edits.is_on(now.instant) && !self.readopt(key) {
            self.threatened.insert(key.clone());
            return None;
        }
        let service = self.services.get(key)?;
        let namespace_labels = labels_of(&self.namespaces, key);
        let no_config = Config::default();
        let in_force =
            InForce { config: self.loader.config().unwrap_or(&no_config), partial: self.loader.is_partial() };
        let shown = if service.wanted || !self.ipam.held(key).is_empty() { service.ingress_ips() } else { vec![] };
        let (before, given_up) = (self.ipam.held(key).to_vec(), self.ipam.given_up());
        let mut outcome = converge(key, service, in_force, namespace_labels, &mut self.ipam);
        let wants_more = match (&outcome.verdict, &outcome.ingress) {
            (Some(verdict), Some(ips)) => !verdict.allocated || ips.len() < service.cluster_ips.len(),
            _ => false,
        };
        if let Some(ips) = &outcome.ingress {
            outcome.node = self.place(key, ips, &before);
        }
        let stays = outcome.ingress.clone();
        let write = self.write(key, outcome, now);
        let leaving = match (&write, stays) {
            (Some(_), Some(stays)) => shown.into_iter().filter(|ip| !stays.contains(ip)).collect(),
            _ => vec![],
        };
        self.ipam.set_leaving(key, &leaving);
        self.waiting.remove(key);
        if self.ipam.given_up() != given_up {
            self.wake(); // the others: what it gave up itself it has just looked at
        }
        if wants_more {
            self.waiting.insert(key.clone());
        }
        if before != self.ipam.held(key) {
            self.report_soon(now.instant);
        }
        write
    }

    /// The write that turns what stands into `outcome`, if they differ.
    fn write(&mut self, key: &ServiceKey, outcome: Outcome, now: Now) -> Option<Write> {
        let service = self.services.get(key)?;
        let mut events = self.unsaid.remove(key).unwrap_or_default();
        for event in outcome.events.iter().map(|event| status_event::of_service(key, &service.uid, event)) {
            // A write that fails again and again is decided again and again, and has the same to say.
            if !events.contains(&event) {
                events.push(event);
            }
        }
        let patch = patch::service(service, &outcome, now.wall)?;
        Some(Write { target: Target::Service(key.clone()), patch, events, outcome: Some(outcome) })
    }

    /// The Service is new, gone, or another one of the same name, which inherits nothing.
    fn release(&mut self, key: &ServiceKey, now: Instant) {
        self.placements.remove(key);
        self.unplaced.remove(key);
        self.unsaid.remove(key);
        self.contests.forget(key);
        self.let_go(key, now);
        if !self.ipam.release(key).is_empty() {
            self.wake();
            self.report_soon(now);
        }
    }

    fn wake(&mut self) {
        for key in &self.waiting {
            self.queue.wake(key);
        }
    }

    /// What decides about every Service has changed. Whatever a status shows that nobody holds may be in order by it, and
    /// is adopted before anybody's turn comes.
    fn queue_all(&mut self) {
        let keys: Vec<ServiceKey> = self.services.entries().keys().cloned().collect();
        for key in &keys {
            self.readopt(key);
        }
        keys.iter().for_each(|key| self.queue.push(key));
    }

    /// Begins to decide, once every first list is complete: first everybody's addresses are entered in the books.
    fn start(&mut self, now: Instant) -> bool {
        self.ready = self.services.is_complete()
            && self.namespaces.is_complete()
            && self.nodes.is_complete()
            && self.networks.is_complete()
            && self.pools.is_complete()
            && self.advertisements.is_complete()
            && self.bgp_peers.is_complete()
            && self.bgp_advertisements.is_complete()
            && self.bfd_profiles.is_complete()
            && self.communities.is_complete();
        if !self.ready {
            return false;
        }
        self.loader.load(&self.resources());
        for (key, service) in self.services.entries() {
            if let (Some(node), Some(first)) = (&service.placed, service.ingress_ips().first())
                && self.nodes.get(node).is_some()
            {
                self.placements.set(key, *first, node);
            }
        }
        self.queue_all();
        self.report_soon(now);
        true
    }

    /// Reads the configuration again; says whether the problems are others now.
    fn reload(&mut self, now: Instant) -> bool {
        if !self.ready {
            return false;
        }
        let loaded = self.loader.load(&self.resources());
        if loaded.config_changed {
            self.edits.edited(now);
            self.queue_all();
        }
        self.report_soon(now);
        loaded.problems_changed
    }

    fn resources(&self) -> Resources {
        let labels = |(name, node): (&String, &Node)| (name.clone(), node.labels.clone());
        Resources {
            pools: self.pools.entries().values().cloned().collect(),
            l2_advertisements: self.advertisements.entries().values().cloned().collect(),
            bgp_peers: self.bgp_peers.entries().values().cloned().collect(),
            bgp_advertisements: self.bgp_advertisements.entries().values().cloned().collect(),
            bfd_profiles: self.bfd_profiles.entries().values().cloned().collect(),
            communities: self.communities.entries().values().cloned().collect(),
            nodes: self.nodes.entries().iter().map(labels).collect(),
        }
    }

    fn report_soon(&mut self, now: Instant) {
        self.report_due.get_or_insert(now + REPORT_PAUSE);
    }
}

/// The labels of a Service's Namespace; none while the Namespace is not known.
fn labels_of<'a>(namespaces: &'a Table<String, Labels>, service: &ServiceKey) -> &'a Labels {
    static NONE: Labels = Labels::new();
    namespaces.get(&*service.namespace).unwrap_or(&NONE)
}

mod places;
mod reports;

#[cfg(test)]
mod tests;
