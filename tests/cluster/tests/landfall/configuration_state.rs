//! What controller and speakers say of themselves: the ConfigurationState objects.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::manifests::{advertisement, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::{eventually, install};
use serde_json::{Value, json};

/// The objects' names: that of the controller, and one for each node.
fn names(scene: &Scene) -> Result<BTreeSet<String>> {
    let speakers = scene.lab.nodes()?.into_iter().map(|node| format!("speaker-{node}"));
    Ok(speakers.chain(["controller".to_owned()]).collect())
}

/// Waits until the object's result is this, and returns it.
fn result(scene: &Scene, name: &str, result: &str) -> Result<Value> {
    eventually(&format!("result {result} of ConfigurationState {name}"), || {
        let state = scene.landfall_object("configurationstate", name)?;
        ensure!(state["status"]["result"] == result, "its status is {}", state["status"]);
        Ok(Some(state))
    })
}

#[test]
fn everybody_says_whether_the_configuration_is_valid_and_what_is_wrong_with_it() -> Result<()> {
    with_landfall("state", |scene| {
        install::wait_until_ready(&scene.lab)?;
        for name in names(scene)? {
            let state = result(scene, &name, "Valid")?;
            let owner = &state["metadata"]["ownerReferences"][0];
            let pod = scene.landfall_object("pod", owner["name"].as_str().context("an owner")?)?;
            assert_eq!(owner["uid"], pod["metadata"]["uid"], "{name}");
            let labels = &state["metadata"]["labels"];
            match name.strip_prefix("speaker-") {
                Some(node) => {
                    assert_eq!(labels["metallb.io/component-type"], "speaker");
                    assert_eq!(
                        (&labels["metallb.io/node-name"], &pod["spec"]["nodeName"]),
                        (&json!(node), &json!(node))
                    );
                }
                None => assert_eq!(labels["metallb.io/component-type"], "controller"),
            }
        }
        // Whoever deletes them has them back.
        scene.kubectl_landfall(&["delete", "configurationstates", "--all"])?;
        for name in names(scene)? {
            result(scene, &name, "Valid")?;
        }

        install::without_webhooks(&scene.lab, || {
            eventually("pools that overlap", || {
                let (one, other) = (pool("state-1", &["172.30.0.180/31"]), pool("state-2", &["172.30.0.181/32"]));
                scene.apply(&[one, other]).map(Some)
            })
        })?;
        for name in names(scene)? {
            let state = result(scene, &name, "Invalid")?;
            let summary = state["status"]["errorSummary"].as_str().unwrap_or_default();
            for part in ["configuration error: ", "IPAddressPool", "state-1", "state-2", "172.30.0.181"] {
                assert!(summary.contains(part), "{name}: {part:?} is not in {summary:?}");
            }
            let condition = &state["status"]["conditions"][0];
            let kind = if name == "controller" { "poolReconcilerValid" } else { "configReconcilerValid" };
            assert_eq!((&condition["type"], &condition["status"]), (&json!(kind), &json!("False")));
            assert_eq!(condition["reason"], "ConfigurationError");
        }
        scene.apply(&[pool("state-2", &["172.30.0.182/32"])])?;
        let versions = |when: &str| -> Result<Vec<Value>> {
            let of = |name: String| {
                Ok(result(scene, &name, "Valid").context(when.to_owned())?["metadata"]["resourceVersion"].take())
            };
            names(scene)?.into_iter().map(of).collect()
        };
        let before = versions("the overlap is gone")?;
        // What changes nothing about the configuration is no reason to write.
        scene.apply(&[service("state", json!({}))])?;
        scene.service("state").wait_for_address()?;
        assert_eq!(versions("a Service came")?, before);
        Ok(())
    })
}

#[test]
fn the_next_leader_takes_the_object_over_when_the_pod_it_belongs_to_is_deleted() -> Result<()> {
    with_landfall("state-leader", |scene| {
        install::wait_until_ready(&scene.lab)?;
        let owner = |state: &Value| state["metadata"]["ownerReferences"][0]["name"].as_str().map(str::to_owned);
        let before = owner(&result(scene, "controller", "Valid")?).context("an owner")?;
        scene.kubectl_landfall(&["delete", "pod", &before])?;
        eventually("object that belongs to the next leader", || {
            let after = owner(&scene.landfall_object("configurationstate", "controller")?).context("an owner")?;
            ensure!(after != before, "it still belongs to {before}");
            Ok(Some(()))
        })?;
        // The garbage collector is done with the old one's objects by now, or does it again.
        std::thread::sleep(std::time::Duration::from_secs(5));
        result(scene, "controller", "Valid")?;
        install::wait_until_ready(&scene.lab)
    })
}

#[test]
fn an_address_is_placed_on_the_node_whose_interface_is_in_its_network() -> Result<()> {
    with_landfall("networks", |scene| {
        install::wait_until_ready(&scene.lab)?;
        let networks = |node: &str| {
            let state = scene.landfall_object("configurationstate", &format!("speaker-{node}"))?;
            anyhow::Ok(state["metadata"]["annotations"]["landfall.io/networks"].as_str().unwrap_or_default().to_owned())
        };
        for node in scene.lab.nodes()? {
            eventually("networks of the node", || {
                let said = networks(&node)?;
                ensure!(said.split(',').any(|network| network == "172.30.0.0/24"), "{node} says {said:?}");
                Ok(Some(()))
            })?;
        }
        // One node is in one more network. Nothing is announced there: nobody but this node has an address in it.
        let (node, network) = ("n2", "198.51.100.0/24");
        scene.lab.exec(node, &["ip", "address", "add", "198.51.100.2/24", "dev", "eth1"])?;
        let outcome = placed_in_the_network(scene, node, || Ok(networks(node)?.contains(network)));
        scene.lab.exec(node, &["ip", "address", "del", "198.51.100.2/24", "dev", "eth1"])?;
        eventually("end of the network", || Ok((!networks(node)?.contains(network)).then_some(())))?;
        outcome
    })
}

fn placed_in_the_network(scene: &Scene, node: &str, known: impl Fn() -> Result<bool>) -> Result<()> {
    eventually("network of the node's second interface", || Ok(known()?.then_some(())))?;
    scene.apply(&[pool("networks", &["198.51.100.200-198.51.100.203"]), advertisement("networks", json!({}))])?;
    scene.accepted("ipaddresspool", "networks", "Valid")?;
    for name in ["one", "two", "three"] {
        scene.apply(&[service(name, json!({}))])?;
        scene.service(name).wait_for_address()?;
        let placed = scene.service(name).object()?["metadata"]["annotations"]["landfall.io/node"].take();
        assert_eq!(placed, node, "{name}");
    }
    Ok(())
}
