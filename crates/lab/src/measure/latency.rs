//! `cargo lab measure latency`: from creating a Service until its address stands in its status.

use std::time::{Duration, Instant};

use anyhow::Result;
use kube::api::PostParams;

use super::addresses::Addresses;
use super::bench::{Bench, LABEL};
use super::installed::Part;
use super::services::{many, service};
use super::statistics::{Report, Summary};
use super::{memory, say};

/// An implementation that gives no address for so long gives none.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two runs: the deletion of the last Service is over by then, for the implementation too.
const PAUSE: Duration = Duration::from_millis(200);

/// Time from the creation of a Service to its address.
///
/// Services are created one after another, and each is deleted before the next. time_to_address_ms runs from the API
/// server's answer to the creation until a watch, opened before, shows status.loadBalancer.ingress;
/// create_to_address_ms from just before the request was sent.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure latency --existing 1000 --runs 20")]
pub(super) struct Latency {
    /// Other Services that have an address meanwhile; they are made first, and removed afterwards.
    #[arg(long, default_value_t = 0)]
    existing: usize,
    /// How many Services are timed.
    #[arg(long, default_value_t = 50, value_parser = super::at_least_one)]
    runs: usize,
    /// Read the resident memory of speakers and controllers as well, at the end: making thousands of Services twice takes
    /// long.
    #[arg(long)]
    memory: bool,
}

/// How often each process is looked at for its memory.
const SAMPLES: usize = 5;

impl Latency {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        const GROUP: &str = "latency";
        bench.pool_of_many().await?;
        if self.existing > 0 {
            make_existing(bench, self.existing).await?;
        }
        let services = bench.services();
        let addresses = Addresses::watch(services.clone(), &format!("{LABEL}={GROUP}")).await?;
        let (mut from_answer, mut from_request) = (Vec::new(), Vec::new());
        say(&format!("{} Services, one after another", self.runs));
        // Run 0 is not counted: it proves that the pool is in force.
        for run in 0..=self.runs {
            let name = format!("{GROUP}-{run}");
            let new = service(GROUP, &name)?;
            let request = Instant::now();
            services.create(&PostParams::default(), &new).await?;
            let answer = Instant::now();
            let assigned = addresses.of(&name, PATIENCE).await?;
            if run > 0 {
                from_answer.push(assigned.saturating_duration_since(answer).as_secs_f64() * 1e3);
                from_request.push(assigned.duration_since(request).as_secs_f64() * 1e3);
            }
            bench.delete_services(GROUP).await?;
            tokio::time::sleep(PAUSE).await;
        }
        let mut figures = vec![
            Summary::of("time_to_address_ms", "ms", &from_answer)?,
            Summary::of("create_to_address_ms", "ms", &from_request)?,
        ];
        if self.memory {
            let (speakers, controllers) =
                (bench.installed.pods(Part::Speaker).await?, bench.installed.pods(Part::Controller).await?);
            figures.extend(memory::resident(bench, &speakers, &controllers, SAMPLES).await?);
        }
        Ok(Report {
            title: format!("latency of {}, {} Services exist", bench.installed.place(), self.existing),
            figures,
            method: vec![
                "From the answer to the creation (create_to_address_ms: from before its request) until a watch shows the \
                 ingress."
                    .into(),
                "Services without Pods and node ports, one after another; one run before the first is not counted.".into(),
            ],
        })
    }
}

/// Makes Services and waits until each has an address.
pub(super) async fn make_existing(bench: &Bench, count: usize) -> Result<()> {
    const GROUP: &str = "existing";
    say(&format!("creating {count} Services that exist meanwhile"));
    let addresses = Addresses::watch(bench.services(), &format!("{LABEL}={GROUP}")).await?;
    bench.create_services(many(GROUP, count, service)?).await?;
    addresses.all(count, PATIENCE, |_| {}).await?;
    Ok(())
}
