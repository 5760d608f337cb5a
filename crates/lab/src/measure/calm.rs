//! `cargo lab measure calm`: nothing is done to the cluster for minutes, and nobody should notice anything.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use super::busy::{BusyLoops, ProcessorTime};
use super::families::{self, ByFamily};
use super::moves::Said;
use super::place::Where;
use super::probe::INTERVAL;
use super::reachability::Checked;
use super::say;
use super::scene::{GROUP, Pods, Scene};
use super::speakers;
use super::statistics::{Report, Summary};
use super::vigil::{self, Promise, Vigil};
use crate::network::FAR;

/// With the load the processors may have so little to spare, in percent: else it was none.
const IDLE_PERCENT: f64 = 5.0;
const MINUTE: Duration = Duration::from_secs(60);

/// What clients notice in minutes in which nothing happens, or in which only the computer is busy.
///
/// There is one Service, whose Pod is on another node than the one that answers. The client sends a UDP datagram to each of
/// its addresses every 10 ms. Nothing confirms the client's neighbour entries meanwhile, so that its kernel asks by unicast,
/// some fifteen times in ten minutes, whether the neighbour is still there: neighbour_probes counts these questions
/// (each for IPv4 and for IPv6, as heard on the client's wire), and neighbour_probes_unanswered those without an answer
/// within a second. The TCP connections are held by a second client, `far`: each acknowledgement would confirm the entry,
/// and the kernel would never ask.
///
/// Without --load all of this is judged: no probe lost, no connection broken, no move on the wire or in status, no
/// neighbour's probe unanswered, and at least one for each family, or nothing was tested. Ten minutes are enough; after one
/// there may have been none.
///
/// With --load there is a busy loop for each processor meanwhile, at the priority of this command and outside the lab's
/// cgroups. Then it is judged that no address moves, on the wire and in status, and that the load was one: cpu_idle_percent is
/// 5 at most. What else is lost is lost by the busy computer, on which client, server and cluster are; it is printed beside
/// server_probes_lost, what a second client missed that asked the Pod around the Service.
///
/// All speakers' Pods are new at the start, so that no address is about to return to where an earlier measurement has driven
/// it from.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo lab measure calm
  cargo lab measure calm --load --minutes 10")]
pub(super) struct Calm {
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = super::at_least_one)]
    minutes: usize,
    /// Keep every processor of this computer busy meanwhile; only moves are judged then.
    #[arg(long)]
    load: bool,
    #[command(flatten)]
    pub(super) place: Where,
    /// TCP connections of each family that the second client holds open.
    #[arg(long, default_value_t = 20)]
    connections: usize,
}

impl Calm {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        bench.far_client().await?;
        let scene = Scene::set(bench, self.place, 1, Pods::Elsewhere).await?;
        speakers::renew_all(bench).await?;
        let said = Said::watch(&bench.client, &bench.installed.namespace, &format!("{GROUP}-0"));
        scene.settle().await?;
        let vigil = Vigil::begin(&scene, &said, FAR, self.connections).await?;
        let (began, before) = (vigil.began, ProcessorTime::now()?);
        let load = self.load.then(BusyLoops::start).transpose()?;
        if let Some(load) = &load {
            say(&format!("{} busy loops", load.count()));
        }
        for minute in 1..=self.minutes {
            tokio::time::sleep(MINUTE).await;
            self.tell(minute, &vigil, &scene.checked(began, Instant::now()));
        }
        let idle = ProcessorTime::now()?.idle_percent_since(before);
        drop(load);
        let until = Instant::now();
        let outcome = vigil.end().await?;
        outcome.tell("in all", self.connections);
        // What is asked last has a second for its answer, which the end of the vigil takes anyhow.
        let checked = scene.checked(began, until);
        let mut figures = vigil::figures(&[outcome], self.promise())?;
        figures.extend(self.figures_of_neighbours(&checked)?);
        figures.push(self.figure_of_the_load(idle)?);
        Ok(self.report(bench, figures))
    }

    fn promise(&self) -> Promise {
        if self.load { Promise::Unmoved } else { Promise::Unnoticed }
    }

    fn tell(&self, minute: usize, vigil: &Vigil<'_>, checked: &ByFamily<Checked>) {
        say(&format!(
            "minute {minute} of {}: moves on the wire: {}, in status: {}; neighbour probes: {}",
            self.minutes,
            families::in_words(&vigil.moves(), ToString::to_string),
            vigil.moves_in_status(),
            families::in_words(checked, |one| format!("{}, {} unanswered", one.probes, one.unanswered))
        ));
    }

    fn figures_of_neighbours(&self, checked: &ByFamily<Checked>) -> Result<Vec<Summary>> {
        let figures =
            |name, value: fn(&Checked) -> f64| families::figures(std::iter::once(checked), name, "probes", value);
        let probes = figures("neighbour_probes", |one| one.probes as f64)?;
        let unanswered = figures("neighbour_probes_unanswered", |one| one.unanswered as f64)?;
        Ok(match self.promise() {
            Promise::Unmoved => probes.into_iter().chain(unanswered).collect(),
            Promise::Unnoticed => {
                let tested = probes.into_iter().map(|count| count.at_least(1.0));
                tested.chain(unanswered.into_iter().map(|count| count.exactly(0.0))).collect()
            }
        })
    }

    fn figure_of_the_load(&self, idle_percent: f64) -> Result<Summary> {
        let idle = Summary::of("cpu_idle_percent", "%", &[idle_percent])?;
        Ok(if self.load { idle.at_most(IDLE_PERCENT) } else { idle })
    }

    fn report(&self, bench: &Bench, figures: Vec<Summary>) -> Report {
        let while_what = if self.load { ", every processor busy" } else { "" };
        Report {
            title: format!("{} calm minutes{while_what}, {}", self.minutes, bench.installed.place()),
            figures,
            method: vec![
                format!(
                    "To each address a UDP datagram every {} ms from the client, and {} TCP connections with a request \
                     every 100 ms from a second one.",
                    INTERVAL.as_millis(),
                    self.connections
                ),
                "neighbour_probes: unicast questions of the client's kernel, heard on its wire.".into(),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::families::Family;
    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        calm: Calm,
    }

    fn is_kept(arguments: &[&str], probes: [(usize, usize); 2], idle_percent: f64) -> bool {
        let Typed { calm } = Typed::parse_from(["calm"].iter().chain(arguments));
        let checked = probes.map(|(probes, unanswered)| Checked { probes, unanswered });
        let checked = [Family::Ipv4, Family::Ipv6].into_iter().zip(checked).collect();
        let mut figures = calm.figures_of_neighbours(&checked).unwrap();
        figures.push(calm.figure_of_the_load(idle_percent).unwrap());
        Report { title: String::new(), figures, method: vec![] }.is_kept()
    }

    #[test]
    fn a_calm_in_which_a_neighbour_was_never_checked_has_tested_nothing() {
        for (probes, kept) in [
            ([(1, 0), (15, 0)], true),
            ([(0, 0), (15, 0)], false),
            ([(15, 0), (0, 0)], false),
            ([(15, 1), (15, 0)], false),
            ([(15, 0), (15, 15)], false),
        ] {
            assert_eq!(is_kept(&[], probes, 90.0), kept, "{probes:?}");
            assert!(is_kept(&["--load"], probes, 0.0), "of a busy computer it is only said: {probes:?}");
        }
    }

    #[test]
    fn a_load_that_leaves_the_processors_idle_is_none() {
        let idle = |percent| is_kept(&["--load"], [(9, 0); 2], percent);
        assert_eq!([0.0, 5.0, 5.1, 60.0].map(idle), [true, true, false, false]);
    }
}
