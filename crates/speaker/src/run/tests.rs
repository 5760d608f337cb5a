//! What the owner publishes, and when.

use landfall_runtime::watch::Change::{Applied, ListDone, Restarted};

use serde_json::json;

use super::*;
use crate::announced_condition::Stated;
use crate::desired::Answers;
use crate::model::{Event, Node, Service, Slice, SpeakerPod};

/// The owner on n1, whose model has every first list, all of them empty.
fn owner() -> Owner {
    let settings = Settings {
        node_name: "n1".into(),
        pod_name: None,
        namespace: "landfall-system".into(),
        lb_class: None,
        probe_address: ([127, 0, 0, 1], 0).into(),
        exclude_interfaces: vec![],
        include_interfaces: vec![],
        ignore_exclude_label: false,
        refresh_interval: Duration::from_secs(60),
        membership: MembershipSettings {
            settings: landfall_membership::Settings::default(),
            address: None,
            port: 7946,
            secret: None,
        },
        report_silent_nodes: false,
        keep_connections: false,
    };
    let mut model = Model::new("n1".into(), false, Watched::BySpeakers);
    for event in [
        Event::Service(Restarted),
        Event::Service(ListDone),
        Event::Slice(ListDone),
        Event::Node(ListDone),
        Event::Speaker(ListDone),
        Event::Pool(ListDone),
        Event::Advertisement(ListDone),
    ] {
        model.apply(event);
    }
    Owner {
        model,
        settings,
        said: BTreeSet::new(),
        unpublished: BTreeSet::new(),
        rests_until: Instant::now(),
        desired: watch::channel(Arc::new(Desired::default())).0,
        members: watch::channel(None).0,
        nodes: watch::channel(Arc::default()).0,
        stance: watch::channel(Stance::Serve).0,
        announced: watch::channel(Arc::new(Announced::default())).1,
        claims: watch::channel(None).0,
        agenda: Agenda::default(),
        wishes: watch::channel(Arc::default()).0,
        networks: watch::channel(BTreeSet::new()).1,
        trap: watch::channel(None).1,
        state: watch::channel(None).0,
    }
}

#[test]
fn members_that_change_while_the_owner_rests_are_told_afterwards() {
    let mut owner = owner();
    let decided = owner.model.decide(Instant::now()).expect("every list is complete");
    assert_eq!(owner.publish(decided), None);
    assert_eq!(owner.members.borrow().as_deref(), Some(&Members::new()), "nobody but this node");

    owner.rests_until = Instant::now() + Duration::from_secs(3600);
    let pod = SpeakerPod {
        uid: "p".into(),
        node: "n2".into(),
        ready: true,
        lately: false,
        address: Some([192, 0, 2, 2].into()),
        addresses: [[192, 0, 2, 2].into()].into(),
    };
    owner.model.apply(Event::Node(Applied(("n2".into(), Some(Node::default())))));
    owner.model.apply(Event::Speaker(Applied(("speaker-n2".into(), Some(pod)))));
    let decided = owner.model.decide(Instant::now()).expect("every list is complete");
    assert_eq!(owner.publish(decided), Some(owner.rests_until), "there is something to come back for");
    assert_eq!(owner.members.borrow().as_deref(), Some(&Members::new()));

    owner.rests_until = Instant::now();
    owner.publish(Decided::default());
    assert_eq!(owner.members.borrow().as_deref(), Some(&Members::from([("n2".into(), [192, 0, 2, 2].into())])));
}

/// The conditions that are wished for at `now`: status, reason and message of each.
fn wished(owner: &mut Owner, now: Instant) -> Vec<(String, String, String)> {
    let decided = owner.model.decide(now).expect("every list is complete");
    owner.rests_until = now;
    owner.publish(decided);
    owner.wish_conditions(now);
    let wishes = owner.wishes.borrow().clone();
    wishes.iter().map(|wish| wish.condition.clone()).map(|c| (c.status, c.reason, c.message)).collect()
}

#[test]
fn the_condition_of_a_service_is_wished_for_when_it_is_not_so_and_never_when_it_is() {
    let mut owner = owner();
    let start = Instant::now();
    let after = |secs| start + Duration::from_secs(secs);
    let key = ServiceKey { namespace: "shop".into(), name: "web".into() };
    let mut service = Service {
        uid: "u".into(),
        labels: [].into(),
        ingress_ips: Ok(vec!["192.0.2.1".parse().unwrap()]),
        local: false,
        may_share: false,
        placed: None,
        generation: None,
        stated: None,
    };
    let (uid, node, addresses) = ("p".into(), "n1".into(), [].into());
    let pod = SpeakerPod { uid, node, ready: true, lately: false, address: None, addresses };
    owner.model.apply(Event::Node(Applied(("n1".into(), Some(Node::default())))));
    owner.model.apply(Event::Service(Applied((key.clone(), Some(service.clone())))));
    owner.model.decide(start);
    owner.wish_conditions(after(9));
    assert_eq!(owner.wishes.borrow().len(), 0, "not before anything is claimed");

    owner.model.apply(Event::Speaker(Applied(("speaker-n1".into(), Some(pod)))));
    assert_eq!(wished(&mut owner, start), []);
    assert_eq!(owner.agenda.look_at(), Some(after(2)), "if it stays so");
    let [(status, reason, _)] = &wished(&mut owner, after(2))[..] else { panic!("one wish") };
    assert_eq!((status.as_str(), reason.as_str()), ("False", "IPNotAllowed"));
    let condition = owner.wishes.borrow()[0].condition.clone();
    service.stated = Some(Stated::read(&condition));
    owner.model.apply(Event::Service(Applied((key.clone(), Some(service.clone())))));
    assert_eq!((wished(&mut owner, after(3)), owner.agenda.look_at()), (vec![], None), "it is said");

    let object = |kind: &str, spec: serde_json::Value| json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "lan"}, "spec": spec});
    let pool = serde_json::from_value(object("IPAddressPool", json!({"addresses": ["192.0.2.0/24"]}))).unwrap();
    let ad = serde_json::from_value(object("L2Advertisement", json!({}))).unwrap();
    let slice = Slice { service: key.clone(), nodes: BTreeSet::new() };
    owner.model.apply(Event::Pool(Applied(("lan".into(), Some(pool)))));
    owner.model.apply(Event::Advertisement(Applied(("lan".into(), Some(ad)))));
    owner.model.apply(Event::Slice(Applied((("shop".into(), "web-1".into()), Some(slice)))));
    assert_eq!(wished(&mut owner, after(4)), [], "the wire has not looked at it yet");
    let answers = Answers::Here(BTreeSet::from(["eth0".to_owned()]));
    let addresses = [("192.0.2.1".parse().unwrap(), answers)].into();
    owner.announced = watch::channel(Arc::new(Announced { addresses, ..Announced::default() })).1;
    let message = "node n1 answers for 192.0.2.1 on eth0";
    assert_eq!(wished(&mut owner, after(4)), [("True".into(), "Announced".into(), message.into())]);
}

#[test]
fn a_kernel_that_answers_for_services_by_itself_is_a_problem_of_the_nodes_configuration_state() {
    let mut owner = owner();
    let problems = |owner: &Owner| owner.state.borrow().as_ref().map(|state| state.problems.clone());
    owner.publish_state();
    assert_eq!(problems(&owner), Some(vec![]));
    let held = ipvs::Held { ip: "192.0.2.1".parse().unwrap(), interfaces: BTreeSet::from(["eth0".to_owned()]) };
    let trap = ipvs::trap(&held, |_| Some(0));
    owner.trap = watch::channel(trap.clone()).1;
    owner.publish_state();
    assert_eq!(problems(&owner), Some(vec![trap.expect("a trap").to_string()]));
}
