//! What a measurement has broken or changed; it is undone whatever happens to the measurement.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::fault::Fault;
use crate::lab::Lab;
use crate::{command, network};

/// Something to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wound {
    /// Whatever was done to a node.
    Node(String),
    /// The API server is off.
    ApiServer,
    /// The Node carries this annotation.
    Annotation {
        /// The Node's name.
        node: String,
        /// The annotation's key.
        key: &'static str,
    },
    /// The client has a route to these addresses of its own.
    Route(&'static str),
    /// There is a second client.
    FarClient,
    /// The network is in two halves.
    Split,
    /// A Helm release was upgraded from this revision.
    Release {
        /// Where it is installed.
        namespace: String,
        /// Its name.
        name: String,
        /// What it was.
        revision: u64,
    },
}

impl Wound {
    /// Undoes it, and returns when that shows.
    fn heal(&self, lab: &Lab) -> Result<()> {
        match self {
            Wound::Node(node) => {
                lab.heal(node).with_context(|| format!("{node} stays broken: `cargo lab heal {node}`"))
            }
            Wound::ApiServer => lab.start_api_server(),
            Wound::Annotation { node, key } => lab.kubectl(&["annotate", "node", node, &format!("{key}-")]).map(drop),
            Wound::Route(prefix) => {
                let mut ip = lab.netns_command("client", "ip");
                command::output(ip.args(["route", "del", prefix])).map(drop)
            }
            Wound::FarClient => network::unplug(lab, network::FAR),
            Wound::Split => network::join(lab),
            Wound::Release { namespace, name, revision } => {
                let revision = revision.to_string();
                let back = ["rollback", name, &revision, "--namespace", namespace, "--wait", "--timeout", "3m"];
                lab.helm(&back).map(drop)
            }
        }
    }
}

/// Breaks and mends. The lock is held while that happens, so that mending after an interruption waits for a fault that is
/// still being made.
#[derive(Clone)]
pub(super) struct Damage {
    lab: Lab,
    wounds: Arc<Mutex<Vec<Wound>>>,
}

impl Damage {
    pub(super) fn new(lab: &Lab) -> Damage {
        Damage { lab: lab.clone(), wounds: Arc::default() }
    }

    /// Breaks a node, and returns the moment before it was touched.
    pub(super) async fn inflict(&self, node: &str, fault: Fault) -> Result<Instant> {
        let name = node.to_owned();
        self.cause(Wound::Node(node.to_owned()), move |lab| lab.fault(&name, fault)).await
    }

    /// Does something that has to be undone, and returns the moment before it began.
    pub(super) async fn cause(
        &self,
        wound: Wound,
        act: impl FnOnce(&Lab) -> Result<()> + Send + 'static,
    ) -> Result<Instant> {
        let damage = self.clone();
        blocking(move || {
            let mut wounds = damage.wounds.lock().unwrap_or_else(PoisonError::into_inner);
            wounds.push(wound);
            let before = Instant::now();
            act(&damage.lab)?;
            Ok(before)
        })
        .await
    }

    /// As [`Damage::cause`] for what may be done several times and is undone once: the first wound of its kind stays.
    pub(super) async fn cause_once(
        &self,
        wound: Wound,
        act: impl FnOnce(&Lab) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let damage = self.clone();
        blocking(move || {
            let mut wounds = damage.wounds.lock().unwrap_or_else(PoisonError::into_inner);
            if !wounds.iter().any(|known| std::mem::discriminant(known) == std::mem::discriminant(&wound)) {
                wounds.push(wound);
            }
            act(&damage.lab)
        })
        .await
    }

    /// Undoes everything, in the order in which it was done (a node is healed only when the API server is back), and
    /// returns when it shows: Kubernetes calls nodes Ready, the API server answers.
    pub(super) async fn mend(&self) -> Result<()> {
        let damage = self.clone();
        blocking(move || {
            let mut wounds = damage.wounds.lock().unwrap_or_else(PoisonError::into_inner);
            let healed: Vec<Result<()>> = wounds.drain(..).map(|wound| wound.heal(&damage.lab)).collect();
            healed.into_iter().collect()
        })
        .await
    }
}

/// Runs work that blocks (the lab's own commands) beside the watches.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(cancelled.into()),
        },
    }
}
