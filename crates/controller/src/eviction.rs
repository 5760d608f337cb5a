//! Takes the Pods behind LoadBalancer Services on a dead node out of service, 45 s before Kubernetes does (`failover.evictEndpoints`).
//!
//! The speakers say on their ConfigurationStates which nodes they find silent; [`judge`] decides; and the Pods' condition
//! `Ready` becomes False, which is what the node controller does when it gives a node up. EndpointSlices and every kube-proxy
//! follow. A kubelet that lives puts its Pods' status right by itself within ten seconds, so nothing is to be undone.
//! `docs/decisions/0010-evict-endpoints.md` says what could go wrong, and what stops it.
//!
//! Nothing of this runs unless it is asked for. Every replica listens and judges, so that who becomes the leader has not to begin with
//! it; the leader acts. Where the leader's own Pod is on the dead node there is nobody to act for some seconds, so the others
//! do: what they write is the same, and each Pod is written once, by its resourceVersion.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::api::{ListParams, Patch};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use landfall_api::{ConfigurationState, annotations, labels};
use landfall_runtime::client::chain;
use landfall_runtime::events::{Event, Kind, Recorder, Subject};
use landfall_runtime::lease::Leadership;
use landfall_runtime::table::Table;
use landfall_runtime::tasks::Tasks;
use landfall_runtime::timer;
use landfall_runtime::view;
use landfall_runtime::view::or_default;
use landfall_runtime::watch::{self, CHANNEL_BOUND, Change};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::right::Right;
use crate::watch::SPEAKERS;
use crate::write::params;

mod judge;
mod metrics;
mod pods;

use judge::{Findings, Judge, Spared, Verdict, Why};
pub use metrics::EvictionMetrics;
use pods::{PodView, Selected, has_leader, is_in_service, not_ready};

/// The reason of the Pods' condition `Ready`.
pub const REASON: &str = "LandfallNodeSilent";
/// Of the events on the Node.
const EVICTED: &str = "EndpointsEvicted";
const WOULD_EVICT: &str = "EndpointsWouldBeEvicted";
const SPARED: &str = "EndpointsKept";

/// Longer than a healthy API server ever takes.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pods that are written at one time.
const WRITES: usize = 16;

/// What to do about dead nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Percent of the nodes that may be out of service at once; one may always.
    pub at_most_percent: u8,
}

view! {
    /// What is read of a Service.
    ServiceView of v1::Service { spec: ServiceSpec }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    type_: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(deserialize_with = "or_default")]
    selector: BTreeMap<String, String>,
}

/// A speaker's ConfigurationState: its node, and what the annotation says.
type Said = (String, Option<Option<String>>);
/// A Service's namespace and name, and its selector if it is one of ours.
type Selecting = ((String, String), Option<Selected>);

enum Heard {
    Speaker(Change<Said>),
    Service(Change<Selecting>),
}

/// What is ours.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Where Landfall's Pods and ConfigurationStates are.
    pub(crate) namespace: String,
    /// As in [`crate::Settings::lb_class`].
    pub(crate) class: Option<String>,
}

/// Watches and judges until the result is dropped.
pub(crate) fn start(
    client: &Client,
    Place { namespace, class }: Place,
    settings: Settings,
    leadership: tokio::sync::watch::Receiver<Leadership>,
    recorder: Recorder,
    metrics: EvictionMetrics,
) -> Tasks {
    let (to_owner, heard) = mpsc::channel(CHANNEL_BOUND);
    let speakers: Api<PartialObjectMeta<ConfigurationState>> = Api::namespaced(client.clone(), &namespace);
    let services: Api<ServiceView> = Api::all(client.clone());
    let config = watcher::Config::default;
    let evictor = Evictor {
        client: client.clone(),
        namespace,
        judge: Judge::new(settings.at_most_percent, Instant::now()),
        speakers: Table::default(),
        services: Table::default(),
        settings,
        leadership,
        recorder,
        metrics,
    };
    Tasks::from(vec![
        watch::spawn(speakers, config().labels(SPEAKERS), said, to_owner.clone(), Heard::Speaker),
        watch::spawn(services, config(), move |service| selecting(service, class.as_deref()), to_owner, Heard::Service),
        tokio::spawn(evictor.run(heard)),
    ])
}

fn said(state: PartialObjectMeta<ConfigurationState>) -> Said {
    let word = state.metadata.annotations.unwrap_or_default().remove(annotations::SILENT_NODES);
    let node = state.metadata.labels.unwrap_or_default().remove(labels::NODE_NAME).unwrap_or_default();
    (node, Some(word))
}

/// One without a selector chooses no Pods: who made its EndpointSlices has to see to them.
fn selecting(service: ServiceView, class: Option<&str>) -> Selecting {
    let ServiceSpec { type_, load_balancer_class, selector } = service.spec;
    let key = (service.metadata.namespace.unwrap_or_default(), service.metadata.name.unwrap_or_default());
    let ours = type_.as_deref() == Some("LoadBalancer") && load_balancer_class.as_deref() == class;
    (key, (ours && !selector.is_empty()).then_some(Selected(selector)))
}

/// A word, as the annotation has it. One that cannot be read is none.
#[derive(Deserialize)]
struct Word {
    silent: BTreeSet<String>,
}

/// Who acts on a verdict.
enum Authority {
    /// We lead.
    Leader(Right),
    /// Who leads died with the node.
    Successor,
}

/// What became of a verdict.
enum Outcome {
    /// So many Pods were taken out of service, or would have been.
    Done(usize),
    /// It is not ours to act.
    LeftToLeader,
}

struct Evictor {
    client: Client,
    namespace: String,
    judge: Judge,
    speakers: Table<String, Option<String>>,
    services: Table<(String, String), Selected>,
    settings: Settings,
    leadership: tokio::sync::watch::Receiver<Leadership>,
    recorder: Recorder,
    metrics: EvictionMetrics,
}

impl Evictor {
    async fn run(mut self, mut heard: mpsc::Receiver<Heard>) {
        info!(settings = ?self.settings, "nodes that the speakers find dead are taken out of service");
        let mut term = None;
        loop {
            let due = self.judge.next_due(Instant::now());
            tokio::select! {
                Ok(()) = self.leadership.changed() => {}
                news = heard.recv() => match news {
                    Some(Heard::Speaker(change)) => self.hear(change),
                    Some(Heard::Service(change)) => drop(self.services.apply(change)),
                    None => return,
                },
                () = timer::sleep_until(due) => {}
            }
            let before = std::mem::replace(&mut term, self.term());
            if term.is_some() && term != before {
                self.judge.judge_anew();
            }
            let Findings { dead, spared } = self.judge.look(Instant::now());
            for spared in spared.iter().filter(|_| term.is_some()) {
                self.say_spared(spared);
            }
            for verdict in dead {
                if !self.evict(&verdict).await {
                    self.judge.was_in_vain(&verdict.node);
                }
            }
        }
    }

    /// Ours, if we lead.
    fn term(&self) -> Option<u64> {
        self.leadership.borrow().term(Instant::now())
    }

    /// Only what is said while we listen is a word: what a list brings may be old.
    fn hear(&mut self, change: Change<Said>) {
        let live = matches!(change, Change::Applied(_));
        for (node, _) in self.speakers.apply(change) {
            let Some(word) = self.speakers.get(&node) else {
                self.judge.is_gone(&node);
                continue;
            };
            let word = word.as_deref().filter(|_| live).and_then(|text| serde_json::from_str::<Word>(text).ok());
            match word {
                Some(word) => self.judge.says(&node, word.silent, Instant::now()),
                None => self.judge.exists(&node),
            }
        }
    }

    fn say_spared(&self, Spared { node, why }: &Spared) {
        warn!(node, %why, "the speakers find a node dead, and its Pods are left in service");
        self.metrics.spared(*why);
        let message = format!("the speakers find node {node} dead, and its Pods are left in service: {why}");
        self.record(node, SPARED, message);
    }

    /// Says whether the verdict needs no more attention. What was done halfway is left: the next attempt finds the rest.
    async fn evict(&self, Verdict { node, by }: &Verdict) -> bool {
        let by = by.join(", ");
        let tried = tokio::time::timeout(TIMEOUT, self.try_evict(node, &by)).await;
        let count = match tried.unwrap_or_else(|_| Err(format!("not done within {} s", TIMEOUT.as_secs()))) {
            Ok(Outcome::Done(count)) => count,
            Ok(Outcome::LeftToLeader) => return true,
            Err(why) => {
                warn!(node, error = why, "cannot take the Pods of a dead node out of service, trying again");
                return false;
            }
        };
        if count == 0 {
            info!(node, by, "a node is dead, and no Pod of a LoadBalancer Service is in service on it");
            return true;
        }
        let dry_run = self.settings.dry_run;
        let pods = if count == 1 { "Pod" } else { "Pods" };
        let what = match dry_run {
            true => "would be taken out of service, if failover.evictEndpoints were on",
            false => "taken out of service",
        };
        let message = format!(
            "{count} {pods} of LoadBalancer Services on node {node} {what}: the speakers on {by} hear neither its speaker nor \
             its kernel"
        );
        warn!(node, by, count, dry_run, "the Pods of a dead node");
        self.metrics.evicted(dry_run, count);
        self.record(node, if dry_run { WOULD_EVICT } else { EVICTED }, message);
        true
    }

    async fn try_evict(&self, node: &str, by: &str) -> Result<Outcome, String> {
        let pods: Api<PodView> = Api::all(self.client.clone());
        let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let pods = pods.list(&here).await.map_err(|error| chain(&error))?;
        let Some(authority) = self.authority(&pods.items) else { return Ok(Outcome::LeftToLeader) };
        let services = self.services.entries();
        let chosen: Vec<PodView> = pods.items.into_iter().filter(|pod| is_in_service(pod, services)).collect();
        if self.settings.dry_run {
            return Ok(Outcome::Done(chosen.len()));
        }
        let mut count = 0;
        for some in chosen.chunks(WRITES) {
            let written = some.iter().map(|pod| self.take_out(pod, node, by, &authority));
            let written: Result<Vec<bool>, String> = futures::future::join_all(written).await.into_iter().collect();
            count += written?.into_iter().filter(|taken_out| *taken_out).count();
        }
        Ok(Outcome::Done(count))
    }

    /// With what right we act on the death of a node with these Pods.
    fn authority(&self, pods: &[PodView]) -> Option<Authority> {
        if let Some(term) = self.term() {
            return Some(Authority::Leader(Right { leadership: self.leadership.clone(), term }));
        }
        let Leadership::Standby { leader: Some(leader) } = &*self.leadership.borrow() else { return None };
        has_leader(pods, &self.namespace, leader).then_some(Authority::Successor)
    }

    /// Whether it was done. The patch names the version that was read: a Pod whose kubelet has just written is not dead.
    async fn take_out(&self, pod: &PodView, node: &str, by: &str, authority: &Authority) -> Result<bool, String> {
        let limit = match authority {
            Authority::Leader(right) => right.time_for_write(TIMEOUT).ok_or("another controller leads")?,
            Authority::Successor => TIMEOUT,
        };
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let pods: Api<PodView> = Api::namespaced(self.client.clone(), namespace);
        let patch = not_ready(pod, node, by, Timestamp::now());
        let patch = Patch::Strategic(&patch);
        match tokio::time::timeout(limit, pods.patch_status(name, &params(), &patch)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => {
                info!(
                    namespace,
                    pod = name,
                    why = refusal.message,
                    "left in service: it is gone, or has changed meanwhile"
                );
                Ok(false)
            }
            Ok(Err(error)) => Err(format!("Pod {namespace}/{name}: {}", chain(&error))),
            Err(_) => Err(format!("Pod {namespace}/{name}: no answer within {} s", limit.as_secs_f32())),
        }
    }

    /// As kubelet does, the Node's name is its uid in events.
    fn record(&self, node: &str, reason: &'static str, message: String) {
        let about =
            Subject { api_version: "v1", kind: "Node", namespace: None, name: node.to_owned(), uid: node.to_owned() };
        let occasion = Timestamp::now().to_string();
        self.recorder.record(Event { about, kind: Kind::Warning, reason, message, occasion });
    }
}
