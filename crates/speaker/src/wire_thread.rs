//! The thread that holds the wire: how it is started, what it is told and what it tells.
//!
//! It has a runtime of its own, so that reading ten thousand Services on the other side never delays an answer. Tasks on it:
//! the loop of [`Wire::run`] (never aborted), netlink's connection (ends with the loop), and one task for each
//! [`Lane`](crate::frames::Lane) (aborted when its addresses or its interface go).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::sync::{oneshot, watch};

use crate::desired::{Announced, Desired};
use crate::ipvs::Held;
use crate::links::InterfaceFilter;
use crate::liveness::LivenessInputs;
use crate::passing_on::NodeAddresses;
use crate::refresh::Refresh;
use crate::wire::{Reports, Wire};
use crate::wire_metrics::WireMetrics;

/// How the wire half is to behave.
#[derive(Clone, Debug, Default)]
pub struct WireSettings {
    /// The Node it runs on, as rankings name it.
    pub node: Arc<str>,
    /// The interfaces that may be used.
    pub interfaces: InterfaceFilter,
    /// How the speakers watch each other; `None`: whoever is first in a ranking answers.
    pub liveness: Option<LivenessInputs>,
    /// How often neighbours are told again.
    pub refresh: Refresh,
    /// Where the other nodes are, if established connections are to survive planned moves; `None`: they are not.
    pub keep_connections: Option<watch::Receiver<Arc<NodeAddresses>>>,
}

/// The running thread. Dropping it lets the thread run on; it ends when the sender of `desired` is dropped.
#[derive(Debug)]
pub struct WireThread {
    ready: watch::Receiver<bool>,
    networks: watch::Receiver<BTreeSet<IpNet>>,
    held_by_ipvs: watch::Receiver<Option<Held>>,
    outcome: oneshot::Receiver<anyhow::Result<()>>,
    thread: JoinHandle<()>,
}

impl WireThread {
    /// Whether the interfaces are known, `desired` is in force, and the other speakers, if any, know of us.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// The networks of the interfaces that may be used now; empty before the thread is [`ready`](Self::ready).
    pub fn networks(&self) -> watch::Receiver<BTreeSet<IpNet>> {
        self.networks.clone()
    }

    /// Whether kube-proxy, in IPVS mode, has a desired address on its interface.
    pub fn held_by_ipvs(&self) -> watch::Receiver<Option<Held>> {
        self.held_by_ipvs.clone()
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
    let (held_sender, held_by_ipvs) = watch::channel(None);
    let (outcome_sender, outcome) = oneshot::channel();
    let body = move || {
        raise_priority();
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the wire thread")
            .and_then(|runtime| {
                runtime.block_on(async {
                    let reports = Reports { announced, networks: networks_sender, held_by_ipvs: held_sender };
                    let wire = Wire::new(settings, reports, metrics)?;
                    wire.run(desired, &ready_sender).await
                })
            });
        // The receiver may be gone: then nobody wants to know.
        let _ = outcome_sender.send(result);
    };
    let thread =
        std::thread::Builder::new().name("wire".to_owned()).spawn(body).context("cannot start the wire thread")?;
    Ok(WireThread { ready, networks, held_by_ipvs, outcome, thread })
}

/// How much the processor is to prefer this thread: -20 is the most, 0 is usual.
const NICENESS: i32 = -10;

/// A beat must not wait while something else keeps the processors busy. Without CAP_SYS_NICE the thread takes its turn.
fn raise_priority() {
    // For Linux the priority is the calling thread's, though the name says process.
    match rustix::process::setpriority_process(None, NICENESS) {
        Ok(()) => tracing::info!(niceness = NICENESS, "the wire thread goes before others"),
        Err(error) => tracing::debug!(%error, "the wire thread has the priority of others"),
    }
}
