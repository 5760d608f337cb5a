//! `externalTrafficPolicy: Local`, and Services that are none of our business.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::wire::who_has;
use serde_json::json;

/// The announcer is the node with the Pod, and the Pod sees who really asked.
fn assert_served_on(scene: &Scene, node: &str, ips: &[IpAddr]) -> Result<()> {
    scene.service("local").wait_for_announcer_that(&format!("is {node}"), |announcer| announcer == node)?;
    for (ip, client) in ips.iter().zip(["172.30.0.100", "fd00:30::100"]) {
        let answer = eventually(&format!("answer from a Pod on {node} through {ip}"), || {
            let answer = scene.ask(*ip, 80)?;
            ensure!(answer.node == node, "{answer:?}");
            Ok(Some(answer))
        })?;
        assert_eq!(answer.client.ip(), client.parse::<IpAddr>()?, "{answer:?}");
        let heard = who_has(&scene.lab, "eth0", *ip)?;
        assert!(heard.is_one_answerer(&scene.lab.node_mac(node, "eth0")?), "{node} is to answer for {ip}: {heard:?}");
    }
    Ok(())
}

#[test]
fn with_local_policy_the_pod_sees_the_client_and_the_announcer_follows_the_pod() -> Result<()> {
    with_landfall("local", |scene| {
        let mut spec = families(&["IPv4", "IPv6"]);
        spec["externalTrafficPolicy"] = json!("Local");
        let mut cluster_ip = service("inside", json!({"type": "ClusterIP"}));
        cluster_ip["metadata"]["labels"] = json!({"site": "test"});
        scene.start(&[
            pool("local", &["172.30.0.140/32", "fd00:30::140/128"]),
            advertisement("local", json!({})),
            pods(1, &["8080"], Some("n1")),
            cluster_ip,
            service("port", json!({"type": "NodePort"})),
            service("local", spec),
        ])?;
        let untouched = ["inside", "port"].map(|name| scene.service(name));
        let before = [untouched[0].version()?, untouched[1].version()?];
        let ips = scene.service("local").wait_for_addresses(2)?;
        assert!(ips[0].is_ipv4(), "IPv4 is first: {ips:?}");
        assert_served_on(scene, "n1", &ips)?;
        for node in ["n2", "n3"] {
            scene.start(&[pods(1, &["8080"], Some(node))])?;
            assert_served_on(scene, node, &ips)?;
        }
        assert_eq!(scene.service("local").addresses()?, ips);
        assert_eq!(
            [untouched[0].version()?, untouched[1].version()?],
            before,
            "ClusterIP and NodePort were written to"
        );
        Ok(())
    })
}
