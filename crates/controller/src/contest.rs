//! A Service whose `status.loadBalancer` somebody else keeps writing. Pure. Once is a slip, and is healed; three times in a
//! minute is another load balancer at work, with which we do not fight: it is said, and the Service is left alone for a
//! while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use landfall_ipam::ServiceKey;

use crate::converge::{Outcome, Verdict};
use crate::service::Service;
use landfall_runtime::events::Kind;

/// So many foreign writes within [`WINDOW`] are a contest.
const WRITES: u32 = 3;
const WINDOW: Duration = Duration::from_secs(60);
/// So long a contested Service is left alone; then it is tried again.
pub const PAUSE: Duration = Duration::from_secs(600);

/// The condition's reason for a contested Service.
pub const STATUS_CONTESTED: &str = "StatusContested";

/// Who writes what is ours.
#[derive(Clone, Debug, Default)]
pub struct Contests {
    of: BTreeMap<ServiceKey, Contest>,
}

/// What becomes of a contested Service.
#[derive(Clone, Debug, PartialEq)]
pub enum Contested {
    /// It is told, once: the other may well wipe it out.
    Say(Outcome),
    /// Nothing is written.
    LeaveAlone,
}

#[derive(Clone, Debug)]
struct Contest {
    writes: u32,
    since: Instant,
    manager: String,
    /// Since when the Service is left alone, and whether that was written on it.
    left_alone: Option<(Instant, bool)>,
}

impl Contests {
    /// A field manager has replaced the addresses that we wrote.
    pub fn overwritten(&mut self, key: &ServiceKey, manager: &str, now: Instant) {
        let fresh = || Contest { writes: 0, since: now, manager: manager.to_owned(), left_alone: None };
        let contest = self.of.entry(key.clone()).or_insert_with(fresh);
        if contest.left_alone.is_none() && now.duration_since(contest.since) > WINDOW {
            *contest = fresh();
        }
        contest.writes += 1;
        if contest.writes >= WRITES && contest.left_alone.is_none() {
            contest.left_alone = Some((now, false));
        }
    }

    /// What is to be done with the Service instead of giving it what it should have; `None` when it is not contested.
    pub fn verdict(&mut self, key: &ServiceKey, service: &Service, now: Instant) -> Option<Contested> {
        let contest = self.of.get_mut(key)?;
        let (since, said) = contest.left_alone.as_mut()?;
        if now.duration_since(*since) >= PAUSE {
            self.of.remove(key);
            return None;
        }
        if std::mem::replace(said, true) {
            return Some(Contested::LeaveAlone);
        }
        let message = format!(
            "field manager {:?} keeps writing status.loadBalancer of this Service, so it is left alone for {} minutes; only one \
             load balancer may serve a Service: stop the other one, or set spec.loadBalancerClass",
            contest.manager,
            PAUSE.as_secs() / 60
        );
        Some(Contested::Say(Outcome {
            ingress: None,
            pool: service.allocated_from.clone(),
            node: service.placed.clone(),
            verdict: Some(Verdict { allocated: false, reason: STATUS_CONTESTED, message: message.clone() }),
            events: vec![(Kind::Warning, STATUS_CONTESTED, message)],
        }))
    }

    /// The Service is gone.
    pub fn forget(&mut self, key: &ServiceKey) {
        self.of.remove(key);
    }

    /// The Services whose pause is over.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &ServiceKey> {
        self.of.iter().filter(move |(_, contest)| contest.due().is_some_and(|due| due <= now)).map(|(key, _)| key)
    }

    /// When the next pause is over.
    pub fn next_due(&self) -> Option<Instant> {
        self.of.values().filter_map(Contest::due).min()
    }
}

impl Contest {
    fn due(&self) -> Option<Instant> {
        self.left_alone.map(|(since, _)| since + PAUSE)
    }
}
