//! Which LoadBalancer implementation is installed, told by the labels of its Pods alone.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use super::wait::wait_for;

/// Pods are ready within seconds; a node that was off has its Pods' network to make first.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
/// How often readiness is looked at.
const POLL: Duration = Duration::from_millis(250);
/// While the controller is scaled to zero, this annotation of its Deployment says how many there were: an interrupted
/// measurement can be undone by the next one.
const REPLICAS: &str = "lab.landfall.io/measure-replicas";

/// Labels that a Pod must have, as `key=value,key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Labels(BTreeMap<String, String>);

impl Labels {
    fn of(pairs: &[(&str, &str)]) -> Labels {
        Labels(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn on(&self, template: &PodTemplateSpec) -> bool {
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
        labels.is_some_and(|labels| self.0.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

impl FromStr for Labels {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Labels> {
        let pair = |part: &str| match part.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => bail!("{part:?} is not KEY=VALUE; write labels as app=metallb,component=speaker"),
        };
        Ok(Labels(text.split(',').map(pair).collect::<Result<_>>()?))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

/// How to find an implementation: the labels of its controller's and its speakers' Pods.
struct Marks {
    name: &'static str,
    controller: Labels,
    speaker: Labels,
}

/// The implementations that are found without being told how.
fn known() -> [Marks; 3] {
    let by_name = |name| {
        let labels = |part| Labels::of(&[("app.kubernetes.io/name", name), ("app.kubernetes.io/component", part)]);
        Marks { name, controller: labels("controller"), speaker: labels("speaker") }
    };
    let plain_metallb = |part| Labels::of(&[("app", "metallb"), ("component", part)]);
    let manifests =
        Marks { name: "metallb", controller: plain_metallb("controller"), speaker: plain_metallb("speaker") };
    [by_name("landfall"), by_name("metallb"), manifests]
}

/// Where to look, when there is a choice.
#[derive(clap::Args)]
pub(super) struct Which {
    /// The namespace of the implementation, if several have one.
    #[arg(long, global = true)]
    namespace: Option<String>,
    /// Labels of the controller's Pods, for an implementation other than Landfall and MetalLB.
    #[arg(long, global = true, value_name = "KEY=VALUE,...", requires = "speaker_labels")]
    controller_labels: Option<Labels>,
    /// Labels of the speakers' Pods.
    #[arg(long, global = true, value_name = "KEY=VALUE,...", requires = "controller_labels")]
    speaker_labels: Option<Labels>,
}

/// The two parts of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Controller,
    Speaker,
}

/// The implementation that is measured.
pub(super) struct Installed {
    client: Client,
    /// `landfall`, `metallb`, or the Deployment's name.
    pub(super) name: String,
    /// Where it and its configuration live.
    pub(super) namespace: String,
    controller: Labels,
    speaker: Labels,
    deployment: String,
    daemon_set: String,
}

impl Installed {
    /// Finds the one implementation in the cluster: a Deployment and a DaemonSet in one namespace with the known labels.
    /// # Errors
    /// None, or several: says how to choose.
    pub(super) async fn find(client: &Client, which: &Which) -> Result<Installed> {
        let all = ListParams::default();
        let mut deployments = Api::<Deployment>::all(client.clone()).list(&all).await?.items;
        let mut daemon_sets = Api::<DaemonSet>::all(client.clone()).list(&all).await?.items;
        if let Some(namespace) = &which.namespace {
            deployments.retain(|object| object.namespace().as_ref() == Some(namespace));
            daemon_sets.retain(|object| object.namespace().as_ref() == Some(namespace));
        }
        let marks = match (&which.controller_labels, &which.speaker_labels) {
            (Some(controller), Some(speaker)) => {
                vec![Marks { name: "", controller: controller.clone(), speaker: speaker.clone() }]
            }
            _ => known().into(),
        };
        let mut found = Vec::new();
        for Marks { name, controller, speaker } in marks {
            let template = |object: &Deployment| object.spec.as_ref().is_some_and(|spec| controller.on(&spec.template));
            for deployment in deployments.iter().filter(|object| template(object)) {
                let beside = daemon_sets.iter().find(|object| {
                    object.namespace() == deployment.namespace()
                        && object.spec.as_ref().is_some_and(|spec| speaker.on(&spec.template))
                });
                let Some(daemon_set) = beside else { continue };
                found.push(Installed {
                    client: client.clone(),
                    name: if name.is_empty() { deployment.name_any() } else { name.to_owned() },
                    namespace: deployment.namespace().unwrap_or_default(),
                    controller: controller.clone(),
                    speaker: speaker.clone(),
                    deployment: deployment.name_any(),
                    daemon_set: daemon_set.name_any(),
                });
            }
        }
        found.dedup_by(|a, b| (&a.namespace, &a.deployment) == (&b.namespace, &b.deployment));
        let places: Vec<String> = found.iter().map(|one| format!("{} in {}", one.name, one.namespace)).collect();
        ensure!(
            found.len() < 2,
            "several implementations are installed ({}); choose with --namespace",
            places.join(", ")
        );
        found.pop().context(
            "no LoadBalancer implementation is installed: neither Landfall nor MetalLB by the labels of its Pods; \
             install one, or name its labels with --controller-labels and --speaker-labels",
        )
    }

    /// `landfall in landfall-system`.
    pub(super) fn place(&self) -> String {
        format!("{} in {}", self.name, self.namespace)
    }

    /// Its Pods that are not on their way out.
    pub(super) async fn pods(&self, part: Part) -> Result<Vec<Pod>> {
        let labels = match part {
            Part::Controller => &self.controller,
            Part::Speaker => &self.speaker,
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut pods = pods.list(&ListParams::default().labels(&labels.to_string())).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    /// Returns when every controller and every speaker is Ready.
    pub(super) async fn ready(&self) -> Result<()> {
        wait_for(&format!("readiness of {}", self.place()), READY_TIMEOUT, POLL, || async {
            let missing = self.unready().await?;
            ensure!(missing.is_empty(), "{}", missing.join(", "));
            Ok(Some(()))
        })
        .await
    }

    /// What is not ready, in words; empty when all is.
    async fn unready(&self) -> Result<Vec<String>> {
        let deployment = self.deployments().get(&self.deployment).await?;
        let daemon_sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.namespace);
        let daemon_set = daemon_sets.get(&self.daemon_set).await?;
        let mut missing = Vec::new();

        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.clone().unwrap_or_default();
        let (ready, all) = (status.ready_replicas.unwrap_or(0), status.replicas.unwrap_or(0));
        if (ready, all) != (wanted, wanted) || status.observed_generation != deployment.metadata.generation {
            missing.push(format!("{ready} of {wanted} Pods of Deployment {} are ready", self.deployment));
        }
        let status = daemon_set.status.clone().unwrap_or_default();
        let (ready, wanted) = (status.number_ready, status.desired_number_scheduled);
        let updated = status.updated_number_scheduled.unwrap_or(0);
        if (ready, updated) != (wanted, wanted) || status.observed_generation != daemon_set.metadata.generation {
            missing.push(format!("{ready} of {wanted} Pods of DaemonSet {} are ready", self.daemon_set));
        }
        Ok(missing)
    }

    /// Lets Kubernetes replace every speaker in its turn, as `kubectl rollout restart` does; does not wait.
    pub(super) async fn restart_speakers(&self) -> Result<()> {
        let daemon_sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.namespace);
        daemon_sets.restart(&self.daemon_set).await?;
        Ok(())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Scales the controller to zero and returns when its Pods are gone.
    pub(super) async fn stop_controller(&self) -> Result<()> {
        let deployment = self.deployments().get(&self.deployment).await?;
        let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        ensure!(replicas > 0, "Deployment {} has 0 replicas: there is no controller to measure", self.deployment);
        self.patch_deployment(serde_json::json!({
            "metadata": {"annotations": {REPLICAS: replicas.to_string()}}, "spec": {"replicas": 0},
        }))
        .await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(&self.controller.to_string());
        wait_for("end of the controller", READY_TIMEOUT, POLL, || async {
            Ok(pods.list(&ours).await?.items.is_empty().then_some(()))
        })
        .await
    }

    /// Undoes [`Installed::stop_controller`], if that was done; does not wait.
    pub(super) async fn start_controller(&self) -> Result<()> {
        let deployment = self.deployments().get(&self.deployment).await?;
        let Some(replicas) = deployment.annotations().get(REPLICAS) else { return Ok(()) };
        let replicas: i32 =
            replicas.parse().with_context(|| format!("annotation {REPLICAS} of Deployment {}", self.deployment))?;
        self.patch_deployment(serde_json::json!({
            "metadata": {"annotations": {REPLICAS: null}}, "spec": {"replicas": replicas},
        }))
        .await
    }

    async fn patch_deployment(&self, patch: serde_json::Value) -> Result<()> {
        self.deployments().patch(&self.deployment, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(labels: &[(&str, &str)]) -> PodTemplateSpec {
        serde_json::from_value(serde_json::json!({"metadata": {"labels": Labels::of(labels).0}})).unwrap()
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        let labels: Labels = "component=speaker,app=metallb".parse().unwrap();
        assert_eq!(labels.to_string(), "app=metallb,component=speaker");
        for wrong in ["", "metallb", "=x", "a=b,"] {
            let error = wrong.parse::<Labels>().unwrap_err().to_string();
            assert!(error.ends_with("write labels as app=metallb,component=speaker"), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn every_label_must_be_there() {
        let labels = Labels::of(&[("app", "metallb"), ("component", "speaker")]);
        assert!(labels.on(&template(&[("app", "metallb"), ("component", "speaker"), ("pod-template-hash", "1")])));
        assert!(!labels.on(&template(&[("app", "metallb"), ("component", "controller")])));
        assert!(!labels.on(&PodTemplateSpec::default()));
    }
}
