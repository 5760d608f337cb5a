use super::*;
use landfall_api::IPAddressPool;
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use serde::de::DeserializeOwned;

const OURS: &str = "landfall-system";

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let version = if kind == "BGPPeer" { "v1beta2" } else { "v1beta1" };
    json!({
        "apiVersion": format!("metallb.io/{version}"), "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": OURS, "creationTimestamp": "2026-11-21T12:00:00Z"},
    })
}

fn pool(name: &str, addresses: &[&str]) -> Value {
    object("IPAddressPool", name, json!({"addresses": addresses}))
}

fn peer(name: &str, spec: Value) -> Value {
    let mut whole = json!({"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1"});
    spec.as_object().unwrap().iter().for_each(|(field, value)| whole[field] = value.clone());
    object("BGPPeer", name, whole)
}

fn typed<K: DeserializeOwned>(objects: &[Value]) -> Vec<K> {
    objects.iter().map(|object| serde_json::from_value(object.clone()).unwrap()).collect()
}

fn pools(objects: &[Value]) -> Resources {
    Resources { pools: typed::<IPAddressPool>(objects), ..Resources::default() }
}

fn peers(objects: &[Value]) -> Resources {
    Resources { bgp_peers: typed::<BGPPeer>(objects), ..Resources::default() }
}

/// A request as the API server writes it.
fn request(operation: &str, namespace: &str, object: &Value) -> Request {
    let (new, old) = match operation {
        "CREATE" => (object.clone(), Value::Null),
        "DELETE" => (Value::Null, object.clone()),
        _ => (object.clone(), object.clone()),
    };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": operation, "namespace": namespace, "name": "", "object": new, "oldObject": old,
            "kind": {}, "resource": {}, "userInfo": {}, "dryRun": false, "options": null,
        },
    });
    read(review.to_string().as_bytes()).expect("a request")
}

/// The response, with what is in the cluster.
fn ask(kind: Kind, operation: &str, object: &Value, current: Result<&Resources, &str>) -> Value {
    let answer = match begin(kind, request(operation, OURS, object), OURS) {
        Step::Answer(answer) => answer,
        Step::Compare(comparison) => comparison.finish(current),
    };
    let mut review = answer.into_review();
    assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    assert_eq!(review["response"]["uid"], "u");
    review["response"].take()
}

fn refusal(response: &Value) -> &str {
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)), "{response}");
    response["status"]["message"].as_str().expect("a message")
}

#[test]
fn a_pool_that_overlaps_another_is_refused_with_both_names() {
    let current = pools(&[pool("first", &["192.0.2.0/28"])]);
    for (name, operation) in [("second", "CREATE"), ("second", "UPDATE"), ("a-name-before-the-first", "CREATE")] {
        let response = ask(Kind::Pool, operation, &pool(name, &["192.0.2.8/32"]), Ok(&current));
        let said = refusal(&response);
        for part in
            [&format!("IPAddressPool {name:?}: spec.addresses"), "overlaps", "\"first\"", "shrink one of the two"]
        {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }
    let response = ask(Kind::Pool, "CREATE", &pool("second", &["192.0.2.16/28"]), Ok(&current));
    assert_eq!(response, json!({"uid": "u", "allowed": true}));
}

#[test]
fn an_update_is_compared_with_the_others_and_not_with_itself() {
    let current = pools(&[pool("first", &["192.0.2.0/28"]), pool("second", &["192.0.2.16/28"])]);
    for (addresses, allowed) in [("192.0.2.0/29", true), ("192.0.2.0/27", false)] {
        let response = ask(Kind::Pool, "UPDATE", &pool("first", &[addresses]), Ok(&current));
        assert_eq!(response["allowed"], json!(allowed), "{addresses}: {response}");
    }
}

#[test]
fn a_mistake_that_was_there_before_is_no_reason_to_refuse() {
    let current = pools(&[pool("first", &["192.0.2.0/28"]), pool("second", &["192.0.2.8/29"])]);
    let mut labelled = pool("second", &["192.0.2.8/29"]);
    labelled["metadata"]["labels"] = json!({"a": "b"});
    for (operation, candidate) in [("UPDATE", &labelled), ("CREATE", &pool("third", &["198.51.100.0/28"]))] {
        assert_eq!(ask(Kind::Pool, operation, candidate, Ok(&current))["allowed"], true, "{candidate}");
    }
}

#[test]
fn an_object_is_made_in_our_namespace_or_not_at_all() {
    for (kind, object) in
        [(Kind::Pool, pool("p", &["not read"])), (Kind::BgpPeer, peer("r", json!({"disableMP": true})))]
    {
        let Step::Answer(answer) = begin(kind, request("CREATE", "default", &object), OURS) else { panic!("compared") };
        assert_eq!(answer.refusal(), Some("resource must be created in landfall-system namespace"));
        for operation in ["UPDATE", "DELETE"] {
            let Step::Answer(answer) = begin(kind, request(operation, "default", &object), OURS) else { panic!() };
            assert_eq!(answer.refusal(), None, "{operation}");
        }
    }
}

#[test]
fn an_object_that_cannot_be_read_is_refused_with_a_sentence() {
    for broken in [json!({"metadata": {"name": "p"}, "spec": {"addresses": 5}}), json!(5), Value::Null] {
        let response = ask(Kind::Pool, "CREATE", &broken, Ok(&Resources::default()));
        assert!(refusal(&response).contains("cannot be read"), "{response}");
    }
    for body in ["", "[]", "{}", r#"{"request": {"uid": "u", "operation": "PAINT"}}"#] {
        assert!(read(body.as_bytes()).unwrap_err().contains("this is no AdmissionReview"), "{body}");
    }
}

#[test]
fn what_cannot_be_checked_is_let_through_with_a_warning() {
    let response = ask(Kind::Pool, "CREATE", &pool("p", &["192.0.2.0/28"]), Err("connection refused"));
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("not checked") && warning.contains("connection refused"), "{warning}");
}

#[test]
fn disable_mp_is_warned_about_and_checked_all_the_same() {
    let deprecated = "disable mp is deprecated and has no effect since it's the default behavior now";
    let current = peers(&[]);
    let good = ask(Kind::BgpPeer, "CREATE", &peer("r", json!({"disableMP": true})), Ok(&current));
    assert_eq!(good, json!({"uid": "u", "allowed": true, "warnings": [deprecated]}));
    let bad = peer("r", json!({"disableMP": true, "holdTime": "1s"}));
    let bad = ask(Kind::BgpPeer, "CREATE", &bad, Ok(&current));
    assert!(refusal(&bad).contains("holdTime"), "{bad}");
    assert_eq!(bad["warnings"], json!([deprecated]));
    let update = ask(Kind::BgpPeer, "UPDATE", &peer("r", json!({"disableMP": true})), Ok(&current));
    assert_eq!(update.get("warnings"), None);
}

#[test]
fn a_peer_is_compared_with_its_peers() {
    let current = peers(&[peer("first", json!({}))]);
    let twin = ask(Kind::BgpPeer, "CREATE", &peer("second", json!({})), Ok(&current));
    assert!(refusal(&twin).contains("already exists"), "{twin}");
    // A profile may be made later.
    let early = peer("second", json!({"peerAddress": "192.0.2.2", "bfdProfile": "late"}));
    assert_eq!(ask(Kind::BgpPeer, "CREATE", &early, Ok(&current))["allowed"], true);
}

#[test]
fn every_kind_is_read_and_checked() {
    for (kind, good, bad) in [
        (Kind::L2Advertisement, json!({"interfaces": ["eth0"]}), json!({"ipAddressPools": ["a", "a"]})),
        (Kind::BgpAdvertisement, json!({"localPref": 7}), json!({"peers": ["a", "a"]})),
        (Kind::BfdProfile, json!({"receiveInterval": 50}), json!({"receiveInterval": 5})),
        (
            Kind::Community,
            json!({"communities": [{"name": "a", "value": "1:2"}]}),
            json!({"communities": [{"name": "a", "value": "1:2"}, {"name": "a", "value": "1:3"}]}),
        ),
    ] {
        let current = Resources::default();
        let good = ask(kind, "CREATE", &object(kind.as_str(), "o", good), Ok(&current));
        assert_eq!(good, json!({"uid": "u", "allowed": true}), "{kind:?}");
        let bad = ask(kind, "CREATE", &object(kind.as_str(), "o", bad), Ok(&current));
        assert!(refusal(&bad).contains(kind.as_str()), "{kind:?}: {bad}");
    }
}

#[test]
fn a_bfd_profile_in_use_stays_and_everything_else_may_go() {
    let current = peers(&[peer("router", json!({"bfdProfile": "fast"}))]);
    let profile = |name| object("BFDProfile", name, json!({}));
    let used = ask(Kind::BfdProfile, "DELETE", &profile("fast"), Ok(&current));
    assert!(refusal(&used).starts_with("failed to delete BFDProfile fast, used by BGPPeer router"), "{used}");
    assert_eq!(ask(Kind::BfdProfile, "DELETE", &profile("slow"), Ok(&current))["allowed"], true);
    let Step::Answer(answer) = begin(Kind::Pool, request("DELETE", OURS, &pool("p", &[])), OURS) else { panic!() };
    assert_eq!(answer.refusal(), None);
}
