//! `cargo lab`: what was typed, and which part does it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::fault::Fault;
use crate::lab::Lab;
use crate::measure::{self, Measure};
use crate::{command, demo, generate, repository, test, tools};

/// A real Kubernetes cluster on this one Linux computer: API server and etcd, and nodes with kubelet, containerd and
/// kube-proxy, each machine in namespaces of its own. Nothing that happens in it leaves the computer.
///
/// Places in a lab: `cp` (the control plane), `n1`, `n2`, ... (nodes), and `client`, a computer on the nodes' segment.
/// eth0 is 172.30.0.0/24 and fd00:30::/64; nodes and client have a second segment on eth1, 172.31.0.0/24 and fd00:31::/64.
#[derive(Parser)]
#[command(name = "cargo lab", version, after_help = "Start with `cargo lab demo`; end with `cargo lab down`.")]
struct Cli {
    /// Which lab: several can be up side by side. 1 to 16 characters of a-z and 0-9.
    #[arg(long, env = "LANDFALL_LAB", default_value = "demo", global = true)]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The whole story: a cluster, a Service that waits, Landfall, a pool, an address, an answer. Leaves the cluster up.
    Demo,
    /// Run the tests: of every crate, then those that need a cluster, on a fresh one that is taken down afterwards.
    Test(Test),
    /// Bring a cluster up, wait until every node is Ready, and install Landfall. Does nothing when it is up.
    Up(Up),
    /// Take a cluster down. Nothing of it stays: processes, namespaces, mounts, cgroups, files.
    Down(Down),
    /// Show machines, what runs on them, and the Services of type LoadBalancer.
    Status,
    /// Run kubectl as administrator: `cargo lab kubectl get pods -A`.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Run helm as administrator: `cargo lab helm list -A`.
    #[command(disable_help_flag = true)]
    Helm(Rest),
    /// Run a command at a place: `cargo lab exec client -- curl http://172.30.0.200`.
    ///
    /// On a machine (cp, n1, ...) it sees that machine's processes, files under /var/lib, /var/log and /run, and network; at
    /// the client, the client's network.
    Exec(Exec),
    /// Container images on the nodes.
    #[command(subcommand)]
    Image(ImageVerb),
    /// Show the end of a program's log, or list the logs: `cargo lab logs n1/kubelet`.
    Logs(Logs),
    /// Break a node: `cargo lab fault n1 power-off`.
    Fault(Break),
    /// Undo what was done to a node, and wait until it is Ready; after power-off it boots again.
    Heal(Mend),
    Measure(Measure),
    /// Write the files that are made from others: CRDs from the Rust types, plain manifests from the chart.
    Generate(Generate),
}

#[derive(Args)]
struct Test {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Leave the cluster up afterwards: `cargo lab --name test status`.
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Up {
    /// How many nodes: n1, n2, ... (1 to 9).
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
    /// Passed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct Exec {
    /// cp, n1, n2, ... or client.
    place: String,
    /// The program and its arguments.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Subcommand)]
enum ImageVerb {
    /// Load an image file (docker-archive, as `docker save` writes it) into every node.
    Load {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Logs {
    /// `kubelet` (of every machine that has one), `n1/kubelet`, or Landfall's `controller` or `speaker`.
    component: Option<String>,
    /// How many lines of each.
    #[arg(short = 'n', long, default_value_t = 40)]
    lines: usize,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
}

#[derive(Args)]
struct Break {
    /// n1, n2, ...
    node: String,
    /// What happens to it.
    fault: Fault,
}

#[derive(Args)]
struct Mend {
    /// n1, n2, ...
    node: String,
}

#[derive(Args)]
struct Generate {
    /// Write nothing; fail when a file is not what it would become.
    #[arg(long)]
    check: bool,
}

/// Does what the command line says.
/// # Errors
/// What went wrong and the way out; `main` prints it.
pub fn run() -> Result<ExitCode> {
    let cli = Cli::parse();
    let lab = Lab::named(&cli.name)?;
    match cli.verb {
        Verb::Demo => demo::run(&lab)?,
        Verb::Test(Test { filter, keep }) => return test::run(filter.as_deref(), keep),
        Verb::Up(Up { nodes, no_landfall }) => {
            lab.up(nodes)?;
            if !no_landfall {
                lab.load_landfall()?;
                lab.install_landfall(&[])?;
            }
        }
        Verb::Down(Down { all: true }) => Lab::all()?.iter().try_for_each(Lab::down)?,
        Verb::Down(Down { all: false }) => lab.down()?,
        Verb::Status => std::io::stdout().write_all(lab.status()?.as_bytes())?,
        Verb::Kubectl(rest) => return pass_on(lab.kubectl_command()?.args(rest.arguments)),
        Verb::Helm(rest) => return pass_on(lab.helm_command()?.args(rest.arguments)),
        Verb::Exec(Exec { place, command }) => {
            let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
            return pass_on(lab.exec_command(&place, program)?.args(arguments));
        }
        Verb::Image(ImageVerb::Load { file }) => lab.image_load(&file)?,
        Verb::Logs(Logs { component, lines, follow }) => lab.print_logs(component.as_deref(), lines, follow)?,
        Verb::Fault(Break { node, fault }) => lab.fault(&node, fault)?,
        Verb::Heal(Mend { node }) => lab.heal(&node)?,
        Verb::Measure(measure) => return measure::run(&lab, &measure),
        Verb::Generate(Generate { check }) => {
            generate::generate(&repository::root()?, &tools::ensure_helm()?, check)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pass_on(command: &mut std::process::Command) -> Result<ExitCode> {
    Ok(ExitCode::from(command::interactive(command)?))
}
