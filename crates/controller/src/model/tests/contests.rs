//! Services whose status somebody else writes, too.

use super::cluster::{Cluster, addresses, annotation};
use crate::contest;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_foreign_address_is_replaced_and_after_the_third_time_it_is_left_alone_and_said() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    for _ in 0..2 {
        cluster.overwrite("a", "203.0.113.9").settle();
        assert_eq!(cluster.shows("a"), "10.0.0.0", "a slip is healed");
    }
    cluster.overwrite("a", "203.0.113.9").settle();
    assert_eq!((cluster.shows("a").as_str(), cluster.condition("a", "status").as_str()), ("203.0.113.9", "False"));
    assert_eq!(cluster.condition("a", "reason"), "StatusContested");
    assert!(cluster.condition("a", "message").starts_with("field manager \"other-balancer\" keeps writing"));
    assert_eq!(cluster.said.iter().filter(|said| said.starts_with("StatusContested")).count(), 1);
    for n in 1..20 {
        assert_eq!(cluster.overwrite("a", &format!("203.0.113.{n}")).settle(), 0, "no fight");
    }
    assert_eq!(cluster.apply("a", json!({"status": {"conditions": null}})).settle(), 0, "nor over what is said");
    // Nobody else is given the address meanwhile, and later it is tried again.
    assert_eq!(cluster.apply("b", json!({})).settled().shows("b"), "10.0.0.1");
    cluster.now += contest::PAUSE;
    assert_eq!(cluster.settled().shows("a"), "10.0.0.0");
}

#[test]
fn slips_far_apart_are_no_contest() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    for _ in 0..9 {
        cluster.overwrite("a", "203.0.113.9").settle();
        assert_eq!(cluster.shows("a"), "10.0.0.0");
        cluster.now += Duration::from_secs(40);
    }
}

#[test]
fn a_free_address_of_a_pool_that_somebody_wrote_is_adopted() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/28"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.overwrite("a", "10.0.0.9").settle();
    assert_eq!(cluster.shows("a"), "10.0.0.9");
    assert_eq!(cluster.apply("b", json!({})).settled().shows("b"), "10.0.0.0");
}

#[test]
fn who_puts_our_own_address_back_is_no_foe() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    for _ in 0..2 {
        cluster.overwrite("a", "203.0.113.9").overwrite("a", "10.0.0.0").settle();
    }
    assert_eq!((cluster.shows("a").as_str(), cluster.condition("a", "reason").as_str()), ("10.0.0.0", "Allocated"));
}

#[test]
fn one_foreign_write_counts_once_whatever_else_changes() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.overwrite("a", "203.0.113.9");
    for n in 0..5 {
        cluster.apply("a", json!({"metadata": {"labels": {"n": n.to_string()}}}));
    }
    assert_eq!(cluster.settled().shows("a"), "10.0.0.0");
}

#[test]
fn a_service_that_waits_is_not_fought_over_either() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("holder", json!({})).apply("a", json!({})).settle();
    for _ in 0..3 {
        cluster.overwrite("a", "203.0.113.9").settle();
    }
    assert_eq!(
        (cluster.shows("a").as_str(), cluster.condition("a", "reason").as_str()),
        ("203.0.113.9", "StatusContested")
    );
    assert_eq!(cluster.overwrite("a", "203.0.113.8").settle(), 0, "no fight");
}

#[test]
fn who_empties_the_status_of_a_service_that_waits_is_no_foe() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/32"]))]);
    cluster.apply("holder", json!({})).apply("a", json!({})).settle();
    for _ in 0..2 {
        cluster.overwrite("a", "203.0.113.9");
        cluster.apply("a", json!({"status": {"loadBalancer": {"ingress": null}}})).settle();
    }
    assert_eq!(cluster.shows("a"), "NoAddressAvailable");
}

#[test]
fn a_service_made_again_under_the_name_of_a_contested_one_is_served() {
    for looked_at_in_between in [true, false] {
        let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
        cluster.apply("a", json!({})).settle();
        for _ in 0..3 {
            cluster.overwrite("a", "203.0.113.9").settle();
        }
        assert_eq!(cluster.condition("a", "reason"), "StatusContested");
        cluster.delete("a");
        if looked_at_in_between {
            cluster.settle();
        }
        assert_eq!(cluster.apply("a", json!({})).settled().shows("a"), "10.0.0.0", "{looked_at_in_between}");
    }
}

#[test]
fn what_speakers_say_is_no_foreign_write_makes_no_write_and_is_lost_only_with_the_address() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    let announced = |cluster: &Cluster| cluster.condition_of("a", "landfall.io/Announced", "message");
    for n in 0..9 {
        assert_eq!(cluster.announce("a", &format!("node n{n} answers")).settle(), 0, "nothing to write");
    }
    assert_eq!((cluster.shows("a").as_str(), cluster.condition("a", "reason").as_str()), ("10.0.0.0", "Allocated"));
    // What the controller writes next leaves it alone.
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.O"));
    assert_eq!((cluster.settle(), cluster.condition("a", "reason").as_str()), (1, "InvalidRequest"));
    assert_eq!((announced(&cluster).as_str(), cluster.shows("a").as_str()), ("node n8 answers", "10.0.0.0"));
    // Another address: nobody has said yet who answers for it.
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.3"));
    assert_eq!((cluster.settled().shows("a").as_str(), announced(&cluster).as_str()), ("10.0.0.3", "nothing"));
    // No load balancer any more, and a speaker's last word comes after the controller's.
    cluster.announce("a", "node n1 answers").apply("a", json!({"spec": {"type": "ClusterIP"}})).settle();
    assert_eq!((announced(&cluster).as_str(), cluster.condition("a", "reason").as_str()), ("nothing", "nothing"));
    assert_eq!(cluster.announce("a", "node n1 answers").settle(), 1);
    assert_eq!((announced(&cluster).as_str(), cluster.settle()), ("nothing", 0));
}

#[test]
fn a_speaker_that_writes_between_decision_and_write_costs_one_try_and_loses_nothing() {
    let mut cluster = Cluster::with(&[("p", addresses(&["10.0.0.0/30"]))]);
    cluster.apply("a", json!({})).settle();
    cluster.apply("a", annotation("metallb.io/loadBalancerIPs", "10.0.0.O"));
    let late = cluster.next().expect("a write");
    cluster.announce("a", "node n1 answers").finish(&late);
    assert_eq!(cluster.settle(), 1, "once more, on what stands now");
    assert_eq!(cluster.condition("a", "reason"), "InvalidRequest");
    assert_eq!(cluster.condition_of("a", "landfall.io/Announced", "message"), "node n1 answers");
}
