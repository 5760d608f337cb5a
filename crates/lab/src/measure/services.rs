//! The Services that are measured.

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::bench::{LABEL, POOL, object};

/// A class that nobody serves: for Services whose status is ours to write.
pub(super) const NOBODYS_CLASS: &str = "example.com/none";

/// A Service of type LoadBalancer that asks for the measurement's pool. It selects no Pods: with endpoints, Kubernetes' own
/// controllers would work beside what is measured. Without node ports, because there are fewer than three thousand.
pub(super) fn service(group: &str, name: &str) -> Result<Service> {
    object(json(group, name))
}

/// As [`service`], of a class that nobody serves.
pub(super) fn nobodys_service(group: &str, name: &str) -> Result<Service> {
    let mut service = json(group, name);
    service["spec"]["loadBalancerClass"] = json!(NOBODYS_CLASS);
    object(service)
}

/// `count` of them, named `GROUP-0`, `GROUP-1`, ...
pub(super) fn many(group: &str, count: usize, make: fn(&str, &str) -> Result<Service>) -> Result<Vec<Service>> {
    (0..count).map(|index| make(group, &format!("{group}-{index}"))).collect()
}

fn json(group: &str, name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {LABEL: group}, "annotations": {"metallb.io/address-pool": POOL}},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    })
}

/// The patch with which an implementation gives the `index`th Service its address: one write with the ingress, the
/// annotation and a condition.
pub(super) fn status_patch(index: usize) -> Value {
    let [.., high, low] = index.to_be_bytes();
    json!({
        "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": POOL}},
        "status": {
            "loadBalancer": {"ingress": [{"ip": format!("198.18.{high}.{low}"), "ipMode": "VIP"}]},
            "conditions": [{
                "type": "example.com/AddressAllocated",
                "status": "True",
                "reason": "Allocated",
                "message": format!("198.18.{high}.{low} from IPAddressPool {POOL}"),
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_as_many_services_as_asked_for_and_only_nobodys_have_a_class() {
        let ours = many("burst", 3, service).unwrap();
        let names: Vec<_> = ours.iter().filter_map(|service| service.metadata.name.as_deref()).collect();
        assert_eq!(names, ["burst-0", "burst-1", "burst-2"]);
        let class = |service: &Service| service.spec.clone().unwrap().load_balancer_class;
        assert_eq!(class(&ours[0]), None);
        assert_eq!(class(&nobodys_service("ceiling", "x").unwrap()).as_deref(), Some(NOBODYS_CLASS));
    }

    #[test]
    fn each_patch_writes_an_address_of_its_own() {
        let address = |index| status_patch(index)["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
        assert_eq!((address(1), address(1000)), (json!("198.18.0.1"), json!("198.18.3.232")));
    }
}
