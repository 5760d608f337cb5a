//! `cargo lab measure split`: the network falls into two halves, each with a client, and is joined again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::asker::{Asker, EVERY};
use super::bench::Bench;
use super::claims;
use super::damage::Wound;
use super::evict::{Evict, InService};
use super::families::{self, ByFamily, Family};
use super::place::Where;
use super::probes;
use super::say;
use super::scene::{Owner, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
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
/// that answers in the end (asked for fifty times a second); answerers, how many did in the last 3 of 10 s; each for IPv4
/// and for IPv6; pods_out, which Pods were not Ready at some time of the run. Each run begins with new Pods of all speakers, so
/// that no address is about to return to where an earlier split has driven it from.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure split --runs 10")]
pub(super) struct Split {
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    pub(super) place: Where,
    /// How many Services, with addresses from --address on.
    #[arg(long, default_value_t = 1, value_parser = super::at_least_one)]
    pub(super) addresses: usize,
    /// How long the halves stay apart.
    #[arg(long = "for", default_value_t = 15, value_name = "SECONDS")]
    duration: u64,
    /// Landfall's setting failover.evictEndpoints while it is measured; rolled back afterwards.
    #[arg(long, value_enum, default_value_t = Evict::Off)]
    evict: Evict,
    /// How long after the joining two may be heard at most.
    #[arg(long, default_value_t = 1000.0, value_name = "MS")]
    worst_limit: f64,
}

/// What was seen of one family.
#[derive(Default)]
struct Seen {
    /// Of two.
    unserved: usize,
    /// The longest silence of each half's client: near, far.
    gaps: [Duration; 2],
    alone_after: Duration,
    /// Of the address whose number is farthest from 1: none is as wrong as two.
    answerers: usize,
}

impl Split {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        self.evict.install(bench, vec![]).await?;
        bench.far_client().await?;
        let scene = Scene::set(bench, self.place, self.addresses, Pods::Everywhere).await?;
        let (mut runs, mut out) = (Vec::new(), Vec::new());
        for number in 1..=self.runs {
            speakers::renew_all(bench).await?;
            let owner = scene.settle().await?;
            let far = far_half(&scene.nodes, &owner.node, number % 2 == 1);
            let before = InService::of(&scene.pods.list().await?);
            let run = self.once(&scene, &far).await?;
            self.tell(number, &owner, &far, &run);
            let left = before.left(&InService::of(&scene.pods.list().await?));
            left.iter().for_each(|pod| say(&format!("  left service: {pod}")));
            out.push(left.len() as f64);
            runs.push(run);
        }
        let figures = |name, unit, value: fn(&Seen) -> f64| families::figures(&runs, name, unit, value);
        let unserved = figures("halves_unserved", "halves", |seen| seen.unserved as f64)?;
        let alone = figures("one_answerer_ms", "ms", |seen| ms(seen.alone_after))?;
        let answerers = figures("answerers", "nodes", |seen| seen.answerers as f64)?;
        let mut summaries: Vec<Summary> = unserved.into_iter().map(|count| count.exactly(0.0)).collect();
        summaries.extend(alone.into_iter().map(|after| after.at_most(self.worst_limit)));
        summaries.extend(answerers.into_iter().map(|count| count.exactly(1.0)));
        summaries.extend(figures("longest_silence_of_a_half_ms", "ms", |seen| ms(seen.gaps[0].max(seen.gaps[1])))?);
        summaries.push(Summary::of("pods_out", "Pods", &out)?.exactly(0.0));
        let evict = self.evict.chart_value().map(|value| format!(", {value}")).unwrap_or_default();
        Ok(Report {
            title: format!(
                "network in two halves for {} s, {} nodes, {}{evict}",
                self.duration,
                scene.nodes.len(),
                bench.installed.place()
            ),
            figures: summaries,
            method: vec![
                format!(
                    "Who answers was asked every {} ms, by ARP or neighbour solicitation from the client, and each client \
                     sent datagrams to every address.",
                    EVERY.as_millis()
                ),
                "All speakers' Pods are new before each run, so that no return to another node is due.".into(),
            ],
        })
    }

    fn tell(&self, number: usize, owner: &Owner, far: &[String], run: &ByFamily<Seen>) {
        let seen = |seen: &Seen| {
            let [near_gap, far_gap] = seen.gaps.map(|gap| gap.as_millis());
            format!(
                "silence of {near_gap} ms near, {far_gap} ms far, {} halves unserved, one answerer {} ms after the joining, \
                 {} at the end",
                seen.unserved,
                seen.alone_after.as_millis(),
                seen.answerers
            )
        };
        say(&format!(
            "run {number} of {}: {} cut off, {} answered before: {}",
            self.runs,
            far.join(" "),
            owner.node,
            families::in_words(run, seen)
        ));
    }

    async fn once(&self, scene: &Scene<'_>, far: &[String]) -> Result<ByFamily<Seen>> {
        let bench = scene.bench;
        let probes = [scene.probe("client")?, scene.probe(FAR)?];
        for probes in &probes {
            scene.served(probes).await?;
        }
        let places: Vec<String> = far.iter().cloned().chain([FAR.to_owned()]).collect();
        let cut = move |lab: &Lab| network::split(lab, &places.iter().map(String::as_str).collect::<Vec<_>>());
        let cut = bench.damage.cause(Wound::Split, cut).await?;
        tokio::time::sleep(Duration::from_secs(self.duration)).await;
        let mut seen: ByFamily<Seen> = ByFamily::new();
        let served = probes.each_ref().map(|probes| scene.served_through(probes));
        // The second that each probe waits for late answers is after the end.
        let until = Instant::now();
        for (half, probes) in probes.into_iter().enumerate() {
            for (family, outage) in probes::by_family(&probes.finish(cut, until).await?) {
                seen.entry(family).or_default().gaps[half] = outage.gap;
            }
            for (family, served) in &served[half] {
                seen.entry(*family).or_default().unserved += usize::from(!served);
            }
        }

        let asker = Asker::start(&scene.wiretap, &scene.addresses);
        let joined = Instant::now();
        bench.damage.mend().await?;
        tokio::time::sleep(AFTERWARDS - COUNT).await;
        let count_from = Instant::now();
        tokio::time::sleep(COUNT).await;
        asker.stop()?;

        let answerers = claims::answerers(&scene.wiretap.claims_since(count_from));
        let after = scene.wiretap.claims_since(joined);
        let count = |address| answerers.get(&address).map_or(0, BTreeSet::len);
        for (family, seen) in &mut seen {
            let addresses = || scene.addresses.iter().copied().filter(|address| Family::of(*address) == *family);
            seen.answerers = addresses().map(count).max_by_key(|count| count.abs_diff(1)).unwrap_or(0);
            let rivals = addresses().filter_map(|address| claims::last_rival(&after, address));
            seen.alone_after = rivals.max().map_or(Duration::ZERO, |at| at.saturating_duration_since(joined));
        }
        Ok(seen)
    }
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
