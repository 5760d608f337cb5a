//! Cluster out: the conditions that are wished for, a few at a time, behind everything that matters more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use landfall_runtime::client::chain;
use landfall_runtime::{timer, view};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::agenda::Wish;
use crate::model::ServiceKey;
use crate::status::FIELD_MANAGER;

/// Writes in flight.
const CONCURRENT_WRITES: usize = 2;
/// Longer than a healthy API server ever takes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a write that failed; it doubles.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The same is not written again before: until then the watch will have shown it, and two speakers that both take themselves for
/// the owner, because their networks are apart, do not write as fast as they can.
const REPEAT: Duration = Duration::from_secs(10);

view! {
    /// Of the answer to a write nobody reads anything.
    WrittenView of Service {}
}

/// Runs until the sender of `wishes` is gone, at the end of the process. `gives_way`: writes that matter more are under way.
pub(crate) async fn run(
    client: Client,
    mut wishes: watch::Receiver<Arc<Vec<Wish>>>,
    mut gives_way: watch::Receiver<bool>,
) {
    let mut queue = Queue::default();
    let mut under_way = FuturesUnordered::new();
    let (mut pause, mut paused_until) = (MIN_PAUSE, None::<Instant>);
    loop {
        let now = Instant::now();
        paused_until = paused_until.filter(|until| now < *until);
        while under_way.len() < CONCURRENT_WRITES
            && paused_until.is_none()
            && !*gives_way.borrow()
            && let Some(wish) = queue.next(now)
        {
            let client = client.clone();
            under_way.push(async move {
                let done = write(&client, &wish).await;
                (wish, done)
            });
        }
        let wake_at = paused_until.or(queue.again_at());
        tokio::select! {
            changed = wishes.changed() => match changed {
                Ok(()) => queue.replace(&wishes.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            Some((wish, done)) = under_way.next() => match done {
                Ok(()) => pause = MIN_PAUSE,
                Err(why) => {
                    let service = &wish.service;
                    warn!(%service, error = why, "condition landfall.io/Announced not written, trying again");
                    paused_until = Some(Instant::now() + pause);
                    pause = (pause * 2).min(MAX_PAUSE);
                    queue.failed(&wish);
                    queue.replace(&wishes.borrow(), Instant::now());
                }
            },
            Ok(()) = gives_way.changed() => {}
            () = timer::sleep_until(wake_at) => queue.replace(&wishes.borrow(), Instant::now()),
        }
    }
}

/// The wishes that are to be written, in their order, and what was written lately.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Wish>,
    written: BTreeMap<ServiceKey, (u64, Instant)>,
    /// When a wish can be granted that was granted before, and comes again.
    again_at: Option<Instant>,
}

impl Queue {
    /// Takes all that is wished for now; what was wished for before and is not any more is forgotten.
    fn replace(&mut self, wishes: &[Wish], now: Instant) {
        self.written.retain(|_, (_, at)| now < *at + REPEAT);
        self.waiting.clear();
        self.again_at = None;
        for wish in wishes {
            match self.written.get(&wish.service) {
                Some((digest, at)) if *digest == wish.digest => {
                    let again_at = *at + REPEAT;
                    self.again_at = Some(self.again_at.map_or(again_at, |earliest| earliest.min(again_at)));
                }
                _ => self.waiting.push_back(wish.clone()),
            }
        }
    }

    /// The next wish; it counts as written from now on.
    fn next(&mut self, now: Instant) -> Option<Wish> {
        let wish = self.waiting.pop_front()?;
        self.written.insert(wish.service.clone(), (wish.digest, now));
        Some(wish)
    }

    /// It could not be written: its turn comes again with the next [`replace`](Self::replace), if it is still wished for.
    fn failed(&mut self, wish: &Wish) {
        if self.written.get(&wish.service).is_some_and(|(digest, _)| *digest == wish.digest) {
            self.written.remove(&wish.service);
        }
    }

    fn again_at(&self) -> Option<Instant> {
        self.again_at
    }
}

/// The strategic merge patch of `services/status`: conditions of others stay, and a Service of the same name that is another
/// one is left alone.
fn patch(wish: &Wish) -> Value {
    json!({"metadata": {"uid": wish.uid}, "status": {"conditions": [wish.condition]}})
}

/// Why it could not be written. A Service that is gone, or another one, needs no condition of ours.
async fn write(client: &Client, wish: &Wish) -> Result<(), String> {
    let services: Api<WrittenView> = Api::namespaced(client.clone(), &wish.service.namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Strategic(patch(wish));
    let sent = services.patch_status(&wish.service.name, &params, &patch);
    match tokio::time::timeout(WRITE_TIMEOUT, sent).await {
        Ok(Ok(_)) => {
            debug!(service = %wish.service, condition = ?wish.condition, "condition written");
            Ok(())
        }
        Ok(Err(kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => {
            debug!(service = %wish.service, why = refusal.message, "condition not written: the Service is gone");
            Ok(())
        }
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn wish(name: &str, digest: u64) -> Wish {
        let condition = Condition {
            type_: "landfall.io/Announced".into(),
            status: "True".into(),
            reason: "Announced".into(),
            message: "node n1 answers".into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        Wish {
            service: ServiceKey { namespace: "shop".into(), name: name.into() },
            uid: "u1".into(),
            digest,
            condition,
        }
    }

    /// What is written now, one after the other.
    fn all(queue: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now)).map(|wish| format!("{} {}", wish.service.name, wish.digest)).collect()
    }

    #[test]
    fn a_condition_is_written_once_and_the_same_again_only_after_a_pause() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let repeat = start + REPEAT;
        for (what, wishes, now, written) in [
            ("two", vec![wish("a", 1), wish("b", 1)], start, vec!["a 1", "b 1"]),
            ("the watch lags", vec![wish("a", 1), wish("b", 1)], start, vec![]),
            ("another one", vec![wish("a", 1), wish("b", 2)], start, vec!["b 2"]),
            ("seen", vec![], start, vec![]),
            ("somebody wrote over it", vec![wish("a", 1)], start, vec![]),
            ("and still", vec![wish("a", 1)], repeat, vec!["a 1"]),
            ("and again", vec![wish("a", 1)], repeat, vec![]),
        ] {
            queue.replace(&wishes, now);
            assert_eq!(all(&mut queue, now), written, "{what}");
        }
        assert_eq!(queue.again_at(), Some(repeat + REPEAT));
        queue.replace(&[], repeat + REPEAT);
        assert_eq!((queue.again_at(), queue.written.len()), (None, 0), "what is long ago is forgotten");
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_unless_something_else_is_wished_for() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.replace(&[wish("a", 1), wish("b", 1)], now);
        assert_eq!(all(&mut queue, now), ["a 1", "b 1"]);
        for (failed, wishes, written) in [
            (wish("a", 1), vec![wish("a", 1), wish("b", 1)], vec!["a 1"]),
            (wish("a", 1), vec![wish("a", 2)], vec!["a 2"]),
            (wish("a", 1), vec![wish("a", 2)], vec![]), // its successor is on its way
            (wish("a", 2), vec![], vec![]),
        ] {
            queue.failed(&failed);
            queue.replace(&wishes, now);
            assert_eq!(all(&mut queue, now), written, "{failed:?} failed, {wishes:?}");
        }
    }

    #[test]
    fn a_patch_names_the_uid_and_one_condition_and_nothing_else() {
        assert_eq!(
            patch(&wish("a", 1)),
            json!({
                "metadata": {"uid": "u1"},
                "status": {"conditions": [{
                    "type": "landfall.io/Announced", "status": "True", "reason": "Announced",
                    "message": "node n1 answers", "lastTransitionTime": "1970-01-01T00:00:00Z"}]},
            })
        );
    }
}
