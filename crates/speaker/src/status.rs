//! Cluster out: `ServiceL2Status` objects and events, only when something changed, and only what the wire confirms.
//!
//! One task owns the objects as it sees them. Each change to a claim, to what the wire answers for, or to an object makes a
//! plan ([`crate::claims::plan`]); its writes run side by side, and what failed is planned again after a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use landfall_api::{ServiceL2Status, labels};
use landfall_runtime::client::chain;
use landfall_runtime::events::{Event, Kind, Recorder, Subject};
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::claims::{Claim, Claims, Confirmation, Existing, Said, Write, confirm, plan, unusable};
use crate::desired::{Announced, Answers};
use crate::model::ServiceKey;
use crate::views::StatusView;

/// The name under which the API server notes our writes.
const FIELD_MANAGER: &str = "landfall-speaker";

/// Writes in flight. The objects only tell what is done already: in a burst of new Services the API server is left to those
/// who wait for an address, however many nodes there are.
const CONCURRENT_WRITES: usize = 2;

/// Longer than a healthy API server ever takes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a failed write is tried again; it doubles.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long the object of a former owner is remembered after it is gone: a handover is a matter of seconds.
const REMEMBER_FORMER: Duration = Duration::from_secs(60);

/// The way to the objects.
#[derive(Clone, Debug)]
pub(crate) struct ObjectClient {
    node: String,
    /// To create them.
    full: Api<ServiceL2Status>,
    /// For the rest.
    views: Api<StatusView>,
}

impl ObjectClient {
    /// For the speaker on `node`, whose objects are in `namespace`.
    pub(crate) fn new(client: &Client, namespace: &str, node: String) -> Self {
        Self {
            node,
            full: Api::namespaced(client.clone(), namespace),
            views: Api::namespaced(client.clone(), namespace),
        }
    }

    /// Watches the objects of all nodes.
    pub(crate) fn watch(&self, to: mpsc::Sender<Change<(String, Option<Existing>)>>) {
        let ours = watcher::Config::default().labels(labels::SERVICE_NAME);
        landfall_runtime::watch::spawn(self.views.clone(), ours, Existing::read, to, std::convert::identity);
    }

    /// Sets the status of an object of ours, and reads it back.
    async fn set_status(
        &self,
        name: &str,
        service: &ServiceKey,
        interfaces: &[String],
    ) -> kube::Result<Option<Existing>> {
        let interfaces: Vec<_> = interfaces.iter().map(|name| json!({ "name": name })).collect();
        let status = json!({ "status": {
            "node": self.node,
            "serviceName": service.name,
            "serviceNamespace": service.namespace,
            "interfaces": interfaces,
        }});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let object = self.views.patch_status(name, &params, &Patch::Merge(status)).await?;
        Ok(Existing::read(object).1)
    }
}

/// What the task hears.
pub(crate) struct Inputs {
    /// Our claims; `None` before we may claim anything.
    pub(crate) claims: watch::Receiver<Option<Arc<Claims>>>,
    /// What the wire answers for.
    pub(crate) announced: watch::Receiver<Arc<Announced>>,
    /// The objects as the cluster has them, whoever wrote them.
    pub(crate) objects: mpsc::Receiver<Change<(String, Option<Existing>)>>,
}

/// The addresses that are answered for here, for the metric `metallb_speaker_announced`.
pub(crate) type Answered = BTreeSet<(ServiceKey, IpAddr)>;

/// Runs until a channel's other end is gone, at the end of the process.
pub(crate) async fn run(client: ObjectClient, events: Recorder, mut inputs: Inputs, answered: watch::Sender<Answered>) {
    let mut state = State::default();
    let mut retry_at: Option<Instant> = None;
    let mut pause = MIN_PAUSE;
    loop {
        let retry = async {
            match retry_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = inputs.claims.changed() => if changed.is_err() { return },
            changed = inputs.announced.changed() => if changed.is_err() { return },
            object = inputs.objects.recv() => match object {
                Some(change) => state.apply(change, Instant::now()),
                None => return,
            },
            () = retry => {}
        }
        while let Ok(change) = inputs.objects.try_recv() {
            state.apply(change, Instant::now());
        }
        let Some(claims) = inputs.claims.borrow_and_update().clone() else { continue };
        let announced = inputs.announced.borrow_and_update().clone();

        let confirmations = confirm_all(&claims, &announced);
        answered.send_replace(answered_addresses(&claims, &announced));
        for event in state.new_failures(&claims, &announced, &client.node) {
            warn!(
                service = event.about.name,
                reason = event.reason,
                why = event.message,
                "an address cannot be announced"
            );
            events.record(event);
        }
        for event in state.new_conflicts(&claims, &announced, &client.node) {
            warn!(
                service = event.about.name,
                reason = event.reason,
                why = event.message,
                "an address is in use elsewhere"
            );
            events.record(event);
        }
        if !state.objects.is_complete() || retry_at.is_some_and(|at| Instant::now() < at) {
            continue;
        }
        let writes = plan(state.objects.entries(), &confirmations, &client.node);
        let done: Vec<_> = futures::stream::iter(writes)
            .map(|write| execute(&client, claims.pod.as_ref(), write))
            .buffer_unordered(CONCURRENT_WRITES)
            .collect()
            .await;
        let failed = done.iter().any(Option::is_none);
        for done in done.into_iter().flatten() {
            if let Done::Created(_, object) = &done
                && let Some(claim) = claims.services.get(&object.service)
            {
                events.record(state.assigned(&object.service, claim, &client.node));
            }
            state.remember(done);
        }
        retry_at = failed.then(|| Instant::now() + pause);
        pause = if failed { (pause * 2).min(MAX_PAUSE) } else { MIN_PAUSE };
    }
}

fn confirm_all(claims: &Claims, announced: &Announced) -> BTreeMap<ServiceKey, Confirmation> {
    claims.services.iter().map(|(key, claim)| (key.clone(), confirm(claim, announced))).collect()
}

fn answered_addresses(claims: &Claims, announced: &Announced) -> Answered {
    let here = |ip: &IpAddr| announced.addresses.get(ip).and_then(Answers::here);
    let answers = |ip: &IpAddr| here(ip).is_some_and(|interfaces| !interfaces.is_empty());
    let of = |(key, claim): (&ServiceKey, &Claim)| -> Vec<_> {
        claim.ips.iter().filter(|ip| answers(ip)).map(|ip| (key.clone(), *ip)).collect()
    };
    claims.services.iter().flat_map(of).collect()
}

/// The objects as we see them, and what was said about them.
#[derive(Debug, Default)]
struct State {
    objects: Table<String, Existing>,
    /// What became of objects lately: name, node and time of the last that is gone, by Service.
    former: BTreeMap<ServiceKey, Former>,
    /// Addresses whose failure was said already.
    failures: BTreeSet<(ServiceKey, IpAddr)>,
    /// Addresses of which it was said that a stranger has them, too.
    conflicts: BTreeSet<(ServiceKey, IpAddr)>,
}

#[derive(Debug)]
struct Former {
    name: String,
    node: String,
    gone: Instant,
}

impl State {
    fn apply(&mut self, change: Change<(String, Option<Existing>)>, now: Instant) {
        for (name, before) in self.objects.apply(change) {
            if let (Some(before), None) = (before, self.objects.get(&name)) {
                self.former.insert(before.service, Former { name, node: before.node, gone: now });
            }
        }
        self.former.retain(|_, former| now.saturating_duration_since(former.gone) < REMEMBER_FORMER);
    }

    /// Takes in our own write at once, so that the next plan does not repeat it before the watch shows it.
    fn remember(&mut self, done: Done) {
        let change = match done {
            Done::Created(name, object) | Done::Changed(name, object) => Change::Applied((name, Some(object))),
            Done::Deleted(name) => Change::Deleted((name, None)),
        };
        self.apply(change, Instant::now());
    }

    /// The event that this node answers for the Service now. The occasion is the object of the node that had it before:
    /// each handover is seen, and a speaker that starts anew on the same node says nothing new.
    fn assigned(&self, service: &ServiceKey, claim: &Claim, node: &str) -> Event {
        let foreign = |object: &Existing| object.service == *service && object.node != node;
        let other = self.objects.entries().iter().find(|(_, object)| foreign(object)).map(|(name, _)| name);
        let former = self.former.get(service).filter(|former| former.node != node).map(|former| &former.name);
        let occasion = other.or(former).cloned();
        debug!(%service, node, ips = ?claim.ips, "the Service is answered by this node");
        Event {
            about: subject(service, claim),
            kind: Kind::Normal,
            reason: "nodeAssigned",
            message: format!(r#"announcing from node "{node}" with protocol "layer2""#),
            occasion: occasion.unwrap_or_default(),
        }
    }

    /// An event for each address that no interface is usable for since the last time.
    fn new_failures(&mut self, claims: &Claims, announced: &Announced, node: &str) -> Vec<Event> {
        let mut failures = BTreeSet::new();
        let mut events = Vec::new();
        for (service, claim) in &claims.services {
            for ip in unusable(claim, announced) {
                let failure = (service.clone(), ip);
                if !self.failures.contains(&failure) {
                    events.push(Event {
                        about: subject(service, claim),
                        kind: Kind::Warning,
                        reason: "announceFailed",
                        message: why_unusable(claim, ip, node),
                        occasion: String::new(),
                    });
                }
                failures.insert(failure);
            }
        }
        self.failures = failures;
        events
    }

    /// An event for each address that a stranger was heard to answer for since the last time.
    fn new_conflicts(&mut self, claims: &Claims, announced: &Announced, node: &str) -> Vec<Event> {
        let mut conflicts = BTreeSet::new();
        let mut events = Vec::new();
        for (service, claim) in &claims.services {
            for (ip, mac) in claim.ips.iter().filter_map(|ip| Some((*ip, announced.conflicts.get(ip)?))) {
                let conflict = (service.clone(), ip);
                if !self.conflicts.contains(&conflict) {
                    events.push(Event {
                        about: subject(service, claim),
                        kind: Kind::Warning,
                        reason: "AddressConflict",
                        message: format!(
                            "node {node:?} answers for {ip}, and so does a machine with MAC address {mac} that is no node \
                             with a speaker: take the address from that machine, or out of the IPAddressPool"
                        ),
                        occasion: mac.to_string(),
                    });
                }
                conflicts.insert(conflict);
            }
        }
        self.conflicts = conflicts;
        events
    }
}

fn why_unusable(claim: &Claim, ip: IpAddr, node: &str) -> String {
    match &claim.interfaces {
        crate::desired::Interfaces::Named(_) => format!(
            r#"the interfaces specified by LB IP "{ip}" doesn't exist in assigned node "{node}" with protocol "layer2""#
        ),
        crate::desired::Interfaces::All => format!(
            r#"no interface of assigned node "{node}" can announce LB IP "{ip}" with protocol "layer2": each is down, excluded or without ARP"#
        ),
    }
}

fn subject(service: &ServiceKey, claim: &Claim) -> Subject {
    Subject {
        api_version: "v1",
        kind: "Service",
        namespace: Some(service.namespace.clone()),
        name: service.name.clone(),
        uid: claim.uid.clone(),
    }
}

/// A write that took place, and the object as it is now.
#[derive(Debug)]
enum Done {
    Created(String, Existing),
    Changed(String, Existing),
    Deleted(String),
}

/// Executes one write; `None` when it shall be planned again. Says why. `pod` owns what is created.
async fn execute(client: &ObjectClient, pod: Option<&(String, String)>, write: Write) -> Option<Done> {
    let action = async {
        match &write {
            Write::Create { service, interfaces } => {
                let new = new_object(&client.node, pod, service);
                let created = client.full.create(&PostParams::default(), &new).await?;
                let name = created.metadata.name.unwrap_or_default();
                // Should this fail, the plan sees an object without a status and sets it.
                let object = client.set_status(&name, service, interfaces).await.unwrap_or_else(|error| {
                    debug!(%service, error = chain(&error), "status of a new ServiceL2Status not set yet");
                    Some(Existing { service: service.clone(), node: client.node.clone(), status: Said::Nothing })
                });
                Ok(object.map(|object| Done::Created(name, object)))
            }
            Write::SetStatus { name, service, interfaces } => {
                match client.set_status(name, service, interfaces).await {
                    Ok(object) => Ok(object.map(|object| Done::Changed(name.clone(), object))),
                    Err(error) if is_gone(&error) => Ok(Some(Done::Deleted(name.clone()))),
                    Err(error) => Err(error),
                }
            }
            Write::Delete { name } => match client.views.delete(name, &DeleteParams::default()).await {
                Ok(_) => Ok(Some(Done::Deleted(name.clone()))),
                Err(error) if is_gone(&error) => Ok(Some(Done::Deleted(name.clone()))),
                Err(error) => Err(error),
            },
        }
    };
    let failure = match tokio::time::timeout(WRITE_TIMEOUT, action).await {
        Ok(Ok(done)) => return done,
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no answer within {} s", WRITE_TIMEOUT.as_secs()),
    };
    warn!(?write, error = failure, "ServiceL2Status not written, trying again");
    None
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// The names come with the object's labels as well, so that a speaker finds its own and its Service's.
fn new_object(node: &str, pod: Option<&(String, String)>, service: &ServiceKey) -> ServiceL2Status {
    let own_labels = [
        (labels::NODE, node),
        (labels::SERVICE_NAME, service.name.as_str()),
        (labels::SERVICE_NAMESPACE, service.namespace.as_str()),
    ];
    let owner = pod.map(|(name, uid)| OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: name.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    });
    let mut object = ServiceL2Status::new("", landfall_api::ServiceL2StatusSpec::default());
    *object.meta_mut() = ObjectMeta {
        generate_name: Some("l2-".into()),
        labels: Some(own_labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    object
}

#[cfg(test)]
mod tests;
