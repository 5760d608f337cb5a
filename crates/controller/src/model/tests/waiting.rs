//! Who waits gets what comes to be free or shareable; who holds something keeps it; and nothing is decided too early,
//! twice, or for another.

use super::super::*;
use super::cluster::{Cluster, addresses, annotation, dual, shared};
use serde_json::json;

/// Fits on a pool of one address only by sharing.
fn one_address() -> Cluster {
    Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))])
}

fn local(key: &str, port: u16, app: &str) -> Value {
    let mut service = shared(key, port);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["selector"] = json!({ "app": app });
    service
}

#[test]
fn sharers_part_and_meet_again_as_in_metallbs_golden_vector() {
    let mut cluster = one_address();
    let has = "10.0.0.0";
    cluster.apply("a", shared("k", 80)).apply("b", shared("k", 81)).settle();
    for (name, service, a, b, why) in [
        ("b", shared("k", 81), has, has, "same key, both Cluster"),
        ("b", local("k", 81, "web"), has, "NoAddressAvailable", "B is Local now, and who changes loses"),
        ("a", local("k", 80, "web"), has, has, "A is Local with the same Pods"),
        ("a", local("k", 80, "shop"), "NoAddressAvailable", has, "A's Pods are others now"),
        ("b", local("k", 81, "shop"), has, has, "B's Pods are the same again"),
    ] {
        cluster.apply(name, service).settle();
        assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), (a, b), "{why}");
    }
}

#[test]
fn who_waits_gets_an_address_when_its_holder_comes_to_share_it() {
    for (holder, waits, change, why) in [
        (json!({}), shared("k", 81), shared("k", 80), "a key where there was none"),
        (shared("m", 80), shared("k", 81), shared("k", 80), "another key"),
        (shared("k", 81), shared("k", 81), shared("k", 80), "another port"),
        (
            local("k", 80, "web"),
            shared("k", 81),
            json!({"spec": {"externalTrafficPolicy": "Cluster"}}),
            "another policy",
        ),
    ] {
        let mut cluster = one_address();
        cluster.apply("holder", holder).settle();
        assert_eq!(cluster.apply("waits", waits).settled().shows("waits"), "NoAddressAvailable", "{why}");
        cluster.apply("holder", change).settle();
        assert_eq!(
            (cluster.shows("holder").as_str(), cluster.shows("waits").as_str()),
            ("10.0.0.0", "10.0.0.0"),
            "{why}"
        );
    }
}

#[test]
fn who_waits_gets_what_another_gives_up() {
    let elsewhere = json!({"addresses": ["10.1.0.0/32"], "autoAssign": false});
    for (change, why) in [
        (annotation("metallb.io/address-pool", "q"), "it asks for another pool"),
        (annotation("metallb.io/loadBalancerIPs", "10.1.0.0"), "it asks for another address"),
        (annotation("metallb.io/loadBalancerIPs", "203.0.113.9"), "it asks for what cannot be had"),
        (json!({"spec": {"clusterIPs": ["fd96::9"]}}), "it is of another family"),
        (json!({"spec": {"clusterIPs": ["None"]}}), "it has no cluster address"),
        (json!({"spec": {"type": "ClusterIP"}}), "it is no load balancer"),
    ] {
        let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"])), ("q", elsewhere.clone())]);
        cluster.apply("a", json!({})).apply("b", json!({})).settle();
        assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.0", "NoAddressAvailable"));
        cluster.apply("a", change).settle();
        assert_eq!(cluster.shows("b"), "10.0.0.0", "{why}");
    }
}

#[test]
fn who_prefers_two_families_gets_the_second_when_another_gives_it_up() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32", "fd00::/128"]))]);
    cluster.apply("six", json!({"spec": {"clusterIPs": ["fd96::9"]}})).settle();
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.0.0.0");
    assert_eq!(cluster.delete("six").settled().shows("a"), "10.0.0.0 fd00::");
}

#[test]
fn nothing_is_decided_while_one_of_the_lists_is_missing() {
    type Made = fn() -> Event;
    let done: [(&str, Made); 10] = [
        ("Service", || Event::Service(Change::ListDone)),
        ("Namespace", || Event::Namespace(Change::ListDone)),
        ("Node", || Event::Node(Change::ListDone)),
        ("ConfigurationState", || Event::Networks(Change::ListDone)),
        ("IPAddressPool", || Event::Pool(Change::ListDone)),
        ("L2Advertisement", || Event::L2Advertisement(Change::ListDone)),
        ("BGPPeer", || Event::BgpPeer(Change::ListDone)),
        ("BGPAdvertisement", || Event::BgpAdvertisement(Change::ListDone)),
        ("BFDProfile", || Event::BfdProfile(Change::ListDone)),
        ("Community", || Event::Community(Change::ListDone)),
    ];
    for (missing, last) in done {
        let mut cluster = Cluster::new();
        cluster.pool("p", addresses(&["10.0.0.0/30"])).apply("a", json!({}));
        for (_, event) in done.iter().filter(|(kind, _)| *kind != missing) {
            cluster.event(event());
        }
        assert_eq!((cluster.settle(), cluster.model.is_ready()), (0, false), "without the {missing} list");
        cluster.event(last());
        assert_eq!(cluster.settled().shows("a"), "10.0.0.0", "with the {missing} list");
    }
}

#[test]
fn what_is_written_is_not_written_again_before_the_watch_shows_it() {
    let mut cluster = one_address();
    cluster.apply("a", json!({}));
    let write = cluster.next().expect("the address");
    let now = Now { instant: cluster.now, wall: Timestamp::UNIX_EPOCH };
    cluster.model.written(&write, &Written::Done("2".into()), now);
    // Everybody is looked at again.
    cluster.pool("q", addresses(&["10.1.0.0/32"]));
    assert_eq!(cluster.next(), None);
}

#[test]
fn what_is_reported_of_a_pool_is_not_reported_again_before_the_watch_shows_it() {
    let mut cluster = one_address();
    let write = cluster.apply("a", json!({})).next().expect("the address");
    cluster.finish(&write);
    cluster.now += REPORT_PAUSE;
    let report = cluster.next().expect("the counters");
    assert_eq!(report.target, Target::Object(Kind::Pool, "p".into()));
    let now = Now { instant: cluster.now, wall: Timestamp::UNIX_EPOCH };
    cluster.model.written(&report, &Written::Done("9".into()), now);
    assert_eq!(cluster.next(), None);
}

#[test]
fn a_service_has_one_write_under_way_at_most() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({}));
    let write = cluster.next().expect("the address");
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.3"));
    assert_eq!(cluster.next(), None, "the first is under way");
    cluster.finish(&write);
    assert_eq!(cluster.settled().shows("a"), "10.0.0.3");
}

#[test]
fn what_a_write_has_to_say_is_said_once_however_often_it_fails() {
    let mut cluster = one_address();
    cluster.down = true;
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "203.0.113.9"));
    for _ in 0..3 {
        assert_eq!(cluster.settle(), 1);
        cluster.now += Duration::from_secs(1);
    }
    cluster.down = false;
    cluster.settle();
    assert_eq!(cluster.said.len(), 1, "{:#?}", cluster.said);
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.0")).settle();
    assert_eq!(cluster.said[1..], ["IPAllocated Assigned IP [\"10.0.0.0\"]"]);
}

#[test]
fn what_could_not_be_said_of_a_service_is_not_said_of_its_successor() {
    let mut cluster = one_address();
    cluster.down = true;
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "203.0.113.9")).settle();
    cluster.down = false;
    cluster.delete("a").apply("a", json!({})).settle();
    assert_eq!(cluster.said, ["IPAllocated Assigned IP [\"10.0.0.0\"]"]);
}

#[test]
fn a_service_that_is_gone_is_not_tried_again() {
    let mut cluster = one_address();
    cluster.down = true;
    cluster.apply("a", json!({})).settle();
    assert!(cluster.model.queue.next_due().is_some());
    cluster.delete("a");
    assert_eq!((cluster.next(), cluster.model.queue.next_due()), (None, None));
}

#[test]
fn a_pair_that_no_pool_holds_any_more_is_replaced_from_one_that_has_both() {
    for policy in ["PreferDualStack", "RequireDualStack"] {
        let mut cluster = Cluster::with(&[
            ("p", addresses(&["10.0.0.0/30", "fd00::/126"])),
            ("r", addresses(&["10.2.0.0/30", "fd02::/126"])),
        ]);
        cluster.apply("a", dual(policy)).settle();
        assert_eq!(cluster.shows("a"), "10.0.0.0 fd00::");
        // Each of the two is in some pool, but not in the same.
        cluster.pool("p", addresses(&["fd00::/126"])).pool("q", addresses(&["10.0.0.0/30"])).settle();
        assert_eq!(cluster.shows("a"), "10.2.0.0 fd02::", "{policy}");
    }
}

#[test]
fn the_one_address_of_a_service_that_waits_for_the_second_is_given_to_nobody_else() {
    let mut cluster = one_address();
    cluster.apply("a", dual("PreferDualStack")).apply("b", json!({})).settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.0", "NoAddressAvailable"));
}

#[test]
fn what_stands_on_a_service_that_is_no_load_balancer_is_not_adopted() {
    let mut cluster = Cluster::new();
    let left_behind = json!({
        "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
        "spec": {"type": "ClusterIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.0"}]}}});
    cluster.apply("a", json!({})).apply("b", left_behind);
    let cluster = cluster.started(&[("p", addresses(&["10.0.0.0/30"]))]);
    assert_eq!((cluster.shows("a").as_str(), cluster.addresses("b").len()), ("10.0.0.0", 0));
}

#[test]
fn sharers_are_adopted_on_their_terms_before_one_that_waits_takes_a_port_of_theirs() {
    let holds = |port: u16| {
        let mut service = shared("k", port);
        service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.0"}]}});
        service
    };
    let mut cluster = Cluster::new();
    cluster.apply("a", holds(80)).apply("b-waits", shared("k", 81)).apply("c", holds(81));
    let cluster = cluster.started(&[("p", addresses(&["10.0.0.0/30"]))]);
    assert_eq!(["a", "b-waits", "c"].map(|name| cluster.shows(name)), ["10.0.0.0", "10.0.0.1", "10.0.0.0"]);
}

#[test]
fn what_a_status_shows_is_adopted_when_what_allows_it_comes_right_after_a_start() {
    let gold = json!({"addresses": ["10.0.0.0/32"], "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]}});
    // A pool that is deleted and made again.
    let mut cluster = one_address();
    cluster.apply("b", json!({})).settle();
    cluster.apply("a", json!({})).settle();
    cluster.pools.remove("p");
    cluster.restart();
    cluster.pool("p", addresses(&["10.0.0.0/32"])).settle();
    assert_eq!((cluster.shows("b").as_str(), cluster.shows("a").as_str()), ("10.0.0.0", "NoAddressAvailable"));
    // A Namespace that loses its label and gets it again.
    let mut cluster = Cluster::with(&[("p", gold)]);
    cluster.namespace("z", &[("tier", "gold")]).namespace("y", &[("tier", "gold")]).apply("z/b", json!({})).settle();
    cluster.apply("y/a", json!({})).namespace("z", &[]).restart();
    cluster.namespace("z", &[("tier", "gold")]).settle();
    assert_eq!((cluster.shows("z/b").as_str(), cluster.shows("y/a").as_str()), ("10.0.0.0", "NoAddressAvailable"));
}

#[test]
fn a_dual_pool_that_comes_later_moves_nobody() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", dual("PreferDualStack")).settle();
    cluster.pool("both", addresses(&["10.1.0.0/30", "fd01::/126"])).settle();
    assert_eq!(cluster.shows("a"), "10.0.0.0");
}

#[test]
fn a_counter_that_does_not_fit_says_the_most_that_does() {
    let cluster = Cluster::with(&[("p", addresses(&["fd00::/64"]))]);
    assert_eq!(cluster.pools["p"]["status"]["availableIPv6"], json!(i64::MAX));
}

#[test]
fn what_a_mistake_leaves_untouched_keeps_its_pool_and_its_node_and_the_rest_is_judged() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"])), ("q", addresses(&["10.1.0.0/30"]))]);
    cluster.advertise("all", json!({})).node("n1", &[]).settle();
    cluster.apply("kept", json!({})).apply("judged", annotation("metallb.io/address-pool", "q")).settle();
    let before = cluster.services["kept"]["metadata"]["annotations"].clone();
    assert_eq!(before, json!({"metallb.io/ip-allocated-from-pool": "p", "landfall.io/node": "n1"}));
    cluster.pool("p", addresses(&["10.0.0.0/99"]));
    cluster.pool("q", json!({"addresses": ["10.1.0.0/30"], "serviceAllocation": {"namespaces": ["elsewhere"]}}));
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.services["kept"]["metadata"]["annotations"], before);
    assert_eq!(cluster.shows("kept"), "10.0.0.0");
    assert_eq!(cluster.shows("judged"), "PoolNotForService", "a pool that can be read refuses it");
}

#[test]
fn an_answer_that_comes_after_the_watch_does_not_hide_what_the_watch_has_shown() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/31"]))]);
    cluster.apply("a", json!({}));
    let write = cluster.next().expect("the first address");
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.1"));
    let now = Now { instant: cluster.now, wall: Timestamp::UNIX_EPOCH };
    cluster.model.written(&write, &Written::Done("older".into()), now);
    let next = cluster.next().expect("the address that is asked for");
    // With another version the API server would refuse it for ever.
    assert_eq!(next.patch["metadata"]["resourceVersion"], cluster.services["a"]["metadata"]["resourceVersion"]);
}

#[test]
fn what_is_given_up_is_given_to_the_next_when_the_first_is_not_seen_with_it_any_more() {
    let mut cluster = one_address();
    cluster.apply("a", json!({})).settle();
    cluster.apply("b", json!({})).settle();
    cluster.apply("a", annotation("metallb.io/address-pool", "another"));
    let mut writes: Vec<Write> = std::iter::from_fn(|| cluster.next()).collect();
    writes.retain(|write| matches!(write.target, Target::Service(_)));
    let [gives_up] = &writes[..] else { panic!("b waits for the end of a's write: {writes:?}") };
    cluster.down = true;
    cluster.finish(gives_up);
    cluster.settle();
    assert_eq!(cluster.addresses("a"), ["10.0.0.0"], "the write failed, and it is still seen with it");
    assert!(cluster.addresses("b").is_empty());
    cluster.down = false;
    cluster.settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("UnknownPool", "10.0.0.0"));
}

#[test]
fn a_pool_that_is_split_object_by_object_takes_no_address_away() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/31"]))]);
    cluster.apply("a", json!({})).apply("b", json!({})).settle();
    cluster.pool("p", addresses(&["10.0.0.0/32"]));
    let services_are_left_alone = |cluster: &mut Cluster| {
        while let Some(write) = cluster.next() {
            assert!(!matches!(write.target, Target::Service(_)), "{write:?}");
            cluster.finish(&write);
        }
    };
    services_are_left_alone(&mut cluster);
    cluster.now += Duration::from_millis(250);
    services_are_left_alone(&mut cluster);
    cluster.pool("q", addresses(&["10.0.0.1/32"])).settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.shows("b").as_str()), ("10.0.0.0", "10.0.0.1"));
    assert!(!cluster.said.iter().any(|event| event.starts_with("ClearAssignment")), "{:?}", cluster.said);
    assert_eq!(cluster.delete_pool("q").settled().shows("b"), "NoAddressAvailable", "when nothing comes in its place");
}
