//! The metrics registry, the process's own figures, and a counter that keeps MetalLB's names.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// Linux tells user space all CPU times in hundredths of a second (USER_HZ), whatever the kernel's own tick is.
const USER_HZ: f64 = 100.0;

/// A registry that already has the figures of this process.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry
}

/// All metrics in Prometheus' text format 0.0.4.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a String fails only when a metric's own `encode` does; ours never do.
    if let Err(error) = encode_registry(&mut text, registry) {
        tracing::warn!(%error, "metrics are incomplete");
    }
    text
}

/// A counter whose name is printed exactly as it was registered.
///
/// prometheus-client appends `_total` to the name of its own counters, as OpenMetrics asks; MetalLB has counters
/// without it (`metallb_layer2_requests_received`), and dashboards know those names.
#[derive(Clone, Debug, Default)]
pub struct PlainCounter(Arc<AtomicU64>);

impl PlainCounter {
    /// Adds one.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// Adds `n`.
    pub fn inc_by(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The present count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for PlainCounter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for PlainCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Reads `/proc/self` at each scrape. The names are those of every Prometheus client library.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(resident) = kilobytes(&status, "VmRSS:") {
            let gauge = ConstGauge::new(resident * 1024);
            let help = "Resident memory size in bytes";
            gauge.encode(encoder.encode_descriptor(
                "process_resident_memory_bytes",
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let help = "Total user and system CPU time spent in seconds";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let gauge = ConstGauge::new(i64::try_from(files.count()).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(
                "process_open_fds",
                "Number of open file descriptors",
                None,
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

/// The value of one `Name:   123 kB` line.
fn kilobytes(status: &str, name: &str) -> Option<i64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time of a `/proc/<pid>/stat` line: fields 14 and 15. The second field, the command in brackets, may
/// itself contain spaces and brackets, so counting starts after the last bracket. Source: proc(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_counter_is_a_counter_under_its_own_name() {
        let mut registry = Registry::default();
        let counter = PlainCounter::default();
        registry.register("metallb_layer2_requests_received", "Requests", counter.clone());
        counter.inc();
        counter.inc_by(2);
        let text = text(&registry);
        assert!(text.contains("# TYPE metallb_layer2_requests_received counter\n"), "{text}");
        assert!(text.contains("\nmetallb_layer2_requests_received 3\n"), "{text}");
    }

    #[test]
    fn the_process_reports_its_own_memory_and_files() {
        let text = text(&registry());
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
            line[name.len()..].trim().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 500_000.0, "{text}");
        assert!(value("process_open_fds ") >= 3.0, "{text}");
        assert!(value("process_cpu_seconds_total ") >= 0.0, "{text}");
    }

    #[test]
    fn cpu_time_is_read_behind_a_command_with_brackets_and_spaces() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (short) S 1"), None);
    }

    #[test]
    fn a_line_of_proc_status_is_read_by_its_name() {
        let status = "VmHWM:\t   9000 kB\nVmRSS:\t    8124 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(8124));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }
}
