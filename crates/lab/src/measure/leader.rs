//! The controller's replica that leads: where it is, and moved to where a measurement wants it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;

use super::bench::{Bench, gone};
use super::damage::blocking;
use super::installed::Part;
use super::pods;
use super::wait::wait_for;
use crate::fault::send;
use crate::landfall;

/// Each try deletes a Pod, and its successor has to be ready.
const MOVE_LIMIT: Duration = Duration::from_secs(180);
/// Longer than the replicas need to elect another when the leader ends by itself.
const ELECTION: Duration = Duration::from_secs(2);

/// The Pod that leads, by the Lease's holder. Landfall's only.
async fn pod(bench: &Bench) -> Result<Pod> {
    let leases: Api<Lease> = Api::namespaced(bench.client.clone(), &bench.installed.namespace);
    let lease = leases.get(landfall::LEASE).await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).context("nobody leads")?;
    let pods = bench.installed.pods(Part::Controller).await?;
    let leads = |pod: &Pod| holder.strip_prefix(&pod.name_any()).is_some_and(|rest| rest.starts_with('_'));
    pods.into_iter().find(leads).with_context(|| format!("{holder} leads, and has no Pod"))
}

/// Deletes the Pod that leads until the one that does is on a node that `may` have it.
pub(super) async fn bring(bench: &Bench, may: impl Fn(&str) -> bool) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.installed.namespace);
    wait_for("leader on the right node", MOVE_LIMIT, ELECTION, || async {
        let leader = pod(bench).await?;
        let node = leader.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        if may(node) {
            return Ok(Some(()));
        }
        gone(api.delete(&leader.name_any(), &DeleteParams::default()).await)?;
        bench.installed.ready().await?;
        Ok(None)
    })
    .await
}

/// Kills the processes of the Pod that leads.
pub(super) async fn kill(bench: &Bench) -> Result<()> {
    let (lab, leader) = (bench.lab.clone(), pod(bench).await?);
    blocking(move || pods::processes(&lab, &leader)?.iter().try_for_each(|process| send(process.pid, Signal::SIGKILL)))
        .await
}
