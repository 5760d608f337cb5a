//! What is said about a Service, and that it is not said twice.

use serde_json::json;

use super::objects::new_object;
use super::*;
use crate::claims::Said;
use crate::desired::Interfaces;

fn key() -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: "web".into() }
}

fn claim(interfaces: Interfaces) -> Claim {
    Claim { uid: "u1".into(), ips: vec!["192.0.2.1".parse().unwrap()], interfaces }
}

fn object(node: &str) -> Existing {
    Existing { service: key(), node: node.into(), status: Said::Interfaces(vec![]) }
}

#[test]
fn each_handover_is_an_event_of_its_own_and_a_restart_on_the_same_node_is_none() {
    let now = Instant::now();
    let mut state = State::default();
    let assigned = |state: &State| state.assigned(&key(), &claim(Interfaces::All), "n1");
    let first = assigned(&state);
    assert_eq!(first.message, r#"announcing from node "n1" with protocol "layer2""#);
    assert_eq!((first.reason, first.kind, first.occasion.as_str()), ("nodeAssigned", Kind::Normal, ""));

    // The object of our former Pod is collected: nobody else had the Service meanwhile.
    state.apply(Change::Applied(("l2-a".into(), Some(object("n1")))), now);
    state.apply(Change::Deleted(("l2-a".into(), None)), now);
    assert_eq!(assigned(&state), first);

    state.apply(Change::Applied(("l2-b".into(), Some(object("n2")))), now);
    let taken_over = assigned(&state);
    assert_eq!(taken_over.occasion, "l2-b");
    state.apply(Change::Deleted(("l2-b".into(), None)), now);
    assert_eq!(assigned(&state), taken_over, "whether its former owner removed its object already or not");
    state.apply(Change::Restarted, now + REMEMBER_FORMER);
    assert_eq!(assigned(&state), first, "what is long ago is forgotten");
}

#[test]
fn an_address_without_a_usable_interface_is_a_warning_once_until_it_worked_again() {
    let named = Interfaces::Named(BTreeSet::from(["eth9".to_owned()]));
    let claims = Claims { pod: None, services: BTreeMap::from([(key(), claim(named))]) };
    let announced = |interfaces: &[&str]| {
        let interfaces = interfaces.iter().map(|i| (*i).to_owned()).collect();
        Announced {
            addresses: BTreeMap::from([("192.0.2.1".parse().unwrap(), Answers::Here(interfaces))]),
            ..Announced::default()
        }
    };
    let mut warnings = Warnings::default();
    let mut new_ones = |interfaces: &[&str]| warnings.new_ones(troubles(&claims, &announced(interfaces), "n1"));
    let failure = new_ones(&[]);
    assert_eq!(failure.len(), 1);
    assert_eq!((failure[0].kind, failure[0].reason), (Kind::Warning, "announceFailed"));
    assert_eq!(
        failure[0].message,
        r#"the interfaces specified by LB IP "192.0.2.1" doesn't exist in assigned node "n1" with protocol "layer2""#
    );
    assert_eq!(new_ones(&[]), []);
    assert_eq!(new_ones(&["eth9"]), []);
    assert_eq!(new_ones(&[]).len(), 1);
}

#[test]
fn a_new_object_belongs_to_our_pod_and_names_node_and_service_in_its_labels() {
    let pod = ("speaker-x".to_owned(), "p1".to_owned());
    let object = new_object("n1", Some(&pod), &key());
    let json = serde_json::to_value(&object).unwrap();
    assert_eq!(
        json["metadata"],
        json!({
            "generateName": "l2-",
            "labels": {"metallb.io/node": "n1", "metallb.io/service-name": "web", "metallb.io/service-namespace": "shop"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "speaker-x", "uid": "p1"}],
        })
    );
}

#[test]
fn our_own_write_counts_before_the_watch_shows_it() {
    let mut state = State::default();
    state.apply(Change::Restarted, Instant::now());
    state.apply(Change::ListDone, Instant::now());
    let wanted = BTreeMap::from([(key(), Confirmation::Confirmed(vec![]))]);
    assert_eq!(plan(state.objects.entries(), &wanted, "n1").len(), 1);
    state.remember(Done::Created("l2-a".into(), object("n1")));
    assert_eq!(plan(state.objects.entries(), &wanted, "n1"), []);
}

#[test]
fn an_address_that_a_stranger_has_too_is_a_warning_once_until_it_has_given_it_up() {
    let claims = Claims { pod: None, services: BTreeMap::from([(key(), claim(Interfaces::All))]) };
    let ip: IpAddr = "192.0.2.1".parse().unwrap();
    let stranger = Announced {
        addresses: BTreeMap::from([(ip, Answers::Here(BTreeSet::from(["eth0".to_owned()])))]),
        conflicts: BTreeMap::from([(ip, landfall_wire::MacAddr::new(2, 0, 0, 0, 0, 9))]),
        unheard: BTreeMap::new(),
    };
    let nobody = Announced { conflicts: BTreeMap::new(), ..stranger.clone() };
    let mut warnings = Warnings::default();
    let mut new_ones = |announced: &Announced| warnings.new_ones(troubles(&claims, announced, "n1"));
    let said = new_ones(&stranger);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].kind, said[0].reason), (Kind::Warning, "AddressConflict"));
    assert!(
        said[0].message.contains("192.0.2.1") && said[0].message.contains("02:00:00:00:00:09"),
        "{}",
        said[0].message
    );
    assert_eq!(new_ones(&stranger), []);
    assert_eq!(new_ones(&nobody), []);
    assert_eq!(new_ones(&stranger).len(), 1);
}

#[test]
fn an_address_that_a_peer_asks_for_in_vain_is_a_warning() {
    let claims = Claims { pod: None, services: BTreeMap::from([(key(), claim(Interfaces::All))]) };
    let ip: IpAddr = "192.0.2.1".parse().unwrap();
    let announced = Announced {
        addresses: BTreeMap::from([(ip, Answers::Here(BTreeSet::from(["eth0".to_owned()])))]),
        unheard: BTreeMap::from([(ip, "n2".into())]),
        ..Announced::default()
    };
    let said = Warnings::default().new_ones(troubles(&claims, &announced, "n1"));
    assert_eq!(
        said.iter().map(|event| (event.kind, event.reason)).collect::<Vec<_>>(),
        [(Kind::Warning, "NotHeardByPeer")]
    );
    assert!(said[0].message.contains("node n2, which asks for it there"), "{}", said[0].message);
}
