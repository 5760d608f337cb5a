//! What was done about dead nodes, counted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Why;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Clones count together.
#[derive(Clone, Debug, Default)]
pub struct EvictionMetrics {
    nodes: Family<Outcome, Counter>,
    pods: Counter,
}

impl EvictionMetrics {
    /// Makes the counters part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "landfall_dead_nodes",
            "Nodes that the speakers found dead, by what was done about their Pods: evicted, dry_run, or why not",
            self.nodes.clone(),
        );
        registry.register("landfall_evicted_pods", "Pods that were taken out of service", self.pods.clone());
    }

    pub(super) fn evicted(&self, dry_run: bool, pods: usize) {
        let outcome = if dry_run { "dry_run" } else { "evicted" };
        self.nodes.get_or_create(&Outcome { outcome }).inc();
        if !dry_run {
            self.pods.inc_by(pods as u64);
        }
    }

    pub(super) fn spared(&self, why: Why) {
        self.nodes.get_or_create(&Outcome { outcome: why.as_str() }).inc();
    }
}
