//! `cargo lab measure split`: the network falls into two halves, each with a client, and is joined again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::asker::{Asker, EVERY};
use super::bench::Bench;
use super::claims;
use super::damage::{Wound, blocking};
use super::probe::Probe;
use super::say;
use super::scene::{Owner, Pods, Scene, Where};
use super::statistics::{Report, Summary};
use crate::lab::Lab;
use crate::network::{self, FAR};

/// After the halves are joined it is asked for so long who answers.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// At the end of that, everybody who answers is counted for so long.
const COUNT: Duration = Duration::from_secs(3);

/// What clients see when the network falls into two halves, and when it heals.
///
/// Each node has a Pod and serves what comes to it from that one (externalTrafficPolicy Local). The segments are cut in two:
/// the control plane, a client and the larger number of nodes on one side; the others and a second client on the other. The
/// node that answers is by turns in the one and in the other. halves_unserved counts clients that had no steady answers at
/// the end of the split; one_answerer_ms says how long after the joining another node was still heard to answer than the one
/// that answers in the end (asked for fifty times a second); answerers, how many did in the last 3 of 10 s.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure split --runs 10")]
pub(super) struct Split {
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    place: Where,
    /// How many addresses, one Service each, from --address on.
    #[arg(long, default_value_t = 1, value_parser = super::at_least_one)]
    pub(super) addresses: usize,
    /// How long the halves stay apart.
    #[arg(long = "for", default_value_t = 15, value_name = "SECONDS")]
    duration: u64,
    /// How long after the joining two may be heard at most.
    #[arg(long, default_value_t = 1000.0, value_name = "MS")]
    worst_limit: f64,
}

/// One run.
struct Run {
    /// Of two.
    unserved: usize,
    /// The longest silence of each half's client: near, far.
    gaps: [Duration; 2],
    alone_after: Duration,
    /// Of the address with most.
    answerers: usize,
}

impl Split {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let nodes = bench.lab.nodes()?.len();
        let plug_in = move |lab: &Lab| {
            network::unplug(lab, FAR)?; // what a killed measurement left
            network::plug_in(lab, FAR, nodes)
        };
        bench.setup.cause(Wound::FarClient, plug_in).await?;
        let scene = Scene::set(bench, self.place, self.addresses, Pods::Everywhere).await?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            let owner = scene.settle().await?;
            let far = far_half(&scene.nodes, &owner.node, number % 2 == 1);
            let run = self.once(&scene, &far).await?;
            self.tell(number, &owner, &far, &run);
            runs.push(run);
            bench.installed.ready().await?;
        }
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let gaps: Vec<f64> = runs.iter().flat_map(|run| run.gaps).map(|gap| gap.as_secs_f64() * 1e3).collect();
        Ok(Report {
            title: format!("network in two halves for {} s, {nodes} nodes, {}", self.duration, bench.installed.place()),
            figures: vec![
                Summary::of("halves_unserved", "halves", &values(|run| run.unserved as f64))?.exactly(0.0),
                Summary::of("one_answerer_ms", "ms", &values(|run| run.alone_after.as_secs_f64() * 1e3))?
                    .at_most(self.worst_limit),
                Summary::of("answerers", "nodes", &values(|run| run.answerers as f64))?.exactly(1.0),
                Summary::of("longest_silence_of_a_half_ms", "ms", &gaps)?,
            ],
            method: vec![format!(
                "Who answers was asked every {} ms, by ARP or neighbour solicitation from the client, and each client sent \
                 datagrams to every address.",
                EVERY.as_millis()
            )],
        })
    }

    fn tell(&self, number: usize, owner: &Owner, far: &[String], run: &Run) {
        let [near_gap, far_gap] = run.gaps.map(|gap| gap.as_millis());
        say(&format!(
            "run {number} of {}: {} cut off, {} answered before: silence of {near_gap} ms near, {far_gap} ms far, {} halves \
             unserved; one answerer {} ms after the joining, {} at the end",
            self.runs,
            far.join(" "),
            owner.node,
            run.unserved,
            run.alone_after.as_millis(),
            run.answerers
        ));
    }

    async fn once(&self, scene: &Scene<'_>, far: &[String]) -> Result<Run> {
        let bench = scene.bench;
        let probes = [scene.probe("client")?, scene.probe(FAR)?];
        for probe in &probes {
            scene.served(probe).await?;
        }
        let places: Vec<String> = far.iter().cloned().chain([FAR.to_owned()]).collect();
        let cut = move |lab: &Lab| network::split(lab, &places.iter().map(String::as_str).collect::<Vec<_>>());
        let cut = bench.damage.cause(Wound::Split, cut).await?;
        tokio::time::sleep(Duration::from_secs(self.duration)).await;
        let unserved = probes.iter().filter(|probe| !scene.is_served(probe)).count();
        let gaps = gaps(probes, cut).await?;

        let asker = Asker::start(&scene.wiretap, &scene.addresses);
        let joined = Instant::now();
        bench.damage.mend().await?;
        tokio::time::sleep(AFTERWARDS - COUNT).await;
        let count_from = Instant::now();
        tokio::time::sleep(COUNT).await;
        asker.stop()?;

        let answerers = claims::answerers(&scene.wiretap.claims_since(count_from));
        let count = |address| answerers.get(address).map_or(0, BTreeSet::len);
        // None is as wrong as two, and counts as the farthest from 1.
        let farthest = scene.addresses.iter().map(count).max_by_key(|count| count.abs_diff(1));
        let after = scene.wiretap.claims_since(joined);
        let rivals = scene.addresses.iter().filter_map(|address| claims::last_rival(&after, *address));
        Ok(Run {
            unserved,
            gaps,
            alone_after: rivals.max().map_or(Duration::ZERO, |at| at.saturating_duration_since(joined)),
            answerers: farthest.context("no address")?,
        })
    }
}

/// The longest silence that each client has seen since then. The second that each waits for late answers is after the end.
async fn gaps(probes: [Probe; 2], since: Instant) -> Result<[Duration; 2]> {
    let mut gaps = [Duration::ZERO; 2];
    let until = Instant::now();
    for (gap, probe) in gaps.iter_mut().zip(probes) {
        let (from, until) = (probe.time(since), probe.time(until));
        let traces = blocking(move || probe.finish()).await?;
        *gap = traces.iter().map(|trace| trace.outage(from, until).gap).max().unwrap_or_default();
    }
    Ok(gaps)
}

/// The smaller half of the nodes, which is to be cut off from the control plane, with the owner in it or without.
fn far_half(nodes: &[String], owner: &str, with_owner: bool) -> Vec<String> {
    let mut far: Vec<String> = nodes.iter().filter(|node| *node != owner).cloned().collect();
    if with_owner {
        far.insert(0, owner.to_owned());
    }
    far.truncate(nodes.len() / 2);
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_far_half_is_the_smaller_one_with_the_owner_or_without() {
        let nodes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let five = nodes(&["n1", "n2", "n3", "n4", "n5"]);
        assert_eq!(far_half(&five, "n3", true), nodes(&["n3", "n1"]));
        assert_eq!(far_half(&five, "n1", false), nodes(&["n2", "n3"]));
        assert_eq!(far_half(&nodes(&["n1", "n2"]), "n1", false), nodes(&["n2"]));
    }
}
