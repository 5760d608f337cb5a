//! `cargo lab measure outage`: the node that answers dies with a Pod of its own on it, and clients come anew all the time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;

use super::bench::Bench;
use super::clients::{Load, NEW_EVERY, Seen};
use super::evict::{Evict, InService};
use super::families::{self, ByFamily};
use super::held::Connected;
use super::leader;
use super::place::Where;
use super::pods;
use super::say;
use super::scene::{Owner, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary, ms};
use super::tally::Tally;
use super::visits::{self, Course};
use super::wait::wait_for;
use crate::fault::Fault;

/// The outage is over when every new connection has succeeded for so long: more than the time in which one fails, and in it
/// each Pod is chosen dozens of times.
const STEADY: Duration = Duration::from_secs(5);
/// A run is watched for so long at most. Kubernetes itself takes a dead node's Pods out of service after 50 s.
const WATCH_LIMIT: Duration = Duration::from_secs(90);
/// kube-proxies have heard of all Pods by then.
const SERVE_LIMIT: Duration = Duration::from_secs(60);
/// A Pod of a node that has booted serves again by then.
const RETURN_LIMIT: Duration = Duration::from_secs(120);
/// What is to go from a Pod's status when it is back has gone so long after its first answer.
const CLEAN: Duration = Duration::from_secs(5);
/// So long after the fault the speakers have found the node dead, and the verdict is not reached yet.
const MIDDLE: Duration = Duration::from_millis(600);
const LOOK: Duration = Duration::from_millis(250);
/// So many connections are told one by one when the outage was longer than is promised.
const TOLD: usize = 20;
/// Whose conditions are not to remain: their reasons begin with it.
const LANDFALL: &str = "Landfall";

/// For how long new connections fail when a node dies that answers, and has a Pod.
///
/// There is one Service, with a Pod on each node and externalTrafficPolicy Cluster: whoever answers sends each new connection
/// to any of them. For each family a client opens a new TCP connection every 20 ms, from a new port, with one request on
/// it, which has failed when it is not answered within 0.9 s (before TCP would send its first packet again). The node that
/// answers is powered off. outage_ms is the time from then to the beginning of the first connection after which every one
/// succeeded, for 5 s and until the end of the watch; new_connections_failed is how many failed of those that began after the
/// fault; address_silent_ms the time to the beginning of the first that succeeded, at whatever Pod. A run in which some fail
/// for longer than 90 s counts with the outage so far, and in unrecovered_runs.
///
/// Then the node is mended. return_ms is the time from the moment when its Node is seen to be Ready again to the first answer
/// from its Pod through the Service; unreturned_runs counts those in which none came within 120 s; conditions_left, the
/// conditions that are left in the status of any of the Pods 5 s later and whose reason begins with Landfall; living_pods_out, the
/// Pods of other nodes that were not Ready at some time of the run.
///
/// Each run begins with new Pods of all speakers, as those of failover, with kernels of nodes that remember no connection to it,
/// and only when the Pods of all nodes answer; it is void as one of failover is. blind_ms says for how long the client, which shares the computer with the cluster, stood still
/// itself.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure outage
  cargo lab measure outage --evict on
  cargo lab measure outage --evict on --family ipv4 --runs 3
  cargo lab measure outage --evict on --leader dies")]
pub(super) struct Outage {
    /// How often.
    #[arg(long, default_value_t = 10, value_parser = super::at_least_one)]
    runs: usize,
    #[command(flatten)]
    pub(super) place: Where,
    /// Landfall's setting failover.evictEndpoints while it is measured; rolled back afterwards.
    #[arg(long, value_enum, default_value_t = Evict::Off)]
    evict: Evict,
    /// Where Landfall's leading controller is.
    #[arg(long, value_enum, default_value_t = Leader::Anywhere)]
    leader: Leader,
    /// Seconds to watch after the fault at least.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    watch: u64,
    /// Seconds in which nothing happens after the speakers' Pods are new: so that nothing is held against a cluster that has
    /// just begun; and the next verdict comes more than a minute after the last, before which Landfall would wait.
    #[arg(long, default_value_t = 45, value_name = "SECONDS")]
    rest: u64,
    /// The median outage that is allowed. [default: 1500 with --evict on; else none]
    #[arg(long, value_name = "MS")]
    median_limit: Option<f64>,
    /// The worst outage that is allowed. [default: 3000 with --evict on; else none]
    #[arg(long, value_name = "MS")]
    worst_limit: Option<f64>,
}

/// The controller's replica that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Leader {
    /// Wherever it is.
    Anywhere,
    /// On the node that dies. There is a replica on each node for that.
    Dies,
    /// On another node, where it is killed when the verdict is being reached. Another has to be elected first, and no time is promised.
    Killed,
}

/// One run.
struct Run {
    courses: ByFamily<Course>,
    /// The node did not have the addresses any more.
    is_void: bool,
    /// The node's Pod is Ready, and served each family.
    is_back: bool,
    /// From Ready to the first answer, of each family that had one.
    returned: ByFamily<Duration>,
    /// The conditions of ours that remained, in words.
    left: Vec<String>,
    /// Pods of living nodes that left service.
    wronged: Vec<String>,
}

impl Outage {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let replicas = match self.leader {
            Leader::Anywhere => vec![],
            Leader::Dies | Leader::Killed => vec![format!("controller.replicas={}", bench.lab.nodes()?.len())],
        };
        self.evict.install(bench, replicas).await?;
        let scene = Scene::set(bench, self.place, 1, Pods::Shared).await?;
        let mut runs = Tally::of(self.runs);
        while let Some(number) = runs.next() {
            speakers::renew_all(bench).await?;
            if self.leader != Leader::Anywhere {
                let owner = scene.settle().await?;
                leader::bring(bench, |node| (node == owner.node) == (self.leader == Leader::Dies)).await?;
            }
            tokio::time::sleep(Duration::from_secs(self.rest)).await;
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner).await?;
            let is_void = run.is_void;
            self.tell(number, &owner, &run);
            let is_back = run.is_back;
            runs.note(run, is_void)?;
            if !is_back {
                say("no more runs: they begin with a Pod on each node that serves");
                break;
            }
        }
        self.report(&scene, &runs)
    }

    async fn once(&self, scene: &Scene<'_>, owner: &Owner) -> Result<Run> {
        let others = || async {
            let pods = scene.pods.list().await?;
            let living: Vec<Pod> = pods.into_iter().filter(|pod| !pods::is_on(pod, &owner.node)).collect();
            anyhow::Ok(InService::of(&living))
        };
        let before = others().await?;
        let (courses, is_void) = self.strike(scene, owner).await?;
        let mut run = mend(scene, owner, courses, is_void).await?;
        run.wronged = before.left(&others().await?);
        Ok(run)
    }

    /// Powers the owner off while clients come, and returns what they met and whether that says nothing.
    async fn strike(&self, scene: &Scene<'_>, owner: &Owner) -> Result<(ByFamily<Course>, bool)> {
        for (node, address) in scene.nodes.iter().flat_map(|node| scene.addresses.iter().map(move |to| (node, *to))) {
            scene.bench.lab.forget_connections(node, address)?;
        }
        let since = Instant::now();
        // So that the capture knows who answered before.
        scene.owners().await?;
        let clients = come(scene).await?;
        tokio::time::sleep(STEADY).await;
        wait_for("answers from the Pods of all nodes", SERVE_LIMIT, LOOK, || async {
            let recently = Instant::now() - STEADY;
            let seen = clients.so_far();
            seen.values().try_for_each(|seen| visits::all_serve(&seen.visits, recently, &scene.nodes))?;
            Ok(Some(()))
        })
        .await?;
        let fault = scene.strike(owner, since, Fault::PowerOff).await?;
        if self.leader == Leader::Killed {
            tokio::time::sleep(MIDDLE.saturating_sub(fault.at.elapsed())).await;
            leader::kill(scene.bench).await?;
        }
        let courses = |seen: ByFamily<Seen>| -> ByFamily<Course> {
            seen.into_iter().map(|(family, seen)| (family, visits::course(&seen.visits, fault.at, STEADY))).collect()
        };
        let least = Duration::from_secs(self.watch);
        loop {
            tokio::time::sleep(LOOK).await;
            let watched = fault.at.elapsed();
            let is_over = watched > least && courses(clients.so_far()).values().all(|course| course.is_over);
            if is_over || watched > least.max(WATCH_LIMIT) {
                break;
            }
        }
        let seen = clients.finish().await?;
        self.tell_tail(&seen, fault.at);
        Ok((courses(seen), fault.is_void))
    }

    /// Tells what failed last where that was later than is allowed.
    fn tell_tail(&self, seen: &ByFamily<Seen>, fault: Instant) {
        let Some(limit) = self.limits().1 else { return };
        for (family, seen) in seen {
            if ms(visits::course(&seen.visits, fault, STEADY).outage) > limit {
                let failures = visits::last_failures(&seen.visits, fault, TOLD);
                failures.iter().for_each(|failure| say(&format!("  {family}: {failure}")));
            }
        }
    }

    fn tell(&self, number: usize, owner: &Owner, run: &Run) {
        let course = |course: &Course| {
            format!(
                "{} of {} new connections failed, all succeeded {}, the first after {} ms",
                course.failed,
                course.tried,
                if course.is_over { format!("after {} ms", course.outage.as_millis()) } else { "at no time".into() },
                course.silent.as_millis()
            )
        };
        let returned = |after: &Duration| format!("{} ms", after.as_millis());
        let void = if run.is_void { "; void: it had given an address away before" } else { "" };
        say(&format!(
            "run {number} of {}: power-off of {}: {}; its Pod answered again after its Node was Ready: {}; {} conditions of \
             {LANDFALL} are left{void}",
            self.runs,
            owner.node,
            families::in_words(&run.courses, course),
            families::in_words(&run.returned, returned),
            run.left.len()
        ));
        run.left.iter().for_each(|condition| say(&format!("  left: {condition}")));
        run.wronged.iter().for_each(|pod| say(&format!("  left service on a living node: {pod}")));
    }

    fn report(&self, scene: &Scene<'_>, runs: &Tally<Run>) -> Result<Report> {
        let (bench, measured) = (scene.bench, &runs.measured);
        // Whether a node comes back whole does not depend on whether its fault was a good one: void runs are judged, too.
        let all = || measured.iter().chain(&runs.void);
        let figures = |name, unit, value: fn(&Course) -> f64| {
            families::figures(measured.iter().map(|run| &run.courses), name, unit, value)
        };
        let count = |name, unit, count: usize| Summary::of(name, unit, &[count as f64]);
        let mut outages = figures("outage_ms", "ms", |course| ms(course.outage))?;
        let void = runs.void.iter().map(|run| &run.courses);
        outages.extend(families::figures(void, "void_outage_ms", "ms", |course| ms(course.outage))?);
        let mut summaries: Vec<Summary> = outages.into_iter().map(|outage| self.judged(outage)).collect();
        summaries.extend(figures("new_connections_failed", "connections", |course| course.failed as f64)?);
        summaries.extend(figures("address_silent_ms", "ms", |course| ms(course.silent))?);
        let blind = |run: &Run| ms(run.courses.values().map(|course| course.blind).max().unwrap_or_default());
        summaries.push(Summary::of("blind_ms", "ms", &measured.iter().map(blind).collect::<Vec<_>>())?);
        let unrecovered = measured.iter().filter(|run| run.courses.values().any(|course| !course.is_over));
        summaries.push(count("unrecovered_runs", "runs", unrecovered.count())?.exactly(0.0));
        summaries.extend(families::figures(all().map(|run| &run.returned), "return_ms", "ms", |after| ms(*after))?);
        let unreturned = all().filter(|run| !run.is_back);
        summaries.push(count("unreturned_runs", "runs", unreturned.count())?.exactly(0.0));
        let left: Vec<f64> = all().map(|run| run.left.len() as f64).collect();
        summaries.push(Summary::of("conditions_left", "conditions", &left)?.exactly(0.0));
        let wronged: Vec<f64> = all().map(|run| run.wronged.len() as f64).collect();
        summaries.push(Summary::of("living_pods_out", "Pods", &wronged)?.exactly(0.0));
        summaries.push(count("void_runs", "runs", runs.void.len())?);
        let evict = self.evict.chart_value().unwrap_or_else(|| "as installed".into());
        let leader = match self.leader {
            Leader::Anywhere => "",
            Leader::Dies => ", the leading controller on the node that dies",
            Leader::Killed => ", the leading controller killed half a second later",
        };
        Ok(Report {
            title: format!(
                "power-off of the node that answers, with a Pod on each of {} nodes, {}, {evict}{leader}",
                scene.nodes.len(),
                bench.installed.place()
            ),
            figures: summaries,
            method: vec![
                format!(
                    "To each address a new TCP connection every {} ms; failed: not answered within 0.9 s. The outage is over when \
                     all have succeeded for {} s.",
                    NEW_EVERY.as_millis(),
                    STEADY.as_secs()
                ),
                format!("All speakers' Pods are new before each run, and have rested for {} s.", self.rest),
            ],
        })
    }

    /// The limits of the median and of the worst outage.
    fn limits(&self) -> (Option<f64>, Option<f64>) {
        let is_promised = self.evict == Evict::On && self.leader != Leader::Killed;
        let promised = |limit| is_promised.then_some(limit);
        (self.median_limit.or(promised(1500.0)), self.worst_limit.or(promised(3000.0)))
    }

    fn judged(&self, outage: Summary) -> Summary {
        let (median, worst) = self.limits();
        let outage = match median {
            Some(limit) => outage.median_at_most(limit),
            None => outage,
        };
        match worst {
            Some(limit) => outage.at_most(limit),
            None => outage,
        }
    }
}

/// Lets clients come to the Service's addresses.
async fn come(scene: &Scene<'_>) -> Result<Connected> {
    Connected::open(scene, "client", Load { established: 0, new_every: Some(NEW_EVERY) }).await
}

/// Mends the owner while clients come, and looks how its Pod returns: the second half of a run, after what clients met.
async fn mend(scene: &Scene<'_>, owner: &Owner, courses: ByFamily<Course>, is_void: bool) -> Result<Run> {
    let clients = come(scene).await?;
    scene.bench.damage.mend().await?;
    let ready = Instant::now();
    let answered = |seen: &Seen| visits::first_answer(&seen.visits, &owner.node);
    let back = wait_for(&format!("return of the Pod of {}", owner.node), RETURN_LIMIT, LOOK, || async {
        let pods = scene.pods.list().await?;
        let pod = pods.iter().find(|pod| pods::is_on(pod, &owner.node)).context("the Pod is gone")?;
        ensure!(pods::is_ready(pod), "it is not Ready");
        let all = clients.so_far().values().all(|seen| answered(seen).is_some());
        ensure!(all, "it is Ready, and nothing comes to it through the Service");
        Ok(Some(()))
    })
    .await;
    if let Err(error) = &back {
        say(&format!("  {error:#}"));
    }
    let seen = clients.finish().await?;
    let after = |at: Instant| at.saturating_duration_since(ready);
    let returned = seen.iter().filter_map(|(family, seen)| Some((*family, after(answered(seen)?)))).collect();
    tokio::time::sleep(CLEAN).await;
    let pods = scene.pods.list().await?;
    let left = pods.iter().flat_map(|pod| pods::conditions_by(pod, LANDFALL)).collect();
    Ok(Run { courses, is_void, is_back: back.is_ok(), returned, left, wronged: vec![] })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        outage: Outage,
    }

    #[test]
    fn only_what_is_switched_on_is_promised_and_only_what_is_switched_is_set() {
        let set = |value: &str| Some(format!("failover.evictEndpoints={value}"));
        for (arguments, value, limits) in [
            ("--runs 1", None, (None, None)),
            ("--evict off", None, (None, None)),
            ("--evict dry-run --worst-limit 90000", set("dry-run"), (None, Some(90000.0))),
            ("--evict on", set("on"), (Some(1500.0), Some(3000.0))),
            ("--evict on --leader dies", set("on"), (Some(1500.0), Some(3000.0))),
            ("--evict on --leader killed", set("on"), (None, None)),
            ("--evict on --median-limit 900", set("on"), (Some(900.0), Some(3000.0))),
        ] {
            let typed = Typed::parse_from(["outage"].into_iter().chain(arguments.split(' '))).outage;
            assert_eq!((typed.evict.chart_value(), typed.limits()), (value, limits), "{arguments}");
        }
    }
}
