//! `cargo lab measure restart`: the speaker goes while its node stays, and nobody should notice.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::bench::Bench;
use super::held::Held;
use super::moves::Said;
use super::pods;
use super::probe::INTERVAL;
use super::release;
use super::scene::{GROUP, Owner, Pods, Scene};
use super::speakers;
use super::statistics::Report;
use super::vigil::{self, Outcome, Promise, Vigil};
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

impl Restart {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let scene = Scene::set(bench, self.held.place, 1, Pods::Elsewhere).await?;
        speakers::renew_all(bench).await?;
        let said = Said::watch(&bench.client, &bench.installed.namespace, &format!("{GROUP}-0"));
        let mut runs = Vec::new();
        for number in 1..=self.held.runs {
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner, &said, number).await?;
            let what = format!("run {number} of {}: {:?} on {}", self.held.runs, self.how, owner.node);
            run.tell(&what, self.held.connections);
            runs.push(run);
            if matches!(self.how, How::Kill | How::KeepAway) && number < self.held.runs {
                speakers::renew_one(bench, &owner.node).await?;
            }
        }
        self.report(bench, &runs)
    }

    fn report(&self, bench: &Bench, runs: &[Outcome]) -> Result<Report> {
        Ok(Report {
            title: format!("restart of the speaker of {}, {:?}", bench.installed.place(), self.how),
            figures: vigil::figures(runs, Promise::Unnoticed)?,
            method: vec![format!(
                "To each address a UDP datagram every {} ms, and {} TCP connections with a request every 100 ms, {} s or \
                 longer after the implementation was ready again.",
                INTERVAL.as_millis(),
                self.held.connections,
                AFTERWARDS.as_secs()
            )],
        })
    }

    async fn once(&self, scene: &Scene<'_>, owner: &Owner, said: &Said, number: usize) -> Result<Outcome> {
        let bench = scene.bench;
        let vigil = Vigil::begin(scene, said, "client", self.held.connections).await?;
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
        vigil.end().await
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
