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

const NEIGHBOURS: [&str; 2] =
    ["/proc/sys/net/ipv4/neigh/default/gc_thresh3", "/proc/sys/net/ipv6/neigh/default/gc_thresh3"];

/// Raises the number of neighbours that this computer's network namespaces may know together, when `count` more would not
/// fit, and says so. At the usual 1,024 a client of a thousand addresses forgets some all the time.
/// # Errors
/// The limit cannot be read or set.
pub fn ensure_neighbours(count: usize) -> Result<()> {
    let needed = 4 * count + 512; // the client's own, and what other labs know
    for file in NEIGHBOURS {
        if !Path::new(file).exists() {
            continue; // inside a container the computer's limits do not show, and are not ours to set
        }
        let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
        let limit: usize = text.trim().parse().with_context(|| format!("{file}: {text:?}"))?;
        if limit < needed {
            // The lower thresholds too: above the second, entries are taken away after five seconds.
            for threshold in ["gc_thresh3", "gc_thresh2", "gc_thresh1"] {
                let file = file.replace("gc_thresh3", threshold);
                fs::write(&file, needed.to_string()).with_context(|| format!("set {file} to {needed}"))?;
            }
            eprintln!(
                "raised {file} from {limit} to {needed}, thresh1 and thresh2 with it; they stay so until the next boot"
            );
        }
    }
    Ok(())
}
