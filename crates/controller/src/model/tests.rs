use serde_json::json;

use super::*;
use cluster::{Cluster, addresses, annotation, dual, read};

mod cluster;
mod contests;
mod inputs;
mod places;
mod rules;
mod sequences;
mod waiting;

#[test]
fn what_a_service_holds_is_adopted_before_anything_is_given() {
    let mut cluster = Cluster::new();
    cluster.apply("a-pending", json!({}));
    cluster.apply("b-holds", json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.0", "ipMode": "VIP"}]}}}));
    let cluster = cluster.started(&[("p", addresses(&["10.0.0.0/30"]))]);
    assert_eq!((cluster.shows("a-pending").as_str(), cluster.shows("b-holds").as_str()), ("10.0.0.1", "10.0.0.0"));
}

#[test]
fn a_restart_changes_nothing_and_writes_nothing() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/29", "fd00::/125"]))]);
    cluster
        .apply("a", json!({}))
        .apply("b", dual("RequireDualStack"))
        .apply("c", annotation("metallb.io/loadBalancerIPs", "10.9.9.9"))
        .settle();
    let before: Vec<String> = ["a", "b", "c"].map(|name| cluster.shows(name)).into();
    assert_eq!(before, ["10.0.0.0", "10.0.0.1 fd00::", "AddressNotInAnyPool"]);
    for _ in 0..10 {
        cluster.restart();
        assert_eq!(cluster.settle(), 0);
        assert_eq!(["a", "b", "c"].map(|name| cluster.shows(name)).to_vec(), before);
    }
}

#[test]
fn a_deleted_service_gives_its_address_to_one_that_waits() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.7/32"]))]);
    cluster.apply("a", json!({})).apply("b", json!({})).settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.7", "NoAddressAvailable"));
    assert_eq!(cluster.delete("a").settled().shows("b"), "10.0.0.7");
    // Also when the deletion was missed and a later list shows it.
    cluster.apply("c", json!({})).settle();
    let c = read(&cluster.services["c"]);
    for event in [Change::Restarted, Change::Listed(c), Change::ListDone] {
        cluster.event(Event::Service(event));
    }
    cluster.services.remove("b");
    assert_eq!(cluster.settled().shows("c"), "10.0.0.7");
}

#[test]
fn a_service_made_again_under_the_same_name_inherits_nothing() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.apply("b", json!({})).settle();
    // The watch shows the new one without a deletion in between, as after a relist.
    cluster.services.remove("b");
    cluster.delete("a");
    cluster.apply("b", json!({}));
    assert_eq!(cluster.settled().shows("b"), "10.0.0.0");
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_is_cleared_and_its_address_is_free() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.7/32"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.apply("a", json!({"spec": {"type": "ClusterIP"}})).settle();
    let a = &cluster.services["a"];
    assert_eq!(a["status"]["loadBalancer"].get("ingress"), None);
    assert_eq!(a["status"]["conditions"], json!([]));
    assert_eq!(a["metadata"]["annotations"], json!({}));
    assert_eq!(cluster.apply("b", json!({})).settled().shows("b"), "10.0.0.7");
}

#[test]
fn services_of_other_types_and_classes_are_left_alone() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/24"]))]);
    for (name, spec) in [
        ("cluster-ip", json!({"type": "ClusterIP"})),
        ("node-port", json!({"type": "NodePort"})),
        ("other", json!({"loadBalancerClass": "example.com/other"})),
    ] {
        let writes = cluster.apply(name, json!({ "spec": spec })).settle();
        assert_eq!((writes, cluster.shows(name).as_str()), (0, "nothing"), "{name}");
    }
}

#[test]
fn requests_are_honoured_or_refused_with_a_reason() {
    let pools = [("p", addresses(&["10.0.0.0/29"])), ("q", json!({"addresses": ["10.1.0.0/29"], "autoAssign": false}))];
    let mut cluster = Cluster::with(&pools);
    for (name, change, expected) in [
        ("by-annotation", annotation("metallb.io/loadBalancerIPs", "10.0.0.5"), "10.0.0.5"),
        ("by-old-annotation", annotation("metallb.universe.tf/loadBalancerIPs", "10.0.0.6"), "10.0.0.6"),
        ("by-spec", json!({"spec": {"loadBalancerIP": "10.1.0.3"}}), "10.1.0.3"),
        ("by-pool", annotation("metallb.io/address-pool", "q"), "10.1.0.0"),
        ("any", json!({}), "10.0.0.0"),
        ("taken", annotation("metallb.io/loadBalancerIPs", "10.0.0.5"), "AddressInUse"),
        ("nonsense", annotation("metallb.io/loadBalancerIPs", "ten"), "InvalidRequest"),
        ("unknown-pool", annotation("metallb.io/address-pool", "r"), "UnknownPool"),
        ("headless", json!({"spec": {"clusterIPs": ["None"]}}), "ClusterIPsUnusable"),
    ] {
        assert_eq!(cluster.apply(name, change).settled().shows(name), expected, "{name}");
    }
    assert!(cluster.said.contains(&"deprecatedAnnotation Service uses deprecated annotation metallb.universe.tf/loadBalancerIPs; write the prefix metallb.io/ instead".to_owned()), "{:#?}", cluster.said);
    // Asking for another address moves it in one write; a request that cannot be read costs nothing.
    assert_eq!(cluster.apply("any", annotation("metallb.io/loadBalancerIPs", "10.0.0.4")).settle(), 1);
    assert_eq!(cluster.shows("any"), "10.0.0.4");
    assert_eq!(
        cluster.apply("any", annotation("metallb.io/loadBalancerIPs", "four")).settled().shows("any"),
        "10.0.0.4"
    );
    assert_eq!(
        cluster.apply("any", annotation("metallb.io/address-pool", "q")).settled().shows("any"),
        "10.0.0.4",
        "the request is read first"
    );
}

#[test]
fn a_mistake_in_a_pool_takes_nothing_away() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.pool("p", addresses(&["10.0.0.0/99"]));
    assert_eq!(cluster.settled().shows("a"), "10.0.0.0");
    assert_eq!(
        cluster.apply("b", json!({})).settled().shows("b"),
        "10.0.0.1",
        "the last good configuration is in force"
    );
    let said = cluster.said.iter().find(|said| said.starts_with("Invalid ")).expect("an event on the pool");
    assert!(said.contains("spec.addresses[0] is \"10.0.0.0/99\": invalid CIDR"), "{said}");
    // Nor does it after a restart, when there is no last good one.
    cluster.restart();
    assert_eq!(cluster.settled().shows("a"), "10.0.0.0");
    assert_eq!(cluster.services["a"]["status"]["conditions"][0]["reason"], "ConfigurationInvalid");
    cluster.pool("p", addresses(&["10.0.0.0/30"]));
    assert_eq!((cluster.settled().shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.0", "10.0.0.1"));
    assert_eq!(cluster.services["a"]["status"]["conditions"][0]["reason"], "Allocated");
}

#[test]
fn an_address_that_its_pool_has_lost_is_replaced_in_one_write() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).apply("b", json!({})).settle();
    cluster.pool("p", addresses(&["10.0.0.1-10.0.0.3"]));
    cluster.settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.2", "10.0.0.1"));
    assert!(
        cluster.said.iter().any(|said| said.starts_with("ClearAssignment current IP 10.0.0.0 for \"default/a\"")),
        "{:#?}",
        cluster.said
    );
}

#[test]
fn a_failed_write_is_sent_again_with_the_same_address_and_what_was_to_be_said() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.down = true;
    assert_eq!(cluster.apply("a", json!({})).settle(), 1);
    assert_eq!(cluster.apply("b", json!({})).settle(), 1);
    assert_eq!(cluster.shows("a"), "nothing");
    cluster.down = false;
    cluster.settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.0", "10.0.0.1"));
    assert_eq!(cluster.said.iter().filter(|said| *said == "IPAllocated Assigned IP [\"10.0.0.0\"]").count(), 1);
}

#[test]
fn the_second_family_comes_when_the_pool_has_it_and_the_first_stays() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.7/32"]))]);
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.0.0.7");
    assert_eq!(cluster.settle(), 0, "it waits quietly");
    cluster.pool("p", addresses(&["10.0.0.7/32", "fd00::7/128"]));
    assert_eq!(cluster.settled().shows("a"), "10.0.0.7 fd00::7");
}

#[test]
fn a_pool_says_how_full_it_is_and_bgp_objects_that_they_do_nothing_yet() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30", "fd00::/126"]))]);
    cluster.apply("a", json!({})).settle();
    let status = cluster.model.pools.get(&"p".to_owned()).and_then(|pool| pool.status.clone()).expect("a status");
    assert_eq!(
        (status.assigned_ipv4, status.available_ipv4, status.assigned_ipv6, status.available_ipv6),
        (1, 3, 0, 4)
    );
    assert_eq!((status.conditions[0].status.as_str(), status.conditions[0].observed_generation), ("True", Some(1)));
    let peer = json!({"metadata": {"name": "router", "uid": "u"}, "spec": {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}});
    let peer = serde_json::from_value(peer).expect("a BGPPeer");
    cluster.event(Event::BgpPeer(Change::Applied(("router".into(), Some(peer)))));
    assert_eq!(cluster.settle(), 1);
    assert!(cluster.said.last().is_some_and(|said| said.starts_with("NotSupportedYet this version of Landfall")));
    assert_eq!(cluster.settle(), 0);
}
