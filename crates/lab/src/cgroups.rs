//! The cgroups of a lab's containers.
//!
//! containerd puts each container into `/k8s.io/CONTAINER`, in the one hierarchy (v2) or in each controller's (v1), and
//! removes it when the container ends in peace. What is killed with its machine leaves an empty cgroup behind. Another lab,
//! or the computer's own Kubernetes, uses the same parent, so ours are told by the ids in our containerds' own folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The kernel takes a moment to let go of the cgroup of a process that has ended.
const TIMEOUT: Duration = Duration::from_secs(10);
/// containerd's name for what the kubelet asks of it.
const PARENT: &str = "k8s.io";

/// The cgroups of the machine whose folder this is.
pub(crate) fn of_machine(machine_dir: &Path) -> Vec<PathBuf> {
    let metadata = machine_dir.join("lib/containerd/io.containerd.grpc.v1.cri");
    let ids = ["containers", "sandboxes"].into_iter().flat_map(|kind| entries(&metadata.join(kind)));
    let ids: Vec<_> = ids.filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    let of_parent = |parent: PathBuf| ids.iter().map(move |id| parent.join(id)).filter(|group| group.exists());
    parents().into_iter().flat_map(of_parent).collect()
}

/// What all containers together are to the scheduler, in processes. Without, it takes them for one: the containers of five
/// nodes for as much as one kubelet, and a server in one of them does not run for a second while nodes start Pods.
const WEIGHT: u32 = 10;

/// Gives the containers of this computer their share of its processors, before there is one. Where that cannot be, they are slow
/// while it is busy, and nothing else is wrong.
pub(crate) fn raise() {
    // The hierarchy of the controller cpu (v1), where a process is 1024, or the one hierarchy (v2), where it is 100.
    for (hierarchy, file, process) in [("cpu", "cpu.shares", 1024), ("", "cpu.weight", 100)] {
        let parent = Path::new("/sys/fs/cgroup").join(hierarchy).join(PARENT);
        if parent.parent().is_some_and(|hierarchy| hierarchy.join("cgroup.procs").exists()) {
            let _ = fs::create_dir(&parent);
            let _ = fs::write(parent.join(file), (WEIGHT * process).to_string());
        }
    }
}

/// Removes cgroups that hold no process any more, and the common parent if that leaves it empty.
/// # Errors
/// One is still in use after some seconds.
pub(crate) fn remove(groups: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    for group in groups {
        while let Err(error) = remove_tree(group) {
            ensure!(Instant::now() < deadline, "remove cgroup {}: {error}", group.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
    for parent in parents() {
        let _ = fs::remove_dir(parent); // refused by the kernel while anybody uses it
    }
    Ok(())
}

/// Children first: a cgroup's files go with it, but its child groups must be removed one by one.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for child in entries(group).into_iter().filter(|path| path.is_dir()) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn parents() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = entries(root).into_iter().filter(|path| path.is_dir() && !path.is_symlink());
    controllers.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(PARENT)).filter(|dir| dir.is_dir()).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
