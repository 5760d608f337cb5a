//! Which node is to answer: the annotation `landfall.io/node`.

use super::super::{Change, Event};
use super::cluster::{Cluster, addresses, annotation, dual, shared};
use crate::placement::Node;
use serde_json::json;
use std::collections::BTreeMap;

fn three_nodes() -> Cluster {
    let mut cluster = Cluster::with(&[("p", addresses(&["172.30.0.200/29", "fd00:30::200/125"]))]);
    cluster.advertise("all", json!({})).node("n1", &[]).node("n2", &[]).node("n3", &[]).settle();
    cluster
}

/// Services s0, s1, …, one after the other.
fn several(cluster: &mut Cluster, count: usize) {
    for n in 0..count {
        cluster.apply(&format!("s{n}"), json!({})).settle();
    }
}

fn loads(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut loads = BTreeMap::new();
    for name in cluster.services.keys() {
        *loads.entry(cluster.placed(name).unwrap_or("nowhere").to_owned()).or_default() += 1;
    }
    loads
}

#[test]
fn addresses_are_spread_evenly_in_the_same_write_that_gives_them() {
    let mut cluster = three_nodes();
    for n in 0..6 {
        // One for the Service, one for the counters of the pool.
        assert_eq!(cluster.apply(&format!("s{n}"), json!({})).settle(), 2);
    }
    assert_eq!(loads(&cluster), [("n1", 2), ("n2", 2), ("n3", 2)].map(|(node, n)| (node.to_owned(), n)).into());
}

#[test]
fn an_address_is_placed_on_a_node_that_is_in_its_network_and_stays_when_networks_change() {
    let mut cluster = three_nodes();
    let near = |node: &str, networks: &[&str]| {
        let networks = networks.iter().map(|network| network.parse().expect("a network")).collect();
        Event::Networks(Change::Applied((node.into(), Some(networks))))
    };
    cluster.event(near("n1", &["192.0.2.0/24"]));
    cluster.event(near("n2", &["172.30.0.0/24", "fd00:30::/64"]));
    several(&mut cluster, 4);
    assert_eq!(loads(&cluster), [("n2".to_owned(), 4)].into());
    cluster.event(near("n3", &["172.30.0.0/24"]));
    cluster.event(near("n2", &[]));
    assert_eq!(cluster.settle(), 0, "what is placed stays");
    cluster.apply("next", json!({})).settle();
    assert_eq!(cluster.placed("next"), Some("n3"));
}

#[test]
fn a_node_that_joins_moves_nothing_and_neither_does_a_restart() {
    let mut cluster = three_nodes();
    several(&mut cluster, 6);
    let before = loads(&cluster);
    assert_eq!(cluster.node("n4", &[]).settle(), 0);
    cluster.restart();
    assert_eq!((cluster.settle(), loads(&cluster)), (0, before));
    cluster.apply("new", json!({})).settle();
    assert_eq!(cluster.placed("new"), Some("n4"), "the new one goes where there is least");
}

#[test]
fn the_addresses_of_a_deleted_node_are_placed_where_the_hash_has_put_them() {
    let mut cluster = three_nodes();
    several(&mut cluster, 6);
    let lost: Vec<String> =
        cluster.services.keys().filter(|name| cluster.placed(name) == Some("n1")).cloned().collect();
    assert_eq!(cluster.delete_node("n1").settle(), 2, "those of n1, and no other");
    for name in lost {
        let ip = cluster.addresses(&name)[0].parse().expect("an address");
        let nodes = ["n2", "n3"].map(|node| landfall_election::Candidate { node, score: 0 });
        assert_eq!(cluster.placed(&name), landfall_election::owner(ip, nodes, None), "{name}");
    }
}

#[test]
fn a_node_that_is_only_excluded_keeps_its_placements_for_its_return() {
    let mut cluster = three_nodes();
    several(&mut cluster, 3);
    let exclude = [("node.kubernetes.io/exclude-from-external-load-balancers", "")];
    assert_eq!(cluster.node("n1", &exclude).settle(), 0);
    cluster.delete("s0").settle();
    for n in 3..7 {
        let name = format!("s{n}");
        assert_ne!(cluster.apply(&name, json!({})).settled().placed(&name), Some("n1"), "{name}");
    }
}

#[test]
fn services_that_share_an_address_are_placed_together() {
    let mut cluster = three_nodes();
    cluster.apply("a", shared("k", 80)).settle();
    let node = cluster.placed("a").map(str::to_owned);
    for n in 1..5 {
        cluster.apply(&format!("b{n}"), shared("k", 80 + n)).settle();
        assert_eq!(cluster.placed(&format!("b{n}")).map(str::to_owned), node);
    }
    // Also those who share one address of two.
    cluster.apply("dual", dual("RequireDualStack")).settle();
    cluster.apply("dual", shared("m", 80)).settle();
    let six = cluster.addresses("dual")[1].to_owned();
    cluster.apply("six", json!({"spec": {"clusterIPs": ["fd96::7"]}}));
    cluster.apply("six", shared("m", 81)).apply("six", annotation("metallb.io/loadBalancerIPs", &six)).settle();
    assert_eq!((cluster.shows("six"), cluster.placed("six")), (six, cluster.placed("dual")));
}

#[test]
fn two_that_were_placed_apart_are_placed_together_once_they_come_to_share_an_address() {
    let mut cluster = Cluster::with(&[("p", addresses(&["172.30.0.200/31", "fd00:30::200/128"]))]);
    cluster.advertise("all", json!({})).node("n1", &[]).node("n2", &[]);
    cluster.apply("a", json!({})).apply("b", json!({})).settle();
    assert_ne!(cluster.placed("a"), cluster.placed("b"));
    // The one goes over to the only IPv6 address, and the other takes it as its second.
    cluster.apply("a", json!({"spec": {"clusterIPs": ["fd96::9"]}})).apply("a", shared("k", 80));
    cluster.apply("b", dual("PreferDualStack")).apply("b", shared("k", 81)).settle();
    assert_eq!(cluster.addresses("a"), cluster.addresses("b")[1..]);
    assert_eq!(cluster.placed("a"), cluster.placed("b"));
}

#[test]
fn a_service_that_metallb_served_is_placed_where_metallb_had_it() {
    let mut cluster = three_nodes();
    for ip in ["172.30.0.200", "172.30.0.201", "172.30.0.202", "172.30.0.203"] {
        cluster.apply(ip, json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})).settle();
    }
    let placed: Vec<_> = cluster.services.keys().map(|name| cluster.placed(name)).collect();
    assert_eq!(placed, ["n3", "n1", "n1", "n3"].map(Some));
}

#[test]
fn preferences_and_node_selectors_limit_the_choice() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    let preferred = json!([{"weight": 10, "preference": {"matchLabels": {"zone": "a"}}}]);
    let spec = json!({"nodeSelectors": [{"matchLabels": {"edge": "yes"}}], "preferredNodeSelectors": preferred});
    cluster.advertise("edge", spec);
    cluster
        .node("n1", &[("zone", "a")])
        .node("n2", &[("edge", "yes")])
        .node("n3", &[("edge", "yes"), ("zone", "a")])
        .settle();
    for n in 0..4 {
        let name = format!("s{n}");
        cluster.apply(&name, json!({})).settle();
        assert_eq!(cluster.placed(&name), Some("n3"));
    }
}

#[test]
fn an_address_that_nobody_announces_is_placed_once_somebody_may() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    cluster.node("n1", &[]).node("n2", &[]);
    several(&mut cluster, 4);
    assert_eq!(loads(&cluster), [("nowhere".to_owned(), 4)].into());
    cluster.advertise("late", json!({})).settle();
    assert_eq!(loads(&cluster), [("n1".to_owned(), 2), ("n2".to_owned(), 2)].into());
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_has_no_placement_either() {
    let mut cluster = three_nodes();
    cluster.apply("a", json!({})).settle();
    cluster.apply("a", json!({"spec": {"type": "ClusterIP"}})).settle();
    assert_eq!(cluster.services["a"]["metadata"]["annotations"], json!({}));
}

#[test]
fn a_service_that_is_gone_counts_no_more_on_its_node() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    cluster.advertise("all", json!({})).node("n1", &[]).node("n2", &[]).settle();
    several(&mut cluster, 6);
    let gone: Vec<String> =
        cluster.services.keys().filter(|name| cluster.placed(name) == Some("n1")).cloned().collect();
    assert_eq!(gone.len(), 3);
    for name in &gone {
        cluster.delete(name).settle();
    }
    for n in 10..13 {
        // Other addresses than those of the Services that are gone.
        let (name, asks) = (format!("s{n}"), annotation("metallb.io/loadBalancerIPs", &format!("10.0.0.{n}")));
        assert_eq!(cluster.apply(&name, asks).settled().placed(&name), Some("n1"), "{name}");
    }
}

#[test]
fn services_made_again_before_there_is_a_node_are_spread_as_new_ones() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    cluster.node("n1", &[]).node("n2", &[]);
    for n in 0..8 {
        let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": format!("10.0.0.{n}")}]}}});
        cluster.apply(&format!("s{n}"), ingress).settle();
    }
    for n in 0..8 {
        cluster.delete(&format!("s{n}")).apply(&format!("s{n}"), json!({}));
    }
    cluster.settle();
    cluster.advertise("late", json!({})).settle();
    assert_eq!(loads(&cluster), [("n1".to_owned(), 4), ("n2".to_owned(), 4)].into());
}

#[test]
fn an_address_that_no_node_could_answer_for_is_placed_when_one_joins() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    assert_eq!(cluster.advertise("all", json!({})).apply("a", json!({})).settled().placed("a"), None);
    assert_eq!(cluster.node("n1", &[]).settled().placed("a"), Some("n1"));
}

#[test]
fn the_first_address_in_the_order_of_the_status_says_where_a_service_is() {
    let mut cluster = three_nodes();
    let ingress = json!([{"ip": "fd00:30::200"}, {"ip": "172.30.0.201"}]);
    cluster.apply("a", dual("RequireDualStack"));
    cluster.apply("a", json!({"status": {"loadBalancer": {"ingress": ingress}}})).settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.placed("a")), ("fd00:30::200 172.30.0.201", Some("n3")));
}

#[test]
fn a_placement_that_somebody_takes_off_or_changes_is_put_back() {
    let mut cluster = three_nodes();
    several(&mut cluster, 6);
    let placed = |cluster: &Cluster| (0..6).map(|n| cluster.placed(&format!("s{n}")).map(str::to_owned)).collect();
    let before: Vec<Option<String>> = placed(&cluster);
    for node in [json!(null), json!("n2"), json!("nowhere")] {
        for n in 0..6 {
            cluster.apply(&format!("s{n}"), json!({"metadata": {"annotations": {"landfall.io/node": node}}})).settle();
        }
        assert_eq!(placed(&cluster), before, "{node}");
    }
}

#[test]
fn a_placement_that_a_service_comes_with_stays() {
    let mut cluster = three_nodes();
    let mut service = annotation("landfall.io/node", "n1");
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "172.30.0.200"}]}});
    assert_eq!(cluster.apply("a", service).settled().placed("a"), Some("n1"), "the hash would say n3");
}

#[test]
fn sharers_on_a_deleted_node_move_together() {
    let mut cluster = three_nodes();
    cluster.apply("a", shared("k", 80)).apply("b", shared("k", 81)).settle();
    let gone = cluster.placed("a").expect("a node").to_owned();
    cluster.delete_node(&gone).settle();
    assert_eq!(cluster.placed("a"), cluster.placed("b"));
    assert!(cluster.placed("a").is_some_and(|node| node != gone), "{:?}", cluster.placed("a"));
}

#[test]
fn nodes_without_network_and_advertisements_for_others_do_not_count() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/29"]))]);
    cluster.advertise("web", json!({"serviceSelectors": [{"matchLabels": {"tier": "web"}}]}));
    cluster.node("n1", &[]);
    let unreachable = Node { network_unavailable: true, ..Node::default() };
    cluster.event(Event::Node(Change::Applied(("n2".into(), Some(unreachable)))));
    for n in 0..4 {
        let name = format!("web{n}");
        cluster.apply(&name, json!({"metadata": {"labels": {"tier": "web"}}})).settle();
        assert_eq!(cluster.placed(&name), Some("n1"), "{name}");
    }
    assert_eq!(cluster.apply("db", json!({})).settled().placed("db"), None);
}
