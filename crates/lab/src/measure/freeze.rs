//! `cargo lab measure freeze`: the speaker of the node that answers stands still for a while, and goes on.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::asker::Asker;
use super::bench::Bench;
use super::claims;
use super::families::{self, ByFamily, Family};
use super::place::Where;
use super::probe::Outage;
use super::say;
use super::scene::{Owner, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
use super::tally::Tally;
use crate::fault::Fault;

/// Whoever is to yield has yielded by then.
const YIELD: Duration = Duration::from_secs(5);
/// For so long afterwards everybody who answers is counted.
const COUNT: Duration = Duration::from_secs(5);

/// Who answers after the speaker of the node that answered stood still (SIGSTOP) for a while, and was thawed.
///
/// The client asks for each address of one Service fifty times a second. answerers is how many nodes answer from 5 s after
/// the thaw to 10 s after it: 1, whoever it is. one_answerer_ms says how long after the thaw another node was still heard. Up
/// to 60 s Landfall's other speakers cover for one that is silent; let it stand still for longer (--for 75) and the address
/// moves, and the thawed speaker has to learn that.
///
/// Each run begins with new Pods of all speakers. It is void, and repeated, when the client heard another node than the
/// frozen one answer or announce in the last seconds before.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure freeze --for 15
  cargo lab measure freeze --for 75 --runs 10")]
pub(super) struct Freeze {
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    pub(super) place: Where,
    /// How long the speaker stands still.
    #[arg(long = "for", default_value_t = 15, value_name = "SECONDS")]
    duration: u64,
}

/// What was seen of one family.
struct Seen {
    answerers: usize,
    alone_after: Duration,
    outage: Outage,
}

/// One run.
struct Run {
    seen: ByFamily<Seen>,
    is_void: bool,
}

impl Freeze {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let scene = Scene::set(bench, self.place, 1, Pods::Elsewhere).await?;
        let mut runs = Tally::of(self.runs);
        while let Some(number) = runs.next() {
            speakers::renew_all(bench).await?;
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner).await?;
            self.tell(number, &owner, &run);
            let is_void = run.is_void;
            runs.note(run, is_void)?;
        }
        let figures = |name, unit, value: fn(&Seen) -> f64| {
            families::figures(runs.measured.iter().map(|run| &run.seen), name, unit, value)
        };
        // One is to answer in the end whoever stood still: void runs are judged, too.
        let all = runs.measured.iter().chain(&runs.void).map(|run| &run.seen);
        let answerers = families::figures(all, "answerers", "nodes", |seen| seen.answerers as f64)?;
        let mut summaries: Vec<Summary> = answerers.into_iter().map(|count| count.exactly(1.0)).collect();
        summaries.extend(figures("one_answerer_ms", "ms", |seen| ms(seen.alone_after))?);
        summaries.extend(figures("longest_silence_ms", "ms", |seen| ms(seen.outage.gap))?);
        summaries.push(Summary::of("void_runs", "runs", &[runs.void.len() as f64])?);
        Ok(Report {
            title: format!("speaker frozen for {} s and thawed, {}", self.duration, bench.installed.place()),
            figures: summaries,
            method: vec![
                "Asked for fifty times a second, by ARP or neighbour solicitation from the client.".into(),
                "All speakers' Pods are new before each run, so that no return to another node is due.".into(),
            ],
        })
    }

    fn tell(&self, number: usize, owner: &Owner, run: &Run) {
        let seen = |seen: &Seen| {
            format!(
                "{} nodes answer afterwards, alone {} ms after the thaw, silence of {} ms",
                seen.answerers,
                seen.alone_after.as_millis(),
                seen.outage.gap.as_millis()
            )
        };
        let void = if run.is_void { "; void: it had given an address away before" } else { "" };
        say(&format!(
            "run {number} of {}: speaker of {} frozen for {} s: {}{void}",
            self.runs,
            owner.node,
            self.duration,
            families::in_words(&run.seen, seen)
        ));
    }

    async fn once(&self, scene: &Scene<'_>, owner: &Owner) -> Result<Run> {
        let since = Instant::now();
        // So that the capture knows who answered before.
        scene.owners().await?;
        let probes = scene.probe("client")?;
        scene.served(&probes).await?;
        let frozen = scene.strike(owner, since, Fault::FreezeSpeaker).await?;
        let asker = Asker::start(&scene.wiretap, &scene.addresses);
        tokio::time::sleep(Duration::from_secs(self.duration)).await;
        let thawed = Instant::now();
        scene.bench.damage.mend().await?;
        tokio::time::sleep((thawed + YIELD).saturating_duration_since(Instant::now())).await;
        let count_from = Instant::now();
        tokio::time::sleep(COUNT).await;
        asker.stop()?;

        let outages = probes.finish(frozen.at, Instant::now()).await?;
        let answerers = claims::answerers(&scene.wiretap.claims_since(count_from));
        let after = scene.wiretap.claims_since(thawed);
        let seen = |(address, outage)| {
            let rival = claims::last_rival(&after, address);
            let seen = Seen {
                answerers: answerers.get(&address).map_or(0, |macs| macs.len()),
                alone_after: rival.map_or(Duration::ZERO, |at| at.saturating_duration_since(thawed)),
                outage,
            };
            (Family::of(address), seen)
        };
        Ok(Run { seen: outages.into_iter().map(seen).collect(), is_void: frozen.is_void })
    }
}
