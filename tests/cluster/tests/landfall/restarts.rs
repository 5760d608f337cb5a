//! Promise 1: an assigned address never changes.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::install::{CONTROLLERS, PODS, wait_until_ready, without_controllers};
use landfall_cluster_tests::manifests::{advertisement, annotated, families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::service::standing;
use landfall_lab::command;
use serde_json::json;

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
        let before = standing(scene)?;

        for round in 0..10 {
            restart(scene, round, PODS, &["controller", "speaker"])?;
        }
        // A new Service is served after the last restart, so that a controller that does nothing cannot pass.
        scene.apply(&[service("fresh", families(&["IPv4"]))])?;
        let fresh = scene.service("fresh").wait_for_address()?;
        let mut after = standing(scene)?;
        after.remove("fresh");
        assert_eq!(after, before, "addresses and resource versions");
        let held: Vec<IpAddr> = after.into_values().flat_map(|service| service.addresses).collect();
        assert!(!held.contains(&fresh), "{fresh} was given twice: {held:?}");
        held.into_iter().try_for_each(|ip| scene.ask(ip, 80).map(|_| ()))
    })
}

/// Served in this order, each with the next address of the pool, which has no more.
const HELD: [&str; 3] = ["held-1", "held-2", "held-3"];

#[test]
fn who_waits_still_waits_after_every_restart_and_has_what_is_freed_afterwards() -> Result<()> {
    with_landfall("pending", |scene| {
        let plain = |name| service(name, json!({}));
        let mut spare = pool("pending-spare", &["198.51.100.16/30"]);
        spare["spec"]["autoAssign"] = json!(false);
        scene.apply(&[pool("pending", &["198.51.100.0-198.51.100.2"]), spare])?;
        for name in HELD {
            scene.apply(&[plain(name)])?;
            scene.service(name).wait_for_address()?;
        }
        let asks = annotated(plain("asks"), "metallb.io/loadBalancerIPs", "198.51.100.0");
        scene.apply(&[plain("late-1"), plain("late-2"), asks])?;
        for (name, reason) in
            [("late-1", "NoAddressAvailable"), ("late-2", "NoAddressAvailable"), ("asks", "AddressInUse")]
        {
            scene.service(name).wait_for_refusal(reason)?;
        }
        // An unchanged version: the condition is as it was, too.
        let before = standing(scene)?;
        for round in 0..5 {
            restart(scene, round, CONTROLLERS, &["controller"])?;
            works_again(scene, round)?;
            assert_eq!(standing(scene)?, before, "addresses and resource versions after restart {round}");
        }
        // Its name comes before all others: it would be the first to be given an address.
        without_controllers(&scene.lab, || scene.apply(&[plain("a-newcomer")]))?;
        let newcomer = scene.service("a-newcomer");
        let message = newcomer.wait_for_refusal("NoAddressAvailable")?;
        assert!(message.contains("pool pending: all its IPv4 addresses are in use"), "{message}");
        let mut after = standing(scene)?;
        after.remove("a-newcomer");
        assert_eq!(after, before, "addresses and resource versions after a restart with a Service that is new");

        let freed = before["held-2"].addresses.clone();
        scene.kubectl(&["delete", "service", "held-2"])?;
        let waiting = ["a-newcomer", "late-1", "late-2"];
        let served = eventually("freed address for one that waits", || {
            let now = standing(scene)?;
            Ok(waiting.into_iter().find(|name| now[*name].addresses == freed))
        })?;
        scene.service(served).wait_for_allocated("True")?;
        let after = standing(scene)?;
        for name in ["held-1", "held-3", "late-1", "late-2", "asks"].into_iter().filter(|name| *name != served) {
            assert_eq!(after[name], before[name], "Service {name}, whom it did not concern");
        }
        Ok(())
    })
}

/// A new Service is served, so that a controller that does nothing cannot pass. It has read everything by then.
fn works_again(scene: &Scene, round: usize) -> Result<()> {
    let name = format!("probe-{round}");
    scene.apply(&[annotated(service(&name, json!({})), "metallb.io/address-pool", "pending-spare")])?;
    scene.service(&name).wait_for_address()?;
    scene.kubectl(&["delete", "service", &name])?;
    Ok(())
}

/// Every Pod with these labels at once, by turns: deleted, and its processes killed. Returns when others are ready.
fn restart(scene: &Scene, round: usize, pods: &str, programs: &[&str]) -> Result<()> {
    if round.is_multiple_of(2) { delete_pods(scene, pods) } else { kill_processes(scene, programs) }
        .with_context(|| format!("round {round}"))?;
    wait_until_ready(&scene.lab)
}

fn delete_pods(scene: &Scene, pods: &str) -> Result<()> {
    scene.kubectl_landfall(&["delete", "pods", "--selector", pods])?;
    Ok(())
}

/// SIGKILL to all at once; returns when the kubelets have started others.
fn kill_processes(scene: &Scene, programs: &[&str]) -> Result<()> {
    let before = processes(scene, programs)?;
    let pids: Vec<String> = before.iter().map(ToString::to_string).collect();
    command::output(Command::new("kill").arg("-9").args(pids))?;
    eventually("new processes in the place of those killed", || {
        let now = processes(scene, programs)?;
        Ok((now.len() == before.len() && now.iter().all(|pid| !before.contains(pid))).then_some(()))
    })
}

/// All of Landfall's processes with these subcommands, on all nodes.
fn processes(scene: &Scene, programs: &[&str]) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for node in scene.lab.nodes()? {
        let processes = scene.lab.machine(&node)?.processes();
        let ours = processes
            .iter()
            .filter(|process| process.arguments.get(1).is_some_and(|argument| programs.contains(&argument.as_str())));
        pids.extend(ours.map(|process| process.pid));
    }
    Ok(pids)
}
