//! What a person needs when a test fails.

use anyhow::Result;
use landfall_lab::landfall::NAMESPACE;

use crate::install::PODS;
use crate::scene::Scene;
use crate::wire;

/// Prints the state of the cluster as far as it can be had. The test harness shows it for tests that fail.
pub fn print(scene: &Scene) {
    let namespace = scene.namespace.as_str();
    println!("\n===== the cluster when the test failed; the lab stays up: `cargo lab kubectl …` =====");
    for args in [
        &["get", "pods", "--all-namespaces", "--output", "wide"][..],
        &["describe", "services", "--namespace", namespace],
        &["get", "ipaddresspools,l2advertisements,servicel2statuses", "--namespace", NAMESPACE, "--output", "yaml"],
        &["get", "events", "--namespace", NAMESPACE],
        &["logs", "--namespace", NAMESPACE, "--selector", PODS, "--prefix", "--tail", "40"],
    ] {
        show(&format!("kubectl {}", args.join(" ")), scene.lab.kubectl(args));
    }
    show("ip neigh, in the client", wire::neighbour_table(&scene.lab, "client"));
}

fn show(what: &str, said: Result<String>) {
    let said = said.unwrap_or_else(|error| format!("{error:#}"));
    println!("--- {what}\n{}", said.trim_end());
}
