//! Promise 1, over random sequences of changes, failures and restarts: the very same as in the controller's model, with the
//! same promises ([`landfall_sequences`]), against a real API server and the real controller, which decides as things happen.
//!
//! Left out is what only a model can be put through: that writes are under way, and that lists come anew, at a chosen moment.

mod cluster;

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use cluster::{Cluster, WITNESS};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::service::ANNOUNCED;
use landfall_lab::steps;
use landfall_sequences::happening::{Happening, sequence};
use landfall_sequences::history::History;
use landfall_sequences::promises::violations;
use landfall_sequences::view::{Standing, View, addresses};

/// How many things happen in a sequence.
const LENGTH: usize = 40;
/// Long enough for new controllers, on a busy computer with two cores, and for the longest pause between two tries.
const LIMIT: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);
/// Nothing is under way any more when nothing has changed for this long: a write takes some milliseconds.
const REST: Duration = Duration::from_millis(300);
/// How long the API server cannot be reached, each time when there would be rest otherwise.
const OUTAGE: Duration = Duration::from_secs(1);

#[test]
fn whatever_happens_to_a_real_cluster_the_promises_hold_and_a_restart_changes_nothing() -> Result<()> {
    let count = number("LANDFALL_SEQUENCES", "how many sequences are run")?.unwrap_or(4);
    let first = match number("LANDFALL_SEED", "the seed of the first sequence")? {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    with_landfall("sequences", |scene| {
        // Where the API server is; there, requests take milliseconds.
        scene.lab.in_netns("cp", || {
            let mut cluster = Cluster::new(scene)?;
            for seed in first..first.saturating_add(count) {
                println!("LANDFALL_SEED={seed} LANDFALL_SEQUENCES=1 runs this sequence alone");
                run(&mut cluster, seed)?;
            }
            Ok(())
        })?
    })
}

fn number(variable: &str, what: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable} is {what}, and not {text:?}"))).transpose()
}

fn run(cluster: &mut Cluster<'_>, seed: u64) -> Result<()> {
    let happenings = sequence(seed, LENGTH..LENGTH + 1);
    let start = Instant::now();
    cluster.clear()?;
    let mut run = Run::begin(cluster).with_context(|| format!("before the sequence of seed {seed}"))?;
    for (number, happening) in happenings.iter().enumerate() {
        let outcome = match happening {
            Happening::Settle if run.cluster.is_cut_off() => {
                thread::sleep(OUTAGE);
                Ok(())
            }
            Happening::Settle => run.settle(),
            other => run.cluster.happen(other).map(|()| run.history.note(run.cluster.view())),
        };
        outcome.with_context(|| {
            let so_far: String = happenings[..=number].iter().map(|one| format!("\n  {one:?}")).collect();
            format!("seed {seed}, after this:{so_far}")
        })?;
    }
    let ended = run.cluster.reconnect().and_then(|()| run.settle()).and_then(|()| run.a_restart_changes_nothing());
    ended.with_context(|| format!("seed {seed}, after the last of {happenings:#?}"))?;
    println!(
        "{} times at rest; in all, {} Services had an address there, and {} were held to have kept theirs; {:.1} s",
        run.rests,
        run.held,
        run.kept,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A run: the cluster, and what is known of it.
struct Run<'a, 'b> {
    cluster: &'a mut Cluster<'b>,
    /// Since it was last at rest.
    history: History,
    /// When it was last at rest.
    before: Standing,
    rests: usize,
    /// Services with an address, each time it was at rest.
    held: usize,
    /// Services that had to have kept theirs, each time.
    kept: usize,
}

impl<'a, 'b> Run<'a, 'b> {
    /// Begins with a cluster that is not at rest: nothing is known of who had what.
    fn begin(cluster: &'a mut Cluster<'b>) -> Result<Self> {
        let history = History::new(cluster.view());
        let mut run = Self { cluster, history, before: Standing::new(), rests: 0, held: 0, kept: 0 };
        run.settle()?;
        Ok(run)
    }

    /// Waits until nothing is left to do and every promise holds.
    fn settle(&mut self) -> Result<()> {
        // What shows that everything is seen also has the controller look at every Service again: nobody may need that.
        self.wait_for_promises()?;
        self.cluster.wait_until_everything_is_seen(&mut self.history)?;
        let view = self.wait_for_promises()?;
        let excused = self.history.excused(&self.before);
        let held = self.before.iter().filter(|(_, holder)| !holder.ips.is_empty());
        self.kept += held.filter(|(key, _)| !excused.contains(*key)).count();
        (self.history, self.before) = (History::new(&view), view.standing());
        self.rests += 1;
        let holders = self.before.iter().filter(|(key, holder)| !holder.ips.is_empty() && !key.ends_with(WITNESS));
        self.held += holders.count();
        Ok(())
    }

    /// Waits until every promise holds and nothing changes any more; returns what there is then.
    fn wait_for_promises(&mut self) -> Result<View> {
        let excused = self.history.excused(&self.before);
        let (cluster, before) = (&mut self.cluster, &self.before);
        steps::wait_for("rest in which every promise holds", LIMIT, GLANCE, || {
            let view = cluster.read()?.clone();
            let wrong = violations(&view, before, &excused);
            ensure!(wrong.is_empty(), "{}\nof these Services:{}", wrong.join("\n"), describe(&view));
            thread::sleep(REST);
            Ok((*cluster.read()? == view).then_some(view))
        })
    }

    /// Nobody's address changes, and to a Service that has one nothing is written.
    fn a_restart_changes_nothing(&mut self) -> Result<()> {
        let before = self.cluster.view().clone();
        self.cluster.happen(&Happening::Restart)?;
        self.settle()?;
        let after = self.cluster.view();
        for (key, service) in before.services.iter().filter(|(key, _)| !key.ends_with(WITNESS)) {
            let (had, has) = (addresses(service), addresses(&after.services[key]));
            ensure!(had == has, "a restart: {key} had {had:?} and has {has:?}");
            let (was, is) = (without_speakers(service), without_speakers(&after.services[key]));
            ensure!(had.is_empty() || was == is, "a restart wrote to {key}: {}", describe(after));
        }
        Ok(())
    }
}

/// A Service without what speakers write in their own time, and without the marks of any write but the controller's.
fn without_speakers(service: &serde_json::Value) -> serde_json::Value {
    let mut service = service.clone();
    service["metadata"]["resourceVersion"].take();
    let forget = |list: &mut serde_json::Value, field: &str, theirs: &str| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|entry| entry[field] != theirs);
        }
    };
    forget(&mut service["metadata"]["managedFields"], "manager", "landfall-speaker");
    forget(&mut service["status"]["conditions"], "type", ANNOUNCED);
    service
}

/// What a person needs to know of the Services and pools.
fn describe(view: &View) -> String {
    let line = |(key, object): (&String, &serde_json::Value)| {
        let metadata = &object["metadata"];
        format!(
            "\n  {key}: labels {}, annotations {}, spec {}, status {}",
            metadata["labels"], metadata["annotations"], object["spec"], object["status"]
        )
    };
    view.services.iter().chain(&view.pools).map(line).collect()
}
