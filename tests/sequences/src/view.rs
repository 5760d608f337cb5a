//! The cluster as anybody sees it through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

/// Objects of one kind: Services by `namespace/name`, others by name.
pub type Objects = BTreeMap<String, Value>;

/// Who has which addresses.
pub type Standing = BTreeMap<String, Holder>;

/// A Service, as far as its addresses are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// One that is made again under the same name is another one.
    pub uid: Value,
    /// What stands in its status.
    pub ips: Vec<IpAddr>,
}

/// The objects that promises are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// By `namespace/name`.
    pub services: Objects,
    /// The IPAddressPools.
    pub pools: Objects,
    /// The Namespaces.
    pub namespaces: Objects,
    /// The names of the Nodes.
    pub nodes: BTreeSet<String>,
}

impl View {
    /// Who has which addresses.
    pub fn standing(&self) -> Standing {
        let of = |service: &Value| Holder { uid: service["metadata"]["uid"].clone(), ips: addresses(service) };
        self.services.iter().map(|(key, service)| (key.clone(), of(service))).collect()
    }
}

/// The addresses in a Service's status.
pub fn addresses(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|ingress| ingress["ip"].as_str()?.parse().ok()).collect()
}

/// An annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// The addresses of a pool whose entries are all of one address, as [`manifests`](crate::manifests) makes them.
pub fn entries(pool: &Value) -> impl Iterator<Item = IpAddr> {
    let list = pool["spec"]["addresses"].as_array();
    list.into_iter().flatten().filter_map(|entry| entry.as_str()?.split('/').next()?.parse().ok())
}
