//! What happens to an address when its speaker, or its node, goes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::install::wait_until_ready;
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::wire::{keep_asking, wait_for_answerer, who_has};
use landfall_lab::{Fault, command};
use serde_json::json;

/// Between two requests for the address.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest time between a request that was answered and the next such, in seconds.
fn longest_silence(requests: &[(f64, bool)]) -> f64 {
    let answered: Vec<f64> = requests.iter().filter(|(_, answered)| *answered).map(|(at, _)| *at).collect();
    answered.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

/// A Service with one address and one Pod, and the node that answers for it.
fn one_service(scene: &Scene, name: &str, range: &str) -> Result<(std::net::IpAddr, String)> {
    scene.start(&[
        pool(name, &[range]),
        advertisement(name, json!({})),
        pods(1, &["8080"], None),
        service(name, json!({})),
    ])?;
    let service = scene.service(name);
    let (ip, node) = (service.wait_for_address()?, service.wait_for_announcer()?);
    wait_for_answerer(&scene.lab, &node, ip)?;
    Ok((ip, node))
}

#[test]
fn a_speaker_that_is_killed_is_covered_with_its_nodes_mac_until_it_is_back() -> Result<()> {
    with_landfall("covered", |scene| {
        let (ip, node) = one_service(scene, "covered", "172.30.0.180/32")?;
        let mac = scene.lab.node_mac(&node, "eth0")?;
        let asking = keep_asking(&scene.lab, ip, PAUSE)?;
        let before = scene.lab.pid_of(&node, "speaker")?;
        command::output(Command::new("kill").args(["-9", &before.to_string()]))?;
        let heard = who_has(&scene.lab, "eth0", ip)?;
        ensure!(heard.names.iter().all(|named| *named == mac), "{heard:?}, and {node} has {mac}");
        eventually("a new process of the speaker", || {
            Ok(scene.lab.pid_of(&node, "speaker").ok().filter(|pid| *pid != before))
        })?;
        wait_until_ready(&scene.lab)?;
        wait_for_answerer(&scene.lab, &node, ip)?;
        let silence = longest_silence(&asking.requests());
        ensure!(silence < 1.5, "nobody answered for {silence} s");
        assert_eq!(scene.service("covered").announcers()?, [node]);
        Ok(())
    })
}

#[test]
fn the_address_of_a_dead_node_is_answered_by_another_at_once_and_returns_when_it_is_healthy_again() -> Result<()> {
    with_landfall("outlived", |scene| {
        let (ip, node) = one_service(scene, "outlived", "172.30.0.181/32")?;
        let asking = keep_asking(&scene.lab, ip, PAUSE)?;
        scene.lab.fault(&node, Fault::PowerOff)?;
        let other = scene.service("outlived").wait_for_announcer_that("another than the dead one", |now| now != node);
        let healed = scene.lab.heal(&node);
        let other = other?;
        healed.with_context(|| format!("boot {node} again"))?;
        let silence = longest_silence(&asking.requests());
        ensure!(silence < 1.5, "nobody answered for {silence} s");
        assert_ne!(other, node);
        wait_until_ready(&scene.lab)?;
        scene.service("outlived").wait_for_announcer_that("the node that is back", |now| now == node)?;
        wait_for_answerer(&scene.lab, &node, ip)
    })
}
