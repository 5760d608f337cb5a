//! The story that the project began with.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::install;
use landfall_cluster_tests::manifests::{advertisement, pods, pool};
use landfall_cluster_tests::scene::without_landfall;
use landfall_cluster_tests::wire::wait_for_answerer;
use serde_json::json;

/// How long nothing may happen before it counts as never.
const PENDING: Duration = Duration::from_secs(30);

#[test]
fn the_articles_service_is_pending_for_ever_without_landfall_and_is_served_with_it_untouched() -> Result<()> {
    without_landfall("article", |scene| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "test-svc-1"},
            "spec": {"type": "LoadBalancer", "selector": {"site": "test"}, "ports": [{"port": 80}]},
        });
        scene.start(&[service, pods(2, &["80"], None)])?;
        let service = scene.service("test-svc-1");
        let start = Instant::now();
        while start.elapsed() < PENDING {
            ensure!(service.addresses()?.is_empty(), "something else gives addresses in this cluster");
            thread::sleep(Duration::from_secs(1));
        }
        let table = scene.kubectl(&["get", "service", "test-svc-1"])?;
        assert!(table.contains("<pending>"), "{table}");
        let before = service.object()?;

        install::helm_install(&scene.lab, &[])?;
        scene.apply(&[pool("article", &["172.30.0.120-172.30.0.122"]), advertisement("article", json!({}))])?;
        let ip = service.wait_for_address()?;
        let answer = scene.ask(ip, 80)?;
        assert!(answer.pod.starts_with("web-"), "{answer:?}");

        let neighbour = scene.lab.neighbour("client", ip)?.context("the client knows no neighbour of that address")?;
        ensure!(scene.lab.node_with_mac(&neighbour)?.is_some(), "{neighbour} is no node's");
        // The first speaker that was ready may have answered; when all are, it is the one that the controller has chosen.
        install::wait_until_ready(&scene.lab)?;
        let after = service.object()?;
        assert_eq!(after["spec"], before["spec"]);
        for field in ["uid", "generation", "labels", "finalizers", "ownerReferences"] {
            assert_eq!(after["metadata"][field], before["metadata"][field], "metadata.{field}");
        }
        let mut expected = before["metadata"]["annotations"].clone();
        expected["metallb.io/ip-allocated-from-pool"] = json!("article");
        expected["landfall.io/node"] = after["metadata"]["annotations"]["landfall.io/node"].clone();
        assert_eq!(after["metadata"]["annotations"], expected);
        let placed = expected["landfall.io/node"].as_str().context("it is placed nowhere")?;
        wait_for_answerer(&scene.lab, placed, ip)
    })
}
