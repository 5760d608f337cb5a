//! `cargo lab test`: what CI runs.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;

use crate::command;
use crate::lab::Lab;
use crate::{packages, repository};

/// The lab that tests have for themselves; a running demo is not disturbed.
const LAB: &str = "test";
const CLUSTER_TESTS: &str = "landfall-cluster-tests";

/// Runs every test whose name contains `filter`: those of the crates, then those of the cluster on a fresh lab, which is
/// taken down afterwards unless `keep`. Failing tests give a failure code, after all others have run too.
/// # Errors
/// The lab did not come up or go down.
pub fn run(filter: Option<&str>, keep: bool) -> Result<ExitCode> {
    packages::ensure_installed()?;
    let mut outcomes = vec![("crates", timed(|| crate_tests(filter))?)];
    if !has_cluster_tests(filter)? {
        println!("\nno cluster test has {:?} in its name; no cluster is started", filter.unwrap_or_default());
        return Ok(report(&outcomes));
    }
    let lab = Lab::named(LAB)?;
    lab.down()?;
    let result = prepare(&lab).and_then(|()| {
        outcomes.push(("cluster", timed(|| cluster_tests(filter))?));
        outcomes.push(("labs", timed(|| lab_tests(filter))?));
        Ok(())
    });
    if keep {
        println!("\nthe cluster stays up: `cargo lab --name {LAB} status`; end it with `cargo lab --name {LAB} down`");
    } else {
        lab.down()?;
    }
    result?;
    Ok(report(&outcomes))
}

/// The image is loaded but nothing is installed: how Landfall comes into a cluster is what the tests test.
fn prepare(lab: &Lab) -> Result<()> {
    println!();
    lab.up(3)?;
    lab.load_landfall()
}

fn crate_tests(filter: Option<&str>) -> Result<bool> {
    let mut cargo = cargo()?;
    cargo.args(["test", "--workspace", "--exclude", CLUSTER_TESTS, "--no-fail-fast"]).args(filter);
    Ok(command::interactive(&mut cargo)? == 0)
}

/// One after the other: they share a cluster, and break parts of it.
fn cluster_tests(filter: Option<&str>) -> Result<bool> {
    let mut cargo = cargo()?;
    cargo.args(["test", "--package", CLUSTER_TESTS, "--no-fail-fast", "--", "--test-threads=1"]).args(filter);
    Ok(command::interactive(cargo.env("LANDFALL_LAB", LAB))? == 0)
}

/// The lab's own promises; `ignored` by a plain `cargo test`, because they start clusters.
fn lab_tests(filter: Option<&str>) -> Result<bool> {
    let mut cargo = cargo()?;
    cargo
        .args(["test", "--package", "landfall-lab", "--test", "labs", "--", "--ignored", "--test-threads=1"])
        .args(filter);
    Ok(command::interactive(cargo.env("LANDFALL_LAB", LAB))? == 0)
}

fn has_cluster_tests(filter: Option<&str>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    let mut names = command::output(cargo()?.args(["test", "--quiet", "--package", CLUSTER_TESTS, "--", "--list"]))?;
    names += &command::output(cargo()?.args([
        "test",
        "--quiet",
        "--package",
        "landfall-lab",
        "--test",
        "labs",
        "--",
        "--list",
    ]))?;
    Ok(names.lines().filter_map(|line| line.strip_suffix(": test")).any(|name| name.contains(filter)))
}

fn cargo() -> Result<Command> {
    let mut cargo = repository::cargo();
    cargo.current_dir(repository::root()?);
    Ok(cargo)
}

/// Whether the tests passed, and how long they took in seconds.
fn timed(tests: impl FnOnce() -> Result<bool>) -> Result<(bool, f64)> {
    let start = Instant::now();
    let passed = tests()?;
    Ok((passed, start.elapsed().as_secs_f64()))
}

fn report(outcomes: &[(&str, (bool, f64))]) -> ExitCode {
    println!("\ncargo lab test");
    for (name, (passed, seconds)) in outcomes {
        println!("  {name:<10} {:<8} {seconds:>6.1} s", if *passed { "passed" } else { "FAILED" });
    }
    let all = outcomes.iter().all(|(_, (passed, _))| *passed);
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
