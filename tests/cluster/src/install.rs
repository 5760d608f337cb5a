//! Is Landfall there?

use std::sync::Once;

use anyhow::{Context, Result, ensure};
use landfall_lab::Lab;
use landfall_lab::landfall::{self, NAMESPACE, RELEASE};

use crate::eventually;

/// Landfall's Pods.
pub const PODS: &str = "app.kubernetes.io/name=landfall";
/// Those of the controller.
pub const CONTROLLERS: &str = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=controller";
const CONTROLLER: &str = "deployment/landfall-controller";
/// The ValidatingWebhookConfiguration of the release.
pub const WEBHOOKS: &str = "landfall-webhooks";
/// The image that `cargo lab test` loads into the nodes.
const IMAGE: [&str; 4] = ["--set", "image.repository=docker.io/library/landfall", "--set", "image.tag=dev"];

/// Installs Landfall and waits until it is ready; does nothing if it is installed already. The first test of a run always
/// has helm look: the image or the chart may be another one than in the last run.
/// # Errors
/// What helm said.
pub fn ensure_installed(lab: &Lab) -> Result<()> {
    static FIRST: Once = Once::new();
    let mut first = false;
    FIRST.call_once(|| first = true);
    if first || !is_installed(lab)? {
        lab.install_landfall(&[])?;
    }
    Ok(())
}

fn is_installed(lab: &Lab) -> Result<bool> {
    Ok(!lab.helm(&["list", "--namespace", NAMESPACE, "--deployed", "--short"])?.trim().is_empty())
}

/// `helm install`, as in the README: it returns when the objects exist, not when they are ready.
/// # Errors
/// What helm said.
pub fn helm_install(lab: &Lab, more: &[&str]) -> Result<String> {
    let chart = landfall::chart()?;
    let chart = chart.to_str().context("the checkout's path is not UTF-8")?;
    let place = ["--namespace", NAMESPACE, "--create-namespace"];
    lab.helm(&[&["install", RELEASE, chart], &place[..], &IMAGE, more].concat())
}

/// `helm upgrade` with the values that the installation has, and these.
/// # Errors
/// What helm said.
pub fn helm_upgrade(lab: &Lab, more: &[&str]) -> Result<String> {
    let chart = landfall::chart()?;
    let chart = chart.to_str().context("the checkout's path is not UTF-8")?;
    let how = ["--namespace", NAMESPACE, "--reuse-values", "--wait", "--timeout", "2m"];
    lab.helm(&[&["upgrade", RELEASE, chart], &how[..], more].concat())
}

/// `helm uninstall`; returns when the last Pod is gone. Does nothing if Landfall is not installed.
/// # Errors
/// What helm said, or a Pod stays.
pub fn uninstall(lab: &Lab) -> Result<()> {
    lab.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"])?;
    eventually("end of Landfall's Pods", || {
        let pods = lab.kubectl(&["get", "pods", "--namespace", NAMESPACE, "--selector", PODS, "--output", "name"])?;
        ensure!(pods.trim().is_empty(), "still there: {pods}");
        Ok(Some(()))
    })
}

/// Runs `test` while the API server asks no webhook, as if no controller could be reached.
/// # Errors
/// Those of the test, or kubectl's.
pub fn without_webhooks<T>(lab: &Lab, test: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut configuration = lab.get(&["validatingwebhookconfiguration", WEBHOOKS])?;
    lab.kubectl(&["delete", "validatingwebhookconfiguration", WEBHOOKS])?;
    let outcome = test();
    if let Some(metadata) = configuration["metadata"].as_object_mut() {
        metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    }
    lab.apply(&configuration.to_string())?;
    outcome
}

/// Runs `test` while no controller runs; returns when as many as before are ready again.
/// # Errors
/// Those of the test, or kubectl's.
pub fn without_controllers<T>(lab: &Lab, test: impl FnOnce() -> Result<T>) -> Result<T> {
    let scale = |to: u64| {
        lab.kubectl(&["scale", CONTROLLER, "--namespace", NAMESPACE, &format!("--replicas={to}")]).map(|_| ())
    };
    let replicas = lab.get(&[CONTROLLER, "--namespace", NAMESPACE])?["spec"]["replicas"].as_u64();
    let replicas = replicas.context("spec.replicas")?;
    scale(0)?;
    let gone = ["wait", "pods", "--for=delete", "--timeout=60s"];
    let of_controller = ["--namespace", NAMESPACE, "--selector", CONTROLLERS];
    let outcome = lab.kubectl(&[gone, of_controller].concat()).and_then(|_| test());
    scale(replicas)?;
    wait_until_ready(lab)?;
    outcome
}

/// The names of the CRDs of `metallb.io` in the cluster.
/// # Errors
/// The API server does not answer.
pub fn crds(lab: &Lab) -> Result<Vec<String>> {
    let names = lab.kubectl(&["get", "crds", "--output", "name"])?;
    let ours = names.lines().filter(|name| name.ends_with(".metallb.io"));
    Ok(ours.filter_map(|name| name.split_once('/')).map(|(_, name)| name.to_owned()).collect())
}

/// Whether the CRDs are in the cluster.
/// # Errors
/// The API server does not answer.
pub fn has_crds(lab: &Lab) -> Result<bool> {
    Ok(!crds(lab)?.is_empty())
}

/// Returns when the controller and every speaker are ready.
/// # Errors
/// They are not within a minute.
pub fn wait_until_ready(lab: &Lab) -> Result<()> {
    for workload in [CONTROLLER, "daemonset/landfall-speaker"] {
        lab.kubectl(&["rollout", "status", workload, "--namespace", NAMESPACE, "--timeout", "60s"])?;
    }
    Ok(())
}
