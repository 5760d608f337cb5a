//! The processes behind Pods, on the machines of the lab.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;

use crate::lab::Lab;
use crate::processes::Process;

/// Clock ticks a second in /proc: Linux tells user space 100, whatever its own clock does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// All processes of a Pod's containers; the container that only holds its namespaces is not among them.
/// # Errors
/// None is found.
pub(super) fn processes(lab: &Lab, pod: &Pod) -> Result<Vec<Process>> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let machine = lab.node(node.with_context(|| format!("Pod {} is on no node yet", pod.name_any()))?)?;
    let containers = containers(pod);
    let mut processes = machine.processes();
    processes.retain(|process| {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap_or_default();
        containers.iter().any(|id| cgroups.contains(id))
    });
    ensure!(!processes.is_empty(), "no process of Pod {} is found on {}", pod.name_any(), machine.name());
    Ok(processes)
}

/// Whether its condition Ready is True.
pub(super) fn is_ready(pod: &Pod) -> bool {
    ready(pod).is_some_and(|condition| condition.status == "True")
}

/// Its condition Ready.
pub(super) fn ready(pod: &Pod) -> Option<&PodCondition> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == "Ready")
}

/// Whether it is on this node.
pub(super) fn is_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node))
}

/// Its conditions whose reason begins with `who`, as `TYPE: REASON`.
pub(super) fn conditions_by(pod: &Pod, who: &str) -> Vec<String> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let named = conditions.filter_map(|condition| Some((&condition.type_, condition.reason.as_deref()?)));
    named.filter(|(_, reason)| reason.starts_with(who)).map(|(kind, reason)| format!("{kind}: {reason}")).collect()
}

/// The ids of its containers that have one, without `containerd://`.
pub(super) fn containers(pod: &Pod) -> Vec<String> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ids = statuses.filter_map(|status| status.container_id.as_deref()?.split_once("://"));
    ids.map(|(_, id)| id.to_owned()).filter(|id| !id.is_empty()).collect()
}

/// Memory that these processes hold together, in MB (1,000,000 octets).
pub(super) fn resident_mb(processes: &[Process]) -> Result<f64> {
    let kib = |process: &Process| process.resident_kib().with_context(|| format!("process {} has ended", process.pid));
    let kib: u64 = processes.iter().map(kib).sum::<Result<u64>>()?;
    Ok(kib as f64 * 1024.0 / 1e6)
}

/// How long ago the first of these processes started, to a hundredth of a second.
pub(super) fn age(processes: &[Process]) -> Result<Duration> {
    let uptime = fs::read_to_string("/proc/uptime").context("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().and_then(|secs| secs.parse().ok()).context("/proc/uptime")?;
    let started = processes.iter().map(|process| process.started).min().context("no process")?;
    Ok(Duration::from_secs_f64((uptime - started as f64 / TICKS_PER_SECOND).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes;

    #[test]
    fn this_process_is_young_and_has_memory() {
        let own = [processes::read(std::process::id().try_into().unwrap()).unwrap()];
        assert!(age(&own).unwrap() < Duration::from_secs(600));
        assert!(resident_mb(&own).unwrap() > 0.5);
    }

    #[test]
    fn conditions_are_found_by_who_gave_the_reason() {
        let conditions = serde_json::json!([
            {"type": "Ready", "status": "False", "reason": "ExampleNodeIsGone"},
            {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady"},
            {"type": "PodScheduled", "status": "True"},
            {"type": "example.com/Example", "status": "True", "reason": "AnExample"},
        ]);
        let status = serde_json::json!({"conditions": conditions});
        let pod = serde_json::from_value(serde_json::json!({"spec": {"nodeName": "n1"}, "status": status})).unwrap();
        assert_eq!(conditions_by(&pod, "Example"), ["Ready: ExampleNodeIsGone"]);
        assert_eq!(["n1", "n2"].map(|node| is_on(&pod, node)), [true, false]);
        assert!(conditions_by(&Pod::default(), "").is_empty() && !is_on(&Pod::default(), ""));
    }

    #[test]
    fn containers_are_known_by_their_ids() {
        let statuses = serde_json::json!([
            {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "containerd://0123"},
            {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0},
        ]);
        let pod = serde_json::from_value(serde_json::json!({"status": {"containerStatuses": statuses}})).unwrap();
        assert_eq!(containers(&pod), ["0123"]);
    }
}
