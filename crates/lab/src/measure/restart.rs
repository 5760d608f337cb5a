//! `cargo lab measure restart`: the speaker goes while its node stays, and nobody should notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};

use super::bench::Bench;
use super::clients::{Clients, Load};
use super::damage::blocking;
use super::installed::Part;
use super::moves::Said;
use super::pods;
use super::probe::{INTERVAL, Outage};
use super::release;
use super::say;
use super::scene::{GROUP, Owner, Pods, Scene, Where};
use super::statistics::{Report, Summary};
use super::wait::wait_for;
use crate::fault::Fault;

/// After everything is ready again, the client goes on for so long.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// A speaker that is killed is back within a second or two.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// A DaemonSet replaces a Pod within seconds.
const BACK_LIMIT: Duration = Duration::from_secs(60);

/// What clients notice when the speaker of the node that answers goes, and the node itself does not.
///
/// As in `measure failover` there is one Service, whose Pod is on another node than the one that answers. The client sends a
/// UDP datagram every 10 ms and holds TCP connections on which requests and answers go to and fro. probes_lost and
/// connections_broken say what became of them; moves_on_the_wire counts how often answers and announcements heard by the
/// client named another MAC address than before; moves_in_status, how often the implementation's ServiceL2Status named
/// another node. All four are to be 0.
///
/// Before each run the speaker's Pod is made anew where the last run killed it: kubelet lets a container that has crashed
/// several times wait for minutes, which is --how keep-away and not --how kill.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure restart --how kill
  cargo lab measure restart --how keep-away --address fd00:30::240
  cargo lab measure restart --how rollout --runs 5")]
pub(super) struct Restart {
    /// How the speaker goes.
    #[arg(long, value_enum)]
    how: How,
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    place: Where,
    /// TCP connections that are held open through each run.
    #[arg(long, default_value_t = 20)]
    connections: usize,
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
    /// helm upgrade with new Pods for controller and speakers. Landfall only; rolled back at the end.
    Upgrade,
}

/// One run.
struct Run {
    outage: Outage,
    broken: usize,
    wire: usize,
    status: usize,
}

impl Restart {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let scene = Scene::set(bench, self.place, 1, Pods::Elsewhere).await?;
        let said = Said::watch(&bench.client, &bench.installed.namespace, &format!("{GROUP}-0"));
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner, &said, number).await?;
            say(&format!(
                "run {number} of {}: {:?} on {}: {} probes lost (longest silence {} ms), {} of {} connections broken, {} moves \
                 on the wire, {} in status",
                self.runs,
                self.how,
                owner.node,
                run.outage.lost,
                run.outage.gap.as_millis(),
                run.broken,
                self.connections,
                run.wire,
                run.status
            ));
            runs.push(run);
            if matches!(self.how, How::Kill | How::KeepAway) && number < self.runs {
                renew_speaker(bench, &owner.node).await?;
            }
        }
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        Ok(Report {
            title: format!("restart of the speaker of {}, {:?}", bench.installed.place(), self.how),
            figures: vec![
                Summary::of("probes_lost", "probes", &values(|run| run.outage.lost as f64))?.exactly(0.0),
                Summary::of("connections_broken", "connections", &values(|run| run.broken as f64))?.exactly(0.0),
                Summary::of("moves_on_the_wire", "moves", &values(|run| run.wire as f64))?.exactly(0.0),
                Summary::of("moves_in_status", "moves", &values(|run| run.status as f64))?.exactly(0.0),
                Summary::of("longest_silence_ms", "ms", &values(|run| run.outage.gap.as_secs_f64() * 1e3))?,
                Summary::of("blind_ms", "ms", &values(|run| run.outage.blind.as_secs_f64() * 1e3))?,
            ],
            method: vec![format!(
                "A UDP datagram every {} ms, {} TCP connections with a request every 100 ms, {} s or longer after the \
                 implementation was ready again.",
                INTERVAL.as_millis(),
                self.connections,
                AFTERWARDS.as_secs()
            )],
        })
    }

    async fn once(&self, scene: &Scene<'_>, owner: &Owner, said: &Said, number: usize) -> Result<Run> {
        let bench = scene.bench;
        let load = Load { established: self.connections, new_every: None };
        let clients = Clients::start(&bench.lab, "client", scene.server(), load).await?;
        let probe = scene.probe("client")?;
        scene.served(&probe).await?;
        let (began, said_before) = (Instant::now(), said.moves());
        // So that the capture knows who answered before.
        scene.owners().await?;
        let before = speaker(bench, &owner.node).await?;
        self.act(bench, &owner.node, number).await?;
        bench.installed.ready().await?;
        let after = speaker(bench, &owner.node).await?;
        ensure!(
            pods::containers(&before).iter().all(|id| !pods::containers(&after).contains(id)),
            "the speaker on {} is the one from before: nothing was restarted, nothing measured",
            owner.node
        );
        tokio::time::sleep(AFTERWARDS).await;
        scene.owners().await?;

        let (from, until) = (probe.time(began), probe.time(Instant::now()));
        let traces = blocking(move || probe.finish()).await?;
        let outage = traces.iter().map(|trace| trace.outage(from, until)).fold(Outage::default(), Outage::and);
        let seen = clients.finish().await?;
        seen.broken.iter().take(3).for_each(|why| say(&format!("  a connection broke: {why}")));
        Ok(Run {
            outage,
            broken: seen.broken.len(),
            wire: scene.moves_since(began),
            status: said.moves() - said_before,
        })
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

/// Deletes the speaker's Pod on a node; returns when its successor is ready.
async fn renew_speaker(bench: &Bench, node: &str) -> Result<()> {
    let old = speaker(bench, node).await?;
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.installed.namespace);
    pods.delete(&old.name_any(), &DeleteParams::default()).await?;
    wait_for(&format!("another speaker on {node}"), BACK_LIMIT, Duration::from_millis(250), || async {
        Ok((speaker(bench, node).await?.name_any() != old.name_any()).then_some(()))
    })
    .await?;
    bench.installed.ready().await
}

/// The speaker's Pod on a node.
async fn speaker(bench: &Bench, node: &str) -> Result<Pod> {
    let pods = bench.installed.pods(Part::Speaker).await?;
    let here = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node));
    pods.into_iter().find(here).with_context(|| format!("no speaker's Pod on {node}"))
}
