//! `cargo lab measure failover`: the node that answers breaks, and a client keeps asking.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::addresses::Addresses;
use super::bench::{Bench, LABEL, NAMESPACE, POOL, object};
use super::damage::blocking;
use super::probe::{INTERVAL, Outage, Probe};
use super::say;
use super::statistics::{Report, Summary};
use super::wait::wait_for;
use crate::fault::Fault;
use crate::up::ECHO_IMAGE;

/// The group of the Service and its Pods.
const GROUP: &str = "failover";
const PORT: u16 = 80;
/// Each run ends after this time, whether the address answers again or not.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// The address answers again when answers have come for `STEADY` without a pause of more than `PAUSE`.
const STEADY: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(500);
/// Between runs, the address may take a while to move back to the mended node.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// One node must have answered so often in a row, `LOOK` apart, before the next run.
const SETTLED: usize = 3;
const LOOK: Duration = Duration::from_secs(2);
/// An echo Pod starts in a second or two.
const POD_LIMIT: Duration = Duration::from_secs(60);

/// How long a client hears nothing when the node that answers breaks.
///
/// A Service with one Pod on another node than the one that answers for its address (found by an ARP request or a
/// neighbour solicitation, not by what the implementation says). A client on the segment sends a UDP datagram every 5 ms,
/// always from the same port; the fault is made; failover_gap_ms is the longest time without an answer, probes_lost the
/// number of datagrams that were never answered. Then the node is mended, and the next run begins when everything is ready
/// and one node has answered for some seconds. A run in which the address does not answer again within 120 s counts with
/// the silence so far, and in unrecovered_runs.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure failover --fault power-off --runs 5")]
pub(super) struct Failover {
    /// What happens to the node.
    #[arg(long, value_enum)]
    fault: Fault,
    /// How often.
    #[arg(long, default_value_t = 5, value_parser = super::at_least_one)]
    runs: usize,
    /// The address, on the client's segment and in nobody's pool; IPv4 or IPv6.
    #[arg(long, default_value = "172.30.0.240")]
    address: IpAddr,
    /// Seconds to watch after the fault at least. [default: 10; 20 for kill-speaker; 75 for freeze, whose effect shows only
    /// when the client's neighbour entry expires]
    #[arg(long, value_name = "SECONDS")]
    watch: Option<u64>,
}

/// One run.
struct Run {
    outage: Outage,
    recovered: bool,
}

impl Failover {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        let nodes = bench.lab.nodes()?;
        ensure!(nodes.len() > 1, "a failover needs two nodes at least; `cargo lab up --nodes 3`");
        let scene = Scene { bench, address: self.address, nodes };
        scene.set().await?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            let owner = scene.settle().await?;
            let run = self.once(&scene, &owner).await?;
            let heir = match scene.who_answers().await?.as_slice() {
                [] => "nobody".to_owned(),
                nodes => nodes.join(" and "),
            };
            let (gap, lost) = (run.outage.gap.as_millis(), run.outage.lost);
            let end = if run.recovered { "" } else { ", not recovered" };
            say(&format!(
                "run {number} of {}: {} of {owner}: silence of {gap} ms, {lost} probes lost{end}; {heir} answers now",
                self.runs,
                self.fault_name()
            ));
            if run.outage.blind > 10 * INTERVAL {
                say(&format!(
                    "  the probe itself stood still for {} ms: the computer is busy",
                    run.outage.blind.as_millis()
                ));
            }
            runs.push(run);
            bench.damage.mend().await?;
            bench.installed.ready().await?;
        }
        let values = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let unrecovered = runs.iter().filter(|run| !run.recovered).count();
        Ok(Report {
            title: format!("failover of {} on {}", bench.installed.place(), self.fault_name()),
            figures: vec![
                Summary::of("failover_gap_ms", "ms", &values(|run| run.outage.gap.as_secs_f64() * 1e3))?,
                Summary::of("probes_lost", "probes", &values(|run| run.outage.lost as f64))?,
                Summary::of("unrecovered_runs", "runs", &[unrecovered as f64])?,
            ],
            method: vec![
                format!(
                    "Longest silence seen by a client that sends a UDP datagram every {} ms, {} s or longer after the fault.",
                    INTERVAL.as_millis(),
                    self.watched().as_secs()
                ),
                "The Service's one Pod is on another node than the one that breaks.".into(),
            ],
        })
    }

    /// Breaks the owner while a probe runs.
    async fn once(&self, scene: &Scene<'_>, owner: &str) -> Result<Run> {
        let probe = Probe::start(&scene.bench.lab, scene.server())?;
        wait_for("steady answers before the fault", SETTLE_LIMIT, PAUSE, || async {
            Ok(probe.is_steady(STEADY, PAUSE).then_some(()))
        })
        .await?;
        let fault = scene.bench.damage.inflict(owner, self.fault).await?;
        let recovered = loop {
            tokio::time::sleep(PAUSE / 2).await;
            if fault.elapsed() > self.watched() && probe.is_steady(STEADY, PAUSE) {
                break true;
            }
            if fault.elapsed() > RUN_LIMIT.max(self.watched()) {
                break false;
            }
        };
        let (from, until) = (probe.time(fault), probe.time(Instant::now()));
        let trace = blocking(move || probe.finish()).await?;
        Ok(Run { outage: trace.outage(from, until), recovered })
    }

    fn watched(&self) -> Duration {
        let secs = self.watch.unwrap_or(match self.fault {
            Fault::PowerOff | Fault::CablePull => 10,
            Fault::KillSpeaker => 20,
            // A Linux client believes an entry for 15 to 45 s, waits 5 s more and asks three times.
            Fault::Freeze => 75,
        });
        Duration::from_secs(secs)
    }

    fn fault_name(&self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self.fault);
        value.map_or_else(|| format!("{:?}", self.fault), |value| value.get_name().to_owned())
    }
}

/// The Service, its Pod, and who answers for it.
struct Scene<'a> {
    bench: &'a Bench,
    address: IpAddr,
    nodes: Vec<String>,
}

impl Scene<'_> {
    /// Makes the Service with a Pod somewhere; returns when it has the address.
    async fn set(&self) -> Result<()> {
        let bench = self.bench;
        let (family, length) = if self.address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
        bench.pool(&[&format!("{}/{length}", self.address)]).await?;
        let service = object(json!({
            "metadata": {"name": GROUP, "labels": {LABEL: GROUP}, "annotations": {"metallb.io/address-pool": POOL}},
            "spec": {
                "type": "LoadBalancer",
                "selector": {LABEL: GROUP},
                "ipFamilies": [family],
                "ports": [{"port": PORT, "targetPort": 8080, "protocol": "UDP"}],
            },
        }))?;
        let addresses = Addresses::watch(bench.services(), &format!("{LABEL}={GROUP}")).await?;
        bench.services().create(&PostParams::default(), &service).await?;
        self.place_pod(&self.nodes[0]).await?;
        addresses
            .of(GROUP, POD_LIMIT)
            .await
            .with_context(|| format!("{} was not given; is it in another pool? choose with --address", self.address))?;
        Ok(())
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// Waits until one node answers for the address, and goes on doing so, with the Pod on another one and the client
    /// being served. Returns the node.
    async fn settle(&self) -> Result<String> {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let (mut owner, mut seen) = (String::new(), 0);
        while seen < SETTLED {
            let answering = self.who_answers().await?;
            match answering.as_slice() {
                [node] if *node == owner => seen += 1,
                [node] => (owner, seen) = (node.clone(), 1),
                _ => seen = 0,
            }
            if seen == 1 && self.pods().await?.iter().any(|pod| on(pod, &owner)) {
                let other = self.nodes.iter().rev().find(|node| **node != owner).context("a second node")?;
                self.place_pod(other).await?;
                seen = 0; // it may have had a say in who answers
            }
            if seen < SETTLED && Instant::now() > deadline {
                bail!(
                    "for {} s no one node answers for {}; at last it was {:?}",
                    SETTLE_LIMIT.as_secs(),
                    self.address,
                    answering
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        // What the client learnt in earlier runs must not make this one better or worse.
        let (lab, server) = (self.bench.lab.clone(), self.server());
        blocking(move || {
            lab.forget_neighbours("client")?;
            crate::steps::wait_for("answer from the Service", POD_LIMIT, Duration::from_millis(200), || {
                lab.udp_ask("client", server.ip(), server.port(), Duration::from_secs(1)).map(Some)
            })
        })
        .await?;
        Ok(owner)
    }

    /// The nodes that answer for the address on the client's segment, each once.
    async fn who_answers(&self) -> Result<Vec<String>> {
        let (lab, address) = (self.bench.lab.clone(), self.address);
        blocking(move || {
            let ask = if address.is_ipv4() { crate::Lab::arping } else { crate::Lab::ndisc };
            let mut macs = ask(&lab, "client", "eth0", address, Duration::from_secs(1))?;
            macs.sort();
            macs.dedup();
            let node = |mac: &String| {
                lab.node_with_mac(mac)?.with_context(|| format!("{address} is at {mac}, which is no node's"))
            };
            macs.iter().map(node).collect()
        })
        .await
    }

    /// Lets the Service have one Pod, on this node.
    async fn place_pod(&self, node: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.bench.client.clone(), NAMESPACE);
        let name = format!("echo-{node}");
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let pod = object(json!({
            "metadata": {"name": name, "labels": {LABEL: GROUP}},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "echo",
                    "image": ECHO_IMAGE,
                    "args": ["8080"],
                    "env": [
                        {"name": "POD", "valueFrom": field("metadata.name")},
                        {"name": "NODE", "valueFrom": field("spec.nodeName")},
                    ],
                }],
            },
        }))?;
        // Pods are refused until the controller manager has made the new namespace's service account.
        wait_for(&format!("Pod {name}"), POD_LIMIT, LOOK / 10, || async {
            if pods.get_opt(&name).await?.is_none() {
                pods.create(&PostParams::default(), &pod).await?;
            }
            Ok(pods.get(&name).await.is_ok_and(|pod| is_ready(&pod)).then_some(()))
        })
        .await?;
        for other in self.pods().await?.iter().filter(|pod| !on(pod, node)) {
            pods.delete(&other.name_any(), &DeleteParams::default()).await?;
        }
        wait_for("end of the former Pod", POD_LIMIT, LOOK / 10, || async {
            Ok((self.pods().await?.len() == 1).then_some(()))
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.bench.client.clone(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels(&format!("{LABEL}={GROUP}"))).await?.items)
    }
}

fn on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
