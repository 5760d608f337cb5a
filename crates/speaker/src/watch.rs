//! Cluster in: each kind's objects become the small values of [`crate::model`] at once.

use std::net::IpAddr;

use jiff::Timestamp;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use landfall_api::{IPAddressPool, L2Advertisement, annotations, conditions};
use landfall_runtime::watch::spawn;
use tokio::sync::mpsc;

use crate::announced_condition::Stated;
use crate::model::{Event, Node, Service, ServiceKey, Slice, SliceKey, SpeakerPod};
use crate::standing::MEMBER_GRACE;
use crate::views::{Endpoint, NodeView, PodView, ServiceView, SliceView};

/// The label by which an EndpointSlice names its Service. Kubernetes' own.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the kubelet of a node says in the condition Ready while it shuts the node down (graceful node shutdown). Its Pods
/// end then, ours too, and nothing comes back before the node has started again: that is a drain.
const SHUTTING_DOWN: &str = "node is shutting down";

/// The Pods of speakers, in our namespace; the chart sets these labels.
const SPEAKER_PODS: &str = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=speaker";

/// Starts a watch for each kind; all feed the one owner task. `namespace` is ours, `lb_class` the class we serve.
pub fn start(client: &Client, namespace: &str, lb_class: Option<String>, to: &mpsc::Sender<Event>) {
    let all = Config::default;
    let services = Api::all(client.clone());
    spawn(services, all(), move |object| service(object, lb_class.as_deref()), to.clone(), Event::Service);
    spawn(Api::all(client.clone()), all().labels(SERVICE_NAME), slice, to.clone(), Event::Slice);
    spawn(Api::all(client.clone()), all(), node, to.clone(), Event::Node);
    let pods = Api::namespaced(client.clone(), namespace);
    spawn(pods, all().labels(SPEAKER_PODS), speaker_pod, to.clone(), Event::Speaker);
    spawn(Api::namespaced(client.clone(), namespace), all(), pool, to.clone(), Event::Pool);
    spawn(Api::namespaced(client.clone(), namespace), all(), advertisement, to.clone(), Event::Advertisement);
}

/// Services of `type: LoadBalancer` whose class is ours: none given means those without a class, and only those.
fn service(object: ServiceView, lb_class: Option<&str>) -> (ServiceKey, Option<Service>) {
    let ServiceView { metadata, spec, status } = object;
    let key = ServiceKey { namespace: metadata.namespace.unwrap_or_default(), name: metadata.name.unwrap_or_default() };
    let ours = spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.as_deref() == lb_class;
    if !ours {
        return (key, None);
    }
    let annotations = metadata.annotations.unwrap_or_default();
    let ingress_ips = status.load_balancer.ingress.into_iter().map(|entry| {
        let ip = entry.ip.unwrap_or_default();
        ip.parse::<IpAddr>().map_err(|_| match entry.hostname {
            Some(hostname) if ip.is_empty() => format!("hostname {hostname:?}"),
            _ => format!("ip {ip:?}"),
        })
    });
    let stated = status.conditions.iter().find(|condition| condition.type_ == conditions::ANNOUNCED);
    let service = Service {
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation,
        stated: stated.map(Stated::read),
        labels: metadata.labels.unwrap_or_default(),
        ingress_ips: ingress_ips.collect(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        may_share: annotations::ALLOW_SHARED_IP.value(&annotations).is_some(),
        placed: annotations.get(annotations::NODE).cloned(),
    };
    (key, Some(service))
}

/// Slices of a Service in which an endpoint can serve.
fn slice(object: SliceView) -> (SliceKey, Option<Slice>) {
    let SliceView { metadata, endpoints } = object;
    let namespace = metadata.namespace.unwrap_or_default();
    let service = metadata.labels.unwrap_or_default().remove(SERVICE_NAME);
    let serving: Vec<Endpoint> = endpoints.into_iter().filter(can_serve).collect();
    let slice = service.filter(|_| !serving.is_empty()).map(|name| Slice {
        service: ServiceKey { namespace: namespace.clone(), name },
        nodes: serving.into_iter().filter_map(|endpoint| endpoint.node_name).collect(),
    });
    ((namespace, metadata.name.unwrap_or_default()), slice)
}

/// A ready endpoint (unknown counts as ready), or a terminating one that still serves.
fn can_serve(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready.unwrap_or(true) || endpoint.conditions.serving == Some(true)
}

fn node(object: NodeView) -> (String, Option<Node>) {
    let drain = object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(annotations::DRAIN));
    let node = Node {
        drain: drain.is_some_and(|value| value == "true") || object.status.is_not_because("Ready", SHUTTING_DOWN),
        network_unavailable: object.status.is("NetworkUnavailable"),
        ready: object.status.is("Ready"),
        labels: object.metadata.labels.unwrap_or_default(),
    };
    (object.metadata.name.unwrap_or_default(), Some(node))
}

/// Pods that have a node. One that is being deleted counts as long as it is ready: it still answers.
fn speaker_pod(object: PodView) -> (String, Option<SpeakerPod>) {
    let ready = object.status.conditions.is("Ready");
    let since = object.status.conditions.since("Ready");
    let lately = since.is_none_or(|since| Timestamp::now().duration_since(since).unsigned_abs() < MEMBER_GRACE);
    let address = object.status.host_ip.as_ref().and_then(|ip| ip.parse().ok());
    let addresses = object.status.host_ips.iter().filter_map(|one| one.ip.parse().ok()).chain(address).collect();
    let uid = object.metadata.uid.unwrap_or_default();
    let pod = object.spec.node_name.map(|node| SpeakerPod { uid, node, ready, lately, address, addresses });
    (object.metadata.name.unwrap_or_default(), pod)
}

fn pool(mut object: IPAddressPool) -> (String, Option<IPAddressPool>) {
    object.metadata = what_configures(object.metadata);
    object.status = None;
    (object.metadata.name.clone().unwrap_or_default(), Some(object))
}

fn advertisement(mut object: L2Advertisement) -> (String, Option<L2Advertisement>) {
    object.metadata = what_configures(object.metadata);
    object.status = None;
    (object.metadata.name.clone().unwrap_or_default(), Some(object))
}

/// The metadata that a configuration depends on: a new status or annotation must not look like a new configuration.
fn what_configures(meta: ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, namespace, labels, creation_timestamp, .. } = meta;
    ObjectMeta { name, namespace, labels, creation_timestamp, ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::{Value, json};

    fn read_service(spec: Value, status: Value, annotations: Value, lb_class: Option<&str>) -> Option<Service> {
        let object = json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "annotations": annotations},
            "spec": spec, "status": status,
        });
        let (key, service) = service(serde_json::from_value(object).unwrap(), lb_class);
        assert_eq!(key.to_string(), "shop/web");
        service
    }

    #[test]
    fn only_load_balancers_of_our_class_are_kept() {
        for (spec, class, kept) in [
            (json!({"type": "LoadBalancer"}), None, true),
            (json!({"type": "ClusterIP"}), None, false),
            (json!({"type": "NodePort"}), None, false),
            (json!({}), None, false),
            (json!({"type": "LoadBalancer", "loadBalancerClass": "x.io/a"}), None, false),
            (json!({"type": "LoadBalancer", "loadBalancerClass": "x.io/a"}), Some("x.io/a"), true),
            (json!({"type": "LoadBalancer", "loadBalancerClass": "x.io/b"}), Some("x.io/a"), false),
            (json!({"type": "LoadBalancer"}), Some("x.io/a"), false),
        ] {
            let said = spec.to_string();
            assert_eq!(read_service(spec, json!({}), json!({}), class).is_some(), kept, "{said} for {class:?}");
        }
    }

    #[test]
    fn addresses_keep_the_order_of_the_status_and_a_host_name_is_no_address() {
        for (ingress, expected) in [
            (json!([]), Ok(vec![])),
            (json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]), Ok(vec!["192.0.2.1"])),
            (json!([{"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}]), Ok(vec!["2001:db8::1", "192.0.2.1"])),
            (json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]), Err(r#"hostname "lb.example""#)),
            (json!([{"ip": "192.0.2.300"}]), Err(r#"ip "192.0.2.300""#)),
        ] {
            let status = json!({"loadBalancer": {"ingress": ingress}});
            let service = read_service(json!({"type": "LoadBalancer"}), status, json!({}), None).unwrap();
            let expected = expected
                .map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>())
                .map_err(str::to_owned);
            assert_eq!(service.ingress_ips, expected);
        }
    }

    #[test]
    fn policy_sharing_and_placement_are_read() {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let annotations = json!({"metallb.universe.tf/allow-shared-ip": "", "landfall.io/node": "n2"});
        let service = read_service(spec, json!({}), annotations, None).unwrap();
        assert!(service.local && service.may_share);
        assert_eq!(service.placed.as_deref(), Some("n2"));
    }

    fn nodes_of(object: SliceView) -> Option<BTreeSet<String>> {
        slice(object).1.map(|slice| slice.nodes)
    }

    fn endpoint_slice(endpoints: Value) -> SliceView {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap()
    }

    #[test]
    fn an_endpoint_serves_when_ready_or_unknown_or_terminating_and_still_serving() {
        for (conditions, serves) in [
            (json!({}), true),
            (json!({"ready": true}), true),
            (json!({"ready": false}), false),
            (json!({"ready": false, "serving": false}), false),
            (json!({"ready": false, "serving": true, "terminating": true}), true),
            (json!({"ready": true, "serving": false}), true),
        ] {
            let said = conditions.to_string();
            let endpoints = json!([{"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": conditions}]);
            let nodes = nodes_of(endpoint_slice(endpoints));
            assert_eq!(nodes, serves.then(|| BTreeSet::from(["n1".to_owned()])), "{said}");
        }
        let no_conditions = json!([{"addresses": ["10.0.0.1"]}]);
        assert_eq!(nodes_of(endpoint_slice(no_conditions)), Some(BTreeSet::new()), "it serves, on no known node");
    }

    #[test]
    fn lists_that_go_wrote_as_null_are_empty_and_bookkeeping_is_skipped() {
        assert_eq!(nodes_of(endpoint_slice(Value::Null)), None);
        let object = json!({
            "metadata": {"namespace": "shop", "name": "web", "resourceVersion": "7", "uid": "u", "managedFields": [{"fieldsV1": {"f:spec": {}}}],
                         "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": null}, "conditions": null},
        });
        let view: ServiceView = serde_json::from_value(object).unwrap();
        assert_eq!(view.metadata.managed_fields, None);
        assert_eq!(view.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(service(view, None).1.unwrap().ingress_ips, Ok(vec![]));
    }

    #[test]
    fn a_view_is_asked_for_under_the_path_of_its_kind() {
        use kube::Resource as _;
        assert_eq!(SliceView::url_path(&(), Some("shop")), "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices");
        assert_eq!(NodeView::url_path(&(), None), "/api/v1/nodes");
        assert_eq!(PodView::kind(&()), "Pod");
    }

    #[test]
    fn a_status_or_annotation_of_a_pool_is_no_new_configuration() {
        let object = |annotation: &str, assigned: i64| -> IPAddressPool {
            serde_json::from_value(json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
                "metadata": {"name": "p", "annotations": {"a": annotation}, "resourceVersion": annotation},
                "spec": {"addresses": ["192.0.2.0/24"]},
                "status": {"assignedIPv4": assigned, "assignedIPv6": 0, "availableIPv4": 9, "availableIPv6": 0},
            }))
            .unwrap()
        };
        assert_eq!(pool(object("1", 1)), pool(object("2", 2)));
    }

    #[test]
    fn a_pod_without_a_node_or_a_ready_condition_is_no_ready_speaker() {
        for (spec, conditions, expected) in [
            (json!({"containers": []}), json!([]), None),
            (json!({"containers": [], "nodeName": "n1"}), json!([]), Some(false)),
            (json!({"containers": [], "nodeName": "n1"}), json!([{"type": "Ready", "status": "False"}]), Some(false)),
            (json!({"containers": [], "nodeName": "n1"}), json!([{"type": "Ready", "status": "True"}]), Some(true)),
        ] {
            let object = json!({"metadata": {"name": "s"}, "spec": spec, "status": {"conditions": conditions}});
            let (_, pod) = speaker_pod(serde_json::from_value(object).unwrap());
            assert_eq!(pod.map(|pod| pod.ready), expected);
        }
    }

    #[test]
    fn a_node_is_drained_when_somebody_says_so_or_its_kubelet_shuts_it_down() {
        let shutdown = "[container runtime is down, node is shutting down]";
        for (annotation, ready, message, expected) in [
            ("true", "True", "kubelet is posting ready status", true),
            ("false", "True", "kubelet is posting ready status", false),
            ("false", "False", shutdown, true),
            ("false", "False", "container runtime network not ready", false),
            ("false", "Unknown", shutdown, false), // nobody knows any more
        ] {
            let object = json!({
                "metadata": {"name": "n1", "annotations": {"landfall.io/drain": annotation}},
                "status": {"conditions": [{"type": "Ready", "status": ready, "message": message}]},
            });
            let (_, node) = node(serde_json::from_value(object).unwrap());
            assert_eq!(node.map(|node| node.drain), Some(expected), "{annotation} {ready} {message}");
        }
    }

    #[test]
    fn a_node_has_no_network_only_when_it_says_so() {
        for (status, expected) in [("True", true), ("False", false), ("Unknown", false)] {
            let object = json!({
                "metadata": {"name": "n1"},
                "status": {"conditions": [{"type": "NetworkUnavailable", "status": status}]},
            });
            let (_, node) = node(serde_json::from_value(object).unwrap());
            assert_eq!(node.map(|node| node.network_unavailable), Some(expected), "{status}");
        }
    }
}
