//! Clients that use a Service and are to notice nothing: what `restart` and `calm` have in common.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::clients::Load;
use super::families::{self, ByFamily, Family};
use super::held::Connected;
use super::moves::Said;
use super::probe::Outage;
use super::probes::{self, Control, Probes};
use super::say;
use super::scene::Scene;
use super::statistics::{Summary, ms};

/// Clients at work; they end when this is dropped.
pub(super) struct Vigil<'a> {
    scene: &'a Scene<'a>,
    said: &'a Said,
    clients: Connected,
    probes: Probes,
    control: Control,
    /// Since when what happens counts.
    pub(super) began: Instant,
    said_before: usize,
}

/// What clients of one family noticed.
pub(super) struct Noticed {
    outage: Outage,
    broken: usize,
    moves: usize,
}

/// What was noticed in one run.
pub(super) struct Outcome {
    noticed: ByFamily<Noticed>,
    /// Moves in status.
    said: usize,
    blind: Duration,
    /// Of the server, when asked around the Service.
    server: Outage,
}

/// What is promised of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// No datagram lost, no connection broken, no move.
    Unnoticed,
    /// No move.
    Unmoved,
}

impl<'a> Vigil<'a> {
    /// Lets the client send datagrams, and hold connections at `place`; returns when it is being served.
    pub(super) async fn begin(
        scene: &'a Scene<'a>,
        said: &'a Said,
        place: &str,
        connections: usize,
    ) -> Result<Vigil<'a>> {
        let clients = Connected::open(scene, place, Load { established: connections, new_every: None }).await?;
        let (probes, control) = (scene.probe("client")?, scene.control().await?);
        scene.served(&probes).await?;
        let (began, said_before) = (Instant::now(), said.moves());
        // So that the capture knows who answered before.
        scene.owners().await?;
        Ok(Vigil { scene, said, clients, probes, control, began, said_before })
    }

    /// How often the addresses have moved until now.
    pub(super) fn moves(&self) -> ByFamily<usize> {
        self.scene.moves_since(self.began)
    }

    /// How often the status has named another node until now.
    pub(super) fn moves_in_status(&self) -> usize {
        self.said.moves() - self.said_before
    }

    /// Ends it, and returns what was noticed.
    pub(super) async fn end(self) -> Result<Outcome> {
        self.scene.owners().await?;
        let until = Instant::now();
        let (moves, said) = (self.moves(), self.moves_in_status());
        let outages = probes::by_family(&self.probes.finish(self.began, until).await?);
        let server = self.control.finish(self.began, until).await?;
        let seen = self.clients.finish().await?;
        seen.values()
            .flat_map(|seen| &seen.broken)
            .take(3)
            .for_each(|why| say(&format!("  a connection broke: {why}")));
        let blind = probes::blind(&outages);
        let noticed = |(family, outage): (Family, Outage)| {
            let broken = seen.get(&family).map_or(0, |seen| seen.broken.len());
            (family, Noticed { outage, broken, moves: moves.get(&family).copied().unwrap_or(0) })
        };
        Ok(Outcome { noticed: outages.into_iter().map(noticed).collect(), said, blind, server })
    }
}

impl Outcome {
    /// Says it after `what` has happened, while so many connections were held.
    pub(super) fn tell(&self, what: &str, connections: usize) {
        let noticed = |noticed: &Noticed| {
            format!(
                "{} probes lost (longest silence {} ms), {} of {connections} connections broken, {} moves on the wire",
                noticed.outage.lost,
                noticed.outage.gap.as_millis(),
                noticed.broken,
                noticed.moves
            )
        };
        say(&format!("{what}: {}; {} moves in status", families::in_words(&self.noticed, noticed), self.said));
        if self.server.lost > 0 {
            say(&format!(
                "  asked around the Service, the server itself missed {} probes, with a silence of {} ms: the computer is busy",
                self.server.lost,
                self.server.gap.as_millis()
            ));
        }
    }
}

/// The figures of all runs, held against the promise.
pub(super) fn figures(runs: &[Outcome], promise: Promise) -> Result<Vec<Summary>> {
    let of_each = |name, unit, value: fn(&Noticed) -> f64| {
        families::figures(runs.iter().map(|run| &run.noticed), name, unit, value)
    };
    let values = |value: fn(&Outcome) -> f64| runs.iter().map(value).collect::<Vec<_>>();
    let mut lost = of_each("probes_lost", "probes", |noticed| noticed.outage.lost as f64)?;
    lost.extend(of_each("connections_broken", "connections", |noticed| noticed.broken as f64)?);
    let mut moves = of_each("moves_on_the_wire", "moves", |noticed| noticed.moves as f64)?;
    moves.push(Summary::of("moves_in_status", "moves", &values(|run| run.said as f64))?);
    let none = |counts: Vec<Summary>| counts.into_iter().map(|count| count.exactly(0.0)).collect();
    let mut figures: Vec<Summary> = match promise {
        Promise::Unnoticed => none(lost),
        Promise::Unmoved => lost,
    };
    figures.extend::<Vec<Summary>>(none(moves));
    figures.extend(of_each("longest_silence_ms", "ms", |noticed| ms(noticed.outage.gap))?);
    figures.push(Summary::of("blind_ms", "ms", &values(|run| ms(run.blind)))?);
    figures.extend(probes::figures_of_the_server(&runs.iter().map(|run| run.server).collect::<Vec<_>>())?);
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::super::statistics::Report;
    use super::*;

    fn is_kept(outcome: Outcome, promise: Promise) -> bool {
        let figures = figures(&[outcome], promise).unwrap();
        Report { title: String::new(), figures, method: vec![] }.is_kept()
    }

    #[test]
    fn what_a_busy_computer_loses_is_not_held_against_who_only_promised_not_to_move() {
        let run = |lost, broken, moves, said| {
            let outage = Outage { lost, ..Outage::default() };
            let noticed = ByFamily::from([(Family::Ipv4, Noticed { outage, broken, moves })]);
            // What the server lost is never held against anybody.
            Outcome { noticed, said, blind: Duration::from_secs(1), server: Outage { lost: 7, ..Outage::default() } }
        };
        for (counts, unnoticed, unmoved) in [
            ([0, 0, 0, 0], true, true),
            ([1, 0, 0, 0], false, true),
            ([0, 1, 0, 0], false, true),
            ([0, 0, 1, 0], false, false),
            ([0, 0, 0, 1], false, false),
        ] {
            let of = |promise| {
                let [lost, broken, moves, said] = counts;
                is_kept(run(lost, broken, moves, said), promise)
            };
            assert_eq!((of(Promise::Unnoticed), of(Promise::Unmoved)), (unnoticed, unmoved), "{counts:?}");
        }
    }
}
