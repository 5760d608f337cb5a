//! What the speaker knows of the cluster, and what it makes of it. Pure: changes and the time go in, verdicts come out.
//!
//! Nothing is decided before every first list is complete; a relist withdraws nothing before it is done
//! ([`Table`]). A change decides anew only the Services it touches: with thousands of them, one new Service costs the
//! work of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use landfall_api::{IPAddressPool, L2Advertisement};
use landfall_config::{Labels, Loader, Problem, Resources};
use landfall_runtime::settling::Settling;
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change;

use crate::announced_condition::Stated;
use crate::elect::{self, Endpoints, Verdict, World};
use crate::liveness::Members;
use crate::passing_on::NodeAddresses;
use crate::sharers::Sharers;
use crate::standing::{Standing, Watched};

/// Namespace and name of a Service; written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceKey {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What matters of a Service of `type: LoadBalancer` and of our class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// metadata.uid, for events
    pub uid: String,
    /// metadata.labels, for `serviceSelectors`
    pub labels: Labels,
    /// `status.loadBalancer.ingress` in its order; or the first entry that is no address, in words.
    pub ingress_ips: Result<Vec<IpAddr>, String>,
    /// `externalTrafficPolicy: Local`
    pub local: bool,
    /// It has the annotation `metallb.io/allow-shared-ip`, whatever the value.
    pub may_share: bool,
    /// The annotation `landfall.io/node`.
    pub placed: Option<String>,
    /// metadata.generation; API servers up to 1.36 give Services none.
    pub generation: Option<i64>,
    /// The condition `landfall.io/Announced`, whoever wrote it.
    pub stated: Option<Stated>,
}

/// Namespace and name of an EndpointSlice.
pub type SliceKey = (String, String);

/// What matters of an EndpointSlice that has an endpoint which can serve; others are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service it belongs to.
    pub service: ServiceKey,
    /// Nodes with an endpoint that can serve. Endpoints may have no node, so this may be empty.
    pub nodes: BTreeSet<String>,
}

/// What matters of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// metadata.labels, for `nodeSelectors` and the exclude label
    pub labels: Labels,
    /// Condition NetworkUnavailable is True.
    pub network_unavailable: bool,
    /// Condition Ready is True. Only heeded while the node's speaker restarts.
    pub ready: bool,
    /// The annotation `landfall.io/drain` is "true", or the node is shut down.
    pub drain: bool,
}

/// What matters of a speaker's Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerPod {
    /// metadata.uid, for the ownerReference of our status objects
    pub uid: String,
    /// spec.nodeName
    pub node: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// When it was read, it had come to be ready, or not, within [`MEMBER_GRACE`](crate::standing::MEMBER_GRACE).
    pub lately: bool,
    /// status.hostIP: where the other speakers find it.
    pub address: Option<IpAddr>,
    /// status.hostIPs: all addresses of its node, one of each family.
    pub addresses: BTreeSet<IpAddr>,
}

/// One change to what is known, by kind. The value is `None` for an object that is none of our business.
#[derive(Clone, Debug)]
pub enum Event {
    /// Services of all namespaces.
    Service(Change<(ServiceKey, Option<Service>)>),
    /// EndpointSlices of all namespaces.
    Slice(Change<(SliceKey, Option<Slice>)>),
    /// Nodes.
    Node(Change<(String, Option<Node>)>),
    /// Pods of speakers.
    Speaker(Change<(String, Option<SpeakerPod>)>),
    /// IPAddressPools of our namespace, without status and bookkeeping.
    Pool(Change<(String, Option<IPAddressPool>)>),
    /// L2Advertisements of our namespace, likewise.
    Advertisement(Change<(String, Option<L2Advertisement>)>),
}

/// Everything known, and the verdict on each Service.
#[derive(Debug)]
pub struct Model {
    node: String,
    ignore_exclude_label: bool,
    services: Table<ServiceKey, Service>,
    sharers: Sharers,
    slices: Table<SliceKey, Slice>,
    slices_of: BTreeMap<ServiceKey, BTreeSet<SliceKey>>,
    nodes: Table<String, Node>,
    speakers: Table<String, SpeakerPod>,
    pools: Table<String, IPAddressPool>,
    advertisements: Table<String, L2Advertisement>,
    loader: Loader,
    standing: Standing,
    eligible: BTreeSet<Arc<str>>,
    verdicts: BTreeMap<ServiceKey, Verdict>,
    dirty: Dirty,
    /// Edits of the configuration.
    edits: Settling,
}

/// What must be decided anew.
#[derive(Debug, Default)]
struct Dirty {
    all: bool,
    config: bool,
    /// An object of the configuration that was there is another one now, or gone.
    edited: bool,
    services: BTreeSet<ServiceKey>,
}

impl Dirty {
    /// Objects of the configuration have changed; `replaced` are those before.
    fn configured<T>(&mut self, replaced: &[(String, Option<T>)]) {
        self.config |= !replaced.is_empty();
        self.edited |= replaced.iter().any(|(_, before)| before.is_some());
    }
}

/// What a round of decisions changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Services whose verdict is another one now, or that are gone.
    pub changed: Vec<ServiceKey>,
    /// The list of mistakes in the configuration is another one now: see [`Model::problems`].
    pub problems_changed: bool,
    /// Decide again at this time even if nothing happens.
    pub again_at: Option<Instant>,
}

impl Model {
    /// A model of nothing yet, for the speaker on `node`. `ignore_exclude_label`: nodes with the label
    /// `node.kubernetes.io/exclude-from-external-load-balancers` take part all the same. `watched`: who watches whether
    /// speakers live.
    pub fn new(node: String, ignore_exclude_label: bool, watched: Watched) -> Self {
        Self {
            node,
            ignore_exclude_label,
            services: Table::default(),
            sharers: Sharers::default(),
            slices: Table::default(),
            slices_of: BTreeMap::new(),
            nodes: Table::default(),
            speakers: Table::default(),
            pools: Table::default(),
            advertisements: Table::default(),
            loader: Loader::default(),
            standing: Standing::new(watched),
            eligible: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            dirty: Dirty { all: true, config: true, ..Dirty::default() },
            edits: Settling::default(),
        }
    }

    /// Takes one change. Nothing is decided by it: see [`Model::decide`].
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Service(change) => {
                for (key, before) in self.services.apply(change) {
                    let before = before.filter(|service| service.may_share);
                    let after = self.services.get(&key).filter(|service| service.may_share);
                    if before.as_ref().map(|service| &service.ingress_ips) != after.map(|service| &service.ingress_ips)
                    {
                        self.sharers.put(&key, after.and_then(|service| service.ingress_ips.as_deref().ok()));
                        self.dirty.services.extend(self.sharers.services().cloned());
                    }
                    self.dirty.services.insert(key);
                }
            }
            Event::Slice(change) => {
                for (key, before) in self.slices.apply(change) {
                    self.reindex(&key, before);
                }
            }
            Event::Node(change) => {
                let replaced = self.nodes.apply(change);
                self.dirty.all |= replaced.iter().any(|(name, before)| {
                    let matters = |node: Option<&Node>| node.map(|node| (node.labels.clone(), node.drain));
                    matters(before.as_ref()) != matters(self.nodes.get(name))
                });
            }
            Event::Speaker(change) => {
                self.speakers.apply(change);
            }
            Event::Pool(change) => self.dirty.configured(&self.pools.apply(change)),
            Event::Advertisement(change) => self.dirty.configured(&self.advertisements.apply(change)),
        }
    }

    /// Keeps the slices of each Service findable, and marks the Services that a slice belonged or belongs to.
    fn reindex(&mut self, key: &SliceKey, before: Option<Slice>) {
        if let Some(before) = before {
            if let Some(slices) = self.slices_of.get_mut(&before.service) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices_of.remove(&before.service);
                }
            }
            self.dirty.services.insert(before.service);
        }
        if let Some(slice) = self.slices.get(key) {
            self.slices_of.entry(slice.service.clone()).or_default().insert(key.clone());
            self.dirty.services.insert(slice.service.clone());
        }
    }

    /// Whether every first list is complete. Before that, what is absent means nothing.
    pub fn is_complete(&self) -> bool {
        self.services.is_complete()
            && self.slices.is_complete()
            && self.nodes.is_complete()
            && self.speakers.is_complete()
            && self.pools.is_complete()
            && self.advertisements.is_complete()
    }

    /// Decides what was touched since the last time. `None` while a first list is missing.
    pub fn decide(&mut self, now: Instant) -> Option<Decided> {
        if !self.is_complete() {
            return None;
        }
        // What is new takes effect at once. An edit may be the first of several that mean one thing.
        if std::mem::take(&mut self.dirty.edited) {
            self.edits.edited(now);
        }
        let edits = self.edits.until().filter(|until| now < *until && self.dirty.config);
        let problems_changed = edits.is_none() && self.load_config();
        let again_at = self.find_eligible(now).into_iter().chain(edits).min();
        let services = std::mem::take(&mut self.dirty.services);
        let touched: BTreeSet<ServiceKey> = match std::mem::take(&mut self.dirty.all) {
            true => self.services.entries().keys().chain(self.verdicts.keys()).cloned().collect(),
            false => services,
        };
        let changed = touched.into_iter().filter(|key| self.decide_service(key)).collect();
        Some(Decided { changed, problems_changed, again_at })
    }

    /// Reads the configuration anew if it was touched; says whether the list of problems is another one.
    fn load_config(&mut self) -> bool {
        if !std::mem::take(&mut self.dirty.config) {
            return false;
        }
        let loaded = self.loader.load(&Resources {
            pools: self.pools.entries().values().cloned().collect(),
            l2_advertisements: self.advertisements.entries().values().cloned().collect(),
            ..Resources::default()
        });
        self.dirty.all |= loaded.config_changed;
        loaded.problems_changed
    }

    /// Which nodes may answer for anything at all: they have a speaker to count on, a working network and no exclude
    /// label. Their Ready condition, taints and cordons are not considered, as in MetalLB.
    fn find_eligible(&mut self, now: Instant) -> Option<Instant> {
        let pods = self.speakers.entries().values();
        let mut ready: BTreeMap<&str, Option<IpAddr>> =
            pods.filter(|pod| pod.ready).map(|pod| (pod.node.as_str(), pod.address)).collect();
        if self.standing.watched() == Watched::BySpeakers {
            // The others count on us from the moment that they hear us, before the API says so.
            ready.entry(&self.node).or_insert(None);
        }
        let nodes = self.nodes.entries();
        let lately = self.speakers.entries().values().filter(|pod| pod.lately);
        self.standing.begin(lately.map(|pod| (pod.node.as_str(), pod.address)), now);
        let again_at = self.standing.update(&ready, |node| nodes.get(node).map(|node| node.ready), now);
        let eligible = self.standing.nodes().filter(|name| {
            nodes.get(&***name).is_some_and(|node| {
                let excluded = node.labels.contains_key(landfall_api::labels::EXCLUDE_FROM_LOAD_BALANCERS);
                !node.network_unavailable && (self.ignore_exclude_label || !excluded)
            })
        });
        let eligible = eligible.cloned().collect();
        if self.eligible != eligible {
            self.eligible = eligible;
            self.dirty.all = true;
        }
        again_at
    }

    /// Decides one Service; says whether its verdict is another one now.
    fn decide_service(&mut self, key: &ServiceKey) -> bool {
        let (Some(service), Some(config)) = (self.services.get(key), self.loader.config()) else {
            return self.verdicts.remove(key).is_some();
        };
        let slices = self.slices_of.get(key).into_iter().flatten().filter_map(|slice| self.slices.get(slice));
        let mut endpoints = Endpoints::default();
        for slice in slices {
            endpoints.anywhere = true;
            endpoints.nodes.extend(slice.nodes.iter().map(String::as_str));
        }
        let world = World { node: &self.node, config, nodes: self.nodes.entries(), eligible: &self.eligible };
        let elected_by = self.sharers.first_of_all(key);
        let verdict = elect::verdict(service, elected_by, &endpoints, &world);
        if self.verdicts.get(key) == Some(&verdict) {
            return false;
        }
        self.verdicts.insert(key.clone(), verdict);
        true
    }

    /// The verdict on each Service of ours, as of the last [`Model::decide`].
    pub fn verdicts(&self) -> &BTreeMap<ServiceKey, Verdict> {
        &self.verdicts
    }

    /// The nodes with a speaker to count on and the address of each, as of the last [`Model::decide`].
    pub fn members(&self) -> Members {
        self.standing.addresses().map(|(node, address)| (Arc::clone(node), address)).collect()
    }

    /// The addresses of all nodes with a speaker's Pod.
    pub fn node_addresses(&self) -> NodeAddresses {
        let pods = self.speakers.entries().values();
        pods.map(|pod| (Arc::from(pod.node.as_str()), pod.addresses.clone())).collect()
    }

    /// Whether this node is to own nothing: see [`Node::drain`].
    pub fn is_draining(&self) -> bool {
        self.nodes.get(&self.node).is_some_and(|node| node.drain)
    }

    /// Whether this node's speaker says of a Service that no node may announce it: all of them know, and one is to say it. It is
    /// that of the first node by name of those whose speaker is ready, which the API tells all of them.
    pub fn is_spokesman(&self) -> bool {
        let ready = self.speakers.entries().values().filter(|pod| pod.ready);
        ready.map(|pod| &pod.node).min() == Some(&self.node)
    }

    /// What is known of a Service.
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// What is wrong with the configuration; the last good one is in force meanwhile.
    pub fn problems(&self) -> &[Problem] {
        self.loader.problems()
    }

    /// What is known of the speaker Pod of this name.
    pub fn speaker_pod(&self, name: &str) -> Option<&SpeakerPod> {
        self.speakers.get(name)
    }
}

#[cfg(test)]
mod tests;
