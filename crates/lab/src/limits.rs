//! Limits of this computer's kernel that a cluster runs into.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
/// inotify instances of a control plane, counted in a running lab, and of a node: kubelet 6, containerd 2.
const PER_CONTROL_PLANE: usize = 8;
const PER_NODE: usize = 8;
/// Left free for whatever else root runs.
const SPARE: usize = 32;

/// Raises the number of inotify instances that root may have, when it is too low for one more lab, and says so. At the usual
/// 128 the third lab's kubelets die with "inotify_init: too many open files".
/// # Errors
/// The limit cannot be read or set.
pub fn ensure_inotify_instances(nodes: usize) -> Result<()> {
    let text = fs::read_to_string(INSTANCES).with_context(|| format!("read {INSTANCES}"))?;
    let limit: usize = text.trim().parse().with_context(|| format!("{INSTANCES}: {text:?}"))?;
    let needed = in_use() + PER_CONTROL_PLANE + PER_NODE * nodes + SPARE;
    if limit < needed {
        let raised = needed.next_power_of_two();
        fs::write(INSTANCES, raised.to_string()).with_context(|| format!("set {INSTANCES} to {raised}"))?;
        println!("raised fs.inotify.max_user_instances from {limit} to {raised}; it stays so until the next boot");
    }
    Ok(())
}

/// How many inotify instances all processes hold: file descriptors that are links to it.
fn in_use() -> usize {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let descriptors = folders(Path::new("/proc")).flat_map(|process| folders(&process.join("fd")).collect::<Vec<_>>());
    descriptors.filter(|fd| fs::read_link(fd).is_ok_and(|target| target == Path::new("anon_inode:inotify"))).count()
}
