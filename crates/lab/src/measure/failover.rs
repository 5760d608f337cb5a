//! `cargo lab measure failover`: the node that answers breaks, and a client keeps asking.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::damage::Wound;
use super::families::{self, ByFamily};
use super::place::{Segment, Where};
use super::probe::{Outage, period};
use super::probes::{self, Control};
use super::release;
use super::say;
use super::scene::{Owner, PAUSE, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
use super::tally::Tally;
use crate::fault::Fault;
use crate::lab::Lab;

/// Each run ends after this time, whether the addresses answer again or not.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// So long the API server is away before the node breaks: whoever notices such things has noticed.
const WITHOUT_API: Duration = Duration::from_secs(5);

/// How long a client hears nothing when the node that answers breaks.
///
/// A Service with one Pod on another node than the one that answers for its addresses (found by asking on the wire, not by
/// what the implementation says). A client on the segment sends a UDP datagram to each address every 10 ms, always from the
/// same port; the fault is made; failover_gap_ms is the longest time without an answer, probes_lost the number of datagrams
/// that were never answered, each for IPv4 and for IPv6. Then the node is mended. A run in which an address does not answer
/// again within 120 s counts with the silence so far, and in unrecovered_runs.
///
/// Each run begins with new Pods of all speakers, when the node where the Service is placed has answered for some seconds:
/// nothing that an earlier fault left behind meets the next one, and no address is about to return from where that fault
/// drove it. A run is void, and repeated, when the client heard another node than the one that broke answer or announce
/// in the last seconds before: void_runs says how many were, and their silences are held against the same limit.
///
/// With --fault carrier-loss the addresses are in a network of their own, on the nodes' second interface, eth1. That one loses
/// its carrier: the node notices at once, and tells the others over eth0. With cable-pull it is eth0, over which the nodes talk
/// to each other, and which has the addresses, too: for the others the node is silent.
///
/// With --addresses there are as many Services, one Pod behind all, and the node breaks that answers for most of those that
/// it has no Pod of. Each address has its own silence; a run's gap is that of its worst, also among those that need not
/// move. One socket of the client asks all in turn, 5,000 datagrams a second at most (each of 1,000 addresses every 200 ms:
/// the silences are that much coarser, never shorter than they were).
///
/// Client and server share the computer with the cluster: blind_ms says for how long the client itself stood still,
/// server_silence_ms and server_probes_lost what a second client missed that asked the Pod around the Service.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure failover --fault power-off
  cargo lab measure failover --fault cable-pull --family ipv6
  cargo lab measure failover --fault carrier-loss
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
    pub(super) place: Where,
    /// How many Services, with addresses from --address on.
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
    /// The median gap that is allowed. [default: 450; 200 with the fast profile; none for many addresses and for carrier-loss]
    #[arg(long, value_name = "MS")]
    median_limit: Option<f64>,
    /// The worst gap that is allowed. [default: 800; 1000 for many addresses; 300 for carrier-loss]
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
    outages: ByFamily<Outage>,
    /// The gap of each address that the broken node had.
    gaps: Vec<Duration>,
    /// Of the server, when asked around the Services.
    server: Outage,
    recovered: bool,
    /// The node did not have them any more.
    is_void: bool,
}

impl Failover {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let place = match self.fault {
            Fault::CarrierLoss => self.place.on(Segment::Eth1)?,
            _ => self.place,
        };
        if self.profile == Profile::Fast {
            release::upgrade(bench, &["speaker.membership.beatInterval=30ms".into()]).await?;
        }
        let scene = Scene::set(bench, place, self.addresses, Pods::Elsewhere).await?;
        let mut runs = Tally::of(self.runs);
        while let Some(number) = runs.next() {
            let (owner, pod) = self.prepare(&scene).await?;
            let run = self.once(&scene, &owner, pod).await?;
            self.tell(number, &scene, &owner, &run);
            bench.damage.mend().await?;
            let is_void = run.is_void;
            runs.note(run, is_void)?;
        }
        self.report(bench, &runs)
    }

    fn tell(&self, number: usize, scene: &Scene<'_>, owner: &Owner, run: &Run) {
        let seen = |outage: &Outage| format!("silence of {} ms, {} probes lost", outage.gap.as_millis(), outage.lost);
        let end = if run.recovered { "" } else { ", not recovered" };
        let void = if run.is_void { "; void: it had given an address away before" } else { "" };
        say(&format!(
            "run {number} of {}: {} of {}, which had {} of {} addresses: {}{end}{void}",
            self.runs,
            self.fault_name(),
            owner.node,
            owner.addresses.len(),
            scene.addresses.len(),
            families::in_words(&run.outages, seen)
        ));
        let blind = probes::blind(&run.outages);
        if blind > 10 * period(self.addresses) {
            say(&format!("  the probe itself stood still for {} ms: the computer is busy", blind.as_millis()));
        }
    }

    fn report(&self, bench: &Bench, runs: &Tally<Run>) -> Result<Report> {
        let measured = &runs.measured;
        let figures = |name, unit, value: fn(&Outage) -> f64| {
            families::figures(measured.iter().map(|run| &run.outages), name, unit, value)
        };
        let unrecovered = measured.iter().filter(|run| !run.recovered).count();
        let blind: Vec<f64> = measured.iter().map(|run| ms(probes::blind(&run.outages))).collect();
        let judged = |gap: Summary| match self.median() {
            Some(median) => gap.at_most(self.worst()).median_at_most(median),
            None => gap.at_most(self.worst()),
        };
        let mut summaries: Vec<Summary> =
            figures("failover_gap_ms", "ms", |outage| ms(outage.gap))?.into_iter().map(judged).collect();
        summaries.extend(figures("probes_lost", "probes", |outage| outage.lost as f64)?);
        summaries.push(Summary::of("blind_ms", "ms", &blind)?);
        summaries.extend(probes::figures_of_the_server(&measured.iter().map(|run| run.server).collect::<Vec<_>>())?);
        summaries.push(Summary::of("unrecovered_runs", "runs", &[unrecovered as f64])?.exactly(0.0));
        summaries.push(Summary::of("void_runs", "runs", &[runs.void.len() as f64])?);
        let void = families::figures(runs.void.iter().map(|run| &run.outages), "void_gap_ms", "ms", |o| ms(o.gap))?;
        summaries.extend(void.into_iter().map(|gap| gap.at_most(self.worst())));
        if self.addresses > 1 {
            let gaps: Vec<f64> = measured.iter().flat_map(|run| &run.gaps).copied().map(ms).collect();
            summaries.push(Summary::of("gap_of_each_moved_address_ms", "ms", &gaps)?);
        }
        Ok(Report {
            title: format!(
                "failover of {} on {}, {} nodes, {}",
                bench.installed.place(),
                self.fault_name(),
                bench.lab.nodes()?.len(),
                self.what()
            ),
            figures: summaries,
            method: self.method(),
        })
    }

    fn method(&self) -> Vec<String> {
        let mut method = vec![
            format!(
                "Longest silence seen by a client that sends a UDP datagram to each address every {} ms, {} s or longer \
                 after the fault.",
                period(self.addresses).as_millis(),
                self.watched().as_secs()
            ),
            "The Services' one Pod is on another node than the one that breaks.".into(),
            "All speakers' Pods are new before each run, so that no return to another node is due; a run is void when the \
             broken node was not the only one heard to have the addresses in the seconds before."
                .into(),
        ];
        if self.api_server == ApiServer::Stopped {
            method.push(format!("The API server was stopped {} s before the fault.", WITHOUT_API.as_secs()));
        }
        if self.profile == Profile::Fast {
            method.push("Fast profile: speaker.membership.beatInterval=30ms.".into());
        }
        method
    }

    /// Lets the speakers begin anew and settle, and stops the API server if that is asked for. Returns who is to break, and
    /// where the Pod is to be asked around the Services.
    async fn prepare(&self, scene: &Scene<'_>) -> Result<(Owner, SocketAddr)> {
        speakers::renew_all(scene.bench).await?;
        let owner = scene.settle().await?;
        let pod = scene.pods.server().await?;
        if self.api_server == ApiServer::Stopped {
            scene.bench.damage.cause(Wound::ApiServer, Lab::stop_api_server).await?;
            tokio::time::sleep(WITHOUT_API).await;
        }
        Ok((owner, pod))
    }

    /// Breaks the owner while probes run.
    async fn once(&self, scene: &Scene<'_>, owner: &Owner, pod: SocketAddr) -> Result<Run> {
        let since = Instant::now();
        // So that the capture knows who answered before.
        scene.owners().await?;
        let (probes, control) = (scene.probe("client")?, Control::start(&scene.bench.lab, pod)?);
        scene.served(&probes).await?;
        let fault = scene.strike(owner, since, self.fault).await?;
        let recovered = loop {
            tokio::time::sleep(PAUSE / 2).await;
            if fault.at.elapsed() > self.watched() && scene.is_served(&probes) {
                break true;
            }
            if fault.at.elapsed() > RUN_LIMIT.max(self.watched()) {
                break false;
            }
        };
        let until = Instant::now();
        let by_address = probes.finish(fault.at, until).await?;
        let moved = by_address.iter().filter(|(address, _)| owner.addresses.contains(address));
        Ok(Run {
            outages: probes::by_family(&by_address),
            gaps: moved.map(|(_, outage)| outage.gap).collect(),
            server: control.finish(fault.at, until).await?,
            recovered,
            is_void: fault.is_void,
        })
    }

    fn watched(&self) -> Duration {
        let secs = self.watch.unwrap_or(match self.fault {
            Fault::PowerOff | Fault::CablePull | Fault::CarrierLoss => 10,
            Fault::KillSpeaker | Fault::KeepSpeakerAway => 20,
            // A Linux client believes an entry for 15 to 45 s, waits 5 s more and asks three times.
            Fault::Freeze | Fault::FreezeSpeaker => 75,
        });
        Duration::from_secs(secs)
    }

    fn median(&self) -> Option<f64> {
        let promised = match self.profile {
            _ if self.addresses > 1 || self.fault == Fault::CarrierLoss => None,
            Profile::Installed => Some(450.0),
            Profile::Fast => Some(200.0),
        };
        self.median_limit.or(promised)
    }

    fn worst(&self) -> f64 {
        self.worst_limit.unwrap_or(match self.fault {
            Fault::CarrierLoss => 300.0,
            _ if self.addresses > 1 => 1000.0,
            _ => 800.0,
        })
    }

    fn fault_name(&self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self.fault);
        value.map_or_else(|| format!("{:?}", self.fault), |value| value.get_name().to_owned())
    }

    fn what(&self) -> String {
        match self.addresses {
            1 => "1 Service".into(),
            many => format!("{many} Services"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        failover: Failover,
    }

    #[test]
    fn each_fault_is_held_against_what_is_promised_for_it_unless_something_else_is_said() {
        for (arguments, median, worst) in [
            ("--fault power-off", Some(450.0), 800.0),
            ("--fault cable-pull --profile fast", Some(200.0), 800.0),
            ("--fault power-off --addresses 1000", None, 1000.0),
            ("--fault carrier-loss", None, 300.0),
            ("--fault carrier-loss --profile fast --addresses 9", None, 300.0),
            ("--fault carrier-loss --median-limit 90 --worst-limit 100", Some(90.0), 100.0),
        ] {
            let typed = Typed::parse_from(["failover"].into_iter().chain(arguments.split(' ')));
            assert_eq!((typed.failover.median(), typed.failover.worst()), (median, worst), "{arguments}");
        }
    }
}
