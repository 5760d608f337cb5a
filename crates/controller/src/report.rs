//! What we say about the configuration objects: how full a pool is, whether an object is in force, and why not. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use landfall_api::{
    BFDProfile, BGPAdvertisement, Community, IPAddressPool, IPAddressPoolStatus, L2Advertisement, conditions,
};
use landfall_config::{Loader, Pool, Problem};
use landfall_ipam::{Family, Ipam, Usage};
use serde_json::{Value, json};

/// The kinds whose status we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPAddressPool
    Pool,
    /// L2Advertisement
    L2Advertisement,
    /// BGPPeer
    BgpPeer,
    /// BGPAdvertisement
    BgpAdvertisement,
    /// BFDProfile
    BfdProfile,
    /// Community
    Community,
}

impl Kind {
    /// The kind's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "IPAddressPool",
            Self::L2Advertisement => "L2Advertisement",
            Self::BgpPeer => "BGPPeer",
            Self::BgpAdvertisement => "BGPAdvertisement",
            Self::BfdProfile => "BFDProfile",
            Self::Community => "Community",
        }
    }
}

/// What stands in an object that we report on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// metadata.uid
    pub uid: String,
    /// metadata.generation
    pub generation: Option<i64>,
    /// status.conditions
    pub conditions: Vec<Condition>,
}

/// A kind whose status has conditions of ours.
pub trait Reported: kube::Resource + Clone + PartialEq {
    /// status.conditions
    fn conditions(&self) -> &[Condition];
    /// status.conditions, of a status that is made if there is none.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
}

macro_rules! reported {
    ($($kind:ty),*) => {$(
        impl Reported for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.status.get_or_insert_default().conditions
            }
        }
    )*};
}

reported!(IPAddressPool, L2Advertisement, BGPPeer, BGPAdvertisement, BFDProfile, Community);

/// What stands in an object.
pub fn standing<K: Reported>(object: &K) -> Standing {
    Standing {
        uid: object.meta().uid.clone().unwrap_or_default(),
        generation: object.meta().generation,
        conditions: object.conditions().to_vec(),
    }
}

/// Whether an object is in force, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The condition's status.
    pub status: bool,
    /// A word from a closed set: `Valid`, `Invalid`, `OtherObjectInvalid`, `NotSupportedYet`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

/// The verdict on a pool or an advertisement.
pub fn accepted(kind: Kind, name: &str, loader: &Loader) -> Accepted {
    let problems: Vec<&Problem> =
        loader.problems().iter().filter(|problem| problem.kind == kind.as_str() && problem.name == name).collect();
    let in_force = match kind {
        Kind::Pool => loader.pool_in_force(name),
        Kind::L2Advertisement => loader.l2_advertisement_in_force(name),
        Kind::BgpPeer | Kind::BgpAdvertisement | Kind::BfdProfile | Kind::Community if problems.is_empty() => {
            return not_yet();
        }
        Kind::BgpPeer | Kind::BgpAdvertisement | Kind::BfdProfile | Kind::Community => false,
    };
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(|p| format!("{} is {:?}: {}", p.field, p.value, p.what)).collect();
        return Accepted { status: false, reason: "Invalid", message: list.join("\n") };
    }
    match loader.holding_back().next().filter(|_| !in_force) {
        Some(other) => Accepted {
            status: false,
            reason: "OtherObjectInvalid",
            message: format!(
                "the last good configuration stays in force until {} {:?} is corrected: {} is {:?}: {}",
                other.kind, other.name, other.field, other.value, other.what
            ),
        },
        None => Accepted { status: true, reason: "Valid", message: String::new() },
    }
}

fn not_yet() -> Accepted {
    Accepted {
        status: false,
        reason: "NotSupportedYet",
        message: "this version of Landfall announces by layer 2 (ARP and NDP) only; the object is kept as it is, \
                  and nothing is announced by BGP"
            .into(),
    }
}

/// The merge patch for an object's `/status`, or `None` when it says all that already. `usage` is for pools:
/// the counters as they stand, if they do, and as they are.
pub fn patch(
    standing: &Standing,
    accepted: &Accepted,
    usage: Option<(Option<&IPAddressPoolStatus>, IPAddressPoolStatus)>,
    now: Timestamp,
) -> Option<Value> {
    let mut patch = json!({});
    if let Some(conditions) = conditions_with(standing, accepted, now) {
        patch["status"]["conditions"] = json!(conditions);
    }
    if let Some((stands, counted)) = usage
        && stands.is_none_or(|stands| !same_counters(stands, &counted))
    {
        for (name, count) in [
            ("assignedIPv4", counted.assigned_ipv4),
            ("assignedIPv6", counted.assigned_ipv6),
            ("availableIPv4", counted.available_ipv4),
            ("availableIPv6", counted.available_ipv6),
        ] {
            patch["status"][name] = json!(count);
        }
    }
    if patch.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    patch["metadata"]["uid"] = json!(standing.uid);
    Some(patch)
}

/// How full the pool is, as its status says it.
pub fn counters(pool: &Pool, ipam: &Ipam) -> IPAddressPoolStatus {
    let (v4, v6) = (ipam.usage(pool, Family::V4), ipam.usage(pool, Family::V6));
    let count = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
    let Usage { assigned: assigned_v4, available: available_v4 } = v4;
    let Usage { assigned: assigned_v6, available: available_v6 } = v6;
    IPAddressPoolStatus {
        assigned_ipv4: count(assigned_v4),
        assigned_ipv6: count(assigned_v6),
        available_ipv4: count(available_v4),
        available_ipv6: count(available_v6),
        conditions: vec![],
    }
}

fn same_counters(a: &IPAddressPoolStatus, b: &IPAddressPoolStatus) -> bool {
    let key = |s: &IPAddressPoolStatus| (s.assigned_ipv4, s.assigned_ipv6, s.available_ipv4, s.available_ipv6);
    key(a) == key(b)
}

/// All conditions of the object with ours in it, or `None` when ours says that already. A merge patch replaces the whole
/// list of a custom resource, so the conditions of others must be in it.
fn conditions_with(standing: &Standing, accepted: &Accepted, now: Timestamp) -> Option<Vec<Condition>> {
    let status = if accepted.status { "True" } else { "False" };
    let ours = standing.conditions.iter().find(|condition| condition.type_ == conditions::ACCEPTED);
    let since = match ours {
        Some(ours)
            if ours.status == status
                && ours.reason == accepted.reason
                && ours.message == accepted.message
                && ours.observed_generation == standing.generation =>
        {
            return None;
        }
        Some(ours) if ours.status == status => ours.last_transition_time.clone(),
        _ => Time(now),
    };
    let others = standing.conditions.iter().filter(|condition| condition.type_ != conditions::ACCEPTED).cloned();
    let ours = Condition {
        type_: conditions::ACCEPTED.into(),
        status: status.into(),
        reason: accepted.reason.into(),
        message: accepted.message.clone(),
        last_transition_time: since,
        observed_generation: standing.generation,
    };
    Some(others.chain([ours]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).expect("a time")
    }

    #[test]
    fn conditions_of_others_stay_and_ours_is_written_once() {
        let other = Condition {
            type_: "Theirs".into(),
            status: "True".into(),
            reason: "R".into(),
            message: String::new(),
            last_transition_time: Time(at(1)),
            observed_generation: None,
        };
        let standing = Standing { uid: "u".into(), generation: Some(3), conditions: vec![other] };
        let patched = patch(&standing, &not_yet(), None, at(9)).expect("a change");
        let conditions = patched["status"]["conditions"].as_array().expect("a list").clone();
        assert_eq!(
            conditions.iter().map(|c| c["type"].as_str().expect("text")).collect::<Vec<_>>(),
            ["Theirs", "Accepted"]
        );
        assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&json!("False"), &json!("NotSupportedYet")));
        let after = Standing { conditions: serde_json::from_value(json!(conditions)).expect("conditions"), ..standing };
        assert_eq!(patch(&after, &not_yet(), None, at(99)), None);
    }

    #[test]
    fn counters_are_written_together_and_only_when_they_differ() {
        let valid = Accepted { status: true, reason: "Valid", message: String::new() };
        let mut standing = Standing { uid: "u".into(), ..Standing::default() };
        standing.conditions = conditions_with(&standing, &valid, at(1)).expect("new");
        let counted = IPAddressPoolStatus { assigned_ipv4: 1, available_ipv4: 3, ..IPAddressPoolStatus::default() };
        let zero = IPAddressPoolStatus::default();
        assert_eq!(
            patch(&standing, &valid, Some((Some(&zero), counted.clone())), at(9)),
            Some(json!({
                "metadata": {"uid": "u"},
                "status": {"assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 3, "availableIPv6": 0}}))
        );
        assert_eq!(patch(&standing, &valid, Some((Some(&counted), counted.clone())), at(9)), None);
        for differs in [
            IPAddressPoolStatus { assigned_ipv4: 2, ..counted.clone() },
            IPAddressPoolStatus { assigned_ipv6: 2, ..counted.clone() },
            IPAddressPoolStatus { available_ipv4: 2, ..counted.clone() },
            IPAddressPoolStatus { available_ipv6: 2, ..counted.clone() },
        ] {
            assert!(patch(&standing, &valid, Some((Some(&differs), counted.clone())), at(9)).is_some(), "{differs:?}");
        }
    }

    #[test]
    fn a_condition_is_of_the_generation_that_it_judges_and_its_time_changes_with_the_status_only() {
        let verdict = |status: bool, reason: &'static str| Accepted { status, reason, message: String::new() };
        let mut standing = Standing { generation: Some(1), ..Standing::default() };
        for (generation, accepted, expected) in [
            (1, verdict(false, "Invalid"), Some((1, at(1)))),
            (1, verdict(false, "Invalid"), None),
            (2, verdict(false, "Invalid"), Some((2, at(1)))),
            (2, verdict(false, "OtherObjectInvalid"), Some((2, at(1)))),
            (2, verdict(true, "Valid"), Some((2, at(9)))),
        ] {
            standing.generation = Some(generation);
            let now = if standing.conditions.is_empty() { at(1) } else { at(9) };
            let written = conditions_with(&standing, &accepted, now);
            let says = written
                .as_ref()
                .map(|conditions| (conditions[0].observed_generation, &conditions[0].last_transition_time.0));
            assert_eq!(says, expected.as_ref().map(|(generation, since)| (Some(*generation), since)), "{accepted:?}");
            standing.conditions = written.unwrap_or(standing.conditions);
        }
    }

    #[test]
    fn a_mistake_is_said_on_the_object_that_has_it_and_on_those_that_it_holds_back() {
        let pool = |name: &str, address: &str| {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"addresses": [address]}}))
                .expect("a pool")
        };
        let advertisement = serde_json::from_value(json!({"metadata": {"name": "bad"}, "spec": {}}));
        let with = |pools: Vec<IPAddressPool>| landfall_config::Resources {
            pools,
            l2_advertisements: vec![advertisement.as_ref().cloned().expect("an advertisement")],
            ..Default::default()
        };
        let mut loader = Loader::default();
        loader.load(&with(vec![pool("good", "10.0.0.0/30"), pool("bad", "10.1.0.0/30")]));
        loader.load(&with(vec![pool("good", "10.0.0.0/30"), pool("bad", "ten"), pool("new", "10.2.0.0/30")]));
        for (kind, name, status, reason, words) in [
            (Kind::Pool, "bad", false, "Invalid", "spec.addresses[0] is \"ten\": invalid CIDR"),
            (Kind::Pool, "new", false, "OtherObjectInvalid", "until IPAddressPool \"bad\" is corrected"),
            (Kind::Pool, "good", true, "Valid", ""),
            (Kind::L2Advertisement, "bad", true, "Valid", ""),
        ] {
            let accepted = accepted(kind, name, &loader);
            assert_eq!((accepted.status, accepted.reason), (status, reason), "{kind:?} {name}: {}", accepted.message);
            assert!(accepted.message.contains(words), "{kind:?} {name}: {}", accepted.message);
        }
    }
}
