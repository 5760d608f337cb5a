//! `cargo lab measure`: figures of whatever LoadBalancer implementation is installed, seen through the API and on the wire.

mod addresses;
mod asker;
mod bench;
mod burst;
mod busy;
mod calm;
mod claims;
mod clients;
mod damage;
mod drain;
mod echo_pods;
mod evict;
mod failover;
mod families;
mod freeze;
mod held;
mod installed;
mod latency;
mod leader;
mod memory;
mod moves;
mod outage;
mod place;
mod pods;
mod probe;
mod probes;
mod reachability;
mod release;
mod restart;
mod scene;
mod services;
mod speakers;
mod split;
mod statistics;
mod tally;
mod vigil;
mod visits;
mod wait;
mod wiretap;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::lab::Lab;
use crate::limits;
use bench::Bench;
use installed::Which;
use statistics::Report;

/// Measure the LoadBalancer implementation that is installed in the lab: Landfall, MetalLB, or another.
///
/// It is treated as a stranger: found by the labels of its Pods, configured by metallb.io objects, and judged by what the
/// API and the wire show. What a measurement makes (in namespace lab-measure) and breaks is removed and mended at its end,
/// also when it fails or is interrupted; what a killed one left, at the start of the next. Progress goes to standard error.
///
/// Where something is promised, the figures are held against it, and the exit code says whether it was kept: 0, or 3 when a
/// limit was exceeded (1: it could not be measured).
#[derive(clap::Args)]
#[command(after_help = "\
Example, side by side:
  cargo lab up --name ours && cargo lab measure latency --name ours --json >> figures.jsonl")]
pub(crate) struct Measure {
    /// Print nothing but JSON lines: name, unit, runs, min, median, p95, max.
    #[arg(long, global = true)]
    json: bool,
    /// Judge nothing: end with 0 whatever the figures are. For other implementations, which promise something else.
    #[arg(long, global = true)]
    no_limits: bool,
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Memory(memory::Memory),
    Latency(latency::Latency),
    Burst(burst::Burst),
    Failover(failover::Failover),
    Restart(restart::Restart),
    Drain(drain::Drain),
    Outage(outage::Outage),
    Split(split::Split),
    Freeze(freeze::Freeze),
    Calm(calm::Calm),
}

/// The exit code of a measurement whose figures exceed a limit: neither clap's nor that of an error.
const EXCEEDED: u8 = 3;

/// Measures, and prints the figures; the exit code says whether they kept their limits.
/// # Errors
/// There is nothing to measure, or the measurement could not be finished; nothing of it is left behind.
pub(crate) fn run(lab: &Lab, measure: &Measure) -> Result<ExitCode> {
    lab.state()?;
    // The limit is the computer's: it shows in its own namespace only.
    limits::ensure_neighbours(measure.what.addresses())?;
    let kept = lab.in_netns("cp", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(attend(lab, measure))
    })??;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(EXCEEDED) })
}

/// Measures, prints the figures, and clears up whatever comes of it. Returns whether the figures kept their limits.
async fn attend(lab: &Lab, measure: &Measure) -> Result<bool> {
    let mut terminated = signal(SignalKind::terminate())?;
    let bench = Bench::open(lab, &measure.which).await?;
    say(&format!("measuring {}", bench.installed.place()));
    let report = tokio::select! {
        report = measure.what.run(&bench) => report,
        _ = tokio::signal::ctrl_c() => interrupted(),
        _ = terminated.recv() => interrupted(),
    };
    // Before clearing up, which may take minutes, and fail: the figures are worth more.
    let result = report.and_then(|report| measure.show(report));
    say("clearing up");
    let cleared = bench.close().await.context("clear up after the measurement");
    match (result, cleared) {
        (Err(error), Err(second)) => Err(error.context(format!("{second:#}; and before that"))),
        (result, cleared) => cleared.and(result),
    }
}

impl Measure {
    /// Prints the figures; says whether they kept their limits.
    fn show(&self, mut report: Report) -> Result<bool> {
        if self.no_limits {
            report.forget_limits();
        }
        if self.json {
            println!("{}", report.json_lines()?);
        } else {
            print!("{}", report.table());
        }
        Ok(report.is_kept())
    }
}

fn interrupted() -> Result<Report> {
    bail!("interrupted")
}

impl What {
    /// How many addresses the client talks to at once.
    fn addresses(&self) -> usize {
        match self {
            What::Failover(failover) => failover.place.count(failover.addresses),
            What::Split(split) => split.place.count(split.addresses),
            What::Restart(restart) => restart.held.place.count(1),
            What::Drain(drain) => drain.held.place.count(1),
            What::Outage(outage) => outage.place.count(1),
            What::Freeze(freeze) => freeze.place.count(1),
            What::Calm(calm) => calm.place.count(1),
            What::Memory(_) | What::Latency(_) | What::Burst(_) => 0,
        }
    }

    async fn run(&self, bench: &Bench) -> Result<Report> {
        match self {
            What::Memory(memory) => memory.run(bench).await,
            What::Latency(latency) => latency.run(bench).await,
            What::Burst(burst) => burst.run(bench).await,
            What::Failover(failover) => failover.run(bench).await,
            What::Restart(restart) => restart.run(bench).await,
            What::Drain(drain) => drain.run(bench).await,
            What::Outage(outage) => outage.run(bench).await,
            What::Split(split) => split.run(bench).await,
            What::Freeze(freeze) => freeze.run(bench).await,
            What::Calm(calm) => calm.run(bench).await,
        }
    }
}

/// Tells the person who waits; standard output is for the figures.
fn say(text: &str) {
    eprintln!("  {text}");
}

/// Reads a count for the command line.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}
