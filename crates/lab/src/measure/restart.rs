//! `cargo lab measure restart`: the speaker goes while its node stays, and nobody should notice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::bench::Bench;
use super::families::{self, ByFamily, Family};
use super::held::Held;
use super::moves::Said;
use super::pods;
use super::probe::{INTERVAL, Outage};
use super::probes;
use super::release;
use super::say;
use super::scene::{GROUP, Owner, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
use crate::fault::Fault;

/// After everything is ready again, the client goes on for so long.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// A speaker that is killed is back within a second or two.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// What clients notice when the speaker of the node that answers goes, and the node itself does not.
///
/// As in `measure failover` there is one Service, whose Pod is on another node than the one that answers. The client sends a
/// UDP datagram to each of its addresses every 10 ms and holds TCP connections on which requests and answers go to and fro.
/// probes_lost and connections_broken say what became of them; moves_on_the_wire counts how often answers and announcements
/// heard by the client named another MAC address than before, each for IPv4 and for IPv6; moves_in_status, how often the
/// implementation's ServiceL2Status named another node. All four are to be 0. Client and server share the computer with the
/// cluster: blind_ms says for how long the client stood still, server_silence_ms and server_probes_lost what a second client
/// missed that asked the Pod around the Service.
///
/// All speakers' Pods are new before the first run, so that no address is about to return to where an earlier measurement
/// has driven it from. Before each further run the speaker's Pod is made anew where the last run killed it: kubelet lets a
/// container that has crashed several times wait for minutes, which is --how keep-away and not --how kill.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure restart --how kill
  cargo lab measure restart --how keep-away --family ipv6
  cargo lab measure restart --how rollout --runs 5
  cargo lab measure restart --how upgrade")]
pub(super) struct Restart {
    /// How the speaker goes.
    #[arg(long, value_enum)]
    how: How,
    #[command(flatten)]
    pub(super) held: Held,
    /// With keep-away: for how long no speaker can start on the node.
    #[arg(long, default_value_t = 45, value_name = "SECONDS")]
    away: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// kill -9 of the speaker on the node that answers; kubelet starts it again.
    Kill,
    /// The same, and the node can start no container for some time, as while an image is pulled.
    KeepAway,
    /// kubectl rollout restart of the speakers' DaemonSet: every node in turn.
    Rollout,
    /// helm upgrade with a changed value, for which all Pods of controllers and speakers are replaced. Landfall only;
    /// rolled back at the end.
    Upgrade,
}

/// What clients of one family noticed.
struct Noticed {
    outage: Outage,
    broken: usize,
    moves: usize,
}

/// One run.
struct Run {
    noticed: ByFamily<Noticed>,
    /// Moves in status.
    said: usize,
    blind: Duration,
    /// Of the server, when asked around the Service.
    server: Outage,
}

impl Restart {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let scene = Scene::set(bench, self.held.place, 1, Pods::Elsewhere).await?;
        speakers::renew_all(bench).await?;
        let said = Said::watch(&bench.client, &bench.installed.namespace, &format!("{GROUP}-0"));
        let mut runs = Vec::new();
        for number in 1..=self.held.runs {
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner, &said, number).await?;
            self.tell(number, &owner, &run);
            runs.push(run);
            if matches!(self.how, How::Kill | How::KeepAway) && number < self.held.runs {
                speakers::renew_one(bench, &owner.node).await?;
            }
        }
        self.report(bench, &runs)
    }

    fn tell(&self, number: usize, owner: &Owner, run: &Run) {
        let noticed = |noticed: &Noticed| {
            format!(
                "{} probes lost (longest silence {} ms), {} of {} connections broken, {} moves on the wire",
                noticed.outage.lost,
                noticed.outage.gap.as_millis(),
                noticed.broken,
                self.held.connections,
                noticed.moves
            )
        };
        say(&format!(
            "run {number} of {}: {:?} on {}: {}; {} moves in status",
            self.held.runs,
            self.how,
            owner.node,
            families::in_words(&run.noticed, noticed),
            run.said
        ));
        if run.server.lost > 0 {
            say(&format!(
                "  asked around the Service, the server itself missed {} probes, with a silence of {} ms: the computer is busy",
                run.server.lost,
                run.server.gap.as_millis()
            ));
        }
    }

    fn report(&self, bench: &Bench, runs: &[Run]) -> Result<Report> {
        let figures = |name, unit, value: fn(&Noticed) -> f64| {
            families::figures(runs.iter().map(|run| &run.noticed), name, unit, value)
        };
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let mut summaries = Vec::new();
        summaries.extend(figures("probes_lost", "probes", |noticed| noticed.outage.lost as f64)?);
        summaries.extend(figures("connections_broken", "connections", |noticed| noticed.broken as f64)?);
        summaries.extend(figures("moves_on_the_wire", "moves", |noticed| noticed.moves as f64)?);
        summaries.push(Summary::of("moves_in_status", "moves", &values(|run| run.said as f64))?);
        let mut summaries: Vec<Summary> = summaries.into_iter().map(|count| count.exactly(0.0)).collect();
        summaries.extend(figures("longest_silence_ms", "ms", |noticed| ms(noticed.outage.gap))?);
        summaries.push(Summary::of("blind_ms", "ms", &values(|run| ms(run.blind)))?);
        summaries.extend(probes::figures_of_the_server(&runs.iter().map(|run| run.server).collect::<Vec<_>>())?);
        Ok(Report {
            title: format!("restart of the speaker of {}, {:?}", bench.installed.place(), self.how),
            figures: summaries,
            method: vec![format!(
                "To each address a UDP datagram every {} ms, and {} TCP connections with a request every 100 ms, {} s or \
                 longer after the implementation was ready again.",
                INTERVAL.as_millis(),
                self.held.connections,
                AFTERWARDS.as_secs()
            )],
        })
    }

    async fn once(&self, scene: &Scene<'_>, owner: &Owner, said: &Said, number: usize) -> Result<Run> {
        let bench = scene.bench;
        let clients = self.held.connect(scene, None).await?;
        let (probes, control) = (scene.probe("client")?, scene.control().await?);
        scene.served(&probes).await?;
        let (began, said_before) = (Instant::now(), said.moves());
        // So that the capture knows who answered before.
        scene.owners().await?;
        let before = speakers::on(bench, &owner.node).await?;
        self.act(bench, &owner.node, number).await?;
        bench.installed.ready().await?;
        let after = speakers::on(bench, &owner.node).await?;
        ensure!(
            pods::containers(&before).iter().all(|id| !pods::containers(&after).contains(id)),
            "the speaker on {} is the one from before: nothing was restarted, nothing measured",
            owner.node
        );
        tokio::time::sleep(AFTERWARDS).await;
        scene.owners().await?;

        let until = Instant::now();
        let outages = probes::by_family(&probes.finish(began, until).await?);
        let server = control.finish(began, until).await?;
        let seen = clients.finish().await?;
        seen.values()
            .flat_map(|seen| &seen.broken)
            .take(3)
            .for_each(|why| say(&format!("  a connection broke: {why}")));
        let moves = scene.moves_since(began);
        let blind = probes::blind(&outages);
        let noticed = |(family, outage): (Family, Outage)| {
            let broken = seen.get(&family).map_or(0, |seen| seen.broken.len());
            (family, Noticed { outage, broken, moves: moves.get(&family).copied().unwrap_or(0) })
        };
        Ok(Run { noticed: outages.into_iter().map(noticed).collect(), said: said.moves() - said_before, blind, server })
    }

    /// Does it, and returns when the cluster may be asked whether all is ready again.
    async fn act(&self, bench: &Bench, node: &str, number: usize) -> Result<()> {
        match self.how {
            How::Kill => {
                bench.damage.inflict(node, Fault::KillSpeaker).await?;
                // Kubernetes notices after a moment; until then "ready" is old.
                tokio::time::sleep(AFTER_KILL).await;
                bench.damage.mend().await
            }
            How::KeepAway => {
                bench.damage.inflict(node, Fault::KeepSpeakerAway).await?;
                tokio::time::sleep(Duration::from_secs(self.away)).await;
                bench.damage.mend().await
            }
            How::Rollout => bench.installed.restart_speakers().await,
            How::Upgrade => {
                let parts = ["controller", "speaker"];
                let values = parts.map(|part| format!("{part}.podAnnotations.lab-measure=run-{number}"));
                release::upgrade(bench, &values).await
            }
        }
    }
}
