//! Cluster out: `ServiceL2Status` objects and events, only when something changed, and only what the wire confirms.
//!
//! One task owns the objects as it sees them. Each change to a claim, to what the wire answers for, or to an object makes a
//! plan ([`crate::claims::plan`]); its writes run side by side, and what failed is planned again after a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use landfall_runtime::events::{Event, Kind, Recorder, Subject};
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change;
use landfall_runtime::{publish, timer};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use self::objects::{Done, execute};
use self::warnings::{Warnings, troubles};
use crate::claims::{Claim, Claims, Confirmation, Existing, confirm, plan};
use crate::desired::{Announced, Answers};
use crate::model::ServiceKey;

pub(crate) use self::objects::ObjectClient;

mod objects;
mod warnings;

/// The name under which the API server notes our writes.
pub(crate) const FIELD_MANAGER: &str = "landfall-speaker";

/// Writes in flight. The objects only tell what is done already: in a burst of new Services the API server is left to those
/// who wait for an address, however many nodes there are.
const CONCURRENT_WRITES: usize = 2;

/// Pause before a failed write is tried again; it doubles.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How long the object of a former owner is remembered after it is gone: a handover is a matter of seconds.
const REMEMBER_FORMER: Duration = Duration::from_secs(60);

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

/// Runs until a channel's other end is gone, at the end of the process. `busy`: writes are under way.
pub(crate) async fn run(
    client: ObjectClient,
    events: Recorder,
    mut inputs: Inputs,
    answered: watch::Sender<Answered>,
    busy: watch::Sender<bool>,
) {
    let mut state = State::default();
    let mut retry_at: Option<Instant> = None;
    let mut pause = MIN_PAUSE;
    loop {
        let retry = timer::sleep_until(retry_at);
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
        for event in state.warnings.new_ones(troubles(&claims, &announced, &client.node)) {
            let Event { about, reason, message, .. } = &event;
            warn!(service = about.name, reason, why = message, "an address is not announced as it should be");
            events.record(event);
        }
        if !state.objects.is_complete() || retry_at.is_some_and(|at| Instant::now() < at) {
            continue;
        }
        let writes = plan(state.objects.entries(), &confirmations, &client.node);
        publish::if_changed(&busy, !writes.is_empty());
        let done: Vec<_> = futures::stream::iter(writes)
            .map(|write| execute(&client, claims.pod.as_ref(), write))
            .buffer_unordered(CONCURRENT_WRITES)
            .collect()
            .await;
        publish::if_changed(&busy, false);
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
    warnings: Warnings,
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

#[cfg(test)]
mod tests;
