//! What is there, for a person to read.

use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::processes::Process;

impl Lab {
    /// The lab's machines with what runs on them and whether their cables are plugged in, then what Kubernetes says.
    pub fn status(&self) -> Result<String> {
        let state = self.state()?;
        let mut text = format!("lab {}: {} nodes, state in {}\n", self.name(), state.nodes, self.state_dir().display());
        let ready = self.ready_nodes();
        text += &row("machine", "power", "cable", "Ready", "programs");
        for name in self.nodes()?.iter().map(String::as_str).chain(["cp"]) {
            let machine = self.machine(name)?;
            let ready = match (&ready, name) {
                (_, "cp") => "-",
                (Ok(ready), _) if ready.iter().any(|node| node == name) => "yes",
                (Ok(_), _) => "no",
                (Err(_), _) => "?",
            };
            text += &row(name, power(&machine), self.cable(name), ready, &programs(&machine));
        }
        let services = ["get", "services", "--all-namespaces", "--field-selector", "spec.type=LoadBalancer"];
        text += &match self.kubectl(&services) {
            Ok(table) if !table.trim().is_empty() => format!("\n{table}"),
            Ok(_) => "\nno Service of type LoadBalancer\n".to_owned(),
            Err(error) => format!("\nthe API server does not answer: {error:#}\n"),
        };
        Ok(text)
    }

    /// Whether eth0 has a carrier.
    fn cable(&self, place: &str) -> &'static str {
        let link = command::output(Command::new("ip").args(["-n", &self.netns(place), "link", "show", "dev", "eth0"]));
        match link {
            Ok(text) if text.contains("LOWER_UP") => "in",
            Ok(_) => "pulled",
            Err(_) => "-",
        }
    }
}

fn row(machine: &str, power: &str, cable: &str, ready: &str, programs: &str) -> String {
    format!("  {machine:<8} {power:<8} {cable:<8} {ready:<8} {programs}\n")
}

fn power(machine: &Machine) -> &'static str {
    match machine.init_pid() {
        None => "off",
        Some(_) if machine.processes().iter().any(Process::is_stopped) => "frozen",
        Some(_) => "on",
    }
}

fn programs(machine: &Machine) -> String {
    let processes = machine.processes();
    let mut all = Vec::new();
    for program in machine.programs() {
        let runs = processes.iter().any(|process| process.is_program(program));
        all.push(if runs { (*program).to_owned() } else { format!("({program} is down)") });
    }
    let ours = ["controller", "speaker"].into_iter().filter(|name| processes.iter().any(|p| p.is_program(name)));
    all.extend(ours.map(str::to_owned));
    all.join(" ")
}
