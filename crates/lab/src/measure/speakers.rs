//! The speakers' Pods: which is where, and new ones.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};

use super::bench::{Bench, gone};
use super::installed::Part;
use super::pods;
use super::wait::wait_for;

/// A DaemonSet replaces Pods within seconds, also on a node that has just booted.
const BACK_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(250);

/// The speaker's Pod on a node.
pub(super) async fn on(bench: &Bench, node: &str) -> Result<Pod> {
    let speakers = bench.installed.pods(Part::Speaker).await?;
    speakers.into_iter().find(|pod| pods::is_on(pod, node)).with_context(|| format!("no speaker's Pod on {node}"))
}

/// Replaces the speaker's Pod on a node; returns when its successor and all else is ready.
pub(super) async fn renew_one(bench: &Bench, node: &str) -> Result<()> {
    renew(bench, |pod| pods::is_on(pod, node)).await
}

/// Replaces every speaker's Pod at once; returns when all are ready. What speakers remember of faults (who failed how often,
/// and is held back for how long) is gone: the next fault meets a cluster that has seen none, and no address is to return
/// to where it was. kubelet, too, forgets which container crashed how often, and makes none of them wait.
pub(super) async fn renew_all(bench: &Bench) -> Result<()> {
    renew(bench, |_| true).await
}

async fn renew(bench: &Bench, which: impl Fn(&Pod) -> bool) -> Result<()> {
    // Tried again: connections to an API server that was away have to be made anew.
    let before = wait_for("list of the speakers", BACK_LIMIT, POLL, || async {
        Ok(Some(bench.installed.pods(Part::Speaker).await?).filter(|pods| !pods.is_empty()))
    })
    .await?;
    let old: BTreeSet<String> = before.iter().filter(|pod| which(pod)).map(ResourceExt::name_any).collect();
    let api: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.installed.namespace);
    for name in &old {
        gone(api.delete(name, &DeleteParams::default()).await)?;
    }
    wait_for("new speakers", BACK_LIMIT, POLL, || async {
        let now = bench.installed.pods(Part::Speaker).await?;
        let new = now.iter().filter(|pod| !old.contains(&pod.name_any()) && pods::is_ready(pod)).count();
        ensure!(new >= before.len(), "{new} of {} speakers are ready", before.len());
        Ok(Some(()))
    })
    .await?;
    bench.installed.ready().await
}
