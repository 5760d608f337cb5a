//! Services with addresses on the client's wire, echo Pods behind them, and who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::ListParams;
use landfall_api::annotations;
use landfall_wire::MacAddr;
use serde_json::json;

use super::addresses::Addresses;
use super::bench::{Bench, LABEL, POOL, object};
use super::claims::{self, Claim};
use super::damage::{Wound, blocking};
use super::echo_pods::{self, EchoPods};
use super::families::{ByFamily, Family};
use super::place::{BESIDE_THE_SEGMENT, Segment, Where, is_beside};
use super::probe;
use super::probes::{Control, Probes};
use super::reachability::{self, Checked};
use super::say;
use super::wait::wait_for;
use super::wiretap::Wiretap;
use crate::fault::Fault;

/// The group of the Services and their Pods, and the first Service's name before the number.
pub(super) const GROUP: &str = "measured";
const PORT: u16 = 80;
/// As long as nobody gets one more address.
const PATIENCE: Duration = Duration::from_secs(60);
/// The Pods answer through every address within this time: kube-proxy has heard of them within a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// An answer on an idle wire takes a millisecond; a computer with two cores may be busy.
const ANSWER: Duration = Duration::from_millis(300);
/// One node must have answered for each address so often in a row, `LOOK` apart.
const SETTLED: usize = 3;
const LOOK: Duration = Duration::from_secs(1);
/// Each address is answered for within this time by one node, the one where it is placed, or something is wrong.
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
/// The client is served when answers have come for `STEADY` without a pause of more than `PAUSE` (or some periods of the
/// probe, where each address is asked seldom).
const STEADY: Duration = Duration::from_secs(3);
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// What a measurement plays on.
pub(super) struct Scene<'a> {
    pub(super) bench: &'a Bench,
    /// How many.
    services: usize,
    /// Theirs: all of one family, and then all of the other.
    pub(super) addresses: Vec<IpAddr>,
    /// n1, n2, ...
    pub(super) nodes: Vec<String>,
    /// At the client.
    pub(super) wiretap: Wiretap,
    machines: BTreeMap<MacAddr, String>,
    pub(super) pods: EchoPods,
}

/// A node that answers for addresses, with no Pod of theirs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// A fault that was made.
pub(super) struct Strike {
    /// The moment before.
    pub(super) at: Instant,
    /// The node had given an address away, as the wire tells: what comes of the fault says nothing.
    pub(super) is_void: bool,
}

/// Where the Pods are, and whether a node may send traffic to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pods {
    /// One Pod, on another node than the one that answers.
    Elsewhere,
    /// One on each node, which serves only what comes to it (externalTrafficPolicy Local).
    Everywhere,
    /// One on each node, and each node sends traffic to all of them (externalTrafficPolicy Cluster).
    Shared,
}

impl<'a> Scene<'a> {
    /// Makes `count` Services with their Pods; returns when each has its address.
    pub(super) async fn set(bench: &'a Bench, place: Where, count: usize, pods: Pods) -> Result<Scene<'a>> {
        let nodes = bench.lab.nodes()?;
        ensure!(nodes.len() > 1, "a failover needs two nodes at least; `cargo lab up --nodes 3`");
        let families = place.addresses(count)?;
        let scene = Scene {
            bench,
            services: count,
            addresses: families.concat(),
            machines: machines(bench, &nodes)?,
            nodes,
            wiretap: Wiretap::open(&bench.lab, "client", place.segment().interface())?,
            pods: EchoPods::of(&bench.client, GROUP),
        };
        scene.reach().await?;
        match pods {
            Pods::Elsewhere => scene.make(&families, pods, &scene.nodes[scene.nodes.len() - 1..]).await?,
            Pods::Everywhere | Pods::Shared => scene.make(&families, pods, &scene.nodes).await?,
        }
        Ok(scene)
    }

    /// Tells the client that addresses outside its segment are on its wire, if there are such.
    async fn reach(&self) -> Result<()> {
        if self.addresses.iter().any(|address| is_beside(*address)) {
            let route = |lab: &crate::Lab| {
                let mut ip = lab.netns_command("client", "ip");
                crate::command::output(ip.args([
                    "route",
                    "replace",
                    BESIDE_THE_SEGMENT,
                    "dev",
                    Segment::Eth0.interface(),
                ]))
                .map(drop)
            };
            self.bench.setup.cause(Wound::Route(BESIDE_THE_SEGMENT), route).await?;
        }
        Ok(())
    }

    async fn make(&self, families: &[Vec<IpAddr>], pods: Pods, on: &[String]) -> Result<()> {
        let bench = self.bench;
        let ranges: Vec<String> =
            families.iter().map(|addresses| format!("{}-{}", addresses[0], addresses[addresses.len() - 1])).collect();
        bench.pool(&ranges.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let watch = Addresses::watch(bench.services(), &format!("{LABEL}={GROUP}")).await?;
        let families: Vec<Family> = families.iter().map(|addresses| Family::of(addresses[0])).collect();
        let services: Result<Vec<Service>> = (0..self.services).map(|index| service(index, &families, pods)).collect();
        bench.create_services(services?).await?;
        self.pods.place(on).await?;
        let progress = |have: usize| {
            if have.is_multiple_of(100) {
                say(&format!("{have} of {} Services have their address", self.services));
            }
        };
        let given = watch.all(self.services, PATIENCE, progress).await;
        given.map(drop).context("are the addresses in another pool? choose with --address")
    }

    /// The echo server behind the first address of each family.
    pub(super) fn servers(&self) -> ByFamily<SocketAddr> {
        let mut servers = ByFamily::new();
        for address in &self.addresses {
            servers.entry(Family::of(*address)).or_insert(SocketAddr::new(*address, PORT));
        }
        servers
    }

    /// A probe of every address, from `place`.
    pub(super) fn probe(&self, place: &str) -> Result<Probes> {
        Probes::start(&self.bench.lab, place, &self.addresses, PORT)
    }

    /// A probe of the Pod behind the Services that does not go through them.
    pub(super) async fn control(&self) -> Result<Control> {
        Control::start(&self.bench.lab, self.pods.server().await?)
    }

    /// Whether the client is being served now through each family.
    pub(super) fn served_through(&self, probes: &Probes) -> ByFamily<bool> {
        probes.steady(STEADY, PAUSE.max(3 * probe::period(self.services)))
    }

    /// Whether the client is being served now, everywhere.
    pub(super) fn is_served(&self, probes: &Probes) -> bool {
        self.served_through(probes).into_values().all(|served| served)
    }

    /// Waits until the client is being served.
    pub(super) async fn served(&self, probes: &Probes) -> Result<()> {
        wait_for("steady answers", SETTLE_LIMIT, PAUSE, || async { Ok(self.is_served(probes).then_some(())) }).await
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

    /// How often the addresses of each family moved since then, as the client heard it.
    pub(super) fn moves_since(&self, since: Instant) -> ByFamily<usize> {
        let heard: Vec<Claim> = self.wiretap.claims_since(since);
        let mut moves = ByFamily::new();
        for address in &self.addresses {
            *moves.entry(Family::of(*address)).or_default() += claims::moves(&heard, *address);
        }
        moves
    }

    /// How the client's kernel found its neighbours when it asked between these moments.
    pub(super) fn checked(&self, from: Instant, until: Instant) -> ByFamily<Checked> {
        let steps = self.wiretap.steps_since(from);
        let mut all: ByFamily<Checked> = ByFamily::new();
        for address in &self.addresses {
            let checked = reachability::checked(&steps, *address, from, until);
            let family = all.entry(Family::of(*address)).or_default();
            family.probes += checked.probes;
            family.unanswered += checked.unanswered;
        }
        all
    }

    /// When the address of each family moved for the first time since then, as the client heard it.
    pub(super) fn moved_since(&self, since: Instant) -> ByFamily<Instant> {
        let heard: Vec<Claim> = self.wiretap.claims_since(since);
        let moved = |address: &IpAddr| Some((Family::of(*address), claims::moved_at(&heard, *address)?));
        self.addresses.iter().filter_map(moved).collect()
    }

    /// Breaks the owner, of which `since` was heard that it is one.
    pub(super) async fn strike(&self, owner: &Owner, since: Instant, fault: Fault) -> Result<Strike> {
        let at = self.bench.damage.inflict(&owner.node, fault).await?;
        let heard = self.wiretap.claims_since(since);
        let is_owner = |mac| self.machines.get(&mac) == Some(&owner.node);
        let is_held = |address: &IpAddr| claims::is_held(&heard, *address, at, is_owner);
        Ok(Strike { at, is_void: !owner.addresses.iter().all(is_held) })
    }

    /// Waits until one node answers for each address and goes on doing so, the placed one where the address says that it is
    /// placed, so that no address is about to move; with the Pod on another node and the client being served. Returns the
    /// node that has most addresses; of a single Service it has all.
    pub(super) async fn settle(&self) -> Result<Owner> {
        let (began, mut before, mut seen) = (Instant::now(), BTreeMap::new(), 0);
        loop {
            let owners = self.owners().await?;
            let single = owners.values().all(|nodes| nodes.len() == 1);
            seen = if single && owners == before { seen + 1 } else { usize::from(single) };
            if seen >= SETTLED && self.astray(&owners).await?.is_empty() {
                match largest(&owners, &self.pods.nodes().await?, self.nodes.len()) {
                    Some(owner) if self.services > 1 || owner.addresses.len() == self.addresses.len() => {
                        self.forget().await?;
                        return Ok(owner);
                    }
                    Some(_) => {} // the two addresses of one Service are to be answered for by one node
                    // The only owner has the only Pod: where the Pod is may have a say in who answers, so look again.
                    None => {
                        let owner = owners.values().flatten().next().context("an owner")?;
                        let other = self.nodes.iter().rev().find(|node| *node != owner).context("a second node")?;
                        self.pods.place(std::slice::from_ref(other)).await?;
                        seen = 0;
                    }
                }
            }
            if began.elapsed() > SETTLE_LIMIT {
                let mut odd: Vec<String> = Vec::new();
                let disputed = owners.iter().filter(|(_, nodes)| nodes.len() != 1);
                odd.extend(disputed.map(|(address, nodes)| format!("{address} is answered for by {nodes:?}")));
                odd.extend(self.astray(&owners).await?);
                odd.truncate(5);
                bail!(
                    "after {} s it is not one node that answers for each Service, the one where it is placed: {}",
                    SETTLE_LIMIT.as_secs(),
                    odd.join("; ")
                );
            }
            before = owners;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What the client learnt in earlier runs must not make the next one better or worse.
    async fn forget(&self) -> Result<()> {
        let (lab, servers) = (self.bench.lab.clone(), self.servers());
        blocking(move || {
            lab.forget_neighbours("client")?;
            for server in servers.into_values() {
                crate::steps::wait_for("answer from the Service", ANSWER_LIMIT, Duration::from_millis(200), || {
                    lab.udp_ask("client", server.ip(), server.port(), Duration::from_secs(1)).map(Some)
                })?;
            }
            Ok(())
        })
        .await
    }

    /// The addresses that are placed on another node than answers for them, in words.
    async fn astray(&self, owners: &BTreeMap<IpAddr, BTreeSet<String>>) -> Result<Vec<String>> {
        let ours = ListParams::default().labels(&format!("{LABEL}={GROUP}"));
        let mut astray = Vec::new();
        for service in self.bench.services().list(&ours).await? {
            let Some(placed) = service.annotations().get(annotations::NODE) else { continue };
            let ingress = service.status.iter().flat_map(|status| status.load_balancer.iter());
            for ip in ingress.flat_map(|one| one.ingress.iter().flatten()).filter_map(|one| one.ip.as_deref()) {
                let nodes = ip.parse().ok().and_then(|ip: IpAddr| owners.get(&ip));
                if nodes.is_none_or(|nodes| !nodes.contains(placed)) {
                    astray.push(format!("{ip} is placed on {placed} and answered for by {nodes:?}"));
                }
            }
        }
        Ok(astray)
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

fn service(index: usize, families: &[Family], pods: Pods) -> Result<Service> {
    let policy = if pods == Pods::Everywhere { "Local" } else { "Cluster" };
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "port": PORT, "targetPort": echo_pods::PORT, "protocol": protocol});
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
            "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ipFamilies": families.iter().map(|family| family.in_spec()).collect::<Vec<_>>(),
            "ports": [port("UDP"), port("TCP")],
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_that_serve_what_comes_to_their_own_node_have_a_local_service() {
        for (pods, policy) in [(Pods::Elsewhere, "Cluster"), (Pods::Everywhere, "Local"), (Pods::Shared, "Cluster")] {
            let spec = service(0, &[Family::Ipv4], pods).unwrap().spec.unwrap();
            assert_eq!(spec.external_traffic_policy.as_deref(), Some(policy), "{pods:?}");
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
