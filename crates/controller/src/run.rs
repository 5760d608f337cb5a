//! The controller's tasks:
//! - one watch for each kind ([`watch`](crate::watch)); may be aborted at any time;
//! - the owner of the model, which is this function: it decides;
//! - up to [`WRITES`] writes, each a task; an aborted one is decided and sent again after the restart;
//! - the event recorder and the probe server ([`landfall_runtime`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use landfall_config::Problem;
use landfall_runtime::events::Recorder;
use landfall_runtime::watch::CHANNEL_BOUND;
use landfall_runtime::{client, metrics, probes, shutdown};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::model::{Model, Now, Write, Written};
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
    /// The Lease, in `namespace`, on which the replicas elect the one that writes; `None`: this is the only replica.
    pub lease: Option<String>,
}

/// Runs until the process is asked to end.
/// # Errors
/// What made it impossible to start, or to go on.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut shutdown = shutdown::install()?;
    let health = probes::Health::default();
    let (beat, synced) = (health.task("model"), health.step("the first list of every kind"));
    let mut registry = metrics::registry();
    let client = client::connect().await?;
    let instance = std::env::var("HOSTNAME").unwrap_or_default();
    let recorder = Recorder::start(client.clone(), "landfall-controller", instance, &mut registry);
    probes::serve(settings.probe_address, health, Arc::new(registry), shutdown.clone()).await?;
    let (to_model, mut events) = mpsc::channel(CHANNEL_BOUND);
    let _watches = watch::start(&client, &settings.namespace, settings.lb_class.as_deref(), &to_model);
    let writer = Writer::new(client, settings.namespace, recorder);

    let mut model = Model::default();
    let mut writes: JoinSet<(Write, Written)> = JoinSet::new();
    let mut tick = tokio::time::interval(probes::TICK);
    loop {
        while writes.len() < WRITES
            && let Some(write) = model.next(now())
        {
            let writer = writer.clone();
            writes.spawn(async move {
                let how = writer.send(&write).await;
                (write, how)
            });
        }
        let due = model.next_due().map(tokio::time::Instant::from_std);
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.requested() => break,
            Some(event) = events.recv() => {
                take(&mut model, event);
                // What is queued already is taken in one go: decisions are made on the latest view.
                while let Ok(event) = events.try_recv() {
                    take(&mut model, event);
                }
            }
            Some(ended) = writes.join_next() => {
                let (write, how) = ended.context("a write panicked")?;
                model.written(&write, how, now());
            }
            _ = tick.tick() => {}
            () = wait => {}
        }
        beat.tick();
        if model.is_ready() {
            synced.done();
        }
    }
    info!("asked to end");
    Ok(())
}

fn take(model: &mut Model, event: watch::Event) {
    let before = model.is_ready();
    if let Some(problems) = model.apply(event, Instant::now()) {
        log(problems);
    }
    if !before && model.is_ready() {
        info!("every first list is complete, addresses are given from now on");
    }
}

fn log(problems: &[Problem]) {
    if problems.is_empty() {
        info!("the configuration has no mistakes any more");
    }
    for problem in problems {
        let Problem { kind, name, field, value, what } = problem;
        warn!(kind, name, field, value, what, "mistake in the configuration, the last good one stays in force");
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}
