//! Which Pods are taken out of service, and how. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use landfall_runtime::lease;
use landfall_runtime::view;
use landfall_runtime::view::WithConditions;
use serde_json::{Value, json};

use super::REASON;

view! {
    /// What is read of a Pod.
    PodView of v1::Pod { status: WithConditions }
}

/// The labels by which a Service chooses its Pods; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selected(pub(super) BTreeMap<String, String>);

/// Whether the Pod is ready, and behind one of these Services, by their namespaces and names.
pub(super) fn is_in_service(pod: &PodView, services: &BTreeMap<(String, String), Selected>) -> bool {
    let Some(namespace) = &pod.metadata.namespace else { return false };
    let none = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    let of_it = services.range((namespace.clone(), String::new())..).take_while(|((of, _), _)| of == namespace);
    let mut selectors = of_it.map(|(_, Selected(selector))| selector);
    pod.status.is("Ready")
        && selectors.any(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether the controller that leads, by this identity in the Lease, is one of these Pods. `namespace` is its own.
pub(super) fn has_leader(pods: &[PodView], namespace: &str, identity: &str) -> bool {
    let leader = (Some(namespace), Some(lease::pod_of(identity)));
    pods.iter().any(|pod| (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref()) == leader)
}

/// A strategic merge patch of its status.
pub(super) fn not_ready(pod: &PodView, node: &str, by: &str, now: Timestamp) -> Value {
    let message =
        format!("Landfall: node {node} is dead, the speakers on {by} hear neither its speaker nor its kernel");
    json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": REASON, "message": message, "lastTransitionTime": now.to_string(),
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, labels: &Value, ready: &str) -> PodView {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": "web-1", "uid": "u", "resourceVersion": "7", "labels": labels},
            "status": {"conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_ready_pod_that_one_of_our_services_in_its_namespace_selects_is_taken_out() {
        let selector = |labels: &[(&str, &str)]| {
            Selected(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let services = BTreeMap::from([
            (("a".to_owned(), "zz".to_owned()), selector(&[("app", "api")])),
            (("shop".to_owned(), "web".to_owned()), selector(&[("app", "web"), ("tier", "front")])),
        ]);
        for (namespace, labels, ready, taken) in [
            ("shop", json!({"app": "web", "tier": "front", "more": "x"}), "True", true),
            ("shop", json!({"app": "web", "tier": "front"}), "False", false),
            ("shop", json!({"app": "web"}), "True", false),
            ("shop", json!({"app": "api"}), "True", false),
            ("shop", json!(null), "True", false),
            ("a", json!({"app": "api"}), "True", true),
            ("other", json!({"app": "web", "tier": "front"}), "True", false),
        ] {
            assert_eq!(
                is_in_service(&pod(namespace, &labels, ready), &services),
                taken,
                "{namespace} {labels} {ready}"
            );
        }
    }

    #[test]
    fn the_leader_is_known_by_its_pod_in_our_namespace() {
        let identity = lease::identity("web-1").unwrap();
        let pods = |namespace| [pod("other", &json!({}), "True"), pod(namespace, &json!({}), "True")];
        assert!(has_leader(&pods("landfall-system"), "landfall-system", &identity));
        for (namespace, identity) in [("shop", &*identity), ("landfall-system", "web-12_0123"), ("landfall-system", "")]
        {
            assert!(!has_leader(&pods(namespace), "landfall-system", identity), "{namespace} {identity}");
        }
        assert!(!has_leader(&[], "landfall-system", &identity));
    }

    #[test]
    fn the_patch_changes_the_one_condition_of_what_was_read_and_names_landfall() {
        let patch = not_ready(&pod("shop", &json!({}), "True"), "n2", "n1, n3", Timestamp::UNIX_EPOCH);
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        let [condition] = &patch["status"]["conditions"].as_array().unwrap()[..] else { panic!("{patch}") };
        assert_eq!((&condition["type"], &condition["status"]), (&json!("Ready"), &json!("False")));
        assert_eq!(condition["reason"], "LandfallNodeSilent");
        assert_eq!(
            condition["message"],
            "Landfall: node n2 is dead, the speakers on n1, n3 hear neither its speaker nor its kernel"
        );
    }
}
