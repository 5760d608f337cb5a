use serde_json::json;

use super::*;
use crate::happening::Terms;
use crate::manifests::Names;

fn names() -> Names {
    Names { namespaces: ["one".into(), "two".into()], nodes: ["n1".into(), "n2".into(), "n3".into()] }
}

fn service(view: &mut View, service: usize, terms: Terms) {
    let mut object = names().service(service, terms);
    object["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
    object["metadata"]["uid"] = json!(service);
    object["status"]["loadBalancer"]["ingress"] = json!([{"ip": "198.51.100.0"}]);
    view.services.insert(names().key(service), object);
}

/// The Services that are excused after this; `d` is in the second namespace and holds the address of a pool for all.
fn excused(happenings: &[fn(&mut View)]) -> Vec<String> {
    let mut view = View::default();
    service(&mut view, 3, Terms::default());
    view.pools.insert("p".into(), names().pool(0, 0, 3));
    view.namespaces.insert("two".into(), names().namespace(true));
    let (mut history, before) = (History::new(&view), view.standing());
    for happening in happenings {
        happening(&mut view);
        history.note(&view);
    }
    history.excused(&before).into_iter().collect()
}

fn pool(view: &mut View, addresses: usize, rule: usize) {
    view.pools.insert("p".into(), names().pool(0, addresses, rule));
}

#[test]
fn who_was_valid_all_the_time_has_no_excuse() {
    assert_eq!(excused(&[]), [""; 0]);
    assert_eq!(excused(&[|view| pool(view, 1, 3), |view| pool(view, 0, 0), |view| pool(view, 0, 1)]), [""; 0]);
    assert_eq!(
        excused(&[|view| service(view, 0, Terms::default()), |view| drop(view.services.remove("one/a"))]),
        [""; 0]
    );
}

#[test]
fn who_was_invalid_for_a_moment_is_excused_though_it_is_valid_again() {
    assert_eq!(excused(&[|view| pool(view, 2, 3), |view| pool(view, 0, 3)]), ["two/d"]);
    assert_eq!(excused(&[|view| drop(view.pools.remove("p")), |view| pool(view, 0, 3)]), ["two/d"]);
    assert_eq!(
        excused(&[
            |view| service(view, 3, Terms { request: 2, ..Terms::default() }),
            |view| service(view, 3, Terms::default())
        ]),
        ["two/d"]
    );
}

#[test]
fn who_would_be_invalid_in_some_order_of_the_kinds_is_excused() {
    // The label goes after the rule that asks for it: who hears of the label first sees both.
    let label_goes = |view: &mut View| drop(view.namespaces.insert("two".into(), names().namespace(false)));
    assert_eq!(excused(&[|view| pool(view, 0, 1), |view| pool(view, 0, 3), label_goes]), ["two/d"]);
}

#[test]
fn who_could_share_with_somebody_and_then_could_not_is_excused() {
    let shared: fn(&mut View) = |view| service(view, 3, Terms { sharing: 1, ..Terms::default() });
    let joins: fn(&mut View) = |view| service(view, 0, Terms { sharing: 1, port: 1, ..Terms::default() });
    let same_port: fn(&mut View) = |view| service(view, 3, Terms { sharing: 1, port: 1, ..Terms::default() });
    assert_eq!(excused(&[shared, joins]), [""; 0]);
    assert_eq!(excused(&[shared, joins, same_port]), ["two/d"]);
}
