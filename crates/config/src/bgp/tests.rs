use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::Config;

mod advertisements;
mod in_force;
mod peers;

/// What is in the cluster: objects as `kind/name` and spec, nodes as `Node/name` and labels.
fn cluster(objects: &[(&str, Value)]) -> Resources {
    let mut resources = Resources::default();
    for (i, (id, spec)) in objects.iter().enumerate() {
        let (kind, name) = id.split_once('/').expect("kind/name");
        // The order in the list is the order of age, against that of the names in some tests.
        let object = json!({
            "metadata": {
                "name": name, "namespace": "landfall", "labels": {"name": name},
                "creationTimestamp": format!("2026-01-01T00:00:{i:02}Z"),
            },
            "spec": spec,
        });
        let typed = |api: &str| {
            let mut object = object.clone();
            object["apiVersion"] = json!(format!("metallb.io/{api}"));
            object["kind"] = json!(kind);
            object
        };
        match kind {
            "Node" => drop(resources.nodes.insert(name.to_owned(), of(spec.clone()))),
            "IPAddressPool" => resources.pools.push(of(typed("v1beta1"))),
            "L2Advertisement" => resources.l2_advertisements.push(of(typed("v1beta1"))),
            "BGPPeer" => resources.bgp_peers.push(of(typed("v1beta2"))),
            "BGPAdvertisement" => resources.bgp_advertisements.push(of(typed("v1beta1"))),
            "BFDProfile" => resources.bfd_profiles.push(of(typed("v1beta1"))),
            "Community" => resources.communities.push(of(typed("v1beta1"))),
            other => panic!("no kind {other}"),
        }
    }
    resources
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// A peer's spec with what every peer needs, but for what `change` says; null takes a field away.
fn peer(change: Value) -> Value {
    let mut spec = json!({"myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1"});
    for (field, value) in change.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    spec.as_object_mut().expect("fields").retain(|_, value| !value.is_null());
    spec
}

fn problems(objects: &[(&str, Value)]) -> Vec<String> {
    Config::read(&cluster(objects)).1.iter().map(ToString::to_string).collect()
}

/// Each of the `expected` begins the problem in its place, and there are no others.
fn assert_problems(objects: &[(&str, Value)], expected: &[&str]) {
    let found = problems(objects);
    assert_eq!(found.len(), expected.len(), "{found:#?}\nof {objects:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n does not start with\n{expected}");
        assert!(found.contains("; "), "no way out in {found}");
    }
}

fn rack(number: &str) -> Value {
    json!([{"matchLabels": {"rack": number}}])
}
