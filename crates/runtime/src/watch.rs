//! One door for watching a kind: each object becomes a small value at once, and no full object is kept.
//!
//! A watch is one task. It lists, then follows, and starts over by itself when the connection is lost or the server
//! has forgotten our place. What it read goes as [`Change`]s, in order, into the bounded channel of the owner task.

use std::hash::BuildHasher as _;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long the server keeps one watch call open. A watch on which nothing came for 5 s more (kube's margin) is given up, so
/// a server that fell silent is noticed within a minute, whatever the [client](crate::client)'s kernel thinks of the
/// connection; each node then costs the API server one cheap call per kind and 50 s.
pub const WATCH_TIMEOUT_SECS: u32 = 50;

/// Objects per page of a list: bounds what is decoded at one time. The same number as client-go's pager.
pub const PAGE_SIZE: u32 = 500;

/// A good bound for the channel into an owner task. A full channel is back-pressure, not loss: the watch waits, and
/// the socket's buffer with it. 256 small values are a few dozen kilobytes, and more than one wake-up of the owner needs.
pub const CHANNEL_BOUND: usize = 256;

/// The first pause after a failure; each further one is twice as long, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause. A node that boots before its API server serves this long after it, at the latest; a server that
/// comes back gets one call per kind, node and 10 s, spread by jitter. (client-go waits up to 30 s.)
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A watch that worked this long starts over with the first pause.
const FORGET_FAILURES: Duration = Duration::from_secs(60);

/// A failed try ends within this time: the longest pause, the connect timeout, and the read timeout. A watch that has
/// not failed again after it is established, even if nothing happened to be sent on it.
const QUIET_MEANS_RECOVERED: Duration = Duration::from_secs(90);

/// What a watch says about one kind. `T` carries the object's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// A complete list begins. It may begin again before it is done. Nothing may be forgotten yet.
    Restarted,
    /// One object of the list.
    Listed(T),
    /// The list is complete: what was known before and was not listed is gone.
    ListDone,
    /// An object was created or changed.
    Applied(T),
    /// An object was deleted, or no longer matches the selector.
    Deleted(T),
}

/// Watches `api` until the channel's receiver is gone; the task then ends.
///
/// `config` selects by labels or fields; its timeout and page size are replaced by ours. `read` turns an object into
/// the small value that the owner keeps, and runs on this task. `wrap` makes it one arm of the owner's event type.
/// Failures are retried for ever with a growing pause (0.5 s to 10 s) and logged once, as is the recovery.
pub fn spawn<K, T, E>(
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(K) -> T + Send + 'static,
    to: mpsc::Sender<E>,
    wrap: impl Fn(Change<T>) -> E + Send + 'static,
) -> JoinHandle<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let config = config.timeout(WATCH_TIMEOUT_SECS).page_size(PAGE_SIZE);
    let begin = move || Box::pin(watcher(api.clone(), config.clone()).backoff(Pauses::default()));
    tokio::spawn(async move {
        let mut health = Health::new(K::plural(&()).into_owned());
        let mut lost_places = Pauses::default();
        let mut events = begin();
        loop {
            let event = match tokio::time::timeout(QUIET_MEANS_RECOVERED, events.next()).await {
                Err(_quiet) => {
                    health.worked();
                    continue;
                }
                // The watcher's stream has no end; should it get one, the owner must not wait for ever unnoticed.
                Ok(None) => return warn!(kind = health.kind, "watch ended"),
                Ok(Some(Err(error))) => {
                    health.failed(&error);
                    if is_refused_place(&error) {
                        tokio::time::sleep(lost_places.pause()).await;
                        events = begin();
                    }
                    continue;
                }
                Ok(Some(Ok(event))) => event,
            };
            // `Init` is said before the list is asked for, so it proves nothing about the server.
            if !matches!(event, watcher::Event::Init) {
                health.worked();
            }
            if to.send(wrap(change(event, &read))).await.is_err() {
                return;
            }
        }
    })
}

/// Whether the server refused to watch from our place because that is too long ago. It says so on the stream as a rule, and
/// kube then lists anew; but 410 is also a legal answer to the call itself, and kube asks for the same place for ever.
/// Source: Kubernetes, "API concepts", "410 Gone responses".
fn is_refused_place(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// One watch event with its object already read.
fn change<K, T>(event: watcher::Event<K>, read: &impl Fn(K) -> T) -> Change<T> {
    match event {
        watcher::Event::Init => Change::Restarted,
        watcher::Event::InitApply(object) => Change::Listed(read(object)),
        watcher::Event::InitDone => Change::ListDone,
        watcher::Event::Apply(object) => Change::Applied(read(object)),
        watcher::Event::Delete(object) => Change::Deleted(read(object)),
    }
}

/// The pauses between failures: doubling, each shortened by up to a half at random so that nodes do not come in step.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
    last_failure: Option<Instant>,
    random: std::hash::RandomState,
}

impl Pauses {
    /// The pause after a failure that happened now.
    fn pause(&mut self) -> Duration {
        let now = Instant::now();
        if self.last_failure.replace(now).is_some_and(|last| now - last > FORGET_FAILURES) {
            self.failures = 0;
        }
        let full = MIN_PAUSE.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let part = self.random.hash_one(self.failures) % 1000;
        full / 2 + full.mul_f64(part as f64 / 2000.0)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

impl Backoff for Pauses {
    /// Nothing: kube resets on every event, and `Init` comes before each try to list, so no pause would ever grow.
    fn reset(&mut self) {}
}

/// Says once that a watch fails, and once that it works again. A single failure is only for the debug log: an API server
/// that restarts, or has just been given a new kind, ends or refuses each watch once.
#[derive(Debug, Default)]
struct Health {
    kind: String,
    /// Failures since it worked.
    failures: u32,
    said: Option<String>,
}

impl Health {
    fn new(kind: String) -> Self {
        Self { kind, ..Self::default() }
    }

    fn failed(&mut self, error: &watcher::Error) {
        // An expired resource version is the protocol's ordinary way to ask for a new list.
        let expired = matches!(error, watcher::Error::WatchError(status) if status.code == 410);
        if expired || is_refused_place(error) {
            return;
        }
        self.failures += 1;
        let text = remedy(&self.kind, error);
        if self.failures == 1 {
            debug!(kind = self.kind, error = text, "watch failed once, trying again");
        } else if self.said.as_deref() != Some(&text) {
            warn!(kind = self.kind, error = text, "watch fails, what is known stays in force, trying again");
            self.said = Some(text);
        }
    }

    fn worked(&mut self) {
        self.failures = 0;
        if self.said.take().is_some() {
            info!(kind = self.kind, "watch works again");
        }
    }
}

/// The error in words, with the way out where we know it.
fn remedy(kind: &str, error: &watcher::Error) -> String {
    use kube::Error::Api as Refused;
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(Refused(status)) | WatchStartFailed(Refused(status)) | WatchFailed(Refused(status)) => {
            match status.code {
                403 => format!("{}; the ClusterRole or Role must allow list and watch of {kind}", status.message),
                404 => format!("{}; is the CustomResourceDefinition of {kind} installed?", status.message),
                _ => status.message.clone(),
            }
        }
        other => crate::client::chain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watch_event_keeps_its_meaning_and_its_object_is_read() {
        let read = |n: u8| u16::from(n) * 100;
        for (event, expected) in [
            (watcher::Event::Init, Change::Restarted),
            (watcher::Event::InitApply(1), Change::Listed(100)),
            (watcher::Event::InitDone, Change::ListDone),
            (watcher::Event::Apply(2), Change::Applied(200)),
            (watcher::Event::Delete(3), Change::Deleted(300)),
        ] {
            assert_eq!(change(event, &read), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_ten_seconds_and_are_not_the_same_on_every_node() {
        let mut pauses = Pauses::default();
        for full in [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
            let pause = pauses.next().unwrap().as_secs_f64();
            assert!((full / 2.0..=full).contains(&pause), "{pause} s for {full} s");
        }
        pauses.reset(); // as kube does before each try
        assert!(pauses.next().unwrap() >= MAX_PAUSE / 2);
        tokio::time::advance(FORGET_FAILURES + Duration::from_secs(1)).await;
        assert!(pauses.next().unwrap() <= MIN_PAUSE);
        let of_one_node = |_| Pauses::default().nth(6);
        let different: std::collections::BTreeSet<_> = (0..50).map(of_one_node).collect();
        assert!(different.len() > 10, "{different:?}");
    }

    #[test]
    fn a_refusal_names_the_permission_that_is_missing() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(
            remedy("pods", &error),
            "pods is forbidden; the ClusterRole or Role must allow list and watch of pods"
        );
    }

    #[test]
    fn a_failure_is_said_when_it_lasts_and_an_expired_place_in_the_stream_is_none() {
        let refused = |code| Box::new(kube::core::Status::failure("no", "Because").with_code(code));
        let failure = || watcher::Error::InitialListFailed(kube::Error::Api(refused(500)));
        let mut health = Health::new("pods".into());
        health.failed(&failure());
        assert_eq!((health.failures, health.said.as_deref()), (1, None));
        health.failed(&watcher::Error::WatchError(refused(410)));
        health.failed(&watcher::Error::WatchStartFailed(kube::Error::Api(refused(410))));
        assert_eq!((health.failures, health.said.as_deref()), (1, None));
        health.failed(&failure());
        assert_eq!((health.failures, health.said.as_deref()), (2, Some("no")));
        health.worked();
        assert_eq!((health.failures, health.said.as_deref()), (0, None));
    }
}
