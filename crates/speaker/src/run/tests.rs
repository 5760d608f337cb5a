//! What the owner publishes, and when.

use landfall_runtime::watch::Change::{Applied, ListDone, Restarted};

use super::*;
use crate::model::{Event, Node, SpeakerPod};

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
        membership: MembershipSettings {
            settings: landfall_membership::Settings::default(),
            address: None,
            port: 7946,
            secret: None,
        },
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
        stance: watch::channel(Stance::Serve).0,
        announced: watch::channel(Arc::new(Announced::default())).1,
        claims: watch::channel(None).0,
        networks: watch::channel(BTreeSet::new()).1,
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
    let pod = SpeakerPod { uid: "p".into(), node: "n2".into(), ready: true, address: Some([192, 0, 2, 2].into()) };
    owner.model.apply(Event::Node(Applied(("n2".into(), Some(Node::default())))));
    owner.model.apply(Event::Speaker(Applied(("speaker-n2".into(), Some(pod)))));
    let decided = owner.model.decide(Instant::now()).expect("every list is complete");
    assert_eq!(owner.publish(decided), Some(owner.rests_until), "there is something to come back for");
    assert_eq!(owner.members.borrow().as_deref(), Some(&Members::new()));

    owner.rests_until = Instant::now();
    owner.publish(Decided::default());
    assert_eq!(owner.members.borrow().as_deref(), Some(&Members::from([("n2".into(), [192, 0, 2, 2].into())])));
}
