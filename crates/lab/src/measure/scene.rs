//! Services with addresses on the client's wire, echo Pods behind them, and who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use landfall_api::annotations;
use landfall_wire::MacAddr;
use serde_json::json;

use super::addresses::Addresses;
use super::bench::{Bench, LABEL, NAMESPACE, POOL, object};
use super::claims::{self, Claim};
use super::damage::{Wound, blocking};
use super::probe::Probe;
use super::say;
use super::wait::wait_for;
use super::wiretap::Wiretap;
use crate::up::ECHO_IMAGE;

/// The group of the Services and their Pods, and the first Service's name before the number.
pub(super) const GROUP: &str = "measured";
const PORT: u16 = 80;
/// Addresses that no network uses (RFC 2544): where there are more than fit into the client's segment. The client is told
/// that they are on its wire.
const BESIDE_THE_SEGMENT: &str = "198.18.0.0/15";
/// As long as nobody gets one more address.
const PATIENCE: Duration = Duration::from_secs(60);
/// An echo Pod starts in a second or two.
const POD_LIMIT: Duration = Duration::from_secs(60);
/// An answer on an idle wire takes a millisecond; a computer with two cores may be busy.
const ANSWER: Duration = Duration::from_millis(300);
/// One node must have answered for each address so often in a row, `LOOK` apart.
const SETTLED: usize = 3;
const LOOK: Duration = Duration::from_secs(2);
/// Each address is answered for by one node within this time, or something is wrong.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// How long an address may take to return to its placed node before whoever has it is taken as its owner: a node that has
/// failed several times is kept waiting longer each time, and that is not what is measured.
const RETURN_LIMIT: Duration = Duration::from_secs(90);
/// The client is served when answers have come for `STEADY` without a pause of more than `PAUSE` (or some periods of the
/// probe, where each address is asked seldom).
const STEADY: Duration = Duration::from_secs(3);
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Which addresses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Where {
    /// The address, on the client's segment and in nobody's pool; IPv4 or IPv6. [default: 172.30.0.240, or 198.18.0.1 for
    /// more than one]
    #[arg(long)]
    address: Option<IpAddr>,
}

impl Where {
    /// `count` addresses from the first one on.
    /// # Errors
    /// They do not fit where the client can reach them.
    fn addresses(self, count: usize) -> Result<Vec<IpAddr>> {
        let default = if count > 1 { Ipv4Addr::new(198, 18, 0, 1) } else { Ipv4Addr::new(172, 30, 0, 240) };
        let first = self.address.unwrap_or(default.into());
        let later = |index: usize| -> Option<IpAddr> {
            match first {
                IpAddr::V4(first) => {
                    u32::from(first).checked_add(u32::try_from(index).ok()?).map(|ip| Ipv4Addr::from(ip).into())
                }
                IpAddr::V6(first) => {
                    u128::from(first).checked_add(index as u128).map(|ip| std::net::Ipv6Addr::from(ip).into())
                }
            }
        };
        let addresses: Option<Vec<IpAddr>> = (0..count).map(later).collect();
        let addresses =
            addresses.with_context(|| format!("--address {first}: {count} addresses do not fit behind it"))?;
        if let Some(stray) = addresses.iter().find(|address| !is_on_the_wire(**address)) {
            bail!(
                "--address {first}: {stray} is neither in 172.30.0.0/24 nor in fd00:30::/64 nor in {BESIDE_THE_SEGMENT}"
            );
        }
        Ok(addresses)
    }
}

fn is_on_the_wire(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[172, 30, 0]) || is_beside(address),
        IpAddr::V6(address) => address.segments().starts_with(&[0xfd00, 0x30, 0, 0]),
    }
}

fn is_beside(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18..=19, _, _])
}

/// What a measurement plays on.
pub(super) struct Scene<'a> {
    pub(super) bench: &'a Bench,
    /// One Service each.
    pub(super) addresses: Vec<IpAddr>,
    /// n1, n2, ...
    pub(super) nodes: Vec<String>,
    /// At the client.
    pub(super) wiretap: Wiretap,
    machines: BTreeMap<MacAddr, String>,
}

/// A node that answers for addresses, with no Pod of theirs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Where the Pods are, and whether a node may send traffic to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pods {
    /// One Pod, on another node than the one that answers.
    Elsewhere,
    /// One on each node, which serves only what comes to it (externalTrafficPolicy Local).
    Everywhere,
}

impl<'a> Scene<'a> {
    /// Makes `count` Services with their Pods; returns when each has its address.
    pub(super) async fn set(bench: &'a Bench, place: Where, count: usize, pods: Pods) -> Result<Scene<'a>> {
        let nodes = bench.lab.nodes()?;
        ensure!(nodes.len() > 1, "a failover needs two nodes at least; `cargo lab up --nodes 3`");
        let addresses = place.addresses(count)?;
        let machines = machines(bench, &nodes)?;
        let scene = Scene { bench, addresses, nodes, wiretap: Wiretap::open(&bench.lab, "client")?, machines };
        scene.reach().await?;
        match pods {
            Pods::Elsewhere => scene.make(pods, &scene.nodes[scene.nodes.len() - 1..]).await?,
            Pods::Everywhere => scene.make(pods, &scene.nodes).await?,
        }
        Ok(scene)
    }

    /// Tells the client that addresses outside its segment are on its wire, if there are such.
    async fn reach(&self) -> Result<()> {
        if self.addresses.iter().any(|address| matches!(address, IpAddr::V4(v4) if is_beside(*v4))) {
            let route = |lab: &crate::Lab| {
                let mut ip = lab.netns_command("client", "ip");
                crate::command::output(ip.args(["route", "replace", BESIDE_THE_SEGMENT, "dev", "eth0"])).map(drop)
            };
            self.bench.setup.cause(Wound::Route(BESIDE_THE_SEGMENT), route).await?;
        }
        Ok(())
    }

    async fn make(&self, pods: Pods, on: &[String]) -> Result<()> {
        let bench = self.bench;
        let range = format!("{}-{}", self.addresses[0], self.addresses[self.addresses.len() - 1]);
        bench.pool(&[&range]).await?;
        let watch = Addresses::watch(bench.services(), &format!("{LABEL}={GROUP}")).await?;
        let ipv4 = self.addresses[0].is_ipv4();
        let services: Result<Vec<Service>> =
            (0..self.addresses.len()).map(|index| service(index, ipv4, pods)).collect();
        bench.create_services(services?).await?;
        self.place_pods(on).await?;
        let progress = |have: usize| {
            if have.is_multiple_of(100) {
                say(&format!("{have} of {} Services have their address", self.addresses.len()));
            }
        };
        let given = watch.all(self.addresses.len(), PATIENCE, progress).await;
        given.map(drop).context("are the addresses in another pool? choose with --address")
    }

    /// The echo server behind the first address.
    pub(super) fn server(&self) -> SocketAddr {
        SocketAddr::new(self.addresses[0], PORT)
    }

    /// A probe of every address, from `place`.
    pub(super) fn probe(&self, place: &str) -> Result<Probe> {
        let servers: Vec<SocketAddr> = self.addresses.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect();
        Probe::start(&self.bench.lab, place, &servers)
    }

    /// Whether the client is being served now, everywhere.
    pub(super) fn is_served(&self, probe: &Probe) -> bool {
        probe.is_steady(STEADY, PAUSE.max(3 * super::probe::period(self.addresses.len())))
    }

    /// Waits until the client is being served.
    pub(super) async fn served(&self, probe: &Probe) -> Result<()> {
        wait_for("steady answers", SETTLE_LIMIT, PAUSE, || async { Ok(self.is_served(probe).then_some(())) }).await
    }

    /// Which nodes answer for each address now.
    pub(super) async fn owners(&self) -> Result<BTreeMap<IpAddr, BTreeSet<String>>> {
        let (since, mouth, addresses) = (Instant::now(), self.wiretap.mouth(), self.addresses.clone());
        blocking(move || mouth.ask(&addresses)).await?;
        tokio::time::sleep(ANSWER).await;
        let mut owners: BTreeMap<IpAddr, BTreeSet<String>> =
            self.addresses.iter().map(|address| (*address, BTreeSet::new())).collect();
        for (address, macs) in claims::answerers(&self.wiretap.claims_since(since)) {
            if let Some(nodes) = owners.get_mut(&address) {
                for mac in macs {
                    nodes.insert(self.node(mac).with_context(|| format!("{address} is at {mac}, which is no node's"))?);
                }
            }
        }
        Ok(owners)
    }

    /// The node that has this MAC address.
    pub(super) fn node(&self, mac: MacAddr) -> Option<String> {
        self.machines.get(&mac).cloned()
    }

    /// How often addresses moved since then, as the client heard it.
    pub(super) fn moves_since(&self, since: Instant) -> usize {
        let heard: Vec<Claim> = self.wiretap.claims_since(since);
        self.addresses.iter().map(|address| claims::moves(&heard, *address)).sum()
    }

    /// Waits until one node answers for each address and goes on doing so, the placed one if it comes to that in time,
    /// with the Pod on another node and the client being served. Returns the node that has most addresses.
    pub(super) async fn settle(&self) -> Result<Owner> {
        let (began, mut before, mut seen) = (Instant::now(), BTreeMap::new(), 0);
        loop {
            let owners = self.owners().await?;
            let single = owners.values().all(|nodes| nodes.len() == 1);
            seen = if single && owners == before { seen + 1 } else { usize::from(single) };
            let home = began.elapsed() > RETURN_LIMIT || self.is_home(&owners).await?;
            if seen >= SETTLED && home {
                let pods = self.pod_nodes().await?;
                match largest(&owners, &pods, self.nodes.len()) {
                    Some(owner) => {
                        self.forget().await?;
                        return Ok(owner);
                    }
                    // The only owner has the only Pod: where the Pod is may have a say in who answers, so look again.
                    None => {
                        let owner = owners.values().flatten().next().context("an owner")?;
                        let other = self.nodes.iter().rev().find(|node| *node != owner).context("a second node")?;
                        self.place_pods(std::slice::from_ref(other)).await?;
                        seen = 0;
                    }
                }
            }
            if began.elapsed() > SETTLE_LIMIT {
                let odd: Vec<_> = owners.iter().filter(|(_, nodes)| nodes.len() != 1).take(5).collect();
                bail!("for {} s no one node answers for each address; at last {odd:?}", SETTLE_LIMIT.as_secs());
            }
            before = owners;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the client learnt in earlier runs must not make the next one better or worse.
    async fn forget(&self) -> Result<()> {
        let (lab, server) = (self.bench.lab.clone(), self.server());
        blocking(move || {
            lab.forget_neighbours("client")?;
            crate::steps::wait_for("answer from the Service", POD_LIMIT, Duration::from_millis(200), || {
                lab.udp_ask("client", server.ip(), server.port(), Duration::from_secs(1)).map(Some)
            })
        })
        .await
        .map(drop)
    }

    /// Whether every address that is placed is answered for by the node where it is placed.
    async fn is_home(&self, owners: &BTreeMap<IpAddr, BTreeSet<String>>) -> Result<bool> {
        let ours = ListParams::default().labels(&format!("{LABEL}={GROUP}"));
        let services = self.bench.services().list(&ours).await?;
        Ok(services.iter().all(|service| {
            let Some(placed) = service.annotations().get(annotations::NODE) else { return true };
            let ingress = service.status.iter().flat_map(|status| status.load_balancer.iter());
            let mut ips = ingress.flat_map(|one| one.ingress.iter().flatten()).filter_map(|one| one.ip.as_deref());
            ips.all(|ip| {
                let nodes = ip.parse().ok().and_then(|ip: IpAddr| owners.get(&ip));
                nodes.is_some_and(|nodes| nodes.contains(placed))
            })
        }))
    }

    async fn pod_nodes(&self) -> Result<BTreeSet<String>> {
        Ok(self.pods().await?.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect())
    }

    /// Lets the Services have one Pod on each of these nodes, and no other.
    async fn place_pods(&self, nodes: &[String]) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.bench.client.clone(), NAMESPACE);
        for node in nodes {
            let pod = pod(node)?;
            let name = pod.name_any();
            // Pods are refused until the controller manager has made the new namespace's service account.
            wait_for(&format!("Pod {name}"), POD_LIMIT, LOOK / 10, || async {
                if pods.get_opt(&name).await?.is_none() {
                    pods.create(&PostParams::default(), &pod).await?;
                }
                Ok(pods.get(&name).await.is_ok_and(|pod| is_ready(&pod)).then_some(()))
            })
            .await?;
        }
        let on =
            |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|at| nodes.contains(at));
        for other in self.pods().await?.iter().filter(|pod| !on(pod)) {
            pods.delete(&other.name_any(), &DeleteParams::default()).await?;
        }
        wait_for("end of the former Pod", POD_LIMIT, LOOK / 10, || async {
            Ok((self.pods().await?.len() == nodes.len()).then_some(()))
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.bench.client.clone(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels(&format!("{LABEL}={GROUP}"))).await?.items)
    }
}

/// Every MAC address of every node. They stay the same over a reboot.
fn machines(bench: &Bench, nodes: &[String]) -> Result<BTreeMap<MacAddr, String>> {
    let mut machines = BTreeMap::new();
    for node in nodes {
        for interface in ["eth0", "eth1"] {
            let mac = bench.lab.node_mac(node, interface)?;
            machines
                .insert(mac.parse().map_err(|_| anyhow::anyhow!("{mac} of {node} is no MAC address"))?, node.clone());
        }
    }
    Ok(machines)
}

/// The owner of most addresses. One with a Pod on it is no choice, unless every node has one: it takes the endpoint with it.
fn largest(owners: &BTreeMap<IpAddr, BTreeSet<String>>, pods: &BTreeSet<String>, nodes: usize) -> Option<Owner> {
    let mut by_node: BTreeMap<&String, Vec<IpAddr>> = BTreeMap::new();
    for (address, answering) in owners {
        answering.iter().for_each(|node| by_node.entry(node).or_default().push(*address));
    }
    let choice = by_node.into_iter().filter(|(node, _)| pods.len() == nodes || !pods.contains(*node));
    let (node, addresses) = choice.max_by_key(|(_, addresses)| addresses.len())?;
    Some(Owner { node: node.clone(), addresses })
}

fn service(index: usize, ipv4: bool, pods: Pods) -> Result<Service> {
    let policy = if pods == Pods::Everywhere { "Local" } else { "Cluster" };
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": PORT, "targetPort": 8080, "protocol": protocol});
    object(json!({
        "metadata": {
            "name": format!("{GROUP}-{index}"),
            "labels": {LABEL: GROUP},
            "annotations": {"metallb.io/address-pool": POOL},
        },
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false,
            "externalTrafficPolicy": policy,
            "selector": {LABEL: GROUP},
            "ipFamilies": [if ipv4 { "IPv4" } else { "IPv6" }],
            "ports": [port("UDP"), port("TCP")],
        },
    }))
}

fn pod(node: &str) -> Result<Pod> {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    object(json!({
        "metadata": {"name": format!("echo-{node}"), "labels": {LABEL: GROUP}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
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
    }))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_each_other_where_the_client_can_reach_them() {
        let of = |first: &str, count| Where { address: Some(first.parse().unwrap()) }.addresses(count);
        let last = |first, count| of(first, count).unwrap().pop().unwrap().to_string();
        assert_eq!(last("172.30.0.240", 3), "172.30.0.242");
        assert_eq!(last("198.18.0.1", 1000), "198.18.3.232");
        assert_eq!(last("fd00:30::fffe", 3), "fd00:30::1:0");
        assert_eq!(Where { address: None }.addresses(2).unwrap()[1].to_string(), "198.18.0.2");
        for (first, count) in [("172.30.0.240", 17), ("192.0.2.1", 1), ("fd00:31::1", 1), ("255.255.255.255", 2)] {
            let error = of(first, count).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--address {first}: ")), "{error}");
        }
    }

    #[test]
    fn the_node_to_break_has_most_addresses_and_no_pod() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let set = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<BTreeSet<_>>();
        let owners = BTreeMap::from([
            (ip(1), set(&["n1"])),
            (ip(2), set(&["n2"])),
            (ip(3), set(&["n2"])),
            (ip(4), set(&["n3"])),
        ]);
        let node = |pods: &[&str]| largest(&owners, &set(pods), 3).map(|owner| owner.node);
        assert_eq!(node(&["n3"]).as_deref(), Some("n2"));
        assert_eq!(node(&["n2", "n3"]).as_deref(), Some("n1"));
        assert_eq!(node(&["n1", "n2", "n3"]).as_deref(), Some("n2"), "each has a Pod: none takes the only one with it");
        let one = BTreeMap::from([(ip(1), set(&["n1"]))]);
        assert_eq!(largest(&one, &set(&["n1"]), 3), None);
    }
}
