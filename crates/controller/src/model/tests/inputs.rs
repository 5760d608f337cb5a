//! What is read from a Service, and what is said to it: the fields and annotations of MetalLB, one table each.

use super::super::*;
use super::cluster::{Cluster, addresses, annotation, dual, shared};
use crate::service::Service;
use landfall_ipam::{Port, Protocol, Sharing};
use serde_json::json;

const IPS: &str = "metallb.io/loadBalancerIPs";
const POOL: &str = "metallb.io/address-pool";

fn both_families() -> Cluster {
    Cluster::with(&[("p", addresses(&["10.0.0.0/29", "fd00::/125"])), ("q", addresses(&["10.1.0.0/29"]))])
}

/// A dual-stack Service that asks for these addresses.
fn dual_asking(ips: &str) -> Value {
    let mut service = dual("RequireDualStack");
    service["metadata"] = json!({"annotations": {IPS: ips}});
    service
}

#[test]
fn addresses_and_pools_that_are_asked_for_are_read_as_metallb_reads_them() {
    let old_beside_empty_new =
        json!({"metadata": {"annotations": {IPS: "", "metallb.universe.tf/loadBalancerIPs": "10.0.0.5"}}});
    for (service, expected, words) in [
        (dual_asking("10.0.0.2,fd00::2"), "10.0.0.2 fd00::2", "from pool p"),
        (dual_asking(" 10.0.0.2 , fd00::2 "), "10.0.0.2 fd00::2", "from pool p"),
        (dual_asking("fd00::2,10.0.0.2"), "10.0.0.2 fd00::2", "from pool p"),
        (dual_asking("10.0.0.2,10.0.0.3"), "InvalidRequest", "\"10.0.0.2,10.0.0.3\": same address family"),
        (dual_asking("10.0.0.2,fd00::2,10.0.0.3"), "InvalidRequest", "more than two addresses"),
        (dual_asking("10.0.0.2"), "FamilyMismatch", "must ask for one address of each family"),
        (annotation(IPS, "fd00::2"), "FamilyMismatch", "does not match the ipFamily of the service, which is IPv4"),
        (annotation(IPS, "10.0.0.2,"), "InvalidRequest", "invalid metallb.io/loadBalancerIPs: \"10.0.0.2,\""),
        (json!({"spec": {"loadBalancerIP": "ten"}}), "InvalidRequest", "invalid spec.loadBalancerIP: \"ten\""),
        (annotation(IPS, ""), "10.0.0.0", "from pool p"),
        (old_beside_empty_new, "10.0.0.0", "from pool p"),
        (annotation(POOL, ""), "10.0.0.0", "from pool p"),
        (json!({"spec": {"loadBalancerIP": ""}}), "10.0.0.0", "from pool p"),
        (annotation("metallb.universe.tf/address-pool", "q"), "10.1.0.0", "from pool q"),
    ] {
        let mut cluster = both_families();
        assert_eq!(cluster.apply("a", service.clone()).settled().shows("a"), expected, "{service}");
        let message = cluster.condition("a", "message");
        assert!(message.contains(words), "{service}: {message}");
        cluster.apply("a", json!({"metadata": {"labels": {"looked": "at again"}}}));
        assert_eq!(cluster.settle(), 0, "{service}");
    }
}

#[test]
fn the_families_are_those_of_the_cluster_addresses() {
    let cluster_ip = |ip: &str| json!({"spec": {"clusterIPs": null, "clusterIP": ip}});
    for (service, expected) in [
        (cluster_ip("10.96.0.9"), "10.0.0.0"),
        (cluster_ip("fd96::9"), "fd00::"),
        (cluster_ip("None"), "ClusterIPsUnusable"),
        (json!({"spec": {"clusterIPs": null}}), "ClusterIPsUnusable"),
        (json!({"spec": {"clusterIPs": ["10.96.0.9", "10.96.0.10"]}}), "ClusterIPsUnusable"),
        (json!({"spec": {"clusterIPs": ["10.96.0.9"], "ipFamilyPolicy": "RequireDualStack"}}), "ClusterIPsUnusable"),
        (json!({"spec": {"clusterIPs": ["10.96.0.9"], "ipFamilyPolicy": "PreferDualStack"}}), "10.0.0.0"),
        (dual("RequireDualStack"), "10.0.0.0 fd00::"),
    ] {
        assert_eq!(both_families().apply("a", service.clone()).settled().shows("a"), expected, "{service}");
    }
}

#[test]
fn who_comes_to_require_two_families_gives_up_the_one_it_has() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/29"]))]);
    for (policy, expected) in
        [("PreferDualStack", "10.0.0.0"), ("RequireDualStack", "NoAddressOfFamily"), ("PreferDualStack", "10.0.0.0")]
    {
        assert_eq!(cluster.apply("a", dual(policy)).settled().shows("a"), expected, "{policy}");
    }
}

#[test]
fn only_services_of_our_class_are_ours_and_what_we_left_on_another_type() {
    let service = |spec: Value, annotations: Value| {
        let metadata = json!({"namespace": "default", "name": "a", "annotations": annotations});
        json!({"metadata": metadata, "spec": spec})
    };
    let of_class = |class: &str| service(json!({"type": "LoadBalancer", "loadBalancerClass": class}), json!({}));
    let classless = service(json!({"type": "LoadBalancer"}), json!({}));
    let ours_once = json!({"metallb.io/ip-allocated-from-pool": "p"});
    let leaving = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"type": "LoadBalancer"}});
    for (class, service, expected) in [
        (None, &classless, Some(true)),
        (None, &of_class("x"), None),
        (Some("x"), &classless, None),
        (Some("x"), &of_class("x"), Some(true)),
        (Some("x"), &of_class("y"), None),
        (None, &service(json!({"type": "ClusterIP"}), json!({})), None),
        (None, &service(json!({"type": "ClusterIP"}), ours_once.clone()), Some(false)),
        (None, &service(json!({"type": "LoadBalancer", "loadBalancerClass": "x"}), ours_once), None),
        (None, &leaving, Some(false)),
    ] {
        let view = serde_json::from_value(service.clone()).expect("a Service");
        let wanted = Service::read(view, class).1.map(|service| service.wanted);
        assert_eq!(wanted, expected, "class {class:?}: {service}");
    }
}

#[test]
fn the_terms_of_sharing_are_the_key_the_ports_and_with_local_policy_the_selector() {
    let terms = |sharing: &str, policy: &str, selector: Value, ports: Value| {
        let service = json!({
            "metadata": {"name": "a", "annotations": {"metallb.io/allow-shared-ip": sharing}},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy, "selector": selector, "ports": ports}});
        let view = serde_json::from_value(service).expect("a Service");
        let service = Service::read(view, None).1.expect("it is ours");
        (service.sharing, service.ports.into_iter().map(|port| port.to_string()).collect::<Vec<_>>())
    };
    let ports = json!([{"port": 53}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "SCTP"}]);
    let every = ["TCP/53", "UDP/53", "SCTP/53"].map(str::to_owned).to_vec();
    let selector = json!({"b": "2", "a": "1"});
    for (sharing, policy, selector, expected) in [
        ("k", "Cluster", selector.clone(), Some("")),
        ("k", "Local", selector.clone(), Some("a=1,b=2")),
        ("k", "Local", Value::Null, Some("")),
        ("", "Local", selector, None),
    ] {
        let expected = expected.map(|backend| Sharing { key: sharing.into(), backend: backend.into() });
        assert_eq!(terms(sharing, policy, selector, ports.clone()), (expected, every.clone()), "{sharing} {policy}");
    }
    let tcp = Port { protocol: Protocol::Tcp, number: 53 };
    assert_eq!(tcp.to_string(), "TCP/53");
}

#[test]
fn a_foreign_writer_is_another_field_manager_of_the_addresses() {
    let managed = |manager: &str, fields: Value| json!({"manager": manager, "fieldsV1": {"f:status": fields}});
    let addresses = || json!({"f:loadBalancer": {"f:ingress": {}}});
    for (entries, expected) in [
        (json!([]), None),
        (json!([managed("landfall-controller", addresses())]), None),
        (json!([managed("other", json!({"f:conditions": {}})), managed("landfall-controller", addresses())]), None),
        (
            json!([managed("landfall-controller", json!({"f:conditions": {}})), managed("other", addresses())]),
            Some("other"),
        ),
    ] {
        let metadata = json!({"name": "a", "managedFields": entries});
        let view = serde_json::from_value(json!({"metadata": metadata, "spec": {"type": "LoadBalancer"}}));
        let service = Service::read(view.expect("a Service"), None).1.expect("it is ours");
        assert_eq!(service.foreign_writer.as_deref(), expected, "{entries}");
    }
}

#[test]
fn events_have_metallbs_reasons_and_texts_and_are_said_once() {
    let four = || addresses(&["10.0.0.0/30"]);
    let old = annotation("metallb.universe.tf/loadBalancerIPs", "10.9.9.9");
    let deprecated = "deprecatedAnnotation Service uses deprecated annotation metallb.universe.tf/loadBalancerIPs";
    for (first, then, said) in [
        (json!({}), None, vec!["IPAllocated Assigned IP [\"10.0.0.0\"]"]),
        (
            dual("PreferDualStack"),
            None,
            vec![
                "IPAllocated Assigned IP [\"10.0.0.0\"]",
                "AdditionalAssignFailed cannot assign additional IP in PreferDualStack: no available IPs in pool p: ",
            ],
        ),
        (
            json!({"spec": {"clusterIPs": ["fd96::9"]}}),
            None,
            vec!["AllocationFailed Failed to allocate IP for \"default/a\": no available IPs: "],
        ),
        (
            json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}}),
            None,
            vec!["not enough clusterips Service requires dual stack but not enough clusterips [\"10.96.0.9\"]"],
        ),
        (
            json!({"spec": {"clusterIPs": ["None"]}}),
            None,
            vec!["noclusterIPsIPFamily IPFamilyForAddresses: the Service's clusterIPs are [\"None\"]"],
        ),
        (
            annotation(IPS, "ten"),
            None,
            vec!["LoadBalancerFailed invalid requested loadbalancer IPs: invalid metallb.io/loadBalancerIPs: \"ten\""],
        ),
        (
            json!({}),
            Some(annotation(IPS, "ten")),
            vec!["LoadBalancerFailed invalid requested loadbalancer IPs: invalid metallb.io/loadBalancerIPs: \"ten\""],
        ),
        (
            json!({}),
            Some(annotation(IPS, "10.0.0.3")),
            vec![
                "ClearAssignment current IP 10.0.0.0 for \"default/a\" not allowed by config, will attempt for new IP",
                "IPAllocated Assigned IP [\"10.0.0.3\"]",
            ],
        ),
        (old, None, vec![deprecated, "AllocationFailed Failed to allocate IP for \"default/a\": [\"10.9.9.9\"]"]),
        (
            annotation("metallb.universe.tf/loadBalancerIPs", "10.0.0.1"),
            None,
            vec!["IPAllocated Assigned IP [\"10.0.0.1\"]", deprecated],
        ),
    ] {
        let mut cluster = Cluster::with(&[("p", four())]);
        cluster.apply("a", first.clone()).settle();
        if let Some(then) = &then {
            cluster.said.clear();
            cluster.apply("a", then.clone()).settle();
        }
        assert_eq!(cluster.said.len(), said.len(), "{first} {then:?}: {:#?}", cluster.said);
        for (has, starts) in cluster.said.iter().zip(&said) {
            assert!(has.starts_with(starts), "{has}\n does not start with\n{starts}");
        }
        cluster.said.clear();
        cluster.apply("a", json!({"metadata": {"labels": {"looked": "at again"}}})).settle();
        assert!(cluster.said.is_empty(), "{first} {then:?}: {:#?}", cluster.said);
    }
    let mut cluster = Cluster::with(&[("p", four())]);
    cluster.apply("a", dual("PreferDualStack")).settle();
    cluster.said.clear();
    cluster.pool("p", addresses(&["10.0.0.0/30", "fd00::/126"])).settle();
    assert_eq!(cluster.said, ["IPAllocated Assigned additional IP \"fd00::\""]);
}

#[test]
fn a_host_name_that_somebody_left_in_the_status_is_taken_out() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("holder", json!({})).settle();
    cluster.apply("a", json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}})).settle();
    assert_eq!(cluster.services["a"]["status"]["loadBalancer"].get("ingress"), None);
    assert_eq!(cluster.shows("a"), "NoAddressAvailable");
}

#[test]
fn a_service_on_its_way_out_gives_its_address_to_one_that_waits() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("a", shared("k", 80)).apply("b", json!({})).settle();
    cluster.apply("a", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}}));
    cluster.settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("nothing", "10.0.0.0"));
}

#[test]
fn who_asks_for_one_address_keeps_just_the_one_when_it_comes_to_prefer_two() {
    let mut cluster = both_families();
    cluster.apply("a", annotation(IPS, "10.0.0.4")).settle();
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.0.0.4");
    assert_eq!(cluster.apply("a", json!({"metadata": {"labels": {"looked": "at again"}}})).settle(), 0);
}

#[test]
fn a_quota_that_is_lowered_takes_nothing_from_who_asked_for_what_it_has_in_any_order() {
    let quota = |max: &str| {
        let annotations = json!({"landfall.io/max-addresses-per-namespace": max});
        json!({"metadata": {"annotations": annotations}, "spec": {"addresses": ["10.0.0.0/29", "fd00::/125"]}})
    };
    for ips in ["10.0.0.2,fd00::2", "fd00::2,10.0.0.2"] {
        let mut cluster = Cluster::with(&[]);
        cluster.pool_object("p", quota("2")).apply("a", dual_asking(ips)).settle();
        assert_eq!(cluster.pool_object("p", quota("0")).settled().shows("a"), "10.0.0.2 fd00::2", "{ips}");
    }
}
