//! `cargo lab`: what was typed, and which part does it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::command;
use crate::lab::Lab;

/// A real Kubernetes cluster on this one Linux computer: API server, etcd, and nodes with kubelet, containerd and kube-proxy,
/// each machine in network namespaces of its own. Nothing that happens in it leaves the computer.
#[derive(Parser)]
#[command(name = "cargo lab", version, after_help = "Start with `cargo lab demo`.")]
struct Cli {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Which {
    /// Which lab: several can exist side by side. 1 to 16 characters of a-z and 0-9.
    #[arg(long, env = "LANDFALL_LAB", default_value = "demo", global = true)]
    name: String,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring a cluster up and wait until every node is Ready.
    Up(Up),
    /// Take a cluster down; nothing of it stays: processes, namespaces, mounts, cgroups, files.
    Down(Down),
    /// Run kubectl as administrator.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run helm as administrator.
    #[command(disable_help_flag = true)]
    Helm(Rest),
}

#[derive(Args)]
struct Up {
    /// How many nodes: n1, n2, ...
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Leave the cluster bare: without Landfall.
    #[arg(long)]
    no_landfall: bool,
}

#[derive(Args)]
struct Down {
    /// Every lab on this computer.
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Does what the command line says.
/// # Errors
/// What went wrong and the way out; `main` prints it.
pub fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let lab = Lab::named(&cli.which.name)?;
    match cli.verb {
        Verb::Up(up) => lab.up(up.nodes)?,
        Verb::Down(Down { all: true }) => Lab::all()?.iter().try_for_each(Lab::down)?,
        Verb::Down(Down { all: false }) => lab.down()?,
        Verb::Kubectl(rest) => return pass_on(lab.kubectl_command()?.args(rest.arguments)),
        Verb::Helm(rest) => return pass_on(lab.helm_command()?.args(rest.arguments)),
    }
    Ok(ExitCode::SUCCESS)
}

fn pass_on(command: &mut std::process::Command) -> Result<ExitCode> {
    Ok(ExitCode::from(command::interactive(command)?))
}
