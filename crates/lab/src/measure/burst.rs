//! `cargo lab measure burst`: many Services wait, and the controller starts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams};

use super::addresses::Addresses;
use super::bench::{Bench, LABEL, WRITERS};
use super::damage::blocking;
use super::installed::Part;
use super::services::{many, nobodys_service, service, status_patch};
use super::statistics::{Report, Summary};
use super::{pods, say};

/// So long without another address, and the burst has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// The cluster settles: what watches have to say about created and deleted Services is said.
const SETTLE: Duration = Duration::from_secs(5);

/// Many Services are pending and the controller starts: how long until all have an address?
///
/// The controller is scaled to zero, the Services are created, and it is scaled up again. burst_s runs from the start of
/// the controller's process (as /proc of its node tells) until a watch shows the last Service's address. Also given:
/// burst_from_scale_s, from the request that scales it up, which includes scheduling and starting the Pod, and
/// burst_from_first_s, from the first address seen to the last.
///
/// api_ceiling_s is the time that the API server of this lab needs, in the same run and with no controller, for as many
/// status patches of the same shape on other Services, by 16 writers at a time. burst_ratio = burst_s / api_ceiling_s.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure burst --services 1000")]
pub(super) struct Burst {
    /// How many Services wait for the controller.
    #[arg(long, default_value_t = 1000, value_parser = super::at_least_one)]
    services: usize,
    /// How often all of this is done.
    #[arg(long, default_value_t = 1, value_parser = super::at_least_one)]
    runs: usize,
}

/// One run, in seconds.
struct Times {
    burst: f64,
    from_scale: f64,
    from_first: f64,
    ceiling: f64,
}

impl Burst {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        bench.pool_of_many().await?;
        let mut runs = Vec::new();
        for run in 1..=self.runs {
            say(&format!("run {run} of {}: stopping the controller", self.runs));
            bench.installed.stop_controller().await?;
            let ceiling = self.ceiling(bench).await?;
            let times = self.burst(bench, ceiling).await?;
            say(&format!("run {run} of {}: burst {:.1} s, ceiling {ceiling:.1} s", self.runs, times.burst));
            runs.push(times);
        }
        let summary =
            |name, unit, value: fn(&Times) -> f64| Summary::of(name, unit, &runs.iter().map(value).collect::<Vec<_>>());
        Ok(Report {
            title: format!("burst of {} Services, {}", self.services, bench.installed.place()),
            figures: vec![
                summary("burst_s", "s", |run| run.burst)?,
                summary("api_ceiling_s", "s", |run| run.ceiling)?,
                summary("burst_ratio", "", |run| run.burst / run.ceiling)?,
                summary("burst_from_scale_s", "s", |run| run.from_scale)?,
                summary("burst_from_first_s", "s", |run| run.from_first)?,
            ],
            method: vec![
                "burst_s: from the start of the controller's process until a watch shows the last Service's ingress."
                    .into(),
                format!("api_ceiling_s: as many status patches of the same shape by {WRITERS} writers, no controller."),
            ],
        })
    }

    /// Seconds for patching the status of as many Services of nobody's class.
    async fn ceiling(&self, bench: &Bench) -> Result<f64> {
        const GROUP: &str = "ceiling";
        say(&format!("the API server's own ceiling: {} status patches", self.services));
        let services = many(GROUP, self.services, nobodys_service)?;
        let names: Vec<String> = services.iter().filter_map(|service| service.metadata.name.clone()).collect();
        bench.create_services(services).await?;
        tokio::time::sleep(SETTLE).await;
        let (api, params) = (bench.services(), PatchParams::default());
        let start = Instant::now();
        let patches = names.iter().enumerate().map(|(index, name)| {
            let patch = Patch::Merge(status_patch(index));
            let (api, params) = (&api, &params);
            async move { api.patch_status(name, params, &patch).await }
        });
        let patched = stream::iter(patches).buffer_unordered(WRITERS).try_for_each(|_| async { Ok(()) });
        patched.await.context("patch the status of Services")?;
        let seconds = start.elapsed().as_secs_f64();
        bench.delete_services(GROUP).await?;
        Ok(seconds)
    }

    async fn burst(&self, bench: &Bench, ceiling: f64) -> Result<Times> {
        const GROUP: &str = "burst";
        say(&format!("creating {} Services", self.services));
        let addresses = Addresses::watch(bench.services(), &format!("{LABEL}={GROUP}")).await?;
        bench.create_services(many(GROUP, self.services, service)?).await?;
        tokio::time::sleep(SETTLE).await;
        addresses.none()?;
        say("the controller starts");
        let scaled = Instant::now();
        bench.installed.start_controller().await?;
        let mut told = Instant::now();
        let (first, last) = addresses
            .all(self.services, PATIENCE, |have| {
                if told.elapsed() > Duration::from_secs(10) {
                    told = Instant::now();
                    say(&format!("{have} of {} have an address", self.services));
                }
            })
            .await?;
        // Only now, so that looking does not disturb. The Pod must be known to be running: it has done its work, but
        // the kubelet may say so a moment later.
        bench.installed.ready().await?;
        let started = controller_start(bench).await?;
        bench.delete_services(GROUP).await?;
        let until_last = |start: Instant| last.saturating_duration_since(start).as_secs_f64();
        Ok(Times { burst: until_last(started), from_scale: until_last(scaled), from_first: until_last(first), ceiling })
    }
}

/// When the controller's process started; of several, the first.
async fn controller_start(bench: &Bench) -> Result<Instant> {
    let (lab, pods) = (bench.lab.clone(), bench.installed.pods(Part::Controller).await?);
    blocking(move || {
        let ages: Result<Vec<Duration>> = pods.iter().map(|pod| pods::age(&pods::processes(&lab, pod)?)).collect();
        let oldest = ages?.into_iter().max().context("the controller has no Pod")?;
        Instant::now().checked_sub(oldest).context("the controller is older than this computer's clock")
    })
    .await
}
