//! Drives an [`Election`] against the API: the only place here that waits, sends and logs.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{Answer, Ask, DURATION, Election, Leadership, Next, Now, Record, Stored};
use crate::client::chain;
use crate::random;

/// Letting go is a read and a write at most; when the API is away there is no point in waiting: the Lease runs out.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// What `--leader-elect=false` amounts to: nobody lives to see the end of this right.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Our part in an election, until it is dropped or released.
#[derive(Debug)]
pub struct Candidacy {
    leadership: watch::Receiver<Leadership>,
    task: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Candidacy {
    /// Whether we lead, now and from now on. A value seen here is to be asked with the clock in hand; see the module.
    /// It changes with each renewal.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Leads no longer, and tells the others so that one of them takes over at once. **Every write of ours must have
    /// ended before.** Returns after two seconds at the latest, then the Lease has to run out.
    pub async fn release(self) {
        let Some((release, task)) = self.task else { return };
        // A task that has ended has nothing to release.
        let _ = release.send(());
        if tokio::time::timeout(RELEASE_LIMIT, task).await.is_err() {
            warn!(seconds = DURATION.as_secs(), "Lease not released in time, the next leader waits until it runs out");
        }
    }
}

/// Leads always: for a single replica that was told not to elect.
pub fn unopposed() -> Candidacy {
    let until = Instant::now() + FOR_EVER;
    Candidacy { leadership: watch::channel(Leadership::Leader { term: 1, until }).1, task: None }
}

/// Who we are in the Lease: the Pod's name, and something that no process before us had. A container that starts again
/// in its Pod is another candidate, and inherits nothing.
///
/// # Errors
/// The kernel gives no random octets.
pub fn identity(pod: &str) -> anyhow::Result<String> {
    Ok(format!("{pod}_{:016x}", u64::from_ne_bytes(random::octets()?)))
}

/// The name of the Pod that [`identity`] was made for.
pub fn pod_of(identity: &str) -> &str {
    identity.rsplit_once('_').map_or(identity, |(pod, _)| pod)
}

/// Stands for election on the Lease `name`, as a task of its own. `client` should be that of
/// [`client::hasty`](crate::client::hasty), which never retries by itself.
///
/// # Errors
/// The kernel gives no random octets.
pub fn stand(client: Client, namespace: &str, name: &str, identity: String) -> anyhow::Result<Candidacy> {
    let election = Election::new(identity.clone(), u64::from_ne_bytes(random::octets()?));
    let leases = Leases { api: Api::namespaced(client, namespace), namespace: namespace.into(), name: name.into() };
    let (publish, leadership) = watch::channel(Leadership::Standby { leader: None });
    let (release, released) = oneshot::channel();
    let keeper = Keeper { election, leases, publish, failure: None, identity };
    Ok(Candidacy { leadership, task: Some((release, tokio::spawn(keeper.keep(released)))) })
}

struct Keeper {
    election: Election,
    leases: Leases,
    publish: watch::Sender<Leadership>,
    /// What fails and why; it has been logged.
    failure: Option<(Discriminant<Ask>, String)>,
    identity: String,
}

impl Keeper {
    async fn keep(mut self, mut released: oneshot::Receiver<()>) {
        let mut resigned = false;
        loop {
            self.announce();
            match self.election.next(now()) {
                Next::Done => return,
                Next::Ask(request) => {
                    let started = now().instant;
                    let sent = tokio::time::timeout(request.limit, self.leases.send(&request.ask)).await;
                    let answer = match sent {
                        Ok(Ok(answer)) => self.recovered(&request.ask, answer),
                        Ok(Err(error)) => self.failed(&request.ask, self.leases.explain(&error)),
                        Err(_) => self.failed(&request.ask, "no answer in time".into()),
                    };
                    self.election.answered(&request.ask, answer, started, now().instant);
                }
                Next::Wait(due) => tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    asked = &mut released, if !resigned => match asked {
                        Ok(()) => {
                            resigned = true;
                            self.election.resign();
                        }
                        // Nobody is left who could release: the Lease runs out.
                        Err(_) => return,
                    },
                },
            }
        }
    }

    /// Publishes and logs what has changed.
    fn announce(&self) {
        let leadership = self.election.leadership(now().instant);
        let before = self.publish.send_replace(leadership.clone());
        let (lease, identity) = (&self.leases.name, &self.identity);
        match (before, leadership) {
            (Leadership::Leader { term: before, .. }, Leadership::Leader { term, .. }) if before == term => {}
            (_, Leadership::Leader { term, .. }) => info!(lease, identity, term, "leading"),
            (Leadership::Leader { term, .. }, Leadership::Standby { leader }) => {
                warn!(lease, identity, term, leader, "leading no longer, nothing is written any more");
            }
            (Leadership::Standby { leader: before }, Leadership::Standby { leader }) if before != leader => {
                info!(lease, identity, leader, "standing by");
            }
            (Leadership::Standby { .. }, Leadership::Standby { .. }) => {}
        }
    }

    /// Logs a failure once, as long as it stays the same.
    fn failed(&mut self, ask: &Ask, why: String) -> Answer {
        let failure = (discriminant(ask), why);
        if self.failure.as_ref() != Some(&failure) {
            error!(lease = self.leases.name, error = failure.1, "the Lease cannot be had, trying again");
            self.failure = Some(failure);
        }
        Answer::Failed
    }

    /// Where writing fails, being able to read is no news.
    fn recovered(&mut self, ask: &Ask, answer: Answer) -> Answer {
        if self.failure.take_if(|(failed, _)| *failed == discriminant(ask)).is_some() {
            info!(lease = self.leases.name, "the Lease can be had again");
        }
        answer
    }
}

/// The one Lease in the API.
struct Leases {
    api: Api<Lease>,
    namespace: String,
    name: String,
}

impl Leases {
    async fn send(&self, ask: &Ask) -> Result<Answer, kube::Error> {
        let answer = match ask {
            Ask::Read => return Ok(Answer::Found(self.api.get_opt(&self.name).await?.map(stored))),
            Ask::Create(record) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec(record)) };
                self.api.create(&PostParams::default(), &lease).await
            }
            // A patch that names a version is refused as a PUT would be when the Lease has another, and keeps what
            // newer versions of the API may add to it.
            Ask::Replace { version, record } => {
                let patch: Value = json!({"metadata": {"resourceVersion": version}, "spec": spec(record)});
                self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await
            }
        };
        match answer {
            Ok(lease) => Ok(Answer::Written(stored(lease))),
            Err(kube::Error::Api(refusal)) if refusal.code == 409 => Ok(Answer::Refused),
            // It is gone; where nothing can be created it is the namespace that is gone.
            Err(kube::Error::Api(refusal)) if refusal.code == 404 && matches!(ask, Ask::Replace { .. }) => {
                Ok(Answer::Refused)
            }
            Err(error) => Err(error),
        }
    }

    /// The error, and the way out if there is one.
    fn explain(&self, error: &kube::Error) -> String {
        let (name, namespace) = (&self.name, &self.namespace);
        match error {
            kube::Error::Api(refusal) if refusal.code == 403 => format!(
                "{}; allow the ServiceAccount get and patch on Lease {name} and create on leases (coordination.k8s.io) in \
                 namespace {namespace}, as the chart's Role does, or run one replica with --leader-elect=false",
                refusal.message
            ),
            other => chain(other),
        }
    }
}

fn spec(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

fn stored(lease: Lease) -> Stored {
    let spec = lease.spec.unwrap_or_default();
    let secs = spec.lease_duration_seconds.and_then(|secs| u64::try_from(secs).ok()).filter(|secs| *secs > 0);
    Stored {
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            duration: secs.map_or(DURATION, Duration::from_secs),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        },
        version: lease.metadata.resource_version.unwrap_or_default(),
    }
}

/// tokio's clock, which tests can move; it is the process's own otherwise.
fn now() -> Now {
    Now { instant: tokio::time::Instant::now().into_std(), wall: Timestamp::now() }
}

#[cfg(test)]
mod tests;
