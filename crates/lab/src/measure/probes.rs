//! Probes of every address from one place: a socket for each family.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::damage::blocking;
use super::families::{ByFamily, Family};
use super::probe::{Outage, Probe};
use super::statistics::{Summary, ms};
use crate::lab::Lab;

/// Probes at work; they stop when this is dropped.
pub(super) struct Probes {
    probes: ByFamily<(Vec<IpAddr>, Probe)>,
}

impl Probes {
    /// Starts to ask the echo servers behind `port` of these addresses, from the network of `place`.
    pub(super) fn start(lab: &Lab, place: &str, addresses: &[IpAddr], port: u16) -> Result<Probes> {
        let mut by_family: ByFamily<Vec<IpAddr>> = ByFamily::new();
        for address in addresses {
            by_family.entry(Family::of(*address)).or_default().push(*address);
        }
        let start = |(family, addresses): (Family, Vec<IpAddr>)| {
            let servers: Vec<SocketAddr> = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            Ok((family, (addresses, Probe::start(lab, place, &servers)?)))
        };
        Ok(Probes { probes: by_family.into_iter().map(start).collect::<Result<_>>()? })
    }

    /// Whether every address of each family has been answering for `span`, with no pause of more than `pause`.
    pub(super) fn steady(&self, span: Duration, pause: Duration) -> ByFamily<bool> {
        self.probes.iter().map(|(family, (_, probe))| (*family, probe.is_steady(span, pause))).collect()
    }

    /// Stops asking, waits a second for answers that are on their way, and returns what happened to each address between
    /// these moments.
    pub(super) async fn finish(self, from: Instant, until: Instant) -> Result<Vec<(IpAddr, Outage)>> {
        blocking(move || {
            // All at once: else one would be waited for after another.
            self.probes.values().for_each(|(_, probe)| probe.stop());
            let mut outages = Vec::new();
            for (addresses, probe) in self.probes.into_values() {
                let (from, until) = (probe.time(from), probe.time(until));
                let traces = probe.finish()?;
                outages.extend(addresses.into_iter().zip(traces.iter().map(|trace| trace.outage(from, until))));
            }
            Ok(outages)
        })
        .await
    }
}

/// A probe that goes around the Services, from the control plane to a Pod's own address: what it misses was missed by the
/// server, which shares the computer with everything else, and cannot be blamed on who announces.
pub(super) struct Control(Probe);

impl Control {
    /// Starts to ask the echo server of this Pod.
    pub(super) fn start(lab: &Lab, pod: SocketAddr) -> Result<Control> {
        Ok(Control(Probe::start(lab, "cp", &[pod])?))
    }

    /// Stops asking, waits a second for answers that are on their way, and returns what happened between these moments.
    pub(super) async fn finish(self, from: Instant, until: Instant) -> Result<Outage> {
        blocking(move || {
            let (from, until) = (self.0.time(from), self.0.time(until));
            let traces = self.0.finish()?;
            Ok(traces.iter().map(|trace| trace.outage(from, until)).fold(Outage::default(), Outage::and))
        })
        .await
    }
}

/// How the server did, whoever announced.
pub(super) fn figures_of_the_server(seen: &[Outage]) -> Result<[Summary; 2]> {
    let values = |value: fn(&Outage) -> f64| seen.iter().map(value).collect::<Vec<_>>();
    Ok([
        Summary::of("server_silence_ms", "ms", &values(|outage| ms(outage.gap)))?,
        Summary::of("server_probes_lost", "probes", &values(|outage| outage.lost as f64))?,
    ])
}

/// Of each family the worst; the lost add up.
pub(super) fn by_family(outages: &[(IpAddr, Outage)]) -> ByFamily<Outage> {
    let mut worst: ByFamily<Outage> = ByFamily::new();
    for (address, outage) in outages {
        let known = worst.entry(Family::of(*address)).or_default();
        *known = known.and(*outage);
    }
    worst
}

/// The longest time for which a probe itself stood still.
pub(super) fn blind(outages: &ByFamily<Outage>) -> Duration {
    outages.values().map(|outage| outage.blind).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_address_of_a_family_stands_for_it() {
        let ms = Duration::from_millis;
        let outage = |gap, lost, blind| Outage { gap: ms(gap), lost, blind: ms(blind) };
        let ip = |text: &str| text.parse().unwrap();
        let seen = [
            (ip("192.0.2.1"), outage(10, 1, 12)),
            (ip("192.0.2.2"), outage(300, 30, 11)),
            (ip("2001:db8::1"), outage(20, 2, 40)),
        ];
        let expected = ByFamily::from([(Family::Ipv4, outage(300, 31, 12)), (Family::Ipv6, outage(20, 2, 40))]);
        assert_eq!(by_family(&seen), expected);
        assert_eq!(blind(&expected), ms(40));
    }
}
