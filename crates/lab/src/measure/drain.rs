//! `cargo lab measure drain`: the node that answers is asked to give its addresses away, and gets them back.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::clients::{Load, NEW_EVERY, Seen};
use super::damage::Wound;
use super::families::{self, ByFamily, Family};
use super::held::{Connected, Held};
use super::release;
use super::say;
use super::scene::{Owner, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
use super::visits::Failure;
use crate::lab::Lab;

/// On a Node: it is to answer for nothing. Landfall's own.
const DRAIN: &str = "landfall.io/drain";
/// The clients work this long before and after a change.
const AROUND: Duration = Duration::from_secs(3);
/// A drained node's addresses have left it by then.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked who answers.
const LOOK: Duration = Duration::from_millis(500);

/// What clients notice when a node is drained of its addresses, and when it gets them back.
///
/// There is one Service, whose Pod is on another node than the one that answers. For each family a client opens a new TCP
/// connection every 20 ms with one request on it, which has failed when it is not answered within 0.9 s (before TCP would send its first
/// packet again), and holds others established. The annotation landfall.io/drain: "true" is put on the Node; when another
/// node answers it is removed; the addresses return to their placed node after the hold-down. Each way is to cost no new
/// connection and one move of each address; how many established connections break is said, and not judged. A new connection
/// that was established with the old node before the other said to have the address, and was not answered yet, is an
/// established one, too: it is among the caught. All speakers'
/// Pods are new before the first run, so that no address is about to return from elsewhere.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure drain --runs 5
  cargo lab measure drain --keep-connections")]
pub(super) struct Drain {
    #[command(flatten)]
    pub(super) held: Held,
    /// Seconds in which the addresses are to return after the annotation is gone: the hold-down (20 s), and some.
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    return_limit: u64,
    /// Set Landfall's failover.keepConnections while it is measured. Then no established connection may break either, and none be
    /// caught.
    #[arg(long)]
    keep_connections: bool,
}

/// One way: there, or back.
struct Way {
    noticed: ByFamily<Noticed>,
    /// Until another node answered alone for every address; `None` when that did not happen in time.
    took: Option<Duration>,
}

/// What clients of one family noticed.
struct Noticed {
    seen: Seen,
    moves: usize,
    /// When the address moved.
    moved: Option<Instant>,
}

impl Noticed {
    /// New connections that failed, with whether they were established when the address moved.
    fn failures(&self) -> impl Iterator<Item = (&Failure, bool)> {
        let caught = |failure: &Failure| self.moved.is_some_and(|moved| failure.was_established(moved));
        self.seen.failures().map(move |failure| (failure, caught(failure)))
    }

    fn caught(&self) -> usize {
        self.failures().filter(|(_, caught)| *caught).count()
    }

    fn failed(&self) -> usize {
        self.seen.failures().count() - self.caught()
    }
}

impl Drain {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        if self.keep_connections {
            release::upgrade(bench, &["failover.keepConnections=true".into()]).await?;
        }
        let scene = Scene::set(bench, self.held.place, 1, Pods::Elsewhere).await?;
        speakers::renew_all(bench).await?;
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for number in 1..=self.held.runs {
            let owner = scene.settle().await?;
            let node = owner.node.clone();
            let wound = Wound::Annotation { node: node.clone(), key: DRAIN };
            let annotate = move |lab: &Lab| {
                lab.kubectl(&["annotate", "node", &node, &format!("{DRAIN}=true"), "--overwrite"]).map(drop)
            };
            let way = async { bench.damage.cause(wound, annotate).await.map(drop) };
            there.push(self.go(&scene, way, LEAVE_LIMIT, |now| *now != owner.node).await?);
            let way = async { bench.damage.mend().await };
            let limit = Duration::from_secs(self.return_limit);
            back.push(self.go(&scene, way, limit, |now| *now == owner.node).await?);
            self.tell(number, &owner, &there[number - 1], &back[number - 1]);
        }
        let mut figures = Vec::new();
        for (ways, [failed, caught, moves, broken, took, missing]) in [
            (
                &there,
                ["drain_failed", "drain_caught", "drain_moves", "drain_broken", "drain_ms", "drains_without_a_move"],
            ),
            (
                &back,
                ["return_failed", "return_caught", "return_moves", "return_broken", "return_ms", "returns_missing"],
            ),
        ] {
            let of_each = |name, unit, value: fn(&Noticed) -> f64| {
                families::figures(ways.iter().map(|way: &Way| &way.noticed), name, unit, value)
            };
            let failures = of_each(failed, "connections", |noticed| noticed.failed() as f64)?;
            figures.extend(failures.into_iter().map(|count| count.exactly(0.0)));
            let moved = of_each(moves, "moves", |noticed| noticed.moves as f64)?;
            figures.extend(moved.into_iter().map(|count| count.exactly(1.0)));
            let kept = |count: Summary| if self.keep_connections { count.exactly(0.0) } else { count };
            let caught = of_each(caught, "connections", |noticed| noticed.caught() as f64)?;
            figures.extend(caught.into_iter().map(kept));
            let broken = of_each(broken, "connections", |noticed| noticed.seen.broken.len() as f64)?;
            figures.extend(broken.into_iter().map(kept));
            let took_ms: Vec<f64> = ways.iter().filter_map(|way| way.took.map(ms)).collect();
            figures.push(Summary::of(missing, "runs", &[(ways.len() - took_ms.len()) as f64])?.exactly(0.0));
            if !took_ms.is_empty() {
                figures.push(Summary::of(took, "ms", &took_ms)?);
            }
        }
        Ok(Report {
            title: format!(
                "drain of the node that answers, {}{}",
                bench.installed.place(),
                if self.keep_connections { ", failover.keepConnections=true" } else { "" }
            ),
            figures,
            method: vec![format!(
                "To each address a new TCP connection every {} ms, {} established ones; failed: not answered within 0.9 s.",
                NEW_EVERY.as_millis(),
                self.held.connections
            )],
        })
    }

    /// Lets clients work, makes the change, waits until the one answerer is as wanted, and a while longer.
    async fn go(
        &self,
        scene: &Scene<'_>,
        change: impl Future<Output = Result<()>>,
        limit: Duration,
        wanted: impl Fn(&String) -> bool,
    ) -> Result<Way> {
        let load = Load { established: self.held.connections, new_every: Some(NEW_EVERY) };
        let clients = Connected::open(scene, "client", load).await?;
        let began = Instant::now();
        // So that the capture knows who answered before.
        scene.owners().await?;
        tokio::time::sleep(AROUND).await;
        let changed = Instant::now();
        change.await?;
        let mut took = None;
        while took.is_none() && changed.elapsed() < limit {
            tokio::time::sleep(LOOK).await;
            let owners = scene.owners().await?;
            if owners.values().all(|nodes| nodes.len() == 1 && nodes.iter().all(&wanted)) {
                took = Some(changed.elapsed());
            }
        }
        tokio::time::sleep(AROUND).await;
        let seen = clients.finish().await?;
        let (moves, moved) = (scene.moves_since(began), scene.moved_since(began));
        let noticed = |(family, seen): (Family, Seen)| {
            let moves = moves.get(&family).copied().unwrap_or(0);
            (family, Noticed { seen, moves, moved: moved.get(&family).copied() })
        };
        Ok(Way { noticed: seen.into_iter().map(noticed).collect(), took })
    }

    fn tell(&self, number: usize, owner: &Owner, there: &Way, back: &Way) {
        let noticed = |noticed: &Noticed| {
            let Noticed { seen: Seen { broken, visits }, moves, .. } = noticed;
            let (failed, caught, tried, broken) = (noticed.failed(), noticed.caught(), visits.len(), broken.len());
            format!(
                "{failed} of {tried} new connections failed, {caught} were caught, {broken} established broke, {moves} moves"
            )
        };
        let way = |way: &Way| {
            let took = way.took.map_or("no move in time".to_owned(), |took| format!("{:.1} s", took.as_secs_f64()));
            format!("{took}, {}", families::in_words(&way.noticed, noticed))
        };
        let (went, returned) = (way(there), way(back));
        say(&format!("run {number} of {}: drain of {}: {went}; return: {returned}", self.held.runs, owner.node));
        let failed = [there, back].into_iter().flat_map(|way| way.noticed.values().flat_map(Noticed::failures));
        for (Failure { why, .. }, caught) in failed.take(3) {
            let what = if caught { "a connection was caught by the move" } else { "a new connection failed" };
            say(&format!("  {what}: {why}"));
        }
    }
}
