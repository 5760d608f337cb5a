//! What the model makes of changes: lists, relists, and who is eligible.

use std::time::Duration;

use landfall_runtime::watch::Change::{self, Applied, Deleted, ListDone, Listed, Restarted};
use serde_json::json;

use super::*;
use crate::elect::Reason;

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into() }
}

fn service(ip: &str) -> Service {
    Service {
        uid: "u".into(),
        labels: Labels::new(),
        ingress_ips: Ok(vec![ip.parse().unwrap()]),
        local: false,
        may_share: false,
        placed: None,
        generation: None,
        stated: None,
    }
}

fn slice_of(service: &str) -> (SliceKey, Option<Slice>) {
    let slice = Slice { service: key(service), nodes: BTreeSet::from(["n2".to_owned()]) };
    (("shop".into(), format!("{service}-slice")), Some(slice))
}

fn node(name: &str, labels: &[&str]) -> (String, Option<Node>) {
    let labels = labels.iter().map(|key| ((*key).to_owned(), String::new())).collect();
    (name.into(), Some(Node { labels, network_unavailable: false, ready: true, drain: false }))
}

fn speaker(node: &str, ready: bool) -> (String, Option<SpeakerPod>) {
    (
        format!("speaker-{node}"),
        Some(SpeakerPod {
            uid: "p".into(),
            node: node.into(),
            ready,
            lately: false,
            address: None,
            addresses: [].into(),
        }),
    )
}

fn pool(addresses: &[&str]) -> (String, Option<IPAddressPool>) {
    let object = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "lan"}, "spec": {"addresses": addresses}});
    ("lan".into(), Some(serde_json::from_value(object).unwrap()))
}

fn advertisement() -> (String, Option<L2Advertisement>) {
    let object = json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": {"name": "all"}, "spec": {}});
    ("all".into(), Some(serde_json::from_value(object).unwrap()))
}

fn list<T>(objects: impl IntoIterator<Item = T>) -> Vec<Change<T>> {
    std::iter::once(Restarted).chain(objects.into_iter().map(Listed)).chain([ListDone]).collect()
}

/// The first lists of a cluster of three nodes whose Service `web` has 172.30.0.201: ranking n1, n3, n2.
fn first_lists() -> Vec<Event> {
    let nodes = ["n1", "n2", "n3"];
    let mut events: Vec<Event> = Vec::new();
    events.extend(list([(key("web"), Some(service("172.30.0.201")))]).into_iter().map(Event::Service));
    events.extend(list([slice_of("web")]).into_iter().map(Event::Slice));
    events.extend(list(nodes.map(|name| node(name, &[]))).into_iter().map(Event::Node));
    events.extend(list(nodes.map(|name| speaker(name, true))).into_iter().map(Event::Speaker));
    events.extend(list([pool(&["172.30.0.200-172.30.0.219"])]).into_iter().map(Event::Pool));
    events.extend(list([advertisement()]).into_iter().map(Event::Advertisement));
    events
}

/// The model of one node's speaker, after its first lists.
fn model_of(node: &str) -> Model {
    let mut model = Model::new(node.into(), false, Watched::ByApi);
    first_lists().into_iter().for_each(|event| model.apply(event));
    model.decide(Instant::now()).expect("all lists are complete");
    model
}

/// Decides now, and where an edit is waited for, again after that.
fn decide_settled(model: &mut Model) -> Decided {
    let decided = model.decide(Instant::now()).expect("all lists are complete");
    match decided.again_at {
        Some(at) => model.decide(at).expect("all lists are complete"),
        None => decided,
    }
}

/// The first of the ranking, who answers while it lives.
fn owner(model: &Model, name: &str) -> String {
    match model.verdicts().get(&key(name)) {
        Some(Verdict::Serve { ranking, .. }) => ranking[0].to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

fn announces(model: &Model, name: &str) -> bool {
    owner(model, name) == model.node
}

fn reason(model: &Model, name: &str) -> Reason {
    match model.verdicts().get(&key(name)) {
        Some(Verdict::Withhold(reason)) => reason.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn nothing_is_decided_before_every_first_list_is_complete() {
    let events = first_lists();
    let mut model = Model::new("n1".into(), false, Watched::ByApi);
    for event in events {
        assert_eq!(model.decide(Instant::now()), None, "before {event:?}");
        model.apply(event);
    }
    let decided = model.decide(Instant::now()).expect("the last list is complete");
    assert_eq!(decided.changed, [key("web")]);
    assert!(announces(&model, "web"));
    assert_eq!(owner(&model_of("n2"), "web"), "n1");
}

#[test]
fn a_relist_of_any_kind_withdraws_nothing_before_it_is_done() {
    for event in first_lists() {
        let mut model = model_of("n1");
        let restarted = match event {
            Event::Service(_) => Event::Service(Restarted),
            Event::Slice(_) => Event::Slice(Restarted),
            Event::Node(_) => Event::Node(Restarted),
            Event::Speaker(_) => Event::Speaker(Restarted),
            Event::Pool(_) => Event::Pool(Restarted),
            Event::Advertisement(_) => Event::Advertisement(Restarted),
        };
        model.apply(restarted.clone());
        let decided = model.decide(Instant::now()).expect("the first lists were complete");
        assert_eq!(decided.changed, [], "{restarted:?}");
        assert!(announces(&model, "web"), "{restarted:?}");
    }
    // What the finished list does not have is gone.
    let mut model = model_of("n1");
    list([]).into_iter().map(Event::Service).for_each(|event| model.apply(event));
    assert_eq!(model.decide(Instant::now()).unwrap().changed, [key("web")]);
    assert_eq!(model.verdicts().len(), 0);
}

#[test]
fn a_change_decides_only_the_services_it_touches() {
    let mut model = model_of("n1");
    for (event, changed) in [
        (Event::Service(Applied((key("web"), Some(service("172.30.0.201"))))), vec![]),
        (Event::Service(Applied((key("api"), Some(service("172.30.0.204"))))), vec![key("api")]), // no endpoints yet
        (Event::Slice(Applied(slice_of("api"))), vec![key("api")]),
        (Event::Slice(Applied(slice_of("unknown"))), vec![]),
        (Event::Slice(Deleted(slice_of("api"))), vec![key("api")]),
        (Event::Service(Deleted((key("api"), None))), vec![key("api")]),
        (Event::Node(Applied(node("n2", &["unrelated"]))), vec![]),
        (Event::Advertisement(Deleted(("all".into(), None))), vec![key("web")]),
    ] {
        let said = format!("{event:?}");
        model.apply(event);
        assert_eq!(decide_settled(&mut model).changed, changed, "{said}");
    }
    assert_eq!(reason(&model, "web"), Reason::NoMatchingAdvertisement);
}

#[test]
fn a_service_is_withdrawn_when_its_last_serving_slice_goes_also_by_changing_its_service() {
    let mut model = model_of("n1");
    let (slice_key, _) = slice_of("web");
    let (_, other) = slice_of("api");
    model.apply(Event::Slice(Applied((slice_key.clone(), other))));
    model.decide(Instant::now());
    assert_eq!(reason(&model, "web"), Reason::NoEndpoints);
    model.apply(Event::Slice(Applied(slice_of("web"))));
    model.decide(Instant::now());
    assert!(announces(&model, "web"));
    model.apply(Event::Slice(Applied((slice_key, None)))); // it exists, but nothing in it serves
    model.decide(Instant::now());
    assert_eq!(reason(&model, "web"), Reason::NoEndpoints);
}

#[test]
fn nodes_take_part_by_their_speaker_network_and_exclude_label() {
    const EXCLUDE: &str = landfall_api::labels::EXCLUDE_FROM_LOAD_BALANCERS;
    let unavailable = |name: &str| {
        let node = Node { network_unavailable: true, ready: true, labels: Labels::new(), drain: false };
        Event::Node(Applied((name.to_owned(), Some(node))))
    };
    // The owner of web is n1, then n3.
    for (what, event, ignore_label, owner_is_still_n1) in [
        ("speaker Pod gone and Node gone", Event::Node(Deleted(node("n1", &[]))), false, false),
        ("exclude label", Event::Node(Applied(node("n1", &[EXCLUDE]))), false, false),
        ("exclude label, ignored", Event::Node(Applied(node("n1", &[EXCLUDE]))), true, true),
        ("no network", unavailable("n1"), false, false),
        ("another node without network", unavailable("n2"), false, true),
    ] {
        let mut model = Model::new("n3".into(), ignore_label, Watched::ByApi);
        first_lists().into_iter().for_each(|event| model.apply(event));
        model.decide(Instant::now());
        assert_eq!(owner(&model, "web"), "n1");
        model.apply(event);
        model.decide(Instant::now());
        assert_eq!(announces(&model, "web"), !owner_is_still_n1, "{what}");
    }
}

#[test]
fn a_restart_of_the_owners_speaker_moves_nothing_and_its_end_does_after_the_grace() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let mut model = model_of("n3");
    model.apply(Event::Speaker(Deleted(speaker("n1", true))));
    let decided = model.decide(at(1)).unwrap();
    assert_eq!((decided.changed, decided.again_at), (vec![], Some(at(11))));
    model.apply(Event::Speaker(Applied(speaker("n1", true))));
    assert_eq!(model.decide(at(4)).unwrap().changed, []);
    model.apply(Event::Speaker(Applied(speaker("n1", false))));
    assert_eq!(model.decide(at(20)).unwrap().changed, []);
    assert_eq!(model.decide(at(30)).unwrap().changed, [key("web")]);
    assert!(announces(&model, "web"));
}

#[test]
fn a_mistake_in_the_configuration_leaves_the_last_good_one_in_force() {
    let mut model = model_of("n1");
    model.apply(Event::Pool(Applied(pool(&["172.30.0.219-172.30.0.200"]))));
    let decided = decide_settled(&mut model);
    assert_eq!((decided.changed, decided.problems_changed), (vec![], true));
    assert!(announces(&model, "web"));
    let problem = model.problems()[0].to_string();
    assert!(
        problem.starts_with(r#"IPAddressPool "lan": spec.addresses[0] is "172.30.0.219-172.30.0.200": "#),
        "{problem}"
    );

    model.apply(Event::Pool(Applied(pool(&["10.0.0.0/24"]))));
    let decided = decide_settled(&mut model);
    assert_eq!((decided.changed, decided.problems_changed), (vec![key("web")], true));
    assert_eq!(reason(&model, "web"), Reason::IpNotAllowed);
}

#[test]
fn a_pool_that_is_split_object_by_object_is_announced_all_the_time_and_a_new_one_at_once() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut model = model_of("n1");
    model.apply(Event::Pool(Applied(pool(&["172.30.0.210-172.30.0.219"]))));
    let decided = model.decide(start).unwrap();
    assert_eq!((decided.changed, decided.again_at), (vec![], Some(at(300))));
    let (_, other_half) = pool(&["172.30.0.200-172.30.0.209"]);
    model.apply(Event::Pool(Applied(("other".into(), other_half.clone()))));
    assert_eq!(model.decide(at(100)).unwrap().changed, []);
    assert_eq!(model.decide(at(300)).unwrap(), Decided::default(), "both halves are in force");
    model.apply(Event::Pool(Deleted(("other".into(), None))));
    assert_eq!(model.decide(at(1_000)).unwrap().changed, []);
    assert_eq!(model.decide(at(1_300)).unwrap().changed, [key("web")], "nothing has come in its place");
    model.apply(Event::Pool(Applied(("other".into(), other_half))));
    assert_eq!(model.decide(at(1_400)).unwrap().changed, [key("web")]);
    assert!(announces(&model, "web"));
}

#[test]
fn why_no_node_may_announce_a_service_all_speakers_know_alike_and_the_first_of_those_that_are_ready_says_it() {
    let nodes = ["n1", "n2", "n3"];
    let elsewhere = |(_, ad): (String, Option<L2Advertisement>)| {
        let mut ad = ad.expect("an advertisement");
        ad.spec.node_selectors =
            serde_json::from_value(json!([{"matchLabels": {"kubernetes.io/hostname": "nowhere"}}])).unwrap();
        ("all".to_owned(), Some(ad))
    };
    let local = Service { local: true, ..service("172.30.0.201") };
    let nowhere = || Some(Slice { service: key("web"), nodes: BTreeSet::from(["gone".to_owned()]) });
    for (events, common) in [
        (vec![Event::Advertisement(Deleted(("all".into(), None)))], Reason::NoMatchingAdvertisement),
        (vec![Event::Advertisement(Applied(elsewhere(advertisement())))], Reason::NoEligibleNode),
        (vec![Event::Pool(Applied(pool(&["10.0.0.0/24"])))], Reason::IpNotAllowed),
        (vec![Event::Slice(Applied((slice_of("web").0, None)))], Reason::NoEndpoints),
        (
            vec![
                Event::Service(Applied((key("web"), Some(local)))),
                Event::Slice(Applied((slice_of("web").0, nowhere()))),
            ],
            Reason::NoEligibleNode,
        ),
    ] {
        for node in nodes {
            let mut model = model_of(node);
            events.iter().cloned().for_each(|event| model.apply(event));
            decide_settled(&mut model);
            assert_eq!(reason(&model, "web"), common, "on {node}");
        }
    }
    for (ready, spokesman) in
        [(vec!["n1", "n2", "n3"], "n1"), (vec!["n2", "n3"], "n2"), (vec!["n3"], "n3"), (vec![], "nobody")]
    {
        for node in nodes {
            let mut model = model_of(node);
            nodes.iter().for_each(|name| model.apply(Event::Speaker(Applied(speaker(name, ready.contains(name))))));
            assert_eq!(model.is_spokesman(), node == spokesman, "{node}, with {ready:?} ready");
        }
    }
}

#[test]
fn what_is_about_one_node_is_no_reason_for_all() {
    let mut model = model_of("n1");
    let (name, ad) = advertisement();
    let mut ad = ad.expect("an advertisement");
    ad.spec.node_selectors = serde_json::from_value(json!([{"matchLabels": {"rack": ""}}])).unwrap();
    model.apply(Event::Node(Applied(node("n2", &["rack"]))));
    model.apply(Event::Advertisement(Applied((name, Some(ad)))));
    decide_settled(&mut model);
    assert_eq!((reason(&model, "web"), reason(&model, "web").of_all_nodes()), (Reason::NotSelected, None));
}
