use super::*;
use landfall_api::bgp_peer;
use proptest::prelude::*;

fn peer(version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": version, "kind": "BGPPeer",
        "metadata": {"name": "router", "namespace": "lb", "uid": "7", "labels": {"a": "b"}},
        "spec": spec, "status": {"conditions": []},
    })
}

#[test]
fn what_both_versions_have_is_copied_and_metadata_and_status_stay() {
    let spec = json!({
        "myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", "sourceAddress": "192.0.2.2", "peerPort": 1790,
        "holdTime": "1m30s", "keepaliveTime": "0s", "routerID": "10.0.0.1", "password": "secret", "bfdProfile": "fast",
        "ebgpMultiHop": true,
        "nodeSelectors": [
            {"matchLabels": {"rack": "1"}},
            {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["1", "2"]}]},
        ],
    });
    for (from, to) in [(V1BETA1, V1BETA2), (V1BETA2, V1BETA1), (V1BETA2, V1BETA2)] {
        assert_eq!(convert(peer(from, spec.clone()), to), Ok(peer(to, spec.clone())), "{from} to {to}");
    }
}

#[test]
fn what_only_v1beta2_has_is_kept_in_an_annotation() {
    let spec = json!({"myASN": 64500, "dynamicASN": "external", "interface": "eth1", "vrf": "red", "disableMP": false});
    let old = convert(peer(V1BETA2, spec), V1BETA1).unwrap();
    assert_eq!(old["spec"], json!({"myASN": 64500, "peerASN": 0, "peerAddress": ""}));
    let kept: Value = serde_json::from_str(old["metadata"]["annotations"][KEPT].as_str().unwrap()).unwrap();
    assert_eq!(kept, json!({"dynamicASN": "external", "interface": "eth1", "vrf": "red"}));
    serde_json::from_value::<bgp_peer::v1beta1::BGPPeer>(old).expect("a v1beta1 peer");
}

#[test]
fn an_edit_of_a_v1beta1_peer_wins_over_what_was_kept() {
    for (kept, edit, expected) in [
        (
            json!({"dynamicASN": "internal", "vrf": "red"}),
            json!({"peerASN": 64501}),
            json!({"peerASN": 64501, "vrf": "red"}),
        ),
        (json!({"interface": "eth1"}), json!({"peerAddress": "192.0.2.1"}), json!({"peerAddress": "192.0.2.1"})),
        (json!({"passwordSecret": {"name": "s"}}), json!({"password": "p"}), json!({"password": "p"})),
        // A field that v1beta1 has is its own, whatever the annotation says.
        (json!({"bfdProfile": "slow"}), json!({}), json!({})),
        (json!({"dynamicASN": "internal"}), json!({"peerASN": 0, "peerPort": 0}), json!({"dynamicASN": "internal"})),
    ] {
        let mut old = peer(V1BETA1, edit);
        old["metadata"]["annotations"] = json!({KEPT: kept.to_string(), "mine": "stays"});
        let new = convert(old, V1BETA2).unwrap();
        assert_eq!(new["spec"], expected, "{kept}");
        assert_eq!(new["metadata"]["annotations"], json!({"mine": "stays"}));
    }
}

#[test]
fn an_annotation_of_an_earlier_time_is_not_taken_for_the_present() {
    let mut new = peer(V1BETA2, json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}));
    new["metadata"]["annotations"] = json!({KEPT: r#"{"vrf": "red"}"#});
    let old = convert(new, V1BETA1).unwrap();
    assert_eq!(old["metadata"].get("annotations"), None);
}

#[test]
fn what_cannot_be_converted_says_which_object_and_why() {
    let mut annotated = peer(V1BETA1, json!({}));
    annotated["metadata"]["annotations"] = json!({KEPT: "rubbish"});
    let mut listed = annotated.clone();
    listed["metadata"]["annotations"] = json!({KEPT: "[1]"});
    for (object, desired, parts) in [
        (annotated, V1BETA2, &["BGPPeer \"router\" in namespace \"lb\"", KEPT, "\"rubbish\"", "remove it"][..]),
        (listed, V1BETA2, &[KEPT, "it is no object"]),
        (peer(V1BETA1, json!({})), "metallb.io/v1", &["no way from metallb.io/v1beta1 to metallb.io/v1"]),
        (peer("example.com/v1", json!({})), V1BETA1, &["no way from example.com/v1"]),
        (peer(V1BETA1, json!("text")), V1BETA2, &["its spec is no object: \"text\""]),
        (json!({"kind": "Community", "apiVersion": V1BETA1}), V1BETA2, &["only BGPPeer has two versions"]),
        (json!(5), V1BETA2, &["only BGPPeer"]),
    ] {
        let said = convert(object, desired).unwrap_err();
        parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in: {said}"));
    }
}

#[test]
fn a_review_is_answered_in_order_and_fails_as_a_whole() {
    let spec = json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"});
    let ask = |objects: Vec<Value>| {
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": "u", "desiredAPIVersion": V1BETA2, "objects": objects},
        });
        serde_json::to_value(super::review(review.to_string().as_bytes()).unwrap()).unwrap()
    };
    let good = ask(vec![peer(V1BETA1, spec.clone()), peer(V1BETA2, spec.clone())]);
    assert_eq!((&good["kind"], &good["apiVersion"]), (&json!("ConversionReview"), &json!("apiextensions.k8s.io/v1")));
    let response = &good["response"];
    assert_eq!((&response["uid"], &response["result"]["status"]), (&json!("u"), &json!("Success")));
    assert_eq!(response["convertedObjects"], json!([peer(V1BETA2, spec.clone()), peer(V1BETA2, spec.clone())]));

    let bad = ask(vec![peer(V1BETA1, spec), peer("example.com/v1", json!({}))]);
    let result = &bad["response"]["result"];
    assert_eq!((&bad["response"]["uid"], &result["status"]), (&json!("u"), &json!("Failure")));
    assert!(result["message"].as_str().unwrap().contains("no way from example.com/v1"), "{result}");
    assert_eq!(bad["response"]["convertedObjects"], json!([]));

    for body in ["", "{}", r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}"#] {
        assert!(super::review(body.as_bytes()).unwrap_err().contains("ConversionReview"), "{body}");
    }
}

fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(value)
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::select(choices).prop_map(|text| json!(text))
}

fn selectors() -> impl Strategy<Value = Value> {
    proptest::sample::select(vec![
        json!([]),
        json!([{}]),
        json!([{"matchLabels": {"rack": "1"}}, {"matchExpressions": [{"key": "k", "operator": "Exists"}]}]),
    ])
}

/// The fields of both versions, but for those of [`INSTEAD_OF`].
fn shared_fields() -> impl Strategy<Value = Vec<(&'static str, Option<Value>)>> {
    (
        any::<u32>(),
        maybe((1..=16384u16).prop_map(|port| json!(port))),
        maybe(text(&["0s", "90s"])),
        maybe(text(&["0s", "30s"])),
        maybe(text(&["10.0.0.1"])),
        maybe(selectors()),
        maybe(text(&["fast"])),
        maybe(any::<bool>().prop_map(|on| json!(on))),
        maybe(text(&["192.0.2.2"])),
    )
        .prop_map(|(asn, port, hold, keepalive, router, nodes, bfd, hops, source)| {
            vec![
                ("myASN", Some(json!(asn))),
                ("peerPort", port),
                ("holdTime", hold),
                ("keepaliveTime", keepalive),
                ("routerID", router),
                ("nodeSelectors", nodes),
                ("bfdProfile", bfd),
                ("ebgpMultiHop", hops),
                ("sourceAddress", source),
            ]
        })
}

/// One of each pair of [`INSTEAD_OF`].
fn either(index: usize, left: Value, right: Value) -> impl Strategy<Value = (&'static str, Option<Value>)> {
    let (l, r) = INSTEAD_OF[index];
    any::<bool>().prop_map(move |first| if first { (l, Some(left.clone())) } else { (r, Some(right.clone())) })
}

fn new_fields() -> impl Strategy<Value = Vec<(&'static str, Option<Value>)>> {
    (
        either(0, json!(64501), json!("external")),
        either(1, json!("192.0.2.1"), json!("eth1")),
        either(2, json!("secret"), json!({"name": "s", "namespace": "n"})),
        maybe((1..=u32::MAX).prop_map(|asn| json!(asn))),
        maybe(text(&["10s"])),
        maybe(any::<bool>().prop_map(|on| json!(on))),
        maybe(text(&["red", "with \"quotes\" and \u{fc}"])),
        any::<(bool, bool)>(),
    )
        .prop_map(|(asn, endpoint, password, local, connect, graceful, vrf, (disable, dual))| {
            vec![
                asn,
                endpoint,
                password,
                ("localASN", local),
                ("connectTime", connect),
                ("enableGracefulRestart", graceful),
                ("vrf", vrf),
                // The API server fills them in; false and absent are the same to it.
                ("disableMP", disable.then_some(json!(true))),
                ("dualStackAddressFamily", dual.then_some(json!(true))),
            ]
        })
}

fn spec(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect::<Map<_, _>>().into()
}

proptest! {
    #[test]
    fn a_v1beta2_peer_survives_the_way_through_v1beta1(shared in shared_fields(), new in new_fields()) {
        let before = peer(V1BETA2, spec([shared, new].concat()));
        serde_json::from_value::<bgp_peer::v1beta2::BGPPeer>(before.clone()).expect("a v1beta2 peer");
        let old = convert(before.clone(), V1BETA1).unwrap();
        serde_json::from_value::<bgp_peer::v1beta1::BGPPeer>(old.clone()).expect("a v1beta1 peer");
        let stray: Vec<&String> =
            old["spec"].as_object().unwrap().keys().filter(|field| !SHARED.contains(&field.as_str())).collect();
        prop_assert!(stray.is_empty(), "{stray:?} would be pruned");
        prop_assert_eq!(convert(old, V1BETA2).unwrap(), before);
    }

    #[test]
    fn a_v1beta1_peer_survives_the_way_through_v1beta2(
        shared in shared_fields(), asn in 1..=u32::MAX, password in maybe(text(&["secret"])),
    ) {
        let more = vec![("peerASN", Some(json!(asn))), ("peerAddress", Some(json!("192.0.2.1"))), ("password", password)];
        let before = peer(V1BETA1, spec([shared, more].concat()));
        let new = convert(before.clone(), V1BETA2).unwrap();
        serde_json::from_value::<bgp_peer::v1beta2::BGPPeer>(new.clone()).expect("a v1beta2 peer");
        prop_assert_eq!(convert(new, V1BETA1).unwrap(), before);
    }
}

#[test]
fn the_shared_fields_are_those_of_the_v1beta1_schema() {
    let crd = landfall_api::crds::all().unwrap().into_iter().find(|crd| crd.spec.names.kind == "BGPPeer").unwrap();
    let fields = |version: &str| -> Vec<String> {
        let version = crd.spec.versions.iter().find(|v| v.name == version).unwrap();
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let spec = &schema.properties.as_ref().unwrap()["spec"];
        spec.properties.as_ref().unwrap().keys().cloned().collect()
    };
    let mut shared = SHARED.map(str::to_owned).to_vec();
    shared.sort();
    assert_eq!(fields("v1beta1"), shared);
    let new = fields("v1beta2");
    assert!(shared.iter().all(|field| new.contains(field)));
}
