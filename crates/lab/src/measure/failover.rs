//! `cargo lab measure failover`: the node that answers breaks, and a client keeps asking.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::bench::Bench;
use super::damage::{Wound, blocking};
use super::probe::{Outage, period};
use super::release;
use super::say;
use super::scene::{Owner, PAUSE, Pods, Scene, Where};
use super::statistics::{Report, Summary};
use crate::fault::Fault;
use crate::lab::Lab;

/// Each run ends after this time, whether the addresses answer again or not.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// So long the API server is away before the node breaks: whoever notices such things has noticed.
const WITHOUT_API: Duration = Duration::from_secs(5);
/// How often an address may move between the last look and the fault before that is an error.
const TRIES: usize = 3;

/// How long a client hears nothing when the node that answers breaks.
///
/// A Service with one Pod on another node than the one that answers for its address (found by asking on the wire, not by
/// what the implementation says). A client on the segment sends a UDP datagram every 10 ms, always from the same port; the
/// fault is made; failover_gap_ms is the longest time without an answer, probes_lost the number of datagrams that were never
/// answered. Then the node is mended, and the next run begins when everything is ready and one node has answered for some
/// seconds: the one where the address is placed, if it returns there within 90 s. A run in which an address does not answer
/// again within 120 s counts with the silence so far, and in unrecovered_runs.
///
/// With --addresses there are as many Services, one Pod behind all, and the node breaks that answers for most of those that
/// it has no Pod of. Each address has its own silence; a run's gap is that of its worst, also among those that need not
/// move. One socket of the client asks all in turn, 5,000 datagrams a second at most (each of 1,000 addresses every 200 ms:
/// the silences are that much coarser, never shorter than they were); blind_ms says for how long the client itself stood
/// still.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure failover --fault power-off
  cargo lab measure failover --fault cable-pull --address fd00:30::240
  cargo lab measure failover --fault power-off --profile fast
  cargo lab measure failover --fault power-off --addresses 1000 --runs 3
  cargo lab measure failover --fault power-off --api-server stopped")]
pub(super) struct Failover {
    /// What happens to the node.
    #[arg(long, value_enum)]
    fault: Fault,
    /// How often.
    #[arg(long, default_value_t = 20, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    place: Where,
    /// How many addresses, one Service each, from --address on.
    #[arg(long, default_value_t = 1, value_parser = super::at_least_one)]
    pub(super) addresses: usize,
    /// Landfall's settings while it is measured; rolled back afterwards.
    #[arg(long, value_enum, default_value_t = Profile::Installed)]
    profile: Profile,
    /// What becomes of the API server before the node breaks; it is started again before the node is mended.
    #[arg(long, value_enum, default_value_t = ApiServer::Running)]
    api_server: ApiServer,
    /// Seconds to watch after the fault at least. [default: 10; 20 for a killed speaker; 75 for a frozen one, whose effect
    /// shows only when the client's neighbour entry expires]
    #[arg(long, value_name = "SECONDS")]
    watch: Option<u64>,
    /// The median gap that is allowed. [default: 450; 200 with the fast profile; none for many addresses]
    #[arg(long, value_name = "MS")]
    median_limit: Option<f64>,
    /// The worst gap that is allowed. [default: 800; 1000 for many addresses]
    #[arg(long, value_name = "MS")]
    worst_limit: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// As it is installed.
    Installed,
    /// A beat every 30 ms.
    Fast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ApiServer {
    Running,
    /// Its process is killed 5 s before the fault.
    Stopped,
}

/// One run.
struct Run {
    /// Of all addresses together.
    outage: Outage,
    /// The gap of each address that the broken node had.
    gaps: Vec<Duration>,
    recovered: bool,
}

impl Failover {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        if self.profile == Profile::Fast {
            release::upgrade(bench, &["speaker.membership.beatInterval=30ms".into()]).await?;
            bench.installed.ready().await?;
        }
        let scene = Scene::set(bench, self.place, self.addresses, Pods::Elsewhere).await?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            let owner = self.prepare(&scene).await?;
            let run = self.once(&scene, &owner).await?;
            self.tell(number, &owner, &run);
            runs.push(run);
            bench.damage.mend().await?;
            bench.installed.ready().await?;
        }
        self.report(bench, &runs)
    }

    fn tell(&self, number: usize, owner: &Owner, run: &Run) {
        let (gap, lost) = (run.outage.gap.as_millis(), run.outage.lost);
        let end = if run.recovered { "" } else { ", not recovered" };
        let (fault, node, moved) = (self.fault_name(), &owner.node, owner.addresses.len());
        say(&format!(
            "run {number} of {}: {fault} of {node}, which had {moved} of {} addresses: silence of {gap} ms, {lost} probes \
             lost{end}",
            self.runs, self.addresses
        ));
        if run.outage.blind > 10 * period(self.addresses) {
            say(&format!(
                "  the probe itself stood still for {} ms: the computer is busy",
                run.outage.blind.as_millis()
            ));
        }
    }

    fn report(&self, bench: &Bench, runs: &[Run]) -> Result<Report> {
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let unrecovered = runs.iter().filter(|run| !run.recovered).count();
        let gap = Summary::of("failover_gap_ms", "ms", &values(|run| ms(run.outage.gap)))?;
        let mut figures = vec![
            match self.median() {
                Some(median) => gap.at_most(self.worst()).median_at_most(median),
                None => gap.at_most(self.worst()),
            },
            Summary::of("probes_lost", "probes", &values(|run| run.outage.lost as f64))?,
            Summary::of("blind_ms", "ms", &values(|run| ms(run.outage.blind)))?,
            Summary::of("unrecovered_runs", "runs", &[unrecovered as f64])?.exactly(0.0),
        ];
        if self.addresses > 1 {
            let gaps: Vec<f64> = runs.iter().flat_map(|run| &run.gaps).copied().map(ms).collect();
            figures.push(Summary::of("gap_of_each_moved_address_ms", "ms", &gaps)?);
        }
        let mut method = vec![
            format!(
                "Longest silence seen by a client that sends a UDP datagram to each address every {} ms, {} s or longer \
                 after the fault.",
                period(self.addresses).as_millis(),
                self.watched().as_secs()
            ),
            "The Services' one Pod is on another node than the one that breaks.".into(),
        ];
        if self.api_server == ApiServer::Stopped {
            method.push(format!("The API server was stopped {} s before the fault.", WITHOUT_API.as_secs()));
        }
        if self.profile == Profile::Fast {
            method.push("Fast profile: speaker.membership.beatInterval=30ms.".into());
        }
        Ok(Report {
            title: format!(
                "failover of {} on {}, {} nodes, {}",
                bench.installed.place(),
                self.fault_name(),
                bench.lab.nodes()?.len(),
                self.what()
            ),
            figures,
            method,
        })
    }

    /// Settles, and stops the API server if that is asked for. Returns who is to break.
    async fn prepare(&self, scene: &Scene<'_>) -> Result<Owner> {
        for _ in 0..TRIES {
            let owner = scene.settle().await?;
            if self.api_server == ApiServer::Stopped {
                scene.bench.damage.cause(Wound::ApiServer, Lab::stop_api_server).await?;
                tokio::time::sleep(WITHOUT_API).await;
            }
            let owners = scene.owners().await?;
            let has = |address: &IpAddr| owners.get(address).is_some_and(|nodes| nodes.iter().eq([&owner.node]));
            if owner.addresses.iter().all(has) {
                return Ok(owner);
            }
            say("an address moved just before the fault; settling again");
            scene.bench.damage.mend().await?;
        }
        bail!("addresses move before anything is broken, {TRIES} times")
    }

    /// Breaks the owner while a probe runs.
    async fn once(&self, scene: &Scene<'_>, owner: &Owner) -> Result<Run> {
        let probe = scene.probe("client")?;
        scene.served(&probe).await?;
        let fault = scene.bench.damage.inflict(&owner.node, self.fault).await?;
        let recovered = loop {
            tokio::time::sleep(PAUSE / 2).await;
            if fault.elapsed() > self.watched() && scene.is_served(&probe) {
                break true;
            }
            if fault.elapsed() > RUN_LIMIT.max(self.watched()) {
                break false;
            }
        };
        let (from, until) = (probe.time(fault), probe.time(Instant::now()));
        let traces = blocking(move || probe.finish()).await?;
        let outages = traces.iter().map(|trace| trace.outage(from, until));
        let by_address: Vec<(IpAddr, Outage)> = scene.addresses.iter().copied().zip(outages).collect();
        let moved = by_address.iter().filter(|(address, _)| owner.addresses.contains(address));
        let gaps = moved.map(|(_, outage)| outage.gap).collect();
        let outage = by_address.iter().map(|(_, outage)| *outage).fold(Outage::default(), Outage::and);
        Ok(Run { outage, gaps, recovered })
    }

    fn watched(&self) -> Duration {
        let secs = self.watch.unwrap_or(match self.fault {
            Fault::PowerOff | Fault::CablePull => 10,
            Fault::KillSpeaker | Fault::KeepSpeakerAway => 20,
            // A Linux client believes an entry for 15 to 45 s, waits 5 s more and asks three times.
            Fault::Freeze | Fault::FreezeSpeaker => 75,
        });
        Duration::from_secs(secs)
    }

    fn median(&self) -> Option<f64> {
        let promised = match self.profile {
            _ if self.addresses > 1 => None,
            Profile::Installed => Some(450.0),
            Profile::Fast => Some(200.0),
        };
        self.median_limit.or(promised)
    }

    fn worst(&self) -> f64 {
        self.worst_limit.unwrap_or(if self.addresses > 1 { 1000.0 } else { 800.0 })
    }

    fn fault_name(&self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self.fault);
        value.map_or_else(|| format!("{:?}", self.fault), |value| value.get_name().to_owned())
    }

    fn what(&self) -> String {
        match self.addresses {
            1 => "1 address".into(),
            many => format!("{many} addresses"),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
