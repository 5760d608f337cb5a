use serde_json::json;

use super::*;
use crate::happening::Terms;
use crate::manifests::Names;

fn names() -> Names {
    Names { namespaces: ["one".into(), "two".into()], nodes: ["n1".into(), "n2".into(), "n3".into()] }
}

/// Two Services share the only address of pool `p`: as everything should be.
fn at_rest() -> View {
    let mut view = View { nodes: ["n1".to_owned()].into(), ..View::default() };
    for (service, port) in [(0, 0), (1, 1)] {
        put(&mut view, service, Terms { port, sharing: 1, ..Terms::default() }, &["198.51.100.0"]);
    }
    view.pools.insert("p".into(), names().pool(0, 0, 3));
    count(&mut view, "p", [1, 0]);
    view
}

fn put(view: &mut View, service: usize, terms: Terms, ips: &[&str]) {
    let mut object = names().service(service, terms);
    let families = object["spec"]["ipFamilies"].as_array().expect("a list").iter();
    object["spec"]["clusterIPs"] =
        families.map(|family| json!(if family == "IPv4" { "10.96.0.9" } else { "fd96::9" })).collect();
    object["metadata"]["uid"] = json!(names().key(service));
    if !ips.is_empty() {
        object["metadata"]["annotations"]["landfall.io/node"] = json!("n1");
    }
    object["status"]["loadBalancer"]["ingress"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
    view.services.insert(names().key(service), object);
}

fn count(view: &mut View, pool: &str, [assigned, available]: [u32; 2]) {
    view.pools.get_mut(pool).expect("it is there")["status"] = json!({
        "assignedIPv4": assigned, "availableIPv4": available, "assignedIPv6": 0, "availableIPv6": 0});
}

fn service<'a>(view: &'a mut View, key: &str) -> &'a mut Value {
    view.services.get_mut(key).expect("it is there")
}

fn wrong(view: &View) -> Vec<String> {
    violations(view, &view.standing(), &BTreeSet::new())
}

#[test]
fn each_promise_that_is_broken_is_noticed() {
    assert_eq!(wrong(&at_rest()), [""; 0]);
    let plain = Terms::default();
    type Break = fn(&mut View, Terms);
    let table: [(Break, &str); 9] = [
        (|view, plain| put(view, 1, plain, &["198.51.100.0"]), "both hold [198.51.100.0], which they may not share"),
        (
            |view, _| service(view, "one/b")["metadata"]["annotations"]["landfall.io/node"] = json!("n2"),
            "not placed together",
        ),
        (|view, _| count(view, "p", [0, 1]), "pool p counts [Some(0), Some(1)] of IPv4"),
        (
            |view, _| put(view, 1, Terms { sharing: 1, port: 1, ..Terms::default() }, &[]),
            "one/b waits, but [198.51.100.0] is free for it",
        ),
        (|view, plain| put(view, 2, plain, &["198.51.100.1"]), "one/c has [198.51.100.1], which it may not have"),
        (
            |view, plain| put(view, 2, Terms { class: 5, ..plain }, &["198.51.100.0"]),
            "one/c has [198.51.100.0], which it may not have",
        ),
        (|view, _| view.nodes = ["n3".to_owned()].into(), "one/a has [198.51.100.0] and is placed on Some(\"n1\")"),
        (|view, _| view.nodes.clear(), "one/b has [198.51.100.0] and is placed on Some(\"n1\")"),
        (
            |view, _| {
                view.pools.get_mut("p").expect("it is there")["spec"]["serviceAllocation"] =
                    json!({"namespaces": ["two"]})
            },
            "one/a has [198.51.100.0], which it may not have",
        ),
    ];
    for (break_it, said) in table {
        let mut view = at_rest();
        break_it(&mut view, plain);
        let found = wrong(&view);
        assert!(found.iter().any(|wrong| wrong.contains(said)), "{said:?} is not in {found:?}");
    }
}

#[test]
fn an_address_that_was_exchanged_without_cause_is_noticed_and_one_with_a_cause_is_not() {
    let plain = Terms::default();
    let mut view = at_rest();
    put(&mut view, 2, plain, &["198.51.100.16"]);
    view.pools.insert("q".into(), names().pool(1, 1, 3));
    let before = view.standing();
    let judge =
        |view: &View, excused: &[&str]| changed(view, &before, &excused.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(judge(&view, &[]), [""; 0]);

    put(&mut view, 2, plain, &["198.51.100.17"]);
    assert_eq!(judge(&view, &[]), ["one/c had [198.51.100.16], which it may have, and has [198.51.100.17]"]);
    assert_eq!(judge(&view, &["one/c"]), [""; 0]);
    // Its pool has lost it.
    let mut shrunk = view.clone();
    shrunk.pools.insert("q".into(), names().pool(1, 2, 3));
    assert_eq!(judge(&shrunk, &[]), [""; 0]);
    // It is another Service.
    service(&mut view, "one/c")["metadata"]["uid"] = json!("another");
    assert_eq!(judge(&view, &[]), [""; 0]);
    // A second address beside the first takes nothing away.
    put(&mut view, 2, Terms { families: 3, ..plain }, &["198.51.100.16", "2001:db8:1::0"]);
    assert_eq!(judge(&view, &[]), [""; 0]);
}

#[test]
fn who_waits_is_told_apart_from_who_asks_for_what_is_not_to_be_had() {
    let waits = |terms, pool: Value| {
        let mut view = View::default();
        put(&mut view, 0, terms, &[]);
        view.pools.insert(pool["metadata"]["name"].as_str().expect("a name").to_owned(), pool);
        !waiting_for_what_is_free(&view).is_empty()
    };
    let (any, plain) = (names().pool(0, 1, 3), Terms::default());
    for (terms, pool, free, what) in [
        (plain, any.clone(), true, "IPv4 of a pool for all"),
        (Terms { families: 2, ..plain }, any.clone(), true, "IPv6 of it"),
        (Terms { families: 2, ..plain }, names().pool(0, 0, 3), false, "IPv6 of a pool that has none"),
        (Terms { families: 4, ..plain }, names().pool(0, 0, 3), false, "both families of it"),
        (Terms { families: 3, ..plain }, names().pool(0, 0, 3), true, "the only one of both preferred families"),
        (Terms { request: 0, ..plain }, any.clone(), true, "the address that it asks for"),
        (Terms { request: 0, families: 3, ..plain }, any.clone(), false, "one address for two families"),
        (Terms { request: 2, ..plain }, any.clone(), false, "another pool"),
        (Terms { request: 3, ..plain }, any.clone(), false, "nonsense"),
        (
            Terms { request: 2, families: 3, ..plain },
            names().pool(1, 0, 3),
            false,
            "one of two families of the pool that it asks for",
        ),
        (
            Terms { request: 2, families: 3, ..plain },
            names().pool(1, 1, 4),
            true,
            "both families of the pool that it asks for",
        ),
        (Terms { class: 5, ..plain }, any, false, "no load balancer"),
        (plain, names().pool(0, 1, 4), false, "a pool that must be asked for"),
        (plain, names().pool(0, 1, 0), false, "a pool for another namespace"),
        (plain, names().pool(0, 1, 1), false, "a pool for namespaces with a label"),
        (plain, names().pool(0, 1, 2), false, "a pool for Services of another class"),
        (Terms { class: 1, ..plain }, names().pool(0, 1, 2), true, "a pool for Services of its class"),
    ] {
        assert_eq!(waits(terms, pool), free, "{what}");
    }
}

#[test]
fn who_may_share_follows_from_key_ports_and_backends() {
    let service = |sharing, port, local, class| {
        names().service(0, Terms { sharing, port, local, class, request: 4, families: 0 })
    };
    for (one, other, may) in [
        (service(1, 0, false, 0), service(1, 1, false, 1), true),
        (service(1, 0, false, 0), service(1, 0, false, 0), false),
        (service(1, 0, false, 0), service(2, 1, false, 0), false),
        (service(0, 0, false, 0), service(0, 1, false, 0), false),
        (service(1, 0, true, 0), service(1, 1, true, 2), true),
        (service(1, 0, true, 0), service(1, 1, true, 1), false),
        (service(1, 0, true, 0), service(1, 1, false, 0), false),
    ] {
        assert_eq!((may_share(&one, &other), may_share(&other, &one)), (may, may), "{one} and {other}");
    }
}
