//! What a Service was given, and who answers for it, in the words of the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use landfall_lab::landfall::NAMESPACE;
use serde_json::{Value, json};

use crate::eventually;
use crate::scene::Scene;

/// The Service's condition that the controller writes.
pub const ALLOCATED: &str = "landfall.io/AddressAllocated";
/// The one that speakers write.
pub const ANNOUNCED: &str = "landfall.io/Announced";

/// A Service of a test's namespace.
#[derive(Clone, Copy)]
pub struct Service<'a> {
    scene: &'a Scene,
    name: &'a str,
}

impl<'a> Service<'a> {
    pub(crate) fn new(scene: &'a Scene, name: &'a str) -> Self {
        Self { scene, name }
    }

    /// The object.
    /// # Errors
    /// It does not exist.
    pub fn object(&self) -> Result<Value> {
        self.scene.lab.get(&["service", self.name, "--namespace", &self.scene.namespace])
    }

    /// Its external addresses; empty while it is pending.
    /// # Errors
    /// It does not exist.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        addresses_in(&self.object()?)
    }

    /// Waits until it has this many addresses.
    /// # Errors
    /// It does not get them: says what its conditions are.
    pub fn wait_for_addresses(&self, count: usize) -> Result<Vec<IpAddr>> {
        eventually(&format!("{count} address(es) for Service {}", self.name), || {
            let object = self.object()?;
            let addresses = addresses_in(&object)?;
            ensure!(addresses.len() == count, "it has {addresses:?} and {}", object["status"]["conditions"]);
            Ok(Some(addresses))
        })
    }

    /// Waits for the address of a Service that has one.
    /// # Errors
    /// As [`wait_for_addresses`](Self::wait_for_addresses).
    pub fn wait_for_address(&self) -> Result<IpAddr> {
        Ok(self.wait_for_addresses(1)?[0])
    }

    /// metadata.resourceVersion: it differs after any write to the object. A load balancer that has an address is waited for
    /// until the speakers have said who answers for it, or why nobody does: that comes a little later.
    /// # Errors
    /// It does not exist, or nothing is said of it.
    pub fn version(&self) -> Result<String> {
        eventually(&format!("condition {ANNOUNCED} on Service {}, whatever it says", self.name), || {
            let object = self.object()?;
            ensure_said(&object)?;
            Ok(Some(object["metadata"]["resourceVersion"].as_str().context("resourceVersion")?.to_owned()))
        })
    }

    /// A merge patch of the object.
    /// # Errors
    /// What kubectl said.
    pub fn patch(&self, change: &Value) -> Result<()> {
        let change = change.to_string();
        self.scene.kubectl(&["patch", "service", self.name, "--type=merge", "--patch", &change])?;
        Ok(())
    }

    /// Adds an annotation or replaces its value; `None` removes it.
    /// # Errors
    /// What kubectl said.
    pub fn annotate(&self, annotation: &str, value: Option<&str>) -> Result<()> {
        self.patch(&json!({"metadata": {"annotations": {annotation: value}}}))
    }

    /// The pool that its addresses are from, as its annotation has it; empty: none.
    /// # Errors
    /// It does not exist.
    pub fn pool(&self) -> Result<String> {
        let pool = self.object()?["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"].take();
        Ok(pool.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until it has exactly these addresses, in whatever order.
    /// # Errors
    /// It does not get them: says what its status is.
    pub fn wait_for(&self, addresses: &[IpAddr]) -> Result<()> {
        let wanted: BTreeSet<&IpAddr> = addresses.iter().collect();
        eventually(&format!("{addresses:?} for Service {}", self.name), || {
            let object = self.object()?;
            let has = addresses_in(&object)?;
            ensure!(has.iter().collect::<BTreeSet<_>>() == wanted, "its status is {}", object["status"]);
            Ok(Some(()))
        })
    }

    /// Waits until it is refused for this reason, and returns the message.
    /// # Errors
    /// It is not: says what its condition is. Or it has an address all the same.
    pub fn wait_for_refusal(&self, reason: &str) -> Result<String> {
        let message = eventually(&format!("reason {reason} on Service {}", self.name), || {
            let condition = self.condition()?;
            ensure!(condition["status"] == "False" && condition["reason"] == reason, "its condition is {condition}");
            Ok(Some(condition["message"].as_str().unwrap_or_default().to_owned()))
        })?;
        let addresses = self.addresses()?;
        ensure!(addresses.is_empty(), "Service {} is refused and has {addresses:?}", self.name);
        Ok(message)
    }

    /// Waits until Landfall's condition has this status, and returns the condition.
    /// # Errors
    /// It does not: says what it is.
    pub fn wait_for_allocated(&self, status: &str) -> Result<Value> {
        eventually(&format!("condition {ALLOCATED} = {status} on Service {}", self.name), || {
            let condition = self.condition()?;
            ensure!(condition["status"] == status, "its condition is {condition}");
            Ok(Some(condition))
        })
    }

    /// The controller's condition as it is; null: there is none.
    /// # Errors
    /// It does not exist.
    pub fn condition(&self) -> Result<Value> {
        Ok(condition_in(&self.object()?, ALLOCATED))
    }

    /// The speakers' condition as it is; null: there is none.
    /// # Errors
    /// It does not exist.
    pub fn announced(&self) -> Result<Value> {
        Ok(condition_in(&self.object()?, ANNOUNCED))
    }

    /// Waits until the speakers' condition has this reason and says this, and returns it.
    /// # Errors
    /// It does not: says what it is.
    pub fn wait_for_announced(&self, reason: &str, words: &str) -> Result<Value> {
        eventually(&format!("condition {ANNOUNCED}: {reason}, {words:?} on Service {}", self.name), || {
            let condition = self.announced()?;
            let says = condition["message"].as_str().is_some_and(|message| message.contains(words));
            ensure!(says && condition["reason"] == reason, "its condition is {condition}");
            let status = if reason == "Announced" { "True" } else { "False" };
            ensure!(condition["status"] == status, "its condition is {condition}");
            Ok(Some(condition))
        })
    }

    /// Messages of the events with this reason about it, in no order.
    /// # Errors
    /// The API server does not answer.
    pub fn events(&self, reason: &str) -> Result<Vec<String>> {
        events(self.scene, &self.scene.namespace, self.name, reason)
    }

    /// Waits for an event with this reason, and returns the messages of all such events.
    /// # Errors
    /// There is none.
    pub fn wait_for_event(&self, reason: &str) -> Result<Vec<String>> {
        eventually(&format!("event {reason} about Service {}", self.name), || {
            Ok(Some(self.events(reason)?).filter(|messages| !messages.is_empty()))
        })
    }

    /// The nodes that say in a ServiceL2Status that they answer for it, sorted.
    /// # Errors
    /// The API server does not answer.
    pub fn announcers(&self) -> Result<Vec<String>> {
        let (name, namespace) = (self.name, &self.scene.namespace);
        let of_service = format!("metallb.io/service-name={name},metallb.io/service-namespace={namespace}");
        let list = self.scene.lab.get(&["servicel2statuses", "--namespace", NAMESPACE, "--selector", &of_service])?;
        let items = list["items"].as_array().context("items")?;
        let mut nodes: Vec<String> =
            items.iter().filter_map(|item| item["status"]["node"].as_str()).map(str::to_owned).collect();
        nodes.sort();
        Ok(nodes)
    }

    /// Waits until one node says that it answers for it.
    /// # Errors
    /// None does, or several.
    pub fn wait_for_announcer(&self) -> Result<String> {
        eventually(&format!("one node that announces Service {}", self.name), || match &self.announcers()?[..] {
            [node] => Ok(Some(node.clone())),
            nodes => bail!("its ServiceL2Statuses name {nodes:?}"),
        })
    }

    /// Waits until `wanted` accepts the only node that says it answers for it.
    /// # Errors
    /// It does not happen: says who does.
    pub fn wait_for_announcer_that(&self, is: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        eventually(&format!("announcer of Service {} that {is}", self.name), || match &self.announcers()?[..] {
            [node] if wanted(node) => Ok(Some(node.clone())),
            nodes => bail!("its ServiceL2Statuses name {nodes:?}"),
        })
    }
}

/// What a Service has, and which version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// status.loadBalancer.ingress
    pub addresses: Vec<IpAddr>,
    /// metadata.resourceVersion: it differs after any write to the object.
    pub version: String,
}

/// Every Service of the test's namespace, by name, once the speakers have said what they have to say: see [`Service::version`].
/// # Errors
/// The API server does not answer, or nothing is said of one.
pub fn standing(scene: &Scene) -> Result<BTreeMap<String, Standing>> {
    let list = eventually(&format!("condition {ANNOUNCED} on all Services, whatever it says"), || {
        let list = scene.lab.get(&["services", "--namespace", &scene.namespace])?;
        list["items"].as_array().context("items")?.iter().try_for_each(ensure_said)?;
        Ok(Some(list))
    })?;
    let read = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned).context("metadata");
        anyhow::Ok((text("name")?, Standing { addresses: addresses_in(object)?, version: text("resourceVersion")? }))
    };
    list["items"].as_array().context("items")?.iter().map(read).collect()
}

/// Messages of the events with this reason about the object of this name.
/// # Errors
/// The API server does not answer.
pub fn events(scene: &Scene, namespace: &str, name: &str, reason: &str) -> Result<Vec<String>> {
    let of_object = format!("involvedObject.name={name},reason={reason}");
    let list = scene.lab.get(&["events", "--namespace", namespace, "--field-selector", &of_object])?;
    let items = list["items"].as_array().context("items")?;
    Ok(items.iter().filter_map(|event| event["message"].as_str()).map(str::to_owned).collect())
}

/// That the speakers have spoken of it, if it is a load balancer with an address.
fn ensure_said(service: &Value) -> Result<()> {
    let serves = service["spec"]["type"] == "LoadBalancer" && !addresses_in(service)?.is_empty();
    let is_said = !condition_in(service, ANNOUNCED).is_null();
    ensure!(is_said || !serves, "Service {}: its status is {}", service["metadata"]["name"], service["status"]);
    Ok(())
}

/// The condition of this type; null: there is none.
fn condition_in(service: &Value, type_: &str) -> Value {
    let all = service["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|condition| condition["type"] == type_)).cloned().unwrap_or_default()
}

pub(crate) fn addresses_in(service: &Value) -> Result<Vec<IpAddr>> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    let read = |entry: &Value| entry["ip"].as_str().context("an ingress without ip")?.parse().context("ingress ip");
    ingress.iter().map(read).collect()
}
