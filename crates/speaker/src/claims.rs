//! What this node may say in public about the Services it announces. Pure.
//!
//! A *claim* is a Service that this node may serve; it becomes *confirmed* when the wire says that this node is its owner,
//! and on which interfaces it answers. Only what is confirmed is written to a `ServiceL2Status`: one object per announced
//! Service, of the announcing node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use landfall_api::labels;

use crate::desired::{Announced, Answers, Interfaces};
use crate::elect::Verdict;
use crate::model::{Service, ServiceKey};
use crate::views::StatusView;

/// A Service that this node may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// metadata.uid of the Service, for events
    pub uid: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Where they would be answered for.
    pub interfaces: Interfaces,
}

/// All claims of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Name and uid of our own Pod, if we are one: it owns the objects we write, so that they go when it does.
    pub pod: Option<(String, String)>,
    /// The Services.
    pub services: BTreeMap<ServiceKey, Claim>,
}

/// The claims that follow from the verdicts. What another node owns is none; what the wire has not looked at yet may be ours.
pub fn claims<'a>(
    verdicts: &BTreeMap<ServiceKey, Verdict>,
    announced: &Announced,
    service: impl Fn(&ServiceKey) -> Option<&'a Service>,
) -> BTreeMap<ServiceKey, Claim> {
    let elsewhere = |ip: &IpAddr| matches!(announced.addresses.get(ip), Some(Answers::Elsewhere(_)));
    let claim = |(key, verdict): (&ServiceKey, &Verdict)| match verdict {
        Verdict::Serve { ips, .. } if ips.iter().all(elsewhere) => None,
        Verdict::Serve { ips, interfaces, .. } => {
            let uid = service(key)?.uid.clone();
            Some((key.clone(), Claim { uid, ips: ips.clone(), interfaces: interfaces.clone() }))
        }
        Verdict::Withhold(_) => None,
    };
    verdicts.iter().filter_map(claim).collect()
}

/// What the wire makes of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The wire has not looked at it yet: nothing may be said, and nothing taken back.
    Pending,
    /// It is answered. The interfaces, sorted; none when the advertisements do not restrict them.
    Confirmed(Vec<String>),
    /// No interface is usable for any of its addresses.
    Failed,
    /// Another node is the owner.
    Elsewhere,
}

/// Whether and where the wire answers for the claim.
pub fn confirm(claim: &Claim, announced: &Announced) -> Confirmation {
    let known: Option<Vec<&Answers>> = claim.ips.iter().map(|ip| announced.addresses.get(ip)).collect();
    let Some(answers) = known else { return Confirmation::Pending };
    // Two nodes may own an address each, when one has lost the network of the other's: the owner of the first says so.
    if let Some(Answers::Elsewhere(Some(_))) = answers.first() {
        return Confirmation::Elsewhere;
    }
    let here: Vec<&BTreeSet<String>> = answers.into_iter().filter_map(Answers::here).collect();
    if here.is_empty() {
        return Confirmation::Elsewhere;
    }
    let used: BTreeSet<&String> = here.into_iter().flatten().collect();
    match &claim.interfaces {
        _ if used.is_empty() => Confirmation::Failed,
        Interfaces::All => Confirmation::Confirmed(Vec::new()),
        Interfaces::Named(_) => Confirmation::Confirmed(used.into_iter().cloned().collect()),
    }
}

/// The addresses of the claim that no interface is usable for.
pub fn unusable<'a>(claim: &'a Claim, announced: &'a Announced) -> impl Iterator<Item = IpAddr> + 'a {
    let here = |ip: &IpAddr| announced.addresses.get(ip).and_then(Answers::here);
    claim.ips.iter().copied().filter(move |ip| here(ip).is_some_and(BTreeSet::is_empty))
}

/// A `ServiceL2Status` in the cluster, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// The Service that its labels name.
    pub service: ServiceKey,
    /// The node that its labels name.
    pub node: String,
    /// What its status says.
    pub status: Said,
}

/// The status of a `ServiceL2Status`, measured by its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing yet.
    Nothing,
    /// It names the node and Service that the labels name, and these interfaces.
    Interfaces(Vec<String>),
    /// It names another node or Service; these names cannot be changed.
    Otherwise,
}

impl Existing {
    /// Reads an object; `None` for one without our labels.
    pub(crate) fn read(mut object: StatusView) -> (String, Option<Self>) {
        let name = object.metadata.name.take().unwrap_or_default();
        let mut own_labels = object.metadata.labels.take().unwrap_or_default();
        let mut label = |key| own_labels.remove(key);
        let (Some(namespace), Some(service), Some(node)) =
            (label(labels::SERVICE_NAMESPACE), label(labels::SERVICE_NAME), label(labels::NODE))
        else {
            return (name, None);
        };
        let service = ServiceKey { namespace, name: service };
        let said = object.status;
        let status = match (said.node.as_str(), said.service_name.as_str(), said.service_namespace.as_str()) {
            ("", "", "") => Said::Nothing,
            names if names == (&node, &service.name, &service.namespace) => {
                Said::Interfaces(said.interfaces.into_iter().map(|interface| interface.name).collect())
            }
            _ => Said::Otherwise,
        };
        (name, Some(Self { service, node, status }))
    }
}

/// One write to the `ServiceL2Status` objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Create an object for the Service, with this status.
    Create {
        /// The Service.
        service: ServiceKey,
        /// Its interfaces.
        interfaces: Vec<String>,
    },
    /// Set the status of our object.
    SetStatus {
        /// The object.
        name: String,
        /// The Service.
        service: ServiceKey,
        /// Its interfaces.
        interfaces: Vec<String>,
    },
    /// Delete an object that is not true any more.
    Delete {
        /// The object.
        name: String,
    },
}

/// The writes that bring the objects in line with what the wire confirms; none when they are. For each Service that
/// this node announces there is to be one object, ours; for each other one none of ours. Objects of other nodes are
/// deleted only when their Service is confirmed here.
pub fn plan(
    existing: &BTreeMap<String, Existing>,
    confirmations: &BTreeMap<ServiceKey, Confirmation>,
    node: &str,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut kept = BTreeSet::new();
    let mut deletes = Vec::new();
    for (name, object) in existing {
        let own = object.node == node;
        match confirmations.get(&object.service) {
            Some(Confirmation::Pending) => {}
            Some(Confirmation::Confirmed(interfaces)) => {
                if !own || object.status == Said::Otherwise || !kept.insert(&object.service) {
                    deletes.push(Write::Delete { name: name.clone() });
                } else if object.status != Said::Interfaces(interfaces.clone()) {
                    writes.push(Write::SetStatus {
                        name: name.clone(),
                        service: object.service.clone(),
                        interfaces: interfaces.clone(),
                    });
                }
            }
            None | Some(Confirmation::Failed | Confirmation::Elsewhere) if own => {
                deletes.push(Write::Delete { name: name.clone() });
            }
            None | Some(Confirmation::Failed | Confirmation::Elsewhere) => {}
        }
    }
    for (service, confirmation) in confirmations {
        if let Confirmation::Confirmed(interfaces) = confirmation
            && !kept.contains(service)
        {
            writes.push(Write::Create { service: service.clone(), interfaces: interfaces.clone() });
        }
    }
    writes.extend(deletes); // last, so that a Service that moves has a status all the time
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use Confirmation::{Confirmed, Elsewhere, Failed, Pending};

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "shop".into(), name: name.into() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn object(node: &str, status: Said) -> Existing {
        Existing { service: key("web"), node: node.into(), status }
    }

    fn said(interfaces: &[&str]) -> Said {
        Said::Interfaces(names(interfaces))
    }

    #[test]
    fn an_announced_service_ends_with_exactly_one_object_of_this_node() {
        let create = |i: &[&str]| Write::Create { service: key("web"), interfaces: names(i) };
        let set =
            |name: &str, i: &[&str]| Write::SetStatus { name: name.into(), service: key("web"), interfaces: names(i) };
        let delete = |name: &str| Write::Delete { name: name.into() };
        let confirmed = |i: &[&str]| Some(Confirmed(names(i)));
        for (case, existing, confirmation, writes) in [
            ("new", vec![], confirmed(&[]), vec![create(&[])]),
            ("new, on named interfaces", vec![], confirmed(&["eth0", "eth1"]), vec![create(&["eth0", "eth1"])]),
            ("as it should be", vec![("l2-a", object("me", said(&["eth0"])))], confirmed(&["eth0"]), vec![]),
            (
                "status not written yet",
                vec![("l2-a", object("me", Said::Nothing))],
                confirmed(&[]),
                vec![set("l2-a", &[])],
            ),
            (
                "edited by hand",
                vec![("l2-a", object("me", said(&["x"])))],
                confirmed(&["eth0"]),
                vec![set("l2-a", &["eth0"])],
            ),
            (
                "names changed by hand",
                vec![("l2-a", object("me", Said::Otherwise))],
                confirmed(&[]),
                vec![create(&[]), delete("l2-a")],
            ),
            (
                "taken over",
                vec![("l2-a", object("other", said(&[])))],
                confirmed(&[]),
                vec![create(&[]), delete("l2-a")],
            ),
            (
                "a duplicate of ours",
                vec![("l2-a", object("me", said(&[]))), ("l2-b", object("me", said(&[])))],
                confirmed(&[]),
                vec![delete("l2-b")],
            ),
            ("not looked at yet", vec![("l2-a", object("me", said(&[])))], Some(Pending), vec![]),
            ("not looked at yet, other", vec![("l2-a", object("other", said(&[])))], Some(Pending), vec![]),
            (
                "not answered on any interface",
                vec![("l2-a", object("me", said(&[])))],
                Some(Failed),
                vec![delete("l2-a")],
            ),
            ("not ours any more", vec![("l2-a", object("me", said(&[])))], None, vec![delete("l2-a")]),
            ("another took over", vec![("l2-a", object("me", said(&[])))], Some(Elsewhere), vec![delete("l2-a")]),
            ("another's all the time", vec![("l2-a", object("other", said(&[])))], Some(Elsewhere), vec![]),
            ("another node's", vec![("l2-a", object("other", said(&[])))], None, vec![]),
        ] {
            let existing = existing.into_iter().map(|(name, object)| (name.to_owned(), object)).collect();
            let confirmations = confirmation.into_iter().map(|c| (key("web"), c)).collect();
            assert_eq!(plan(&existing, &confirmations, "me"), writes, "{case}");
        }
    }

    #[test]
    fn only_what_the_wire_answers_for_is_confirmed() {
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let on = |i: &[&str]| i.iter().map(|i| (*i).to_owned()).collect::<BTreeSet<_>>();
        let restricted = Interfaces::Named(on(&["eth0", "eth1"]));
        for (interfaces, announced, expected, failing) in [
            (Interfaces::All, vec![], Pending, vec![]),
            (Interfaces::All, vec![(v4, on(&["eth0"]))], Pending, vec![]),
            (Interfaces::All, vec![(v4, on(&["eth0"])), (v6, on(&["eth0"]))], Confirmed(vec![]), vec![]),
            (
                restricted.clone(),
                vec![(v4, on(&["eth1"])), (v6, on(&["eth0"]))],
                Confirmed(names(&["eth0", "eth1"])),
                vec![],
            ),
            (restricted.clone(), vec![(v4, on(&["eth1"])), (v6, on(&[]))], Confirmed(names(&["eth1"])), vec![v6]),
            (restricted, vec![(v4, on(&[])), (v6, on(&[]))], Failed, vec![v4, v6]),
        ] {
            let claim = Claim { uid: "u".into(), ips: vec![v4, v6], interfaces };
            let announced = announced.into_iter().map(|(ip, interfaces)| (ip, Answers::Here(interfaces)));
            let announced = Announced { addresses: announced.collect(), ..Announced::default() };
            assert_eq!(confirm(&claim, &announced), expected, "{announced:?}");
            assert_eq!(unusable(&claim, &announced).collect::<Vec<_>>(), failing, "{announced:?}");
        }
        let (here, elsewhere) = (Answers::Here(on(&["eth0"])), || Answers::Elsewhere(Some("n2".into())));
        for (first, second, expected) in [
            (elsewhere(), elsewhere(), Elsewhere),
            (elsewhere(), here.clone(), Elsewhere), // n2 says so, and one of two is enough
            (here.clone(), elsewhere(), Confirmed(vec![])),
            (Answers::Elsewhere(None), here, Confirmed(vec![])),
        ] {
            let claim = Claim { uid: "u".into(), ips: vec![v4, v6], interfaces: Interfaces::All };
            let announced = Announced { addresses: [(v4, first), (v6, second)].into(), ..Announced::default() };
            let found = (confirm(&claim, &announced), unusable(&claim, &announced).count());
            assert_eq!(found, (expected, 0), "{announced:?}");
        }
    }

    #[test]
    fn an_object_is_read_by_its_labels_and_its_status_is_measured_by_them() {
        let labelled = |status: serde_json::Value| -> StatusView {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ServiceL2Status",
                "metadata": {"name": "l2-a", "labels": {
                    "metallb.io/node": "n1", "metallb.io/service-name": "web", "metallb.io/service-namespace": "shop"}},
                "spec": {}, "status": status,
            }))
            .unwrap()
        };
        for (status, expected) in [
            (serde_json::json!(null), Said::Nothing),
            (serde_json::json!({}), Said::Nothing),
            (
                serde_json::json!({"node": "n1", "serviceName": "web", "serviceNamespace": "shop",
                                   "interfaces": [{"name": "eth0"}]}),
                said(&["eth0"]),
            ),
            (serde_json::json!({"node": "n2", "serviceName": "web", "serviceNamespace": "shop"}), Said::Otherwise),
        ] {
            let expected = Existing { service: key("web"), node: "n1".into(), status: expected };
            assert_eq!(Existing::read(labelled(status)), ("l2-a".into(), Some(expected)));
        }
        let mut foreign = labelled(serde_json::json!({}));
        foreign.metadata.labels = None;
        assert_eq!(Existing::read(foreign), ("l2-a".into(), None));
    }
}
