//! The echo server's Pods behind the measured Services.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::bench::{LABEL, NAMESPACE, object};
use super::pods;
use super::wait::wait_for;
use crate::up::ECHO_IMAGE;

/// The port on which they serve.
pub(super) const PORT: u16 = 8080;
/// An echo Pod starts in a second or two.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// All Pods that carry [`LABEL`] with this group.
pub(super) struct EchoPods {
    api: Api<Pod>,
    group: &'static str,
}

impl EchoPods {
    pub(super) fn of(client: &Client, group: &'static str) -> EchoPods {
        EchoPods { api: Api::namespaced(client.clone(), NAMESPACE), group }
    }

    /// The nodes that have one.
    pub(super) async fn nodes(&self) -> Result<BTreeSet<String>> {
        Ok(self.list().await?.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect())
    }

    /// The server of one of them, at the Pod's own address.
    pub(super) async fn server(&self) -> Result<SocketAddr> {
        let pods = self.list().await?;
        let ip = pods.iter().find_map(|pod| pod.status.as_ref()?.pod_ip.as_deref());
        let ip = ip.context("no echo Pod has an address")?.parse().context("status.podIP of the echo Pod")?;
        Ok(SocketAddr::new(ip, PORT))
    }

    /// Lets there be one on each of these nodes, and no other; returns when it is so.
    pub(super) async fn place(&self, nodes: &[String]) -> Result<()> {
        for node in nodes {
            let pod = pod(self.group, node)?;
            let name = pod.name_any();
            // Pods are refused until the controller manager has made the new namespace's service account.
            wait_for(&format!("Pod {name}"), LIMIT, LOOK, || async {
                if self.api.get_opt(&name).await?.is_none() {
                    self.api.create(&PostParams::default(), &pod).await?;
                }
                Ok(self.api.get(&name).await.is_ok_and(|pod| pods::is_ready(&pod)).then_some(()))
            })
            .await?;
        }
        let on =
            |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|at| nodes.contains(at));
        for other in self.list().await?.iter().filter(|pod| !on(pod)) {
            self.api.delete(&other.name_any(), &DeleteParams::default()).await?;
        }
        wait_for("end of the former Pod", LIMIT, LOOK, || async {
            Ok((self.list().await?.len() == nodes.len()).then_some(()))
        })
        .await
    }

    /// Each of them, as it is now.
    pub(super) async fn list(&self) -> Result<Vec<Pod>> {
        Ok(self.api.list(&ListParams::default().labels(&format!("{LABEL}={}", self.group))).await?.items)
    }
}

fn pod(group: &str, node: &str) -> Result<Pod> {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    object(json!({
        "metadata": {"name": format!("echo-{node}"), "labels": {LABEL: group}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "echo",
                "image": ECHO_IMAGE,
                "args": [PORT.to_string()],
                // What is measured is the way to the server: on a busy computer it goes before other Pods.
                "resources": {"requests": {"cpu": "500m"}},
                "env": [
                    {"name": "POD", "valueFrom": field("metadata.name")},
                    {"name": "NODE", "valueFrom": field("spec.nodeName")},
                ],
            }],
        },
    }))
}
