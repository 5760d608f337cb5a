//! Which Services are to be looked at, in the order in which they changed, and which must wait a little.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use landfall_ipam::ServiceKey;

/// The pause after the first failed write; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A queue without duplicates. A Service with a write under way is not handed out until the write is done.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    order: VecDeque<ServiceKey>,
    queued: BTreeSet<ServiceKey>,
    in_flight: BTreeSet<ServiceKey>,
    /// Changed while its write was under way.
    again: BTreeSet<ServiceKey>,
    retries: BTreeMap<ServiceKey, Retry>,
}

/// A Service whose last write failed.
#[derive(Clone, Copy, Debug)]
struct Retry {
    /// How often in a row.
    tries: u32,
    /// When to try again; `None` once it is queued again.
    due: Option<Instant>,
}

impl Queue {
    /// The Service changed.
    pub fn push(&mut self, key: &ServiceKey) {
        if self.in_flight.contains(key) {
            self.again.insert(key.clone());
        } else if self.queued.insert(key.clone()) {
            self.order.push_back(key.clone());
        }
    }

    /// Something happened that may concern the Service. One whose last write failed is looked at anyway, after its pause:
    /// others' doings must not make it try faster.
    pub fn wake(&mut self, key: &ServiceKey) {
        let pauses = self.retries.get(key).is_some_and(|retry| retry.due.is_some());
        if !pauses || self.in_flight.contains(key) {
            self.push(key);
        }
    }

    /// The Service that waits longest.
    pub fn pop(&mut self, now: Instant) -> Option<ServiceKey> {
        let mut due = Vec::new();
        for (key, retry) in &mut self.retries {
            if retry.due.is_some_and(|at| at <= now) {
                retry.due = None;
                due.push(key.clone());
            }
        }
        for key in due {
            self.push(&key);
        }
        let key = self.order.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }

    /// A write for the Service is under way.
    pub fn started(&mut self, key: &ServiceKey) {
        self.in_flight.insert(key.clone());
    }

    /// The write is done.
    pub fn succeeded(&mut self, key: &ServiceKey) {
        self.retries.remove(key);
        self.finished(key);
    }

    /// The write failed: the Service is looked at again after a pause, or at once if it changed in the meantime.
    pub fn failed(&mut self, key: &ServiceKey, now: Instant) {
        let tries = self.retries.get(key).map_or(0, |retry| retry.tries) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_PAUSE);
        self.retries.insert(key.clone(), Retry { tries, due: Some(now + pause) });
        self.finished(key);
    }

    /// The Service is gone.
    pub fn forget(&mut self, key: &ServiceKey) {
        self.retries.remove(key);
        self.again.remove(key);
    }

    /// When the next failed write is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.retries.values().filter_map(|retry| retry.due).min()
    }

    /// How many writes are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn finished(&mut self, key: &ServiceKey) {
        self.in_flight.remove(key);
        if self.again.remove(key) {
            self.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn a_service_is_queued_once_and_not_while_its_write_is_under_way() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["b", "a", "b"] {
            queue.push(&key(name));
        }
        assert_eq!((queue.pop(now), queue.pop(now), queue.pop(now)), (Some(key("b")), Some(key("a")), None));
        queue.started(&key("a"));
        queue.push(&key("a"));
        assert_eq!(queue.pop(now), None);
        queue.succeeded(&key("a"));
        assert_eq!(queue.pop(now), Some(key("a")), "it changed in the meantime");
        assert_eq!((queue.pop(now), queue.next_due()), (None, None));
    }

    #[test]
    fn a_failed_write_is_tried_again_after_a_pause_that_doubles() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        for pause in [100, 200, 400] {
            queue.started(&key("a"));
            queue.failed(&key("a"), now);
            let due = queue.next_due().expect("a retry");
            assert_eq!(due - now, Duration::from_millis(pause));
            assert_eq!(queue.pop(now), None);
            now = due;
            assert_eq!(queue.pop(now), Some(key("a")));
        }
        queue.started(&key("a"));
        queue.succeeded(&key("a"));
        assert_eq!(queue.next_due(), None);
        queue.started(&key("a"));
        queue.failed(&key("a"), now);
        assert_eq!(queue.next_due().map(|due| due - now), Some(FIRST_PAUSE), "a success begins anew");
    }

    #[test]
    fn what_is_gone_is_not_looked_at_after_its_write() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.started(&key("a"));
        queue.push(&key("a"));
        queue.forget(&key("a"));
        queue.succeeded(&key("a"));
        assert_eq!((queue.pop(now), queue.in_flight()), (None, 0));
    }

    #[test]
    fn others_doings_do_not_shorten_the_pause_after_a_failure() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.started(&key("a"));
        queue.failed(&key("a"), now);
        queue.wake(&key("a"));
        assert_eq!(queue.pop(now), None);
        queue.push(&key("a"));
        assert_eq!(queue.pop(now), Some(key("a")), "it changed itself");
    }

    #[test]
    fn the_pause_has_a_limit() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for _ in 0..40 {
            queue.started(&key("a"));
            queue.failed(&key("a"), now);
        }
        assert_eq!(queue.next_due().map(|due| due - now), Some(LONGEST_PAUSE));
    }
}
