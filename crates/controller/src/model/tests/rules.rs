//! Every rule of allocation that a user of MetalLB relies on, one test each. The figures of the golden vectors are
//! MetalLB's.

use super::cluster::{Cluster, addresses, annotation, dual, shared};
use serde_json::{Value, json};

/// A pool that is tried before those without `serviceAllocation`.
fn prioritised(list: &[&str], priority: u32) -> Value {
    json!({"addresses": list, "serviceAllocation": {"priority": priority, "namespaces": ["default"]}})
}

/// A shared Service of `externalTrafficPolicy: Local` whose Pods are those with `app: NAME`.
fn local(key: &str, port: u16, app: &str) -> Value {
    let mut service = shared(key, port);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["selector"] = json!({ "app": app });
    service
}

fn ingress(ips: &[&str]) -> Value {
    let ingress: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({"status": {"loadBalancer": {"ingress": ingress}}})
}

#[test]
fn the_first_free_address_in_the_pools_order_is_given_and_the_third_waits() {
    let mut cluster = Cluster::with(&[("p", addresses(&["192.168.10.100/32", "192.168.20.200/32"]))]);
    for (name, expected) in [("a", "192.168.10.100"), ("b", "192.168.20.200"), ("c", "NoAddressAvailable")] {
        assert_eq!(cluster.apply(name, json!({})).settled().shows(name), expected);
    }
    cluster.restart();
    assert_eq!(cluster.settle(), 0);
}

#[test]
fn the_counters_follow_the_pool_and_heal_when_edited_by_hand() {
    let counters = |cluster: &Cluster| {
        ["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"]
            .map(|field| cluster.pools["p"]["status"][field].as_i64().expect(field))
    };
    let mut cluster = Cluster::with(&[("p", addresses(&["192.168.10.0/30", "fc00:f853:0ccd:e799::/126"]))]);
    assert_eq!(counters(&cluster), [0, 0, 4, 4]);
    cluster.apply("a", dual("RequireDualStack")).settle();
    assert_eq!(counters(&cluster), [1, 1, 3, 3]);
    cluster.pool("p", addresses(&["192.168.10.0/29", "fc00:f853:0ccd:e799::/125"])).settle();
    assert_eq!(counters(&cluster), [1, 1, 7, 7]);
    let edited = json!({"metadata": {}, "spec": cluster.pools["p"]["spec"], "status": {"assignedIPv4": 99}});
    cluster.pool_object("p", edited).settle();
    assert_eq!(counters(&cluster), [1, 1, 7, 7]);
    cluster.delete("a").settle();
    assert_eq!(counters(&cluster), [0, 0, 8, 8]);
}

#[test]
fn sharers_need_the_same_key_other_ports_and_with_local_policy_the_same_pods() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", shared("k", 80)).apply("b", shared("k", 81)).settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("10.0.0.0".into(), "10.0.0.0".into()));
    for (name, service) in [("clash", shared("k", 80)), ("other-key", shared("m", 82)), ("no-key", json!({}))] {
        cluster.apply(name, service).settle();
        assert_ne!(cluster.shows(name), "10.0.0.0", "{name}");
        cluster.delete(name);
    }
    // MetalLB's golden vector.
    cluster.apply("b", local("k", 81, "web")).settle();
    assert_ne!(cluster.shows("b"), "10.0.0.0", "B is Local now, A is not");
    cluster.apply("a", local("k", 80, "web")).settle();
    cluster.apply("b", annotation("metallb.io/loadBalancerIPs", "10.0.0.0")).settle();
    assert_eq!(cluster.shows("b"), "10.0.0.0", "both are Local with the same Pods");
    cluster.apply("a", local("k", 80, "shop")).settle();
    assert_ne!(cluster.shows("a"), "10.0.0.0", "A's Pods are others now");
    assert_eq!(cluster.shows("b"), "10.0.0.0", "who did not change keeps what it has");
}

#[test]
fn the_only_holder_of_an_address_may_change_its_key() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    for service in [json!({}), shared("k", 80), shared("m", 80), annotation("metallb.io/allow-shared-ip", "")] {
        cluster.apply("a", service).settle();
        assert_eq!(cluster.shows("a"), "10.0.0.0");
    }
}

#[test]
fn a_sharer_whose_port_comes_to_clash_moves_and_the_other_stays() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", shared("k", 80)).apply("b", shared("k", 81)).settle();
    cluster.apply("b", shared("k", 80)).settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("10.0.0.0".into(), "10.0.0.1".into()));
}

#[test]
fn one_protocol_and_port_are_two_things() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    let mut udp = shared("k", 53);
    udp["spec"]["ports"][0]["protocol"] = json!("UDP");
    cluster.apply("tcp", shared("k", 53)).apply("udp", udp).settle();
    assert_eq!((cluster.shows("tcp"), cluster.shows("udp")), ("10.0.0.0".into(), "10.0.0.0".into()));
}

#[test]
fn pinned_pools_come_first_by_priority_and_unset_is_last() {
    let pools = [
        ("a", prioritised(&["10.0.20.0/32"], 20)),
        ("b", prioritised(&["10.0.10.0/32"], 10)),
        ("c", prioritised(&["10.0.99.0/32"], 0)),
        ("d", addresses(&["10.1.0.0/32"])),
    ];
    let mut cluster = Cluster::with(&pools);
    for (name, expected) in [("1", "10.0.10.0"), ("2", "10.0.20.0"), ("3", "10.0.99.0"), ("4", "10.1.0.0")] {
        assert_eq!(cluster.apply(name, json!({})).settled().shows(name), expected);
    }
}

#[test]
fn equal_pools_are_taken_in_the_order_of_their_names() {
    let mut cluster = Cluster::with(&[("b", addresses(&["10.0.1.0/32"])), ("a", addresses(&["10.0.0.0/32"]))]);
    assert_eq!(cluster.apply("1", json!({})).settled().shows("1"), "10.0.0.0");
}

#[test]
fn a_pool_is_pinned_by_namespace_by_its_labels_and_by_the_services_labels() {
    let gold = json!([{"matchLabels": {"tier": "gold"}}]);
    let pools = [
        ("names", json!({"addresses": ["10.1.0.0/29"], "serviceAllocation": {"namespaces": ["one"]}})),
        ("labels", json!({"addresses": ["10.2.0.0/29"], "serviceAllocation": {"namespaceSelectors": gold}})),
        (
            "services",
            json!({"addresses": ["10.3.0.0/29"], "serviceAllocation": {"namespaces": ["three"], "serviceSelectors": gold}}),
        ),
    ];
    let mut cluster = Cluster::with(&pools);
    cluster.namespace("two", &[("tier", "gold")]);
    let labelled = json!({"metadata": {"labels": {"tier": "gold"}}});
    for (name, service, expected) in [
        ("one/a", json!({}), "10.1.0.0"),
        ("two/a", json!({}), "10.2.0.0"),
        ("three/a", json!({}), "PoolNotForService"),
        ("three/b", labelled.clone(), "10.3.0.0"),
        ("four/a", labelled, "PoolNotForService"),
        ("four/by-name", annotation("metallb.io/address-pool", "names"), "PoolNotForService"),
        ("four/by-address", annotation("metallb.io/loadBalancerIPs", "10.1.0.7"), "PoolNotForService"),
    ] {
        assert_eq!(cluster.apply(name, service).settled().shows(name), expected, "{name}");
    }
    // The Namespace's labels decide, also later.
    assert_eq!(cluster.namespace("two", &[]).settled().shows("two/a"), "PoolNotForService");
    assert_eq!(cluster.namespace("four", &[("tier", "gold")]).settled().shows("four/a"), "10.2.0.0");
}

#[test]
fn a_pool_without_auto_assign_gives_only_what_is_asked_for_and_takes_nothing_back() {
    let mut cluster = Cluster::with(&[("p", json!({"addresses": ["10.0.0.0/30"], "autoAssign": false}))]);
    assert_eq!(cluster.apply("any", json!({})).settled().shows("any"), "NoAddressAvailable");
    cluster.apply("named", annotation("metallb.io/address-pool", "p")).settle();
    assert_eq!(cluster.shows("named"), "10.0.0.0");
    cluster.pool("p", addresses(&["10.0.0.0/30"])).settle();
    assert_eq!(cluster.shows("any"), "10.0.0.1");
    cluster.pool("p", json!({"addresses": ["10.0.0.0/30"], "autoAssign": false})).settle();
    assert_eq!(cluster.shows("any"), "10.0.0.1", "turned off, nothing is taken away");
}

#[test]
fn an_address_stays_when_its_pool_is_renamed_or_split_and_the_annotation_follows() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/29"]))]);
    cluster.apply("a", json!({})).apply("b", annotation("metallb.io/loadBalancerIPs", "10.0.0.5")).settle();
    let pool = |cluster: &Cluster, name: &str| {
        cluster.services[name]["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"].clone()
    };
    // Split: first the old one shrinks, then the new one comes, as two applies do; nothing is decided in between.
    cluster.pool("p", addresses(&["10.0.0.0/30"]));
    cluster.pool("q", addresses(&["10.0.0.4/30"])).settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("10.0.0.0".into(), "10.0.0.5".into()));
    assert_eq!((pool(&cluster, "a"), pool(&cluster, "b")), (json!("p"), json!("q")));
    // Renamed.
    cluster.delete_pool("p").pool("r", addresses(&["10.0.0.0/30"])).settle();
    assert_eq!((cluster.shows("a"), pool(&cluster, "a")), ("10.0.0.0".into(), json!("r")));
}

#[test]
fn a_pool_that_shrinks_or_goes_gives_its_services_others_in_one_write() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/31"])), ("q", addresses(&["10.0.1.0/31"]))]);
    cluster.apply("a", json!({})).apply("b", json!({})).settle();
    cluster.pool("p", addresses(&["10.0.0.1/32"])).settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("10.0.1.0".into(), "10.0.0.1".into()));
    cluster.delete_pool("p").settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("10.0.1.0".into(), "10.0.1.1".into()));
    cluster.delete_pool("q").settle();
    assert_eq!((cluster.shows("a"), cluster.shows("b")), ("NoPools".into(), "NoPools".into()));
}

#[test]
fn an_address_that_a_pool_comes_to_avoid_is_replaced() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.pool("p", json!({"addresses": ["10.0.0.0/30"], "avoidBuggyIPs": true})).settle();
    assert_eq!(cluster.shows("a"), "10.0.0.1");
}

#[test]
fn what_becomes_better_elsewhere_moves_nothing() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    assert_eq!(cluster.pool("better", prioritised(&["10.9.0.0/30"], 1)).settled().shows("a"), "10.0.0.0");
}

#[test]
fn annotations_that_are_added_move_and_those_that_are_removed_do_not() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"])), ("q", addresses(&["10.0.1.0/30"]))]);
    for (change, expected) in [
        (json!({}), "10.0.0.0"),
        (annotation("metallb.io/address-pool", "q"), "10.0.1.0"),
        (json!({"metadata": {"annotations": {"metallb.io/address-pool": null}}}), "10.0.1.0"),
        (annotation("metallb.io/loadBalancerIPs", "10.0.0.2"), "10.0.0.2"),
        (json!({"metadata": {"annotations": {"metallb.io/loadBalancerIPs": null}}}), "10.0.0.2"),
        (json!({"spec": {"loadBalancerIP": "10.0.0.3"}}), "10.0.0.3"),
        (json!({"spec": {"loadBalancerIP": null}}), "10.0.0.3"),
        (annotation("metallb.io/address-pool", "nowhere"), "UnknownPool"),
    ] {
        cluster.apply("a", change.clone()).settle();
        assert_eq!(cluster.shows("a"), expected, "{change}");
    }
}

#[test]
fn annotation_and_field_together_are_refused_and_cost_nothing_that_is_held() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    let both = json!({"spec": {"loadBalancerIP": "10.0.0.2"}, "metadata": {"annotations": {"metallb.io/loadBalancerIPs": "10.0.0.3"}}});
    cluster.apply("a", json!({})).settle();
    assert_eq!(cluster.apply("a", both.clone()).settled().shows("a"), "10.0.0.0");
    assert_eq!(cluster.condition("a", "reason"), "InvalidRequest");
    assert_eq!(cluster.apply("b", both).settled().shows("b"), "InvalidRequest");
}

#[test]
fn the_new_prefix_wins_over_the_old_one() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", annotation("metallb.universe.tf/loadBalancerIPs", "10.0.0.1"));
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.2")).settle();
    assert_eq!(cluster.shows("a"), "10.0.0.2");
}

#[test]
fn prefer_dual_stack_takes_both_from_one_pool_else_the_primary_family() {
    let (four, six) = (addresses(&["10.0.0.0/30"]), addresses(&["fd00::/126"]));
    let both = addresses(&["10.9.0.0/30", "fd09::/126"]);
    let mut six_first = dual("PreferDualStack");
    six_first["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    let all = [("a4", four.clone()), ("b6", six.clone()), ("c46", both)];
    let mut cluster = Cluster::with(&all);
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.9.0.0 fd09::");
    let mut cluster = Cluster::with(&[("a6", six), ("b4", four)]);
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.0.0.0");
    assert_eq!(cluster.apply("b", six_first).settled().shows("b"), "fd00::");
    assert_eq!(cluster.apply("c", dual("RequireDualStack")).settled().shows("c"), "NoAddressOfFamily");
}

#[test]
fn a_dual_pool_that_loses_one_family_has_both_addresses_replaced_from_another() {
    let mut cluster = Cluster::with(&[
        ("p", addresses(&["10.0.0.0/30", "fd00::/126"])),
        ("q", addresses(&["10.1.0.0/30", "fd01::/126"])),
    ]);
    cluster.apply("a", dual("RequireDualStack")).settle();
    assert_eq!(cluster.pool("p", addresses(&["fd00::/126"])).settled().shows("a"), "10.1.0.0 fd01::");
}

#[test]
fn every_change_of_the_family_policy_gives_what_the_cluster_addresses_say() {
    let single = |ip: &str| json!({"spec": {"clusterIPs": [ip], "ipFamilyPolicy": "SingleStack"}});
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30", "fd00::/126"]))]);
    for (change, expected) in [
        (single("10.96.0.9"), "10.0.0.0"),
        (dual("PreferDualStack"), "10.0.0.0 fd00::"),
        (dual("RequireDualStack"), "10.0.0.0 fd00::"),
        (dual("PreferDualStack"), "10.0.0.0 fd00::"),
        (single("10.96.0.9"), "10.0.0.0"),
        (dual("RequireDualStack"), "10.0.0.0 fd00::"),
        (single("fd96::9"), "fd00::"),
    ] {
        cluster.apply("a", change.clone()).settle();
        assert_eq!(cluster.shows("a"), expected, "{change}");
    }
    // Prefer on a Service with one cluster IP is content, and does not flap (MetalLB's would).
    cluster.apply("a", json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}})).settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.settle()), ("fd00::", 0));
    let require = json!({"spec": {"clusterIPs": ["10.96.0.7"], "ipFamilyPolicy": "RequireDualStack"}});
    assert_eq!(cluster.apply("b", require).settled().shows("b"), "ClusterIPsUnusable");
}

#[test]
fn the_address_that_still_fits_stays_when_the_family_policy_changes() {
    let single = |ip: &str| json!({"spec": {"clusterIPs": [ip], "ipFamilyPolicy": "SingleStack"}});
    for (own, first) in [("10.96.0.9", "10.0.0.1"), ("fd96::9", "fd00::1")] {
        let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30", "fd00::/126"]))]);
        cluster.apply("hole", dual("RequireDualStack")).settle();
        assert_eq!(cluster.apply("a", single(own)).settled().shows("a"), first);
        // Whoever is given an address anew has a lower one from now on.
        cluster.delete("hole").settle();
        for policy in
            ["PreferDualStack", "RequireDualStack", "SingleStack", "RequireDualStack", "PreferDualStack", "SingleStack"]
        {
            let change = if policy == "SingleStack" { single(own) } else { dual(policy) };
            cluster.apply("a", change).settle();
            let shown = cluster.shows("a");
            assert!(shown.split(' ').any(|ip| ip == first), "{policy}: {first} is not in {shown}");
            assert_eq!(shown.split(' ').count(), if policy == "SingleStack" { 1 } else { 2 }, "{policy}: {shown}");
        }
    }
}

#[test]
fn who_comes_to_require_two_families_has_both_from_another_pool_where_its_own_has_one() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    assert_eq!(cluster.apply("a", dual("RequireDualStack")).settled().shows("a"), "NoAddressOfFamily");
    assert_eq!(cluster.apply("a", dual("PreferDualStack")).settled().shows("a"), "10.0.0.0");
    cluster.pool("q", addresses(&["10.1.0.0/30", "fd01::/126"])).settle();
    assert_eq!(cluster.shows("a"), "10.0.0.0", "what it has is enough");
    assert_eq!(cluster.apply("a", dual("RequireDualStack")).settled().shows("a"), "10.1.0.0 fd01::");
}

#[test]
fn a_status_written_by_hand_is_adopted_if_it_is_valid_and_replaced_if_not() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    for (name, standing, expected) in [
        ("valid", vec!["10.0.0.3"], "10.0.0.3"),
        ("foreign", vec!["203.0.113.9"], "10.0.0.0"),
        ("two-of-a-family", vec!["10.0.0.1", "10.0.0.2"], "10.0.0.1"),
    ] {
        assert_eq!(cluster.apply(name, ingress(&standing)).settled().shows(name), expected, "{name}");
    }
}

#[test]
fn the_order_of_two_addresses_is_left_as_it_stands() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30", "fd00::/126"]))]);
    cluster.apply("a", dual("RequireDualStack")).apply("a", ingress(&["fd00::1", "10.0.0.1"])).settle();
    assert_eq!(cluster.shows("a"), "fd00::1 10.0.0.1");
    assert_eq!(cluster.settle(), 0);
}

#[test]
fn a_namespaces_quota_is_kept_and_frees_with_its_addresses() {
    let quota = json!({"annotations": {"landfall.io/max-addresses-per-namespace": "1"}});
    let mut cluster = Cluster::with(&[]);
    cluster.pool_object("p", json!({"metadata": quota, "spec": {"addresses": ["10.0.0.0/29"]}}));
    cluster.apply("one/a", json!({})).apply("one/b", json!({})).apply("two/a", json!({})).settle();
    let shown = ["one/a", "one/b", "two/a"].map(|name| cluster.shows(name));
    assert_eq!(shown, ["10.0.0.0", "QuotaExceeded", "10.0.0.1"]);
    let why = cluster.condition("one/b", "message");
    assert!(why.contains("namespace \"one\" hold 1 of its addresses, and may hold 1"), "{why}");
    cluster.restart();
    assert_eq!(cluster.settle(), 0);
    assert_eq!(cluster.delete("one/a").settled().shows("one/b"), "10.0.0.0");
}

#[test]
fn whoever_asks_for_the_impossible_is_told_in_words() {
    let pinned = json!({"addresses": ["10.7.0.0/30"], "serviceAllocation": {"namespaces": ["elsewhere"]}});
    let quota = json!({"annotations": {"landfall.io/max-addresses-per-namespace": "0"}});
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"])), ("pinned", pinned)]);
    cluster
        .pool_object("none", json!({"metadata": quota, "spec": {"addresses": ["10.8.0.0/30"], "autoAssign": false}}));
    cluster.apply("holder", shared("k", 80)).settle();
    let with = |mut service: Value, key: &str, value: &str| {
        service["metadata"]["annotations"][key] = json!(value);
        service
    };
    let ips = "metallb.io/loadBalancerIPs";
    for (name, service, reason, words) in [
        ("exhausted", json!({}), "NoAddressAvailable", "pool p: all its IPv4 addresses are in use"),
        (
            "family",
            json!({"spec": {"clusterIPs": ["fd96::1"]}}),
            "NoAddressOfFamily",
            "pool p: it has no IPv6 addresses",
        ),
        ("unknown", annotation("metallb.io/address-pool", "q"), "UnknownPool", "the pools are none, p, pinned"),
        ("outside", annotation(ips, "203.0.113.7"), "AddressNotInAnyPool", "no IPAddressPool contains it; add it to"),
        (
            "key",
            with(shared("m", 81), ips, "10.0.0.0"),
            "AddressInUse",
            "also in use by default/holder; both must carry",
        ),
        ("port", with(shared("k", 80), ips, "10.0.0.0"), "PortInUse", "port TCP/80 is already in use on \"10.0.0.0\""),
        (
            "pinned",
            annotation("metallb.io/address-pool", "pinned"),
            "PoolNotForService",
            "spec.serviceAllocation does not",
        ),
        ("quota", annotation("metallb.io/address-pool", "none"), "QuotaExceeded", "and may hold 0; delete one that is"),
        (
            "both",
            with(json!({"spec": {"loadBalancerIP": "10.0.0.0"}}), ips, "10.0.0.0"),
            "InvalidRequest",
            "remove spec.",
        ),
        ("text", annotation(ips, "ten"), "InvalidRequest", "\"ten\"; write one address, or one of each family"),
    ] {
        assert_eq!(cluster.apply(name, service).settled().shows(name), reason, "{name}");
        let message = cluster.condition(name, "message");
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[test]
fn who_stops_sharing_keeps_its_address_before_somebody_who_would_join_it() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.9.9.9")).apply("c", shared("k", 81)).settle();
    // Both change before anything is decided, and the joiner's turn comes first.
    cluster.apply("a", json!({"metadata": {"annotations": {"metallb.io/loadBalancerIPs": null}}}));
    cluster.apply("a", shared("k", 80)).apply("c", annotation("metallb.io/allow-shared-ip", "")).settle();
    assert_eq!((cluster.shows("c"), cluster.shows("a")), ("10.0.0.0".into(), "NoAddressAvailable".into()));
}

#[test]
fn who_is_no_load_balancer_for_a_moment_of_a_restart_keeps_the_address_in_its_status() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("b", json!({})).settle();
    cluster.apply("a", json!({})).settle();
    cluster.apply("b", json!({"spec": {"type": "ClusterIP"}})).restart();
    cluster.apply("b", json!({"spec": {"type": "LoadBalancer"}})).settle();
    assert_eq!((cluster.shows("b"), cluster.shows("a")), ("10.0.0.0".into(), "NoAddressAvailable".into()));
}
