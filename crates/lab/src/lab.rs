//! One lab: its name, where its state lies, and what every part asks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::command;
use crate::machine::Machine;

/// Where labs keep their state. Short, because sockets below it must fit into 108 octets.
const STATE_ROOT: &str = "/var/lib/landfall-lab";
/// Longest name of a lab: it is part of the names of namespaces and cgroups.
const NAME_MAX: usize = 16;

/// A handle on one lab; it may be up or not. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    name: String,
}

/// What `up` wrote down for the commands that come later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// How many nodes: n1, n2, ...
    pub nodes: usize,
    /// Folder with the Kubernetes programs, containerd and helm.
    pub tools: PathBuf,
    /// The static binary that the machines run as process 1.
    pub guest: PathBuf,
}

impl Lab {
    /// # Errors
    /// A name other than 1 to 16 characters of a-z and 0-9.
    pub fn named(name: &str) -> Result<Lab> {
        let plain = !name.is_empty() && name.len() <= NAME_MAX;
        ensure!(
            plain && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "lab name {name:?}: use 1 to {NAME_MAX} characters of a-z and 0-9"
        );
        Ok(Lab { name: name.to_owned() })
    }

    /// The lab that the environment variable LANDFALL_LAB names, else `demo`. Tests start here.
    pub fn from_env() -> Result<Lab> {
        Lab::named(std::env::var("LANDFALL_LAB").as_deref().unwrap_or("demo"))
    }

    /// The labs that have left state on this computer.
    pub fn all() -> Result<Vec<Lab>> {
        let Ok(entries) = fs::read_dir(STATE_ROOT) else { return Ok(Vec::new()) };
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().map(|name| Lab::named(name)).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds all of this lab's state and logs.
    pub fn state_dir(&self) -> PathBuf {
        Path::new(STATE_ROOT).join(&self.name)
    }

    /// Start of the names of everything that this lab makes on the computer.
    pub fn prefix(&self) -> String {
        format!("lf-{}-", self.name)
    }

    /// The network namespace of `n1`, `cp`, `client` or `fabric`, as `ip netns` names it.
    pub fn netns(&self, place: &str) -> String {
        format!("{}{place}", self.prefix())
    }

    /// What `up` wrote down.
    /// # Errors
    /// The lab is not up.
    pub fn state(&self) -> Result<LabState> {
        let file = self.state_dir().join("state.json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("lab {} is not up; `cargo lab up --name {}` starts it", self.name, self.name))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; `cargo lab down` clears it", file.display()))
    }

    pub(crate) fn write_state(&self, state: &LabState) -> Result<()> {
        fs::write(self.state_dir().join("state.json"), serde_json::to_vec_pretty(state)?)?;
        Ok(())
    }

    /// Names of the nodes, `n1` first.
    pub fn nodes(&self) -> Result<Vec<String>> {
        Ok((1..=self.state()?.nodes).map(node_name).collect())
    }

    /// The machine `cp`, `n1`, `n2`, ...
    /// # Errors
    /// Names the machines that there are.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        let mut machines = self.nodes()?;
        machines.push("cp".to_owned());
        ensure!(
            machines.iter().any(|m| m == name),
            "lab {} has no machine {name:?}; it has {}",
            self.name,
            machines.join(" ")
        );
        Ok(Machine::new(self, name))
    }

    /// The kubeconfig of an administrator. It works inside the lab's namespaces only: [`Lab::in_netns`] with `"cp"`.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.state_dir().join("admin.kubeconfig")
    }

    /// A command that runs in the network namespace of `place` (`n1`, `cp`, `client`), with the host's files.
    pub fn netns_command(&self, place: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns(place))).args(["--", program]);
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable); // there is no proxy inside
        }
        command
    }

    /// A command at a place: inside a machine for `cp` and nodes, in the network namespace of `client`.
    /// # Errors
    /// There is no such place, or the machine is off.
    pub fn exec_command(&self, place: &str, program: &str) -> Result<Command> {
        if place == "client" {
            self.state()?;
            return Ok(self.netns_command(place, program));
        }
        let machine = self.machine(place).with_context(|| format!("neither `client` nor a machine: {place:?}"))?;
        let mut command = machine.command(program)?;
        if let Some(terminal) = std::env::var_os("TERM") {
            command.env("TERM", terminal);
        }
        Ok(command)
    }

    /// Runs a command at a place and returns what it printed. See [`Lab::exec_command`].
    pub fn exec(&self, place: &str, command: &[&str]) -> Result<String> {
        let (program, arguments) = command.split_first().context("no command")?;
        command::output(self.exec_command(place, program)?.args(arguments))
    }

    /// `kubectl` with administrator's rights, ready for arguments.
    pub fn kubectl_command(&self) -> Result<Command> {
        self.client_command("kubectl")
    }

    /// `helm` with administrator's rights, ready for arguments.
    pub fn helm_command(&self) -> Result<Command> {
        self.client_command("helm")
    }

    fn client_command(&self, program: &str) -> Result<Command> {
        let (state, dir) = (self.state()?, self.state_dir());
        let mut command = self.netns_command("cp", &state.tools.join(program).to_string_lossy());
        command.env("KUBECONFIG", self.kubeconfig_path()).env("KUBECACHEDIR", dir.join("kubectl"));
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, dir.join("helm").join(folder));
        }
        Ok(command)
    }

    /// Runs kubectl and returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        command::output(self.kubectl_command()?.args(args))
    }

    /// Runs helm and returns what it printed.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        command::output(self.helm_command()?.args(args))
    }

    /// `kubectl apply` of one or more YAML documents.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        command::output_with_input(self.kubectl_command()?.args(["apply", "-f", "-"]), yaml)
    }

    /// Reads objects as JSON: `lab.get(&["services", "-A"])`.
    pub fn get(&self, args: &[&str]) -> Result<serde_json::Value> {
        let text = command::output(self.kubectl_command()?.arg("get").args(args).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl get -o json")
    }
}

/// The name of the `index`th node, from 1.
pub fn node_name(index: usize) -> String {
    format!("n{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_taken_for_another_labs_is_refused() {
        for name in ["", "test-2", "Demo", "a/b", "seventeen00000017"] {
            let error = Lab::named(name).unwrap_err().to_string();
            assert_eq!(error, format!("lab name {name:?}: use 1 to 16 characters of a-z and 0-9"));
        }
        assert_eq!(Lab::named("demo2").unwrap().netns("n1"), "lf-demo2-n1");
    }
}
