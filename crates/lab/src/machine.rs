//! A machine of the lab, `cp` or a node: PID, mount and network namespaces with our own process 1 in them.
//!
//! Inside, /var/lib, /var/log, /run and /tmp are the machine's own, so that every program may use its usual paths; the rest
//! of the file system is the computer's, to be read only. /sys stays the computer's mount, because the container runtime
//! needs its cgroups.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::lab::Lab;
use crate::processes::{self, Process};

/// Where a machine finds the lab's programs.
pub const TOOLS_INSIDE: &str = "/run/tools";
/// Where a machine finds its configuration: its own `lib` folder, seen from inside.
pub const CONFIG_INSIDE: &str = "/var/lib/landfall-lab";
/// Starting process 1 takes milliseconds; much longer means that a mount failed.
const BOOT_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel ends a machine's processes within milliseconds, unless one waits for a slow disk.
const OFF_TIMEOUT: Duration = Duration::from_secs(30);

/// One machine of a lab; it may be on or off.
#[derive(Clone, Debug)]
pub struct Machine {
    lab: Lab,
    name: String,
}

impl Machine {
    pub(crate) fn new(lab: &Lab, name: &str) -> Machine {
        Machine { lab: lab.clone(), name: name.to_owned() }
    }

    /// `n1`, `cp`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The programs that run on it, below its process 1.
    pub fn programs(&self) -> &'static [&'static str] {
        match self.name.as_str() {
            "cp" => &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"],
            _ => &["containerd", "kubelet", "kube-proxy"],
        }
    }

    /// Its folder on the computer.
    pub fn dir(&self) -> PathBuf {
        self.lab.state_dir().join(&self.name)
    }

    /// Its configuration's folder, as the computer sees it; [`CONFIG_INSIDE`] from inside.
    pub fn config_dir(&self) -> PathBuf {
        self.dir().join("lib/landfall-lab")
    }

    /// Its /var/log, as the computer sees it.
    pub fn log_dir(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The log of one of its programs.
    pub fn log_file(&self, component: &str) -> PathBuf {
        self.log_dir().join(format!("{component}.log"))
    }

    /// The name of its network namespace; also the mark by which its process 1 is known.
    pub fn label(&self) -> String {
        self.lab.netns(&self.name)
    }

    fn pid_file(&self) -> PathBuf {
        self.dir().join("lib/init.pid")
    }

    /// Makes its folders.
    pub fn create_dirs(&self) -> Result<()> {
        for dir in [self.config_dir(), self.log_dir()] {
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        Ok(())
    }

    /// Starts process 1 in the machine's network namespace, which must exist.
    pub fn boot(&self) -> Result<()> {
        ensure!(self.init_pid().is_none(), "{} is already on", self.name);
        let state = self.lab.state()?;
        let _ = fs::remove_file(self.pid_file());
        let log = File::create(self.dir().join("init.log"))?;
        let mut command = Command::new("setsid");
        command.arg("--fork").arg("nsenter").arg(format!("--net=/run/netns/{}", self.label()));
        // --kill-child: should `unshare` be killed, process 1 goes too, and nothing stays behind.
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]);
        command.arg(&state.guest).args(["init", &self.label()]);
        command.args([self.dir().join("lib"), self.log_dir(), state.tools]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env_clear().envs(clean_environment());
        command::passthrough(&mut command)?;
        let deadline = Instant::now() + BOOT_TIMEOUT;
        while self.init_pid().is_none() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.dir().join("init.log")).unwrap_or_default();
                bail!("machine {} does not come up:\n{}", self.name, command::last_lines(&log, 10));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Process 1, in the computer's numbers; `None` when the machine is off.
    pub fn init_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.pid_file()).ok()?;
        let pid = text.parse().ok()?;
        // A number may have been given to another process since: only ours carries the label.
        let process = processes::read(pid)?;
        (process.is_alive() && process.arguments.iter().any(|argument| *argument == self.label())).then_some(pid)
    }

    /// A command inside the machine: its processes, mounts and network.
    /// # Errors
    /// The machine is off.
    pub fn command(&self, program: &str) -> Result<Command> {
        let off = || format!("{} is off; `cargo lab heal {}` starts it", self.name, self.name);
        let pid = self.init_pid().with_context(off)?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={pid}")).args(["--pid", "--mount", "--net", "--", program]);
        command.env_clear().envs(clean_environment());
        Ok(command)
    }

    /// Starts a program of the machine; what it prints goes to its log. It is a child of process 1.
    pub fn start(&self, component: &str, arguments: &[String]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file(component))?;
        let mut command = self.command("setsid")?;
        command.args(["--fork", &format!("{TOOLS_INSIDE}/{component}")]).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command::passthrough(&mut command)
    }

    /// Every process of the machine, those in Pods included, without process 1. Empty when it is off.
    pub fn processes(&self) -> Vec<Process> {
        self.init_pid().map(processes::descendants).unwrap_or_default()
    }

    /// The process of one program: `kubelet`, `speaker`, `controller`, ...
    pub fn process(&self, program: &str) -> Option<Process> {
        self.processes().into_iter().find(|process| process.is_program(program))
    }

    /// Kills every process of the machine with one signal, and returns when the last is gone.
    pub fn kill(&self) -> Result<()> {
        let Some(init) = self.init_pid() else { return Ok(()) };
        let all: Vec<Process> = self.processes();
        match kill(Pid::from_raw(init), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => bail!("kill process 1 of {} ({init}): {error}", self.name),
        }
        let deadline = Instant::now() + OFF_TIMEOUT;
        while self.init_pid().is_some() || all.iter().any(Process::still_runs) {
            ensure!(Instant::now() < deadline, "processes of {} outlive SIGKILL for {OFF_TIMEOUT:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// What machines get to see of the environment: nothing of the user's, and the lab's programs before the computer's (an
/// old containerd-shim may be installed).
fn clean_environment() -> [(&'static str, String); 2] {
    let path = format!("{TOOLS_INSIDE}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    [("PATH", path), ("HOME", "/run".to_owned())]
}
