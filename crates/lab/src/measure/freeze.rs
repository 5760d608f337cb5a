//! `cargo lab measure freeze`: the speaker of the node that answers stands still for a while, and goes on.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::asker::Asker;
use super::bench::Bench;
use super::claims;
use super::damage::blocking;
use super::probe::Outage;
use super::say;
use super::scene::{Pods, Scene, Where};
use super::statistics::{Report, Summary};
use crate::fault::Fault;

/// Whoever is to yield has yielded by then.
const YIELD: Duration = Duration::from_secs(5);
/// For so long afterwards everybody who answers is counted.
const COUNT: Duration = Duration::from_secs(5);

/// Who answers after the speaker of the node that answered stood still (SIGSTOP) for a while, and was thawed.
///
/// The client asks for the address fifty times a second. answerers is how many nodes answer from 5 s after the thaw to 10 s
/// after it: 1, whoever it is. one_answerer_ms says how long after the thaw another node was still heard. Up to 60 s
/// Landfall's other speakers cover for one that is silent; let it stand still for longer (--for 75) and the address moves,
/// and the thawed speaker has to learn that.
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
    place: Where,
    /// How long the speaker stands still.
    #[arg(long = "for", default_value_t = 15, value_name = "SECONDS")]
    duration: u64,
}

/// One run.
struct Run {
    answerers: usize,
    alone_after: Duration,
    outage: Outage,
}

impl Freeze {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let scene = Scene::set(bench, self.place, 1, Pods::Elsewhere).await?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner.node).await?;
            say(&format!(
                "run {number} of {}: speaker of {} frozen for {} s: {} nodes answer afterwards, alone {} ms after the thaw; \
                 silence of {} ms",
                self.runs,
                owner.node,
                self.duration,
                run.answerers,
                run.alone_after.as_millis(),
                run.outage.gap.as_millis()
            ));
            runs.push(run);
            bench.installed.ready().await?;
        }
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        Ok(Report {
            title: format!("speaker frozen for {} s and thawed, {}", self.duration, bench.installed.place()),
            figures: vec![
                Summary::of("answerers", "nodes", &values(|run| run.answerers as f64))?.exactly(1.0),
                Summary::of("one_answerer_ms", "ms", &values(|run| run.alone_after.as_secs_f64() * 1e3))?,
                Summary::of("longest_silence_ms", "ms", &values(|run| run.outage.gap.as_secs_f64() * 1e3))?,
            ],
            method: vec!["Asked for fifty times a second, by ARP or neighbour solicitation from the client.".into()],
        })
    }

    async fn once(&self, scene: &Scene<'_>, node: &str) -> Result<Run> {
        let (bench, address) = (scene.bench, scene.addresses[0]);
        let probe = scene.probe("client")?;
        scene.served(&probe).await?;
        let frozen = bench.damage.inflict(node, Fault::FreezeSpeaker).await?;
        let asker = Asker::start(&scene.wiretap, &scene.addresses);
        tokio::time::sleep(Duration::from_secs(self.duration)).await;
        let thawed = Instant::now();
        bench.damage.mend().await?;
        tokio::time::sleep((thawed + YIELD).saturating_duration_since(Instant::now())).await;
        let count_from = Instant::now();
        tokio::time::sleep(COUNT).await;
        asker.stop()?;

        let (from, until) = (probe.time(frozen), probe.time(Instant::now()));
        let traces = blocking(move || probe.finish()).await?;
        let outage = traces.iter().map(|trace| trace.outage(from, until)).fold(Outage::default(), Outage::and);
        let answerers = claims::answerers(&scene.wiretap.claims_since(count_from));
        let rival = claims::last_rival(&scene.wiretap.claims_since(thawed), address);
        Ok(Run {
            answerers: answerers.get(&address).map_or(0, |macs| macs.len()),
            alone_after: rival.map_or(Duration::ZERO, |at| at.saturating_duration_since(thawed)),
            outage,
        })
    }
}
