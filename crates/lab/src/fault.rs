//! Breaking a node, and mending it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;
use crate::machine::Machine;
use crate::processes::Process;
use crate::steps::{Note, wait_for};
use crate::{cgroups, containers, control_plane, network, node};

/// A mended node is Ready within seconds; one that boots has its Pods' network to make first.
const HEAL_TIMEOUT: Duration = Duration::from_secs(180);

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// The power goes: both cables are dead and every process is killed at once; nothing says goodbye.
    PowerOff,
    /// The cable of eth0 is pulled: the node sees that it has no carrier, and goes on.
    CablePull,
    /// The cable of eth1 is pulled: the node sees that it has no carrier there, and can still tell the others over eth0.
    CarrierLoss,
    /// The speaker's process is killed; the kubelet starts it again.
    KillSpeaker,
    /// As kill-speaker, and the node starts no container until it is healed, as with a slow disk or registry.
    KeepSpeakerAway,
    /// The speaker's process stands still (SIGSTOP); all else on the node goes on.
    FreezeSpeaker,
    /// Every process of the node stands still (SIGSTOP), Pods included; its kernel goes on answering and forwarding.
    Freeze,
}

impl Lab {
    /// Does this to a node now, and returns when it has happened.
    /// # Errors
    /// There is no such node, it is off already, or no speaker runs on it.
    pub fn fault(&self, node: &str, fault: Fault) -> Result<()> {
        let machine = self.node(node)?;
        ensure!(machine.init_pid().is_some(), "{node} is off; `cargo lab heal {node}` starts it");
        match fault {
            Fault::PowerOff => self.power_off(&machine),
            Fault::CablePull => self.switch_port(node, 0, "down"),
            Fault::CarrierLoss => self.switch_port(node, 1, "down"),
            Fault::KillSpeaker => send(self.pid_of(node, "speaker")?, Signal::SIGKILL),
            Fault::KeepSpeakerAway => {
                let speaker = self.pid_of(node, "speaker")?;
                containers::hold(&machine)?;
                send(speaker, Signal::SIGKILL)
            }
            Fault::FreezeSpeaker => send(self.pid_of(node, "speaker")?, Signal::SIGSTOP),
            Fault::Freeze => freeze(&machine),
        }
    }

    /// Undoes whatever was done to a node, joins the nodes if they are in two parts, and returns when Kubernetes calls the node
    /// Ready again.
    /// # Errors
    /// It does not become Ready.
    pub fn heal(&self, node: &str) -> Result<()> {
        let machine = self.node(node)?;
        self.end_partition()?;
        let beat = self.last_beat(node)?;
        let was_off = machine.init_pid().is_none();
        if was_off {
            self.power_on(&machine)?;
        }
        let frozen: Vec<_> = machine.processes().into_iter().filter(Process::is_stopped).collect();
        frozen.iter().try_for_each(|process| send(process.pid, Signal::SIGCONT))?;
        containers::release(&machine)?;
        for segment in 0..2 {
            self.switch_port(node, segment, "up")?;
        }
        if was_off || !frozen.is_empty() {
            // Kubernetes takes 40 s to notice that a node is gone: until the node is heard again, "Ready" may be old.
            wait_for(&format!("sign of life of {node}"), HEAL_TIMEOUT, Duration::from_millis(300), || {
                Ok((self.last_beat(node)? != beat).then_some(()))
            })?;
        }
        self.wait_until_ready(&[node.to_owned()], &Note::default(), HEAL_TIMEOUT)
    }

    /// Ends the API server, at once; the other programs of the control plane go on without it.
    pub fn stop_api_server(&self) -> Result<()> {
        self.machine("cp")?.process("kube-apiserver").map_or(Ok(()), |process| send(process.pid, Signal::SIGKILL))
    }

    /// Starts the API server unless it runs, and returns when it answers.
    pub fn start_api_server(&self) -> Result<()> {
        let cp = self.machine("cp")?;
        if cp.process("kube-apiserver").is_none() {
            control_plane::start_api_server(&cp)?;
        }
        self.wait_for_api_server(&Note::default())
    }

    /// When the kubelet last renewed its lease, as Kubernetes writes it; empty in a node's first seconds.
    fn last_beat(&self, node: &str) -> Result<String> {
        let lease = format!("lease/{node}");
        let renewed = "jsonpath={.spec.renewTime}";
        self.kubectl(&["get", &lease, "--namespace", "kube-node-lease", "--ignore-not-found", "-o", renewed])
    }

    /// The machine of a node; `cp` is refused.
    /// # Errors
    /// Names the nodes that there are.
    pub fn node(&self, name: &str) -> Result<Machine> {
        let nodes = self.nodes()?;
        ensure!(
            nodes.iter().any(|node| node == name),
            "lab {} has no node {name:?}; it has {}",
            self.name(),
            nodes.join(" ")
        );
        self.machine(name)
    }

    /// The process of a program on a node: `speaker`, `controller`, `kubelet`.
    pub fn pid_of(&self, node: &str, program: &str) -> Result<i32> {
        let process = self.machine(node)?.process(program);
        Ok(process.with_context(|| format!("no {program} runs on {node}"))?.pid)
    }

    fn power_off(&self, machine: &Machine) -> Result<()> {
        // The cables first, both in one command: a killed process's kernel would still say goodbye on its connections.
        let down = |segment| format!("link set {} down\n", network::port(machine.name(), segment));
        network::ip(self, "fabric", &(down(0) + &down(1)))?;
        machine.kill()?;
        // Nothing of the machine's kernel survives: addresses, routes, rules, connections.
        network::unplug(self, machine.name())?;
        cgroups::remove(&cgroups::of_machine(&machine.dir()))
    }

    fn power_on(&self, machine: &Machine) -> Result<()> {
        let index = machine.name().trim_start_matches('n').parse()?;
        network::plug_in(self, machine.name(), self.state()?.nodes)?;
        node::start(self, index)
    }

    fn switch_port(&self, node: &str, segment: u8, state: &str) -> Result<()> {
        network::ip(self, "fabric", &format!("link set {} {state}\n", network::port(node, segment)))
    }
}

/// Stops every process, until none is found that runs: a parent may have had time to start another.
fn freeze(machine: &Machine) -> Result<()> {
    loop {
        let running: Vec<_> = machine.processes().into_iter().filter(|process| !process.is_stopped()).collect();
        if running.is_empty() {
            return Ok(());
        }
        running.iter().try_for_each(|process| send(process.pid, Signal::SIGSTOP))?;
    }
}

pub(crate) fn send(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()), // it has just ended by itself
        Err(error) => bail!("{signal} to process {pid}: {error}"),
    }
}
