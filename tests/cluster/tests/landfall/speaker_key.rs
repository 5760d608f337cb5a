//! The key that speakers share: made, changed and put right by the controller that leads.

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::{eventually, install};
use landfall_lab::landfall::NAMESPACE;
use serde_json::{Map, Value};

const SECRET: &str = "landfall-speaker-key";
const ROTATE: &str = "landfall.io/rotate-speaker-key";
/// The shortest that the chart takes.
const PAUSE: &str = "speaker.membership.keyPause=5s";

/// What the Secret holds, as the API shows it: base64.
fn data(scene: &Scene) -> Result<Map<String, Value>> {
    scene.landfall_object("secret", SECRET)?["data"].as_object().cloned().context("it has no data")
}

/// Waits until the Secret holds exactly these fields, and returns them.
fn fields(scene: &Scene, what: &str, expected: &[&str]) -> Result<Map<String, Value>> {
    eventually(what, || {
        let data = data(scene)?;
        let fields: Vec<&String> = data.keys().collect();
        ensure!(fields == expected, "it holds {fields:?}");
        Ok(Some(data))
    })
}

/// The octets of a value in base64: four characters for three, with padding.
fn octets(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().filter(|c| *c == b'=').count()
}

#[test]
fn the_key_is_made_for_this_cluster_and_belongs_to_the_speakers() -> Result<()> {
    with_landfall("key-made", |scene| {
        install::wait_until_ready(&scene.lab)?;
        let data = fields(scene, "key for the speakers", &["cluster", "key"])?;
        assert_eq!(octets(&data["key"]), 32);
        let uid = scene.lab.get(&["namespace", "kube-system"])?["metadata"]["uid"].take();
        let cluster = scene.kubectl_landfall(&[
            "get",
            "secret",
            SECRET,
            "--output",
            "go-template={{.data.cluster | base64decode}}",
        ])?;
        assert_eq!(uid, cluster.as_str());
        let owner = scene.landfall_object("secret", SECRET)?["metadata"]["ownerReferences"][0].take();
        let set = scene.landfall_object("daemonset", "landfall-speaker")?;
        assert_eq!((&owner["kind"], &owner["uid"]), (&"DaemonSet".into(), &set["metadata"]["uid"]));
        Ok(())
    })
}

#[test]
fn speakers_may_read_this_secret_and_nobody_elses() -> Result<()> {
    with_landfall("key-rights", |scene| {
        let may = |who: &str, verb: &str, what: &str| {
            let account = format!("--as=system:serviceaccount:{NAMESPACE}:landfall-{who}");
            // kubectl fails where the answer is no.
            let said = scene.kubectl_landfall(&["auth", "can-i", verb, what, &account]);
            said.is_ok_and(|said| said.trim() == "yes")
        };
        for (who, verb, what, expected) in [
            ("speaker", "list", "secrets/landfall-speaker-key", true),
            ("speaker", "watch", "secrets/landfall-speaker-key", true),
            ("speaker", "patch", "secrets/landfall-speaker-key", false),
            ("speaker", "watch", "secrets/landfall-webhook-cert", false),
            ("speaker", "list", "secrets", false),
            ("controller", "patch", "secrets/landfall-speaker-key", true),
            ("controller", "list", "secrets", false),
            ("controller", "get", "daemonsets.apps/landfall-speaker", true),
            ("controller", "patch", "daemonsets.apps/landfall-speaker", false),
        ] {
            assert_eq!(may(who, verb, what), expected, "{who}: {verb} {what}");
        }
        Ok(())
    })
}

#[test]
fn a_key_that_is_deleted_or_edited_into_nonsense_is_replaced() -> Result<()> {
    with_landfall("key-deleted", |scene| {
        let before = fields(scene, "key for the speakers", &["cluster", "key"])?;
        scene.kubectl_landfall(&["delete", "secret", SECRET])?;
        let made = fields(scene, "another key", &["cluster", "key"])?;
        assert_ne!(made["key"], before["key"]);
        assert_eq!(made["cluster"], before["cluster"]);

        let short = r#"{"data": {"key": "c2hvcnQ="}}"#;
        scene.kubectl_landfall(&["patch", "secret", SECRET, "--type=merge", "--patch", short])?;
        eventually("another key instead of the short one", || {
            let data = data(scene)?;
            ensure!(octets(&data["key"]) == 32 && data["key"] != made["key"], "it is the short one, or the old one");
            Ok(Some(()))
        })?;

        // A second key that is nonsense costs the first one nothing.
        let before = data(scene)?;
        let second = r#"{"data": {"previous": "c2hvcnQ="}}"#;
        scene.kubectl_landfall(&["patch", "secret", SECRET, "--type=merge", "--patch", second])?;
        let after = fields(scene, "end of the second key", &["cluster", "key"])?;
        assert_eq!(after, before);
        Ok(())
    })
}

#[test]
fn a_key_that_is_to_be_changed_is_accepted_then_used_and_the_old_one_dropped() -> Result<()> {
    with_landfall("key-changed", |scene| {
        install::helm_upgrade(&scene.lab, &["--set", PAUSE])?;
        let before = fields(scene, "key for the speakers", &["cluster", "key"])?;
        scene.kubectl_landfall(&["annotate", "secret", SECRET, &format!("{ROTATE}=now")])?;

        let accepted = fields(scene, "next key", &["cluster", "key", "next"])?;
        assert_eq!(accepted["key"], before["key"], "it still seals");
        let annotations = scene.landfall_object("secret", SECRET)?["metadata"]["annotations"].take();
        assert_eq!(annotations.get(ROTATE), None, "the request is met");
        let used = fields(scene, "use of the next key", &["cluster", "key", "previous"])?;
        assert_eq!((&used["key"], &used["previous"]), (&accepted["next"], &before["key"]));
        let dropped = fields(scene, "end of the previous key", &["cluster", "key"])?;
        assert_eq!(dropped["key"], used["key"]);
        // Not for the tests to come.
        install::uninstall(&scene.lab)
    })
}
