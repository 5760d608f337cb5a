//! Reading what the cluster's programs wrote.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::lab::Lab;
use crate::landfall::NAMESPACE;

impl Lab {
    /// Prints the end of the logs of `component`: `kubelet` on every machine that has one, `n1/kubelet`, or Landfall's
    /// `controller` and `speaker`. Without a component: lists what there is.
    /// # Errors
    /// No log has this name.
    pub fn print_logs(&self, component: Option<&str>, lines: usize, follow: bool) -> Result<()> {
        let lines = lines.to_string();
        if let Some(component @ ("controller" | "speaker")) = component {
            let selector = format!("app.kubernetes.io/component={component}");
            let mut kubectl = self.kubectl_command()?;
            kubectl.args(["--namespace", NAMESPACE, "logs", "--prefix", "--tail", &lines, "--selector", &selector]);
            return command::passthrough(kubectl.args(follow.then_some("--follow")));
        }
        let logs = self.log_files()?;
        let Some(component) = component else {
            logs.iter().for_each(|(name, path)| println!("{name:<32} {}", path.display()));
            println!("Landfall's own: `cargo lab logs controller`, `cargo lab logs speaker`");
            return Ok(());
        };
        let wanted: Vec<_> = logs
            .iter()
            .filter(|(name, _)| {
                name == component || name.split_once('/').is_some_and(|(_, program)| program == component)
            })
            .map(|(_, path)| path)
            .collect();
        ensure!(!wanted.is_empty(), "no log is called {component:?}; `cargo lab logs` lists them");
        command::passthrough(Command::new("tail").args(["-n", &lines]).args(follow.then_some("-F")).args(wanted))
    }

    /// `n1/kubelet` and its file, for every program of every machine.
    fn log_files(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for name in self.nodes()?.iter().map(String::as_str).chain(["cp"]) {
            let machine = self.machine(name)?;
            files.extend(
                machine.programs().iter().map(|program| (format!("{name}/{program}"), machine.log_file(program))),
            );
        }
        Ok(files)
    }
}
