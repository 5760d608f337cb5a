//! Landfall's setting failover.evictEndpoints during a measurement, and which Pods left service because of it.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::bench::Bench;
use super::pods;
use super::release;

/// What it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Evict {
    /// Nothing is set: as it is installed, where the chart's default is off.
    Off,
    /// What would be done is reported, and not done.
    DryRun,
    /// A dead node's Pods are taken out of service.
    On,
}

impl Evict {
    /// What Landfall's chart is told.
    pub(super) fn chart_value(self) -> Option<String> {
        let value = match self {
            Evict::Off => return None,
            Evict::DryRun => "dry-run",
            Evict::On => "on",
        };
        Some(format!("failover.evictEndpoints={value}"))
    }

    /// Tells it that, and more; the end of the measurement rolls it back.
    pub(super) async fn install(self, bench: &Bench, more: Vec<String>) -> Result<()> {
        let values: Vec<String> = self.chart_value().into_iter().chain(more).collect();
        if !values.is_empty() {
            release::upgrade(bench, &values).await?;
        }
        Ok(())
    }
}

/// Of each Pod, by its name: whether it is Ready, and since when.
#[derive(Debug, PartialEq)]
pub(super) struct InService(BTreeMap<String, (bool, Option<Time>)>);

impl InService {
    /// As these Pods say it.
    pub(super) fn of(pods: &[Pod]) -> InService {
        let ready = |pod: &Pod| {
            let since = pods::ready(pod)?.last_transition_time.clone();
            Some((pod.name_any(), (pods::is_ready(pod), since)))
        };
        InService(pods.iter().filter_map(ready).collect())
    }

    /// The Pods that have left service since, whether they are back or not. The API server tells times to the second, so
    /// `self` has to be older than one.
    pub(super) fn left(&self, now: &InService) -> Vec<String> {
        let changed = self.0.iter().filter(|(name, ready)| now.0.get(*name) != Some(ready));
        changed.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_was_out_of_service_for_a_moment_has_left_it() {
        let pod = |name: &str, status: &str, at: &str| -> Pod {
            let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": at});
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [condition]}})).unwrap()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
        let before = InService::of(&[pod("a", "True", early), pod("b", "True", early), pod("c", "True", early)]);
        let now = InService::of(&[pod("a", "True", early), pod("b", "True", late), pod("c", "False", late)]);
        assert_eq!(before.left(&now), ["b", "c"]);
        assert!(before.left(&before).is_empty());
        assert_eq!(before.left(&InService::of(&[])).len(), 3, "gone altogether");
    }
}
