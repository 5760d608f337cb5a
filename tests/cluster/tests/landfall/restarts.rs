//! Promise 1: an assigned address never changes.

use std::process::Command;

use anyhow::{Context, Result};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::install::{PODS, wait_until_ready};
use landfall_cluster_tests::manifests::{advertisement, families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_lab::command;
use serde_json::json;

const SERVICES: [&str; 5] = ["both", "four-1", "four-2", "four-3", "six"];

#[test]
fn ten_restarts_of_controller_and_speakers_write_nothing_to_a_service() -> Result<()> {
    with_landfall("restarts", |scene| {
        scene.start(&[
            pool("restarts", &["172.30.0.170-172.30.0.179", "fd00:30::170-fd00:30::179"]),
            advertisement("restarts", json!({})),
            pods(1, &["8080"], None),
            service("four-1", families(&["IPv4"])),
            service("four-2", families(&["IPv4"])),
            service("six", families(&["IPv6"])),
            service("both", families(&["IPv4", "IPv6"])),
        ])?;
        for name in ["four-1", "four-2", "six"] {
            scene.service(name).wait_for_addresses(1)?;
        }
        scene.service("both").wait_for_addresses(2)?;
        // Freed and given again: the books no longer are what counting from the start would make of them.
        scene.kubectl(&["delete", "service", "four-1"])?;
        scene.apply(&[service("four-3", families(&["IPv4"]))])?;
        scene.service("four-3").wait_for_addresses(1)?;
        scene.apply(&[service("four-1", families(&["IPv4"]))])?;
        scene.service("four-1").wait_for_addresses(1)?;
        let standing = || {
            let of = |name| Ok((scene.service(name).addresses()?, scene.service(name).version()?));
            SERVICES.into_iter().map(of).collect::<Result<Vec<_>>>()
        };
        let before = standing()?;

        for round in 0..10 {
            if round % 2 == 0 { delete_pods(scene) } else { kill_processes(scene) }
                .with_context(|| format!("round {round}"))?;
            wait_until_ready(&scene.lab)?;
        }
        // A new Service is served after the last restart, so that a controller that does nothing cannot pass.
        scene.apply(&[service("fresh", families(&["IPv4"]))])?;
        let fresh = scene.service("fresh").wait_for_address()?;
        let after = standing()?;
        assert_eq!(after, before, "addresses and resource versions of {SERVICES:?}");
        assert!(after.iter().all(|(ips, _)| !ips.contains(&fresh)), "{fresh} was given twice: {after:?}");
        for (ips, _) in &after {
            for ip in ips {
                scene.ask(*ip, 80)?;
            }
        }
        Ok(())
    })
}

fn delete_pods(scene: &Scene) -> Result<()> {
    scene.kubectl_landfall(&["delete", "pods", "--selector", PODS])?;
    Ok(())
}

/// SIGKILL to all at once; returns when the kubelets have started others.
fn kill_processes(scene: &Scene) -> Result<()> {
    let before = processes(scene)?;
    let pids: Vec<String> = before.iter().map(ToString::to_string).collect();
    command::output(Command::new("kill").arg("-9").args(pids))?;
    eventually("new processes in the place of those killed", || {
        let now = processes(scene)?;
        Ok((now.len() == before.len() && now.iter().all(|pid| !before.contains(pid))).then_some(()))
    })
}

/// The controller and a speaker on each node.
fn processes(scene: &Scene) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for node in scene.lab.nodes()? {
        pids.push(scene.lab.pid_of(&node, "speaker")?);
        pids.extend(scene.lab.pid_of(&node, "controller"));
    }
    Ok(pids)
}
