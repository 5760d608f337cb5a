//! Process 1 of a machine of the lab. It makes the machine's own view of the file system, says that it is up, and reaps.
//!
//! It is started inside new PID, mount and network namespaces. When it is killed the kernel kills every process of the
//! machine with it, and every mount goes with the last of them: switching a machine off is one signal.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::wait;

/// What kubelet wants of the whole machine's kernel. The machine is not ours to tune: kubelet is shown files that already
/// hold these values. Source: Kubernetes, `setupKernelTunables` in pkg/kubelet/cm.
const KUBELET_TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Never returns unless a mount fails. `lib` and `log` become /var/lib and /var/log; `tools` becomes /run/tools. Once all
/// mounts stand, `init.pid` in `lib` holds this process's id as the host sees it.
pub(crate) fn run(lib: &str, log: &str, tools: &str) -> Result<(), Box<dyn Error>> {
    // The host's /proc is still mounted: its `self` is our id in the host's numbers.
    let pid = fs::read_link("/proc/self")?;

    // A machine's /run is its own: network namespaces of Pods, sockets, locks. It is empty again after each boot.
    tmpfs("/run")?;
    for dir in ["/run/netns", "/run/lock", "/run/tools", "/run/tunables"] {
        fs::create_dir(dir)?;
    }
    bind(tools, "/run/tools")?;
    bind(log, "/var/log")?;
    bind(lib, "/var/lib")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
        .map_err(|e| format!("mount /proc: {e}"))?;
    for (name, value) in KUBELET_TUNABLES {
        let (copy, target) = (format!("/run/tunables/{}", name.replace('/', ".")), format!("/proc/sys/{name}"));
        if Path::new(&target).exists() {
            fs::write(&copy, value)?;
            bind(&copy, &target)?;
        }
    }
    tmpfs("/tmp")?;
    // What is left of the computer's files is for reading: no program can leave anything in /opt or /usr.
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>).map_err(|e| format!("make / read-only: {e}"))?;
    // kubelet and the container runtime pass mounts to each other.
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>).map_err(|e| format!("share mounts: {e}"))?;

    fs::write("/var/lib/init.pid.partial", pid.display().to_string())?;
    fs::rename("/var/lib/init.pid.partial", "/var/lib/init.pid")?;
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => thread::sleep(Duration::from_millis(100)), // no child at the moment
        }
    }
}

fn tmpfs(target: &str) -> Result<(), Box<dyn Error>> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .map_err(|e| format!("mount tmpfs on {target}: {e}").into())
}

fn bind(source: &str, target: &str) -> Result<(), Box<dyn Error>> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| format!("bind {source} to {target}: {e}").into())
}
