//! What a watch of the API shows of a test's Services: every version of each, in the order in which they were written.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::eventually;
use crate::scene::Scene;
use crate::service::{addresses_in, standing};

/// A watch of the Services in a test's namespace, until it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    kubectl: Child,
}

#[derive(Default)]
struct Seen {
    history: History,
    /// Why nothing more is seen.
    broken: Option<String>,
}

/// What happened to Services, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Version>);

#[derive(Clone, Debug)]
struct Version {
    at: Instant,
    service: String,
    /// metadata.resourceVersion
    version: String,
    /// status.loadBalancer.ingress; `None`: the Service was deleted.
    addresses: Option<Vec<IpAddr>>,
}

/// A moment at which a Service had no longer what it had the moment before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The Service's name.
    pub service: String,
    /// What it had.
    pub lost: IpAddr,
    /// What it had instead; empty: nothing.
    pub now: Vec<IpAddr>,
}

impl Watch {
    /// Starts with the Services as they are. What happens until [`history_until_now`](Self::history_until_now) first
    /// returned may be missed.
    /// # Errors
    /// kubectl does not run.
    pub fn services(scene: &Scene) -> Result<Self> {
        let mut command = scene.lab.kubectl_command()?;
        command.args(["get", "services", "--namespace", &scene.namespace, "--watch", "--output-watch-events"]);
        let mut kubectl = command.args(["--output", "json"]).stdout(Stdio::piped()).spawn().context("kubectl")?;
        let events = BufReader::new(kubectl.stdout.take().context("kubectl's output")?);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let to = Arc::clone(&seen);
        thread::spawn(move || {
            let mut events = serde_json::Deserializer::from_reader(events).into_iter::<Value>();
            let broken = loop {
                let Some(event) = events.next() else { break "the watch of Services ended".to_owned() };
                let noted = event.context("what kubectl printed").and_then(|event| lock(&to).history.note(&event));
                if let Err(error) = noted {
                    break format!("{error:#}");
                }
            };
            lock(&to).broken = Some(broken);
        });
        Ok(Self { seen, kubectl })
    }

    /// What was seen so far.
    /// # Errors
    /// The watch has ended, or showed what cannot be read.
    pub fn history(&self) -> Result<History> {
        let seen = lock(&self.seen);
        ensure!(seen.broken.is_none(), "{:?}", seen.broken);
        Ok(seen.history.clone())
    }

    /// As [`history`](Self::history), but waits until it has all that the API server has.
    /// # Errors
    /// It does not get there.
    pub fn history_until_now(&self, scene: &Scene) -> Result<History> {
        eventually("watch that is up to date", || {
            let history = self.history()?;
            let now = standing(scene)?.into_iter().map(|(name, now)| (name, now.version)).collect();
            let shown = history.versions();
            ensure!(shown == now, "it shows {shown:?}, the API server has {now:?}");
            Ok(Some(history))
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It ends with the test; when it has ended before, the test knows.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// When each Service first had an address.
    pub fn first_given(&self) -> BTreeMap<&str, Instant> {
        let given = self.0.iter().filter(|version| version.addresses.as_ref().is_some_and(|ips| !ips.is_empty()));
        let mut first = BTreeMap::new();
        for version in given {
            first.entry(version.service.as_str()).or_insert(version.at);
        }
        first
    }

    /// What a Service had, one after the other; versions that differ in something else count as one.
    pub fn addresses_of(&self, service: &str) -> Vec<Vec<IpAddr>> {
        let of_service = self.0.iter().filter(|version| version.service == service);
        let mut addresses: Vec<Vec<IpAddr>> = of_service.filter_map(|version| version.addresses.clone()).collect();
        addresses.dedup();
        addresses
    }

    /// Each moment at which an address came to a Service while another had it, as sentences. For Services that share
    /// nothing.
    pub fn held_twice(&self) -> Vec<String> {
        let (mut holders, mut found) = (BTreeMap::<IpAddr, &str>::new(), Vec::new());
        for Version { service, addresses, .. } in &self.0 {
            holders.retain(|_, holder| *holder != service.as_str());
            for ip in addresses.iter().flatten() {
                if let Some(other) = holders.insert(*ip, service) {
                    found.push(format!("{ip} is given to {service} while {other} holds it"));
                }
            }
        }
        found
    }

    /// Each moment at which a Service, without being deleted, lost an address.
    pub fn losses(&self) -> Vec<Loss> {
        let (mut held, mut losses) = (BTreeMap::<&str, &[IpAddr]>::new(), Vec::new());
        for Version { service, addresses, .. } in &self.0 {
            let Some(now) = addresses else {
                held.remove(service.as_str());
                continue;
            };
            let before = held.insert(service, now).unwrap_or_default();
            let lost = before.iter().filter(|ip| !now.contains(ip));
            losses.extend(lost.map(|lost| Loss { service: service.clone(), lost: *lost, now: now.clone() }));
        }
        losses
    }

    /// resourceVersions of the Services that are there, by name.
    fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for Version { service, version, addresses, .. } in &self.0 {
            match addresses {
                Some(_) => versions.insert(service.clone(), version.clone()),
                None => versions.remove(service),
            };
        }
        versions
    }

    /// Takes one event of a watch.
    fn note(&mut self, event: &Value) -> Result<()> {
        let (object, deleted) = (&event["object"], event["type"] == "DELETED");
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        self.0.push(Version {
            at: Instant::now(),
            service: text("name").with_context(|| format!("an event without a name: {event}"))?,
            version: text("resourceVersion").unwrap_or_default(),
            addresses: if deleted { None } else { Some(addresses_in(object)?) },
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each event: its type, the Service, its addresses.
    fn history(events: &[(&str, &str, &[&str])]) -> History {
        let mut history = History::default();
        for (kind, name, ips) in events {
            let ingress: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
            let object = json!({"metadata": {"name": name}, "status": {"loadBalancer": {"ingress": ingress}}});
            history.note(&json!({"type": kind, "object": object})).unwrap();
        }
        history
    }

    #[test]
    fn an_address_that_two_services_have_at_one_time_is_noticed() {
        let first = ("ADDED", "a", &["198.51.100.1"][..]);
        for (second, twice) in [
            (("DELETED", "a", &["198.51.100.1"][..]), false),
            (("MODIFIED", "a", &["198.51.100.2"]), false),
            (("MODIFIED", "b", &["198.51.100.2"]), true),
            (("DELETED", "b", &["198.51.100.1"]), true),
        ] {
            let history = history(&[first, second, ("ADDED", "c", &["198.51.100.1"])]);
            assert_eq!(!history.held_twice().is_empty(), twice, "{second:?}: {:?}", history.held_twice());
        }
    }

    #[test]
    fn an_address_that_a_service_loses_is_noticed_and_one_that_is_deleted_with_it_is_not() {
        let two = ["198.51.100.1", "2001:db8::1"];
        for (second, lost) in [
            (("MODIFIED", "a", &two[..]), &[][..]),
            (("MODIFIED", "a", &two[1..]), &two[..1]),
            (("MODIFIED", "a", &[]), &two),
            (("DELETED", "a", &two), &[]),
            (("MODIFIED", "b", &[]), &[]),
        ] {
            let losses = history(&[("ADDED", "a", &two), second, ("MODIFIED", "b", &[])]).losses();
            let ips: Vec<String> = losses.iter().map(|loss| loss.lost.to_string()).collect();
            assert_eq!(ips, lost, "{second:?}: {losses:?}");
        }
    }

    #[test]
    fn a_moment_without_an_address_is_seen_and_versions_that_differ_in_something_else_are_one() {
        let one = ("MODIFIED", "a", &["198.51.100.1"][..]);
        let ip: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(history(&[one, one]).addresses_of("a"), [[ip]]);
        assert_eq!(history(&[one, ("MODIFIED", "a", &[]), one]).addresses_of("a"), [vec![ip], vec![], vec![ip]]);
    }
}
