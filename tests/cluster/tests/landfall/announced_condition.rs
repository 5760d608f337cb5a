//! The condition `landfall.io/Announced`: who answers for a Service's addresses, or why nobody does.

use anyhow::{Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, annotated, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::service::ANNOUNCED;
use serde_json::json;

/// Puts a node's addresses elsewhere for as long as `body` takes.
fn while_drained<T>(scene: &Scene, node: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    scene.lab.kubectl(&["annotate", "node", node, "landfall.io/drain=true"])?;
    let outcome = body();
    scene.lab.kubectl(&["annotate", "node", node, "landfall.io/drain-"])?;
    outcome
}

#[test]
fn a_service_says_who_answers_for_it_or_why_nobody_does_and_can_be_waited_for() -> Result<()> {
    with_landfall("said", |scene| {
        let advertised = advertisement("said", json!({}));
        scene.start(&[
            pool("said", &["172.30.0.182/32"]),
            advertised.clone(),
            pods(1, &["8080"], None),
            service("said", json!({})),
        ])?;
        let said = scene.service("said");
        let wait = format!("--for=condition={ANNOUNCED}");
        scene.kubectl(&["wait", "service/said", &wait, "--timeout=20s"])?;
        let (ip, node) = (said.wait_for_address()?, said.wait_for_announcer()?);
        let first = said.wait_for_announced("Announced", &format!("node {node} answers for {ip} on eth0"))?;

        // It moves: it was announced all the time, and another node says so.
        let moved = while_drained(scene, &node, || {
            let other = said.wait_for_announcer_that("another than the drained one", |now| now != node)?;
            said.wait_for_announced("Announced", &format!("node {other} answers for {ip} on eth0"))
        })?;
        assert_eq!(moved["lastTransitionTime"], first["lastTransitionTime"], "{moved}");

        scene.kubectl_landfall(&["delete", "l2advertisement", "said"])?;
        let nobody = said.wait_for_announced("NoMatchingAdvertisement", "no L2Advertisement selects the Service")?;
        assert_ne!(nobody["lastTransitionTime"], first["lastTransitionTime"], "{nobody}");
        assert_eq!(said.condition()?["reason"], "Allocated", "the controller's own is as it was");
        scene.apply(&[advertised])?;
        said.wait_for_announced("Announced", &format!(" answers for {ip} on eth0"))?;

        // No endpoint: somebody would be answered, and led nowhere.
        scene.kubectl(&["scale", "deployment/web", "--replicas=0"])?;
        said.wait_for_announced("NoEndpoints", "look at the Pods")?;

        said.patch(&json!({"spec": {"type": "ClusterIP"}}))?;
        eventually("Service that is no load balancer without our conditions", || {
            let conditions = [said.condition()?, said.announced()?];
            ensure!(conditions.iter().all(serde_json::Value::is_null), "it has {conditions:?}");
            Ok(Some(()))
        })
    })
}

#[test]
fn another_address_is_announced_anew_and_none_says_nothing() -> Result<()> {
    with_landfall("anew", |scene| {
        scene.start(&[
            pool("anew", &["172.30.0.183-172.30.0.184"]),
            advertisement("anew", json!({"interfaces": ["eth0"]})),
            pods(1, &["8080"], None),
            annotated(service("anew", json!({})), "metallb.io/loadBalancerIPs", "172.30.0.183"),
        ])?;
        let anew = scene.service("anew");
        anew.wait_for_announced("Announced", " answers for 172.30.0.183 on eth0")?;
        anew.annotate("metallb.io/loadBalancerIPs", Some("172.30.0.184"))?;
        anew.wait_for_announced("Announced", " answers for 172.30.0.184 on eth0")?;
        let nowhere = advertisement("anew", json!({"interfaces": ["eth7", "eth8"]}));
        scene.apply(&[nowhere])?;
        anew.wait_for_announced("NoInterface", "(eth7, eth8); bring one up, or correct spec.interfaces")?;

        anew.annotate("metallb.io/loadBalancerIPs", Some("203.0.113.7"))?;
        anew.wait_for_refusal("AddressNotInAnyPool")?;
        assert_eq!(anew.announced()?, json!(null), "there is nothing to announce");
        Ok(())
    })
}
