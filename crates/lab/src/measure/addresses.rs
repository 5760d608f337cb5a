//! When did each Service get its address? Seen by a watch, as any client of the API would see it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The first list takes milliseconds, of ten thousand Services a second or two.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// A watch on some Services; it ends when this is dropped.
pub(super) struct Addresses {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    listed: bool,
    /// By the Service's name: when the watch first showed an ingress.
    since: BTreeMap<String, Instant>,
}

impl Addresses {
    /// Opens a watch on the Services with this label selector; returns when it is open.
    pub(super) async fn watch(services: Api<Service>, selector: &str) -> Result<Addresses> {
        let (to, mut seen) = watch::channel(Seen::default());
        let events = watcher::watcher(services, watcher::Config::default().labels(selector)).default_backoff();
        let task = tokio::spawn(async move {
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => to.send_modify(|seen| seen.note(event, Instant::now())),
                    Err(error) => eprintln!("watch of Services, trying again: {error}"),
                }
            }
        });
        tokio::time::timeout(LIST_TIMEOUT, seen.wait_for(|seen| seen.listed))
            .await
            .with_context(|| format!("no list of Services after {} s", LIST_TIMEOUT.as_secs()))??;
        Ok(Addresses { seen, task })
    }

    /// When the Service had its address.
    /// # Errors
    /// It has none after `limit`.
    pub(super) async fn of(&self, service: &str, limit: Duration) -> Result<Instant> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(limit, seen.wait_for(|seen| seen.since.contains_key(service))).await;
        let seen = found.with_context(|| format!("Service {service} has no address after {} s", limit.as_secs()))??;
        Ok(seen.since[service])
    }

    /// Waits until `count` Services have an address, and returns when the first and the last of them had it.
    /// `progress` is told each time how many have.
    /// # Errors
    /// For as long as `patience` none more was given one.
    pub(super) async fn all(
        &self,
        count: usize,
        patience: Duration,
        mut progress: impl FnMut(usize),
    ) -> Result<(Instant, Instant)> {
        let mut seen = self.seen.clone();
        let mut have = 0;
        while have < count {
            let more = tokio::time::timeout(patience, seen.wait_for(|seen| seen.since.len() > have)).await;
            let stuck =
                || format!("{have} of {count} Services have an address, and none more after {} s", patience.as_secs());
            have = more.with_context(stuck)??.since.len();
            progress(have);
        }
        let seen = seen.borrow();
        let first_and_last = seen.since.values().min().copied().zip(seen.since.values().max().copied());
        first_and_last.context("no Service was asked for")
    }

    /// Fails if some Service has an address already.
    pub(super) fn none(&self) -> Result<()> {
        let seen = self.seen.borrow();
        ensure!(seen.since.is_empty(), "{} Services have an address while no controller runs", seen.since.len());
        Ok(())
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn note(&mut self, event: Event<Service>, now: Instant) {
        match event {
            Event::Apply(service) | Event::InitApply(service) if has_address(&service) => {
                self.since.entry(service.name_any()).or_insert(now);
            }
            Event::Delete(service) => {
                self.since.remove(&service.name_any());
            }
            Event::InitDone => self.listed = true,
            Event::Apply(_) | Event::InitApply(_) | Event::Init => {}
        }
    }
}

fn has_address(service: &Service) -> bool {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    ingress.is_some_and(|ingress| ingress.iter().any(|one| one.ip.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, addresses: &[&str]) -> Service {
        let ingress: Vec<_> = addresses.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        let object = serde_json::json!({"metadata": {"name": name}, "status": {"loadBalancer": {"ingress": ingress}}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_first_sight_of_an_address_counts() {
        let (start, mut seen) = (Instant::now(), Seen::default());
        let at = |secs| start + Duration::from_secs(secs);
        seen.note(Event::InitApply(service("a", &[])), at(0));
        seen.note(Event::InitDone, at(1));
        assert!(seen.listed && seen.since.is_empty());
        seen.note(Event::Apply(service("a", &["192.0.2.1"])), at(2));
        seen.note(Event::Apply(service("a", &["192.0.2.1"])), at(3));
        assert_eq!(seen.since, BTreeMap::from([("a".to_owned(), at(2))]));
        seen.note(Event::Delete(service("a", &["192.0.2.1"])), at(4));
        assert!(seen.since.is_empty());
    }
}
