//! What a user applies. Namespaces are filled in by [`Scene::apply`](crate::scene::Scene::apply).

use landfall_lab::up::ECHO_IMAGE;
use serde_json::{Value, json};

/// Kubernetes' label for nodes that load balancers leave out.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// An IPAddressPool.
pub fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": name}, "spec": {"addresses": addresses},
    })
}

/// An L2Advertisement of one pool, with the same name; `more` is the rest of its spec.
pub fn advertisement(pool: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": {"name": pool}, "spec": more,
    });
    object["spec"]["ipAddressPools"] = json!([pool]);
    object
}

/// A Service of type LoadBalancer: port 80 to port 8080 of the Pods of [`pods`]; `more` is merged into its spec.
pub fn service(name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "selector": {"site": "test"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    if let Value::Object(more) = more {
        more.into_iter().for_each(|(field, value)| object["spec"][field] = value);
    }
    object
}

/// The part of a Service's spec that asks for these families, all of them.
pub fn families(families: &[&str]) -> Value {
    let policy = if families.len() == 2 { "RequireDualStack" } else { "SingleStack" };
    json!({"ipFamilyPolicy": policy, "ipFamilies": families})
}

/// A Service with this annotation.
pub fn annotated(mut service: Value, annotation: &str, value: &str) -> Value {
    service["metadata"]["annotations"][annotation] = json!(value);
    service
}

/// A Deployment `web` of the echo server on these ports, with the label `site: test`; `node`: where its Pods must be.
pub fn pods(replicas: u32, ports: &[&str], node: Option<&str>) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let echo = json!({
        "name": "echo", "image": ECHO_IMAGE, "imagePullPolicy": "Never", "args": ports,
        "env": [
            {"name": "POD", "valueFrom": field("metadata.name")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
        ],
    });
    let selector = node.map_or(json!({}), |node| json!({"kubernetes.io/hostname": node}));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"site": "test"}},
            "template": {
                "metadata": {"labels": {"site": "test"}},
                "spec": {"nodeSelector": selector, "terminationGracePeriodSeconds": 1, "containers": [echo]},
            },
        },
    })
}
