//! From what a Service should have to the one patch that gives it. Pure: the time comes in.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use landfall_api::{annotations, conditions};
use serde_json::{Value, json};

use crate::converge::{Outcome, Verdict};
use crate::service::Service;

/// Our name in the objects' managedFields.
pub const FIELD_MANAGER: &str = "landfall-controller";

/// The strategic merge patch for `services/status` that turns what stands into what should stand; `None` when they are
/// the same, so that nothing is written.
///
/// One patch carries addresses, annotation and condition: the API server keeps metadata that comes through the status
/// subresource. It is a *strategic* merge, so that conditions of others stay. It names uid and resourceVersion: should the
/// Service be another one by now, or have been written to since we saw it, the server refuses. So neither a successor of
/// the same name nor a new leader's decision is overwritten by a write that comes late.
///
/// What a speaker said of the addresses (`landfall.io/Announced`) goes with them; otherwise it is the speakers' alone.
pub fn service(service: &Service, outcome: &Outcome, now: Timestamp) -> Option<Value> {
    let mut patch = json!({});
    let mut changed_conditions = Vec::new();
    if let Some(ips) = &outcome.ingress {
        let ingress: Vec<String> = ips.iter().map(ToString::to_string).collect();
        if !same_addresses(&service.ingress, &ingress) {
            let ingress: Vec<Value> = ingress.iter().map(|ip| json!({ "ip": ip })).collect();
            patch["status"]["loadBalancer"]["ingress"] = if ingress.is_empty() { Value::Null } else { json!(ingress) };
        }
        if service.announced && outdates_announced(service, ips) {
            changed_conditions.push(json!({ "$patch": "delete", "type": conditions::ANNOUNCED }));
        }
    }
    if service.allocated_from != outcome.pool {
        patch["metadata"]["annotations"][annotations::IP_ALLOCATED_FROM_POOL] = json!(outcome.pool);
    }
    if service.placed != outcome.node {
        patch["metadata"]["annotations"][annotations::NODE] = json!(outcome.node);
    }
    match (&outcome.verdict, &service.condition) {
        (None, None) => {}
        (None, Some(_)) => {
            changed_conditions.push(json!({ "$patch": "delete", "type": conditions::ADDRESS_ALLOCATED }));
        }
        (Some(verdict), standing) => {
            changed_conditions.extend(condition(verdict, standing.as_ref(), now).map(|condition| json!(condition)));
        }
    }
    if !changed_conditions.is_empty() {
        patch["status"]["conditions"] = json!(changed_conditions);
    }
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    patch["metadata"]["uid"] = json!(service.uid);
    patch["metadata"]["resourceVersion"] = json!(service.resource_version);
    Some(patch)
}

/// What the Service looks like once the patch is written, in the version that the server answered.
pub fn applied(service: &Service, outcome: &Outcome, now: Timestamp, resource_version: &str) -> Service {
    let mut after = Service { resource_version: resource_version.to_owned(), ..service.clone() };
    if let Some(ips) = &outcome.ingress {
        after.announced &= !outdates_announced(service, ips);
        after.ingress = ips.iter().map(ToString::to_string).collect();
    }
    after.allocated_from.clone_from(&outcome.pool);
    after.placed.clone_from(&outcome.node);
    after.condition = outcome
        .verdict
        .as_ref()
        .and_then(|verdict| condition(verdict, service.condition.as_ref(), now).or(service.condition.clone()));
    after
}

/// Whether what is said about who answers is about addresses that the Service will not have, or is without any.
fn outdates_announced(service: &Service, wanted: &[IpAddr]) -> bool {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    wanted.is_empty() || !same_addresses(&service.ingress, &wanted)
}

/// The same addresses in any order, in any notation. A rewrite of the order alone could move the address to another
/// node for nothing.
fn same_addresses(standing: &[String], wanted: &[String]) -> bool {
    let parsed = |list: &[String]| {
        let mut ips: Vec<Option<IpAddr>> = list.iter().map(|text| text.parse().ok()).collect();
        ips.sort_unstable();
        ips
    };
    parsed(standing) == parsed(wanted)
}

/// The condition, if it says something else than the standing one. The time of transition changes with the status only.
fn condition(verdict: &Verdict, standing: Option<&Condition>, now: Timestamp) -> Option<Condition> {
    let status = if verdict.allocated { "True" } else { "False" };
    let since = match standing {
        Some(s) if s.status == status && s.reason == verdict.reason && s.message == verdict.message => return None,
        Some(s) if s.status == status => s.last_transition_time.clone(),
        _ => Time(now),
    };
    Some(Condition {
        type_: conditions::ADDRESS_ALLOCATED.into(),
        status: status.into(),
        reason: verdict.reason.into(),
        message: verdict.message.clone(),
        last_transition_time: since,
        observed_generation: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).expect("a time")
    }

    fn outcome(ips: &[&str], pool: Option<&str>, verdict: Option<(bool, &str)>) -> Outcome {
        Outcome {
            ingress: Some(ips.iter().map(|ip| ip.parse().expect("an address")).collect()),
            pool: pool.map(str::to_owned),
            node: pool.map(|_| "n1".to_owned()),
            verdict: verdict.map(|(allocated, message)| Verdict {
                allocated,
                reason: "Why",
                message: message.to_owned(),
            }),
            ..Outcome::default()
        }
    }

    fn pending() -> Service {
        Service { uid: "u1".into(), resource_version: "1".into(), wanted: true, ..Service::default() }
    }

    #[test]
    fn one_patch_carries_address_annotation_condition_and_uid() {
        let patch = service(&pending(), &outcome(&["192.0.2.1"], Some("p"), Some((true, "from pool p"))), at(9));
        assert_eq!(
            patch,
            Some(json!({
                "metadata": {"uid": "u1", "resourceVersion": "1", "annotations": {
                    "metallb.io/ip-allocated-from-pool": "p", "landfall.io/node": "n1"}},
                "status": {
                    "loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]},
                    "conditions": [{
                        "type": "landfall.io/AddressAllocated", "status": "True", "reason": "Why",
                        "message": "from pool p", "lastTransitionTime": "1970-01-01T00:00:09Z"}]}
            }))
        );
    }

    #[test]
    fn nothing_is_written_when_nothing_changes() {
        for wanted in [
            outcome(&["192.0.2.1", "fd00::1"], Some("p"), Some((true, "from pool p"))),
            outcome(&[], None, Some((false, "full"))),
            outcome(&[], None, None),
        ] {
            let after = applied(&pending(), &wanted, at(9), "2");
            assert_eq!(service(&after, &wanted, at(99)), None, "{wanted:?}");
        }
        let mut other_order = applied(&pending(), &outcome(&["192.0.2.1", "fd00::1"], None, None), at(9), "2");
        other_order.ingress = vec!["fd00:0::1".into(), "192.0.2.1".into()];
        assert_eq!(service(&other_order, &outcome(&["192.0.2.1", "fd00::1"], None, None), at(99)), None);
    }

    #[test]
    fn an_address_is_replaced_in_one_write_and_the_time_changes_with_the_status_only() {
        let before = applied(&pending(), &outcome(&["192.0.2.1"], Some("p"), Some((true, "from pool p"))), at(9), "2");
        let patch = service(&before, &outcome(&["192.0.2.9"], Some("q"), Some((true, "from pool q"))), at(99));
        let patch = patch.expect("a change");
        assert_eq!(patch["status"]["loadBalancer"]["ingress"], json!([{"ip": "192.0.2.9"}]));
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], json!("1970-01-01T00:00:09Z"));
        let patch = service(&before, &outcome(&[], None, Some((false, "gone"))), at(99)).expect("a change");
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], json!("1970-01-01T00:01:39Z"));
    }

    #[test]
    fn what_is_ours_no_more_is_taken_away() {
        let before = applied(&pending(), &outcome(&["192.0.2.1"], Some("p"), Some((true, "from pool p"))), at(9), "2");
        assert_eq!(
            service(&before, &outcome(&[], None, None), at(99)),
            Some(json!({
                "metadata": {"uid": "u1", "resourceVersion": "2", "annotations": {
                    "metallb.io/ip-allocated-from-pool": null, "landfall.io/node": null}},
                "status": {
                    "loadBalancer": {"ingress": null},
                    "conditions": [{"$patch": "delete", "type": "landfall.io/AddressAllocated"}]}
            }))
        );
    }

    #[test]
    fn what_a_speaker_said_of_addresses_goes_with_them_and_with_nothing_else() {
        let gone = json!({"$patch": "delete", "type": "landfall.io/Announced"});
        let has = |ip: &str| Service { ingress: vec![ip.into()], announced: true, ..pending() };
        let left = Service { announced: true, ..pending() };
        let untouched = Outcome { ingress: None, ..outcome(&[], None, Some((true, "kept"))) };
        for (what, before, wanted, goes) in [
            ("another address", has("192.0.2.1"), outcome(&["192.0.2.9"], None, Some((true, "given"))), true),
            ("a second one", has("192.0.2.1"), outcome(&["192.0.2.1", "fd00::1"], None, Some((true, "given"))), true),
            ("none any more", has("192.0.2.1"), outcome(&[], None, Some((false, "full"))), true),
            ("no load balancer any more", has("192.0.2.1"), outcome(&[], None, None), true),
            ("said too late", left, outcome(&[], None, None), true),
            ("another message", has("192.0.2.1"), outcome(&["192.0.2.1"], None, Some((true, "other"))), false),
            ("left alone", has("192.0.2.1"), untouched, false),
            ("never said", Service { announced: false, ..has("192.0.2.1") }, outcome(&[], None, None), false),
        ] {
            let patch = service(&before, &wanted, at(9)).expect("a change");
            let conditions = patch["status"]["conditions"].as_array().cloned().unwrap_or_default();
            assert_eq!(conditions.contains(&gone), goes, "{what}: {patch}");
            assert_eq!(applied(&before, &wanted, at(9), "2").announced, before.announced && !goes, "{what}");
        }
    }

    #[test]
    fn a_status_that_is_to_be_left_alone_is_left_alone() {
        let standing = Service { ingress: vec!["203.0.113.9".into()], ..pending() };
        let wanted = Outcome { ingress: None, ..outcome(&[], None, Some((true, "kept"))) };
        let patch = service(&standing, &wanted, at(9)).expect("the condition");
        assert_eq!(patch["status"].get("loadBalancer"), None);
    }
}
