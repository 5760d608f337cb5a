//! Kubernetes Events (core/v1): said once, never waited for.
//!
//! An event's name is a hash of what it says, so a restarted process that says the same again meets its own event
//! (AlreadyExists) and writes nothing. `create` is the only permission this needs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

/// Events that wait to be sent: one for each of ten thousand Services that get their addresses at once, and some more.
/// What overflows is dropped and counted: an event is a courtesy, the object's condition is the record.
const QUEUE_BOUND: usize = 12_000;

/// Tries to send one event, and how long each may take.
const TRIES: u32 = 3;
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// How often an event is sent while more urgent writes are under way (see [`Recorder::give_way`]).
const PAUSE_GIVING_WAY: Duration = Duration::from_millis(200);

/// The longest name of an object (RFC 1123 subdomain).
const MAX_NAME: usize = 253;

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `v1` for a Service.
    pub api_version: &'static str,
    /// `Service`
    pub kind: &'static str,
    /// `None` for cluster-scoped objects; their events go to the namespace `default`, where kubectl looks for them.
    pub namespace: Option<String>,
    /// metadata.name
    pub name: String,
    /// metadata.uid: `kubectl describe` finds events by it.
    pub uid: String,
}

/// Whether an event asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Normal => "Normal",
            Kind::Warning => "Warning",
        }
    }
}

/// One thing to say about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The object it is about.
    pub about: Subject,
    /// Normal or Warning.
    pub kind: Kind,
    /// A short word from a closed set, such as `nodeAssigned`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// What tells two equal sentences apart that both deserve to be seen (an owner that left and came back), such as
    /// the name of the object that changed hands. It must be the same after a restart. Empty: say it once.
    pub occasion: String,
}

impl Event {
    /// `<object>.<hash>`: equal for equal events, whoever sends them and however often.
    fn name(&self) -> String {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&self.about.uid, self.reason, &self.message, &self.occasion] {
            digest.update(part.as_bytes());
            digest.update(&[0]); // no two different lists of parts are the same octets
        }
        let hash: String = digest.finish().as_ref().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
        // Names of objects are ASCII, so cutting at an octet is safe; `trim` keeps the result a valid subdomain.
        let object: String = self.about.name.chars().take(MAX_NAME - 1 - hash.len()).collect();
        format!("{}.{hash}", object.trim_end_matches(['.', '-']))
    }

    fn into_core(self, component: &str, instance: &str, now: Timestamp) -> CoreEvent {
        let namespace = self.about.namespace.clone().unwrap_or_else(|| "default".into());
        CoreEvent {
            metadata: ObjectMeta { name: Some(self.name()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: ObjectReference {
                api_version: Some(self.about.api_version.into()),
                kind: Some(self.about.kind.into()),
                name: Some(self.about.name),
                namespace: self.about.namespace,
                uid: Some(self.about.uid),
                ..ObjectReference::default()
            },
            reason: Some(self.reason.into()),
            message: Some(self.message),
            type_: Some(self.kind.as_str().into()),
            source: Some(EventSource { component: Some(component.into()), host: Some(instance.into()) }),
            reporting_component: Some(component.into()),
            reporting_instance: Some(instance.into()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..CoreEvent::default()
        }
    }
}

/// Takes events from any task without ever making it wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<(Event, Timestamp)>,
    dropped: Counter,
    gives_way: watch::Sender<bool>,
}

impl Recorder {
    /// A recorder and the queue it fills: for [`Recorder::start`], and for tests that want to see the events.
    /// With each event comes the time when it was recorded.
    pub fn with_queue(bound: usize) -> (Self, mpsc::Receiver<(Event, Timestamp)>) {
        let (queue, events) = mpsc::channel(bound);
        (Self { queue, dropped: Counter::default(), gives_way: watch::Sender::new(false) }, events)
    }

    /// Starts the task that sends events, one after the other so that they stay behind the writes that matter.
    /// `component` is who speaks (`landfall-speaker`), `instance` the node or Pod it runs on.
    pub fn start(client: Client, component: &'static str, instance: String, metrics: &mut Registry) -> Self {
        let (recorder, mut events) = Self::with_queue(QUEUE_BOUND);
        metrics.register(
            "landfall_events_dropped",
            "Kubernetes Events that were not sent because too many waited",
            recorder.dropped.clone(),
        );
        let mut gives_way = recorder.gives_way.subscribe();
        tokio::spawn(async move {
            while let Some((event, at)) = next(&mut events, &mut gives_way).await {
                let event = event.into_core(component, &instance, at);
                send(&client, &event).await;
            }
        });
        recorder
    }

    /// Whether writes that matter more are under way: then events wait, but for one now and then. The API server takes
    /// a hundred or two writes a second; an event for each of a thousand Services that get their addresses would
    /// nearly double the time until the last one has its own.
    pub fn give_way(&self, yes: bool) {
        crate::publish::if_changed(&self.gives_way, yes);
    }

    /// Queues one event. When the queue is full it is dropped and counted.
    pub fn record(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full((event, _))) = self.queue.try_send((event, Timestamp::now()))
            && self.dropped.inc() == 0
        {
            warn!(reason = event.reason, object = event.about.name, "too many events wait, some are dropped");
        }
    }
}

/// The next event once it is its turn; `None` when the recorder is gone and all is sent.
async fn next(
    events: &mut mpsc::Receiver<(Event, Timestamp)>,
    gives_way: &mut watch::Receiver<bool>,
) -> Option<(Event, Timestamp)> {
    let next = events.recv().await;
    // An error says that the recorder is gone; what it queued is sent all the same.
    let _ = tokio::time::timeout(PAUSE_GIVING_WAY, gives_way.wait_for(|gives_way| !gives_way)).await;
    next
}

/// Sends one event; an event that cannot be sent is given up after a few tries.
async fn send(client: &Client, event: &CoreEvent) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<CoreEvent> = Api::namespaced(client.clone(), namespace);
    let mut failure = String::new();
    for tried in 0..TRIES {
        if tried > 0 {
            tokio::time::sleep(PAUSE_BETWEEN_TRIES * tried).await;
        }
        failure = match tokio::time::timeout(TRY_TIMEOUT, api.create(&PostParams::default(), event)).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => return,
            // The namespace is gone or going, or we may not write: another try changes nothing.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                return debug!(reason = event.reason, namespace, error = status.message, "event refused");
            }
            Ok(Err(error)) => crate::client::chain(&error),
            Err(_) => format!("no answer within {} s", TRY_TIMEOUT.as_secs()),
        };
    }
    warn!(reason = event.reason, namespace, object = event.involved_object.name, error = failure, "event not sent");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            about: Subject {
                api_version: "v1",
                kind: "Service",
                namespace: Some("shop".into()),
                name: "web".into(),
                uid: "6d1f".into(),
            },
            kind: Kind::Normal,
            reason: "nodeAssigned",
            message: r#"announcing from node "n1" with protocol "layer2""#.into(),
            occasion: String::new(),
        }
    }

    #[test]
    fn the_same_event_has_the_same_name_and_any_difference_another() {
        let name = event().name();
        assert_eq!(name, event().name());
        assert_eq!(name, "web.760de22fb2418a34", "names must not change between versions");
        let other_uid = Event { about: Subject { uid: "6d20".into(), ..event().about }, ..event() };
        let other_occasion = Event { occasion: "l2-x7f2q".into(), ..event() };
        let moved_border = Event { reason: "nodeAssigne", message: format!("d{}", event().message), ..event() };
        for other in [other_uid, other_occasion, moved_border] {
            assert_ne!(name, other.name());
        }
    }

    #[test]
    fn a_very_long_object_name_is_cut_to_a_valid_event_name() {
        let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let event = Event { about: Subject { name: long, ..event().about }, ..event() };
        let name = event.name();
        assert!(name.len() <= MAX_NAME, "{name}");
        assert!(!name.contains(".."), "{name}");
    }

    #[test]
    fn a_cluster_scoped_object_has_its_events_in_the_default_namespace() {
        let event = Event { about: Subject { namespace: None, kind: "Node", ..event().about }, ..event() };
        let core = event.into_core("landfall-speaker", "n1", Timestamp::UNIX_EPOCH);
        assert_eq!(core.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(core.involved_object.namespace, None);
    }

    #[test]
    fn the_event_is_what_kubectl_and_dashboards_expect() {
        let core = event().into_core("landfall-speaker", "n1", Timestamp::UNIX_EPOCH);
        assert_eq!(core.involved_object.uid.as_deref(), Some("6d1f"));
        assert_eq!(core.reporting_component.as_deref(), Some("landfall-speaker"));
        assert_eq!(core.source.and_then(|source| source.component).as_deref(), Some("landfall-speaker"));
        assert_eq!(core.last_timestamp, Some(Time(Timestamp::UNIX_EPOCH)));
        assert_eq!((core.type_.as_deref(), core.count), (Some("Normal"), Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn events_give_way_to_writes_that_matter_more_but_do_not_starve() {
        let (recorder, mut events) = Recorder::with_queue(9);
        let mut gives_way = recorder.gives_way.subscribe();
        (0..3).for_each(|_| recorder.record(event()));
        let start = tokio::time::Instant::now();
        let mut waited = async || {
            next(&mut events, &mut gives_way).await.expect("an event");
            start.elapsed()
        };
        assert_eq!(waited().await, Duration::ZERO);
        recorder.give_way(true);
        assert_eq!(waited().await, PAUSE_GIVING_WAY);
        recorder.give_way(false);
        assert_eq!(waited().await, PAUSE_GIVING_WAY, "nothing to wait for");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_and_never_blocks() {
        let (recorder, mut events) = Recorder::with_queue(1);
        recorder.record(event());
        recorder.record(event());
        recorder.record(event());
        assert_eq!(recorder.dropped.get(), 2);
        assert_eq!(events.recv().await.map(|(event, _)| event), Some(event()));
    }
}
