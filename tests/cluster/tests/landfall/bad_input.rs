//! Mistakes are refused, or said; what works goes on working.

use anyhow::{Context, Result};
use landfall_cluster_tests::manifests::{advertisement, annotated, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::service::{ALLOCATED, events};
use landfall_cluster_tests::wire::who_has;
use landfall_cluster_tests::{eventually, install};
use landfall_lab::landfall::NAMESPACE;
use serde_json::json;

#[test]
fn an_invalid_pool_is_refused_at_apply_with_the_field_and_the_remedy() -> Result<()> {
    with_landfall("invalid", |scene| {
        for (addresses, field, why) in [
            (&["172.30.0.5"][..], "spec.addresses[0]", "a single address is written with its length"),
            (&["172.30.0.0/28", "172.30.0.300/32"], "spec.addresses[1]", "a number above 255 or with a leading zero"),
            (&["172.30.0.20-172.30.0.10"], "spec.addresses[0]", "ends before it starts: write the lower address first"),
            (&["fd00::1-172.30.0.1"], "spec.addresses[0]", "write two addresses of one family"),
            (&[], "spec.addresses", "a pool needs at least one prefix or range"),
        ] {
            let refused = scene.apply(&[pool("invalid", addresses)]);
            let said = format!("{:#}", refused.err().with_context(|| format!("{addresses:?} was accepted"))?);
            for part in [r#"IPAddressPool "invalid" is invalid"#, field, why] {
                assert!(said.contains(part), "{addresses:?}: {part:?} is not in: {said}");
            }
        }
        Ok(())
    })
}

#[test]
fn overlapping_pools_are_reported_and_what_was_served_before_still_is() -> Result<()> {
    with_landfall("overlap", |scene| {
        scene.start(&[
            pool("overlap-1", &["172.30.0.190-172.30.0.195"]),
            advertisement("overlap-1", json!({})),
            pods(1, &["8080"], None),
            service("served", json!({})),
        ])?;
        let served = scene.service("served");
        let ip = served.wait_for_address()?;
        scene.ask(ip, 80)?;
        scene.accepted("ipaddresspool", "overlap-1", "Valid")?;
        let (node, version) = (served.wait_for_announcer()?, served.version()?);

        install::without_webhooks(&scene.lab, || {
            eventually("overlapping pool that nobody is asked about", || {
                scene.apply(&[pool("overlap-2", &["172.30.0.195/32", "172.30.0.196/32"])]).map(Some)
            })
        })?;
        let condition = scene.accepted("ipaddresspool", "overlap-2", "Invalid")?;
        assert_eq!(condition["status"], "False");
        let message = condition["message"].as_str().unwrap_or_default();
        for part in ["spec.addresses", "172.30.0.195", "overlap-1", "overlap-2", "shrink one of the two"] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        let said = eventually("event about the pool", || Ok(events(scene, NAMESPACE, "overlap-2", "Invalid")?.pop()))?;
        assert_eq!(said, message);

        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_one_answerer(&scene.lab.node_mac(&node, "eth0")?), "{node} is to answer for {ip}: {heard:?}");
        scene.ask(ip, 80)?;
        assert_eq!(served.version()?, version, "the Service was written to");
        let first = scene.accepted("ipaddresspool", "overlap-1", "Valid")?;
        assert_eq!(first["status"], "True");

        scene.apply(&[pool("overlap-2", &["172.30.0.196/32"])])?;
        scene.accepted("ipaddresspool", "overlap-2", "Valid")?;
        Ok(())
    })
}

#[test]
fn a_service_that_cannot_be_served_says_why_and_can_be_waited_for() -> Result<()> {
    with_landfall("unserved", |scene| {
        let service = annotated(service("unserved", json!({})), "metallb.io/address-pool", "unserved-late");
        scene.apply(&[pool("unserved", &["172.30.0.197/32"]), service])?;
        let service = scene.service("unserved");
        let condition = service.wait_for_allocated("False")?;
        assert_eq!(condition["reason"], "UnknownPool");
        let message = condition["message"].as_str().unwrap_or_default();
        for part in ["\"unserved-late\"", "the pools are unserved", "metallb.io/address-pool"] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        let said = service.wait_for_event("AllocationFailed")?;
        assert_eq!(said, [format!(r#"Failed to allocate IP for "{}/unserved": {message}"#, scene.namespace)]);

        scene.apply(&[pool("unserved-late", &["172.30.0.198/32"])])?;
        let condition = format!("--for=condition={ALLOCATED}");
        scene.kubectl(&["wait", "service/unserved", &condition, "--timeout=20s"])?;
        assert_eq!(service.wait_for_address()?.to_string(), "172.30.0.198");
        let said = service.wait_for_event("IPAllocated")?;
        assert_eq!(said, [r#"Assigned IP ["172.30.0.198"]"#]);
        Ok(())
    })
}

#[test]
fn objects_for_bgp_are_kept_as_they_are_and_say_that_nothing_comes_of_them_yet() -> Result<()> {
    with_landfall("bgp", |scene| {
        let object = |version: &str, kind: &str, name: &str, spec| json!({"apiVersion": format!("metallb.io/{version}"), "kind": kind, "metadata": {"name": name}, "spec": spec});
        let router = |address| json!({"myASN": 64500, "peerASN": 64501, "peerAddress": address, "bfdProfile": "fast"});
        let objects = [
            object("v1beta2", "BGPPeer", "router", router("172.30.0.1")),
            object("v1beta1", "BGPPeer", "old-router", router("172.30.0.2")),
            object(
                "v1beta1",
                "BGPAdvertisement",
                "routes",
                json!({"ipAddressPools": ["some"], "communities": ["mine"]}),
            ),
            object("v1beta1", "BFDProfile", "fast", json!({"receiveInterval": 50, "minimumTtl": 254})),
            object("v1beta1", "Community", "names", json!({"communities": [{"name": "mine", "value": "64500:100"}]})),
        ];
        scene.apply(&objects)?;
        for object in &objects {
            let (kind, name) =
                (object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
            let condition = scene.accepted(&kind.to_lowercase(), name, "NotSupportedYet")?;
            assert_eq!(condition["status"], "False", "{kind} {name}");
            let kept = scene.landfall_object(&kind.to_lowercase(), name)?["spec"].take();
            let given = object["spec"].as_object().context("spec")?;
            for (field, value) in given {
                assert_eq!(kept[field], *value, "{kind} {name}: spec.{field}");
            }
        }
        Ok(())
    })
}
