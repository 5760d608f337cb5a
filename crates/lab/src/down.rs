//! Taking a lab down, and proving that nothing of it is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::processes::Process;
use crate::{cgroups, command, processes};

/// The kernel ends a machine's processes within milliseconds, unless one waits for a slow disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

impl Lab {
    /// Ends every process of this lab and removes everything it made. Does nothing when there is nothing.
    /// # Errors
    /// Names what would not go.
    pub fn down(&self) -> Result<()> {
        // Process 1 of each machine takes all others with it. They are found by their label, so that this also works when
        // the state folder is damaged.
        let processes = processes_of(&self.prefix());
        for process in &processes {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL); // gone already, with its machine
        }
        let deadline = Instant::now() + KILL_TIMEOUT;
        while let Some(process) = processes.iter().find(|process| process.still_runs()) {
            ensure!(Instant::now() < deadline, "process {} outlives SIGKILL", process.pid);
            thread::sleep(Duration::from_millis(10));
        }
        for netns in namespaces(&self.prefix()) {
            command::output(Command::new("ip").args(["netns", "del", &netns]))?;
        }
        cgroups::remove(&cgroups_of(&self.state_dir()))?;
        self.remove_state()?;
        let left = leftovers(self.name());
        ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        Ok(())
    }

    fn remove_state(&self) -> Result<()> {
        let dir = self.state_dir();
        if dir.exists() {
            // Mounts live in the machines' own namespaces; should one be visible here after all, what lies below it is not ours.
            let mounts = mounts_below(&dir)?;
            ensure!(mounts.is_empty(), "still mounted: {}; unmount them, then run down again", mounts.join(" "));
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        if let Some(root) = dir.parent() {
            let _ = fs::remove_dir(root); // goes with the last lab
        }
        Ok(())
    }
}

/// What of the lab `name` is on this computer: processes, namespaces, mounts, cgroups, files. Empty after `down`.
pub fn leftovers(name: &str) -> Vec<String> {
    let prefix = format!("lf-{name}-");
    let state = Path::new("/var/lib/landfall-lab").join(name);
    let mut left: Vec<String> = namespaces(&prefix).iter().map(|netns| format!("network namespace {netns}")).collect();
    left.extend(processes_of(&prefix).iter().map(|p| format!("process {} {}", p.pid, p.arguments.join(" "))));
    left.extend(cgroups_of(&state).iter().map(|dir| format!("cgroup {}", dir.display())));
    left.extend(mounts_below(&state).unwrap_or_default().into_iter().map(|mount| format!("mount {mount}")));
    if state.exists() {
        left.push(format!("folder {}", state.display()));
    }
    left
}

/// The lab's processes: those below each machine's process 1, and whatever else was started in the lab's network
/// namespaces (a capture, a shell). Each process 1 comes before what is below it.
fn processes_of(prefix: &str) -> Vec<Process> {
    let all = processes::all();
    let mut found: Vec<Process> = all.into_iter().filter(|p| p.is_alive() && is_init(&p.arguments, prefix)).collect();
    let below: Vec<Process> = found.iter().flat_map(|init| processes::descendants(init.pid)).collect();
    found.extend(below);
    for netns in namespaces(prefix) {
        let pids = command::output(Command::new("ip").args(["netns", "pids", &netns])).unwrap_or_default();
        found.extend(pids.split_whitespace().filter_map(|pid| processes::read(pid.parse().ok()?)));
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|process| seen.insert(process.pid));
    found
}

/// `.../guest init lf-demo-n1 ...`, and the `unshare` that waits for it.
fn is_init(arguments: &[String], prefix: &str) -> bool {
    let label = arguments.iter().position(|argument| argument == "init").and_then(|at| arguments.get(at + 1));
    label.is_some_and(|label| label.starts_with(prefix))
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn cgroups_of(state: &Path) -> Vec<PathBuf> {
    let machines = fs::read_dir(state).into_iter().flatten().flatten();
    machines.flat_map(|machine| cgroups::of_machine(&machine.path())).collect()
}

/// Mount points at or below `dir`. Source: proc_pid_mountinfo(5), field 5.
fn mounts_below(dir: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| Path::new(point).starts_with(dir)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_labs_machines_are_taken_for_its_own() {
        let is_ours = |line: &str| is_init(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), "lf-demo-");
        assert!(is_ours("/var/lib/landfall-lab/demo/guest init lf-demo-n1 lib log tools"));
        assert!(is_ours("unshare --mount --pid /var/lib/landfall-lab/demo/guest init lf-demo-n1 lib"));
        for other in ["guest init lf-demo2-n1", "init", "grep lf-demo-n1", "sh -c init; lf-demo-"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
