use super::plan::Next;
use super::*;
use landfall_api::speaker_key::SpeakerKey;

fn next(key: u8, other: Other, asked: bool) -> Next {
    let key = SpeakerKey { cluster: "uid".into(), key: Key(vec![key; LENGTH]), other };
    Next { key, since: "2026-11-21T12:00:00Z".parse().unwrap(), asked }
}

/// Applies a merge patch of the Secret's data and annotations (RFC 7396).
fn merged(mut secret: Value, patch: &Value) -> Value {
    for part in ["/data", "/metadata/annotations"] {
        let target = secret.pointer_mut(part).and_then(Value::as_object_mut).unwrap();
        for (field, value) in patch.pointer(part).and_then(Value::as_object).unwrap() {
            match value {
                Value::Null => drop(target.remove(field)),
                value => drop(target.insert(field.clone(), value.clone())),
            }
        }
    }
    secret
}

#[test]
fn what_is_written_is_read_back_at_every_step_of_a_change_and_leaves_no_key_behind() {
    let other = |number| Key(vec![number; LENGTH]);
    let mut secret = json!({
        "metadata": {"name": "s", "resourceVersion": "7", "annotations": {ROTATE: "now", "note": "mine"}},
        "data": {"mine": "bWluZQ=="},
    });
    for (key, second, asked) in [
        (1, Other::None, true),
        (1, Other::Next(other(2)), false),
        (2, Other::Previous(other(1)), false),
        (2, Other::None, false),
    ] {
        let next = next(key, second, asked);
        secret = merged(secret, &patch(&next));
        let seen = Seen::from(serde_json::from_value::<SecretView>(secret.clone()).unwrap());
        assert_eq!(SpeakerKey::read(&seen.data), Ok(next.key));
        assert_eq!((seen.since, seen.asked, seen.version.as_deref()), (Some(next.since), asked, Some("7")));
        assert_eq!(
            (&secret["data"]["mine"], &secret["metadata"]["annotations"]["note"]),
            (&json!("bWluZQ=="), &json!("mine"))
        );
    }
    let left: Vec<&String> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["cluster", "key", "mine"]);
}

#[test]
fn a_new_secret_belongs_to_the_speakers_and_is_read_back() {
    let owner = OwnerReference { kind: "DaemonSet".into(), uid: "of-the-set".into(), ..OwnerReference::default() };
    let next = next(1, Other::None, false);
    let secret = serde_json::to_value(made("s", &next, Some(owner.clone()))).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"], json!([owner]));
    let view: SecretView = serde_json::from_value(secret).unwrap();
    assert_eq!(view.metadata.name.as_deref(), Some("s"));
    let seen = Seen::from(view);
    assert_eq!((SpeakerKey::read(&seen.data), seen.since, seen.asked), (Ok(next.key), Some(next.since), false));
}

#[test]
fn keys_are_random_and_as_long_as_they_should_be() {
    let keys = [fresh().unwrap(), fresh().unwrap()];
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[0].0.len(), 32);
}

#[test]
fn a_pause_that_makes_no_sense_is_refused_with_its_bounds() {
    let settings =
        |secs| Settings { secret: "s".into(), owner: None, rotate_after: None, pause: Duration::from_secs(secs) };
    for good in [5, 300, 86400] {
        assert!(settings(good).check().is_ok(), "{good} s");
    }
    for (bad, text) in [(4, "--speaker-key-pause is 4s; give a duration from 5s to 86400s"), (86401, "is 86401s;")] {
        let error = settings(bad).check().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}
