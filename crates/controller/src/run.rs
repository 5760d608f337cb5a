//! The controller's tasks:
//! - the election ([`lease`]), which says whether this replica is the one that writes;
//! - and while it is: one watch for each kind ([`watch`](crate::watch)), which may be aborted at any time;
//! - the owner of the model, which is [`Replica::lead`]: it decides;
//! - up to [`WRITES`] writes, each a task; an aborted one is decided and sent again in the next term;
//! - the keeper of the ConfigurationState `controller` ([`configuration_state`]), likewise;
//! - the keeper of the speakers' key ([`speaker_key`]), likewise;
//! - what takes the Pods of dead nodes out of service ([`eviction`]), if that is asked for: it listens always; may be aborted at
//!   any time;
//! - the webhooks' server and its certificate's keeper ([`admission`](crate::admission)); may be aborted at any time;
//! - the event recorder and the probe server ([`landfall_runtime`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use kube::Client;
use landfall_config::Problem;
use landfall_runtime::configuration_state::{self, Component, Pod, State};
use landfall_runtime::events::Recorder;
use landfall_runtime::lease::{self, Leadership};
use landfall_runtime::watch::CHANNEL_BOUND;
use landfall_runtime::{client, metrics, probes, shutdown, timer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::admission;
use crate::eviction::{self, EvictionMetrics};
use crate::model::{Model, Now, Write, Written};
use crate::right::Right;
use crate::speaker_key;
use crate::watch;
use crate::write::Writer;

/// Writes under way at one time. An API server on two cores takes about a hundred patches a second; more requests at
/// once would only wait there.
const WRITES: usize = 16;

/// How the controller is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace with the configuration objects: the one Landfall runs in.
    pub namespace: String,
    /// Serve Services of this `spec.loadBalancerClass`; `None`: those that name no class.
    pub lb_class: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub probe_address: SocketAddr,
    /// Serve the webhooks; `None`: somebody else does, or nobody.
    pub admission: Option<admission::Settings>,
    /// The Pod we are, if we are one.
    pub pod: Option<Pod>,
    /// The Lease, in `namespace`, on which the replicas elect the one that writes; `None`: this is the only replica.
    pub lease: Option<String>,
    /// The Secret with the speakers' key; `None`: somebody else keeps it, or nobody.
    pub speaker_key: Option<speaker_key::Settings>,
    /// What to do about the Pods of nodes that the speakers find dead; `None`: nothing.
    pub eviction: Option<eviction::Settings>,
}

/// Runs until the process is asked to end.
/// # Errors
/// What made it impossible to start, or to go on.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    settings.speaker_key.as_ref().map_or(Ok(()), speaker_key::Settings::check)?;
    let shutdown = shutdown::install()?;
    let health = probes::Health::default();
    let (beat, synced) = (health.task("model"), health.step("election of a leader, and its first list of every kind"));
    let mut registry = metrics::registry();
    let client = client::connect().await?;
    let eviction_metrics = settings.eviction.map(|_| EvictionMetrics::default());
    eviction_metrics.iter().for_each(|metrics| metrics.register(&mut registry));
    let instance = std::env::var("HOSTNAME").unwrap_or_default();
    let recorder = Recorder::start(client.clone(), "landfall-controller", instance.clone(), &mut registry);
    if let Some(admission) = settings.admission {
        admission::start(admission, client.clone(), settings.namespace.clone(), &health).await?;
    }
    probes::serve(settings.probe_address, health, Arc::new(registry), shutdown.clone()).await?;
    let candidacy = match &settings.lease {
        None => lease::unopposed(),
        Some(name) => {
            let hasty = client::hasty(lease::REQUEST_LIMIT).await?;
            lease::stand(hasty, &settings.namespace, name, lease::identity(&instance)?)?
        }
    };
    let writer = Writer::new(client.clone(), settings.namespace.clone(), recorder.clone(), candidacy.leadership());
    let leadership = candidacy.leadership();
    let evictor = settings.eviction.zip(eviction_metrics).map(|(eviction, metrics)| {
        let place = eviction::Place { namespace: settings.namespace.clone(), class: settings.lb_class.clone() };
        eviction::start(&client, place, eviction, leadership.clone(), recorder.clone(), metrics)
    });
    let mut replica = Replica {
        client,
        namespace: settings.namespace,
        class: settings.lb_class,
        pod: settings.pod,
        speaker_key: settings.speaker_key,
        shutdown,
        leadership,
        recorder,
        writer,
        beat,
        synced,
    };
    while let Some(term) = replica.stand_by().await {
        replica.lead(term).await?;
    }
    info!("asked to end");
    drop(evictor);
    candidacy.release().await;
    Ok(())
}

/// One of several that elect the one that writes.
struct Replica {
    client: Client,
    namespace: String,
    class: Option<String>,
    pod: Option<Pod>,
    speaker_key: Option<speaker_key::Settings>,
    shutdown: shutdown::Shutdown,
    leadership: tokio::sync::watch::Receiver<Leadership>,
    recorder: Recorder,
    writer: Writer,
    beat: probes::Beat,
    synced: probes::Step,
}

impl Replica {
    /// Waits until this replica leads, and returns the term; `None` when the process is to end.
    async fn stand_by(&mut self) -> Option<u64> {
        let mut tick = tokio::time::interval(probes::TICK);
        loop {
            if self.shutdown.is_requested() {
                return None;
            }
            match &*self.leadership.borrow_and_update() {
                Leadership::Standby { leader: Some(_) } => self.synced.done(),
                leadership => {
                    if let Some(term) = leadership.term(Instant::now()) {
                        return Some(term);
                    }
                }
            }
            self.beat.tick();
            tokio::select! {
                () = self.shutdown.requested() => return None,
                Ok(()) = self.leadership.changed() => {}
                _ = tick.tick() => {}
            }
        }
    }

    /// Leads for one term. Everything is listed anew, so that nothing is decided on what the predecessor has changed
    /// meanwhile; and forgotten afterwards. Returns when the term or the process ends, with no write under way.
    async fn lead(&mut self, term: u64) -> anyhow::Result<()> {
        let (to_model, mut events) = mpsc::channel(CHANNEL_BOUND);
        let watches = watch::start(&self.client, &self.namespace, self.class.as_deref(), &to_model);
        let (state, said) = tokio::sync::watch::channel(None);
        let object = configuration_state::keep(&self.client, &self.namespace, Component::Controller, said);
        let key = self.speaker_key.clone().map(|settings| {
            let right = Right { leadership: self.leadership.clone(), term };
            speaker_key::keep(&self.client, &self.namespace, settings, right)
        });
        let mut model = Model::default();
        let mut writes: JoinSet<(Write, Written)> = JoinSet::new();
        let mut tick = tokio::time::interval(probes::TICK);
        while self.leadership.borrow_and_update().term(Instant::now()) == Some(term) {
            while writes.len() < WRITES
                && let Some(write) = model.next(now())
            {
                let writer = self.writer.clone();
                writes.spawn(async move {
                    let how = writer.send(&write, term).await;
                    (write, how)
                });
            }
            self.recorder.give_way(!writes.is_empty());
            // With all writes under way nothing can be decided, whatever is due.
            let due = if writes.len() < WRITES { model.next_due() } else { None };
            let wait = timer::sleep_until(due);
            tokio::select! {
                () = self.shutdown.requested() => break,
                Ok(()) = self.leadership.changed() => {}
                Some(event) = events.recv() => {
                    let mut to_say = take(&mut model, event);
                    // What is queued already is taken in one go: decisions are made on the latest view.
                    while let Ok(event) = events.try_recv() {
                        to_say |= take(&mut model, event);
                    }
                    if to_say {
                        let problems = model.problems().iter().map(ToString::to_string).collect();
                        state.send_replace(Some(State { pod: self.pod.clone(), problems, networks: None }));
                    }
                }
                Some(ended) = writes.join_next() => {
                    let (write, how) = ended.context("a write panicked")?;
                    model.written(&write, &how, now());
                }
                _ = tick.tick() => {}
                () = wait => {}
            }
            self.beat.tick();
            if model.is_ready() {
                self.synced.done();
            }
        }
        drop((watches, object, key));
        self.recorder.give_way(false);
        // Each ends with the right to write, at the latest.
        while writes.join_next().await.is_some() {}
        Ok(())
    }
}

/// Says whether there is something new to say about the configuration.
fn take(model: &mut Model, event: watch::Event) -> bool {
    let before = model.is_ready();
    let problems_changed = model.apply(event, Instant::now());
    let became_ready = !before && model.is_ready();
    if problems_changed {
        log(model.problems());
    }
    if became_ready {
        info!("every first list is complete, addresses are given from now on");
    }
    problems_changed || became_ready
}

fn log(problems: &[Problem]) {
    if problems.is_empty() {
        info!("the configuration has no mistakes any more");
    }
    for problem in problems {
        let Problem { kind, name, field, value, what, .. } = problem;
        warn!(kind, name, field, value, what, "mistake in the configuration, the last good one stays in force");
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}
