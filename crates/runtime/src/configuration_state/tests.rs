use super::*;

const SPEAKER: fn() -> Component = || Component::Speaker("n1".into());

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn state(problems: &[&str]) -> State {
    State {
        pod: Some(Pod { name: "p".into(), uid: "u1".into() }),
        problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        networks: Some("10.0.0.0/24".into()),
    }
}

/// What the API server makes of a write.
fn applied(standing: Option<&ConfigurationState>, write: &Write) -> ConfigurationState {
    match write {
        Write::Object(patch) => {
            let mut object: ConfigurationState = serde_json::from_value(patch.clone()).unwrap();
            object.status = standing.and_then(|standing| standing.status.clone());
            object
        }
        Write::Status(patch) => {
            let mut object = standing.unwrap().clone();
            let status: ConfigurationStateStatus = serde_json::from_value(patch["status"].clone()).unwrap();
            let mut conditions = object.status.take().unwrap_or_default().conditions;
            conditions.retain(|condition| condition.type_ != status.conditions[0].type_);
            conditions.extend(status.conditions);
            object.status = Some(ConfigurationStateStatus { conditions, ..status });
            object
        }
    }
}

/// Writes until the object says what is wanted; how many writes it took.
fn settle(component: &Component, wanted: &State, object: &mut Option<ConfigurationState>, now: i64) -> usize {
    let mut writes = 0;
    while let Some(write) = plan(component, wanted, object.as_ref(), at(now)) {
        *object = Some(applied(object.as_ref(), &write));
        writes += 1;
        assert!(writes < 5, "{write:?} again and again");
    }
    writes
}

#[test]
fn a_missing_object_is_made_with_its_labels_and_its_owner_and_then_never_written_again() {
    for (component, name, expected) in [
        (Component::Controller, "controller", json!({"metallb.io/component-type": "controller"})),
        (SPEAKER(), "speaker-n1", json!({"metallb.io/component-type": "speaker", "metallb.io/node-name": "n1"})),
    ] {
        let mut object = None;
        assert_eq!(settle(&component, &state(&[]), &mut object, 1), 2);
        assert_eq!(settle(&component, &state(&[]), &mut object, 99), 0);
        let object = json!(object);
        assert_eq!(object["metadata"]["name"], name);
        assert_eq!(object["metadata"]["labels"], expected);
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u1");
        assert_eq!(object["metadata"]["annotations"]["landfall.io/networks"], "10.0.0.0/24");
        assert_eq!((&object["status"]["result"], object["status"].get("errorSummary")), (&json!("Valid"), None));
    }
}

#[test]
fn a_mistake_is_said_in_the_condition_and_the_summary_until_it_is_gone() {
    let (mut object, component) = (None, Component::Controller);
    settle(&component, &state(&[]), &mut object, 1);
    let wrong = ["IPAddressPool \"a\": spec.addresses is wrong", "Community \"c\": spec is wrong"];
    assert_eq!(settle(&component, &state(&wrong), &mut object, 2), 1);
    let shown = json!(object)["status"].clone();
    let text = format!("configuration error: {}; {}", wrong[0], wrong[1]);
    assert_eq!(shown["result"], "Invalid");
    assert_eq!(shown["errorSummary"], text);
    let condition = &shown["conditions"][0];
    assert_eq!(condition["type"], "poolReconcilerValid");
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("ConfigurationError")));
    assert_eq!(condition["message"], text);
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:02Z");

    // Another mistake is no transition.
    assert_eq!(settle(&component, &state(&wrong[..1]), &mut object, 3), 1);
    assert_eq!(json!(object)["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:02Z");
    assert_eq!(settle(&component, &state(&[]), &mut object, 4), 1);
    let shown = json!(object)["status"].clone();
    assert_eq!((&shown["result"], &shown["conditions"][0]["reason"]), (&json!("Valid"), &json!("Reconciled")));
    assert_eq!(shown["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:04Z");
}

#[test]
fn what_somebody_changes_is_brought_back_and_what_somebody_adds_stays() {
    let component = SPEAKER();
    let mut object = None;
    settle(&component, &state(&[]), &mut object, 1);
    let good = object.unwrap();

    let mut other_owner = good.clone();
    other_owner.metadata.owner_references.as_mut().unwrap()[0].uid = "of the Pod before".into();
    let mut no_label = good.clone();
    no_label.metadata.labels = None;
    let mut no_networks = good.clone();
    no_networks.metadata.annotations = None;
    let mut lie = good.clone();
    lie.status.as_mut().unwrap().result = Some(ConfigurationResult::Invalid);
    let mut emptied = good.clone();
    emptied.status = None;
    for changed in [other_owner, no_label, no_networks, lie, emptied] {
        let mut object = Some(changed);
        assert_eq!(settle(&component, &state(&[]), &mut object, 2), 1, "{object:?}");
    }

    let mut more = good;
    more.metadata.labels.as_mut().unwrap().insert("team".into(), "net".into());
    let foreign = Condition {
        type_: "somebodyElsesValid".into(),
        status: "False".into(),
        reason: "ConfigurationError".into(),
        message: "theirs".into(),
        last_transition_time: Time(at(1)),
        observed_generation: None,
    };
    more.status.as_mut().unwrap().conditions.push(foreign);
    let mut object = Some(more);
    settle(&component, &state(&[]), &mut object, 2);
    let shown = json!(object);
    assert_eq!(shown["metadata"]["labels"]["team"], "net");
    assert_eq!((&shown["status"]["result"], &shown["status"]["errorSummary"]), (&json!("Invalid"), &json!("theirs")));
}

#[test]
fn ten_thousand_mistakes_fit_into_the_message() {
    let problems: Vec<String> =
        (0..10_000).map(|n| format!("IPAddressPool \"p{n}\": spec.addresses is wrong")).collect();
    let text = message(&problems);
    assert!(text.len() < 32_768, "{}", text.len());
    let told = text.matches("IPAddressPool").count();
    assert!(text.ends_with(&format!("; and {} more", 10_000 - told)), "{}", &text[text.len() - 60..]);
    let one = message(&["ä".repeat(40_000)]);
    assert!(one.len() < 32_768 && one.ends_with('…'), "{}", one.len());
}
