//! Promise 1, over random sequences of changes, failures and restarts: a valid assignment is never changed, no address is
//! held twice unless sharing allows it, nothing leaks, a restart changes nothing, and whoever waits gets what is free.
//!
//! The rules are stated here once more, in the simplest way that can be thought of, over the statuses alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use landfall_ipam::ServiceKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Target, Write};
use super::cluster::{Cluster, short};

/// Something that happens to the cluster. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Happening {
    /// A Service is created or changed; each field picks one of a few values.
    Service {
        name: usize,
        families: usize,
        sharing: usize,
        port: usize,
        request: usize,
        local: bool,
        class: usize,
    },
    Delete(usize),
    /// Deleted and made again under the same name before anything is written.
    Recreate(usize),
    Pool {
        name: usize,
        addresses: usize,
        rule: usize,
    },
    DeletePool(usize),
    Namespace {
        labelled: bool,
    },
    Node(usize),
    DeleteNode(usize),
    /// A decision is made, and its write is still under way while other things happen.
    WriteBegins,
    WritesEnd,
    ApiServer {
        down: bool,
    },
    Relist,
    Restart,
    Settle,
}

const SERVICES: [&str; 5] = ["a", "b", "c", "other/d", "other/e"];
const POOLS: [&str; 3] = ["p", "q", "r"];
const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn happening() -> impl Strategy<Value = Happening> {
    let service = (0..5usize, 0..5usize, 0..3usize, 0..2usize, 0..8usize, prop::bool::weighted(0.2), 0..6usize)
        .prop_map(|(name, families, sharing, port, request, local, class)| Happening::Service {
            name,
            families,
            sharing,
            port,
            request,
            local,
            class,
        });
    prop_oneof![
        12 => service,
        3 => (0..5usize).prop_map(Happening::Delete),
        1 => (0..5usize).prop_map(Happening::Recreate),
        4 => (0..3usize, 0..4usize, 0..5usize).prop_map(|(name, addresses, rule)| Happening::Pool { name, addresses, rule }),
        1 => (0..3usize).prop_map(Happening::DeletePool),
        1 => any::<bool>().prop_map(|labelled| Happening::Namespace { labelled }),
        1 => (0..3usize).prop_map(Happening::Node),
        1 => (0..3usize).prop_map(Happening::DeleteNode),
        4 => Just(Happening::WriteBegins),
        2 => Just(Happening::WritesEnd),
        2 => any::<bool>().prop_map(|down| Happening::ApiServer { down }),
        1 => Just(Happening::Relist),
        1 => Just(Happening::Restart),
        6 => Just(Happening::Settle),
    ]
}

/// The ranges of a pool: none that two pools have in common.
fn addresses(pool: usize, which: usize) -> Vec<String> {
    let (four, six) = (|n| format!("10.{pool}.0.{n}/32"), |n| format!("fd0{pool}::{n}/128"));
    match which {
        0 => vec![four(0)],
        1 => vec![four(0), four(1), six(0)],
        2 => vec![four(1), six(1)],
        _ => vec![six(0), six(1), four(2)],
    }
}

fn rule(which: usize) -> Option<Value> {
    match which {
        0 => Some(json!({"namespaces": ["other"]})),
        1 => Some(json!({"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}], "priority": 5})),
        2 => Some(json!({"priority": 1, "serviceSelectors": [{"matchLabels": {"class": "1"}}]})),
        _ => None,
    }
}

fn service(families: usize, sharing: usize, port: usize, request: usize, local: bool, class: usize) -> Value {
    let (ips, policy) = match families {
        0 | 1 => (json!(["10.96.0.9"]), "SingleStack"),
        2 => (json!(["fd96::9"]), "SingleStack"),
        3 => (json!(["10.96.0.9", "fd96::9"]), "PreferDualStack"),
        _ => (json!(["10.96.0.9", "fd96::9"]), "RequireDualStack"),
    };
    let (asked_ips, asked_pool) = match request {
        0 => (json!("10.0.0.1"), Value::Null),
        1 => (json!("10.1.0.1,fd01::1"), Value::Null),
        2 => (Value::Null, json!("q")),
        3 => (json!("nonsense"), Value::Null),
        _ => (Value::Null, Value::Null),
    };
    json!({
        "metadata": {
            "labels": {"class": class.to_string()},
            "annotations": {
                "metallb.io/allow-shared-ip": match sharing { 0 => Value::Null, n => json!(format!("key{n}")) },
                "metallb.io/loadBalancerIPs": asked_ips,
                "metallb.io/address-pool": asked_pool}},
        "spec": {
            "type": if class == 5 { "ClusterIP" } else { "LoadBalancer" },
            "clusterIPs": ips, "ipFamilyPolicy": policy,
            "selector": {"app": format!("app{}", class % 2)},
            "externalTrafficPolicy": if local { "Local" } else { "Cluster" },
            "ports": [{"port": 80 + port, "protocol": "TCP"}]}})
}

/// A run: the cluster, and what is true of it.
struct Run {
    cluster: Cluster,
    under_way: Vec<Write>,
    /// Services about which something was decided whose write is under way or has failed: it was right when it was
    /// decided, whatever has happened since.
    decided: BTreeSet<String>,
    gold: bool,
}

impl Run {
    fn new() -> Self {
        let mut cluster = Cluster::with(&[]);
        cluster.advertise("all", json!({}));
        Self { cluster, under_way: vec![], decided: BTreeSet::new(), gold: false }
    }

    fn happen(&mut self, happening: &Happening) {
        let cluster = &mut self.cluster;
        match *happening {
            Happening::Service { name, families, sharing, port, request, local, class } => {
                cluster.apply(SERVICES[name], service(families, sharing, port, request, local, class));
            }
            Happening::Delete(name) if cluster.services.contains_key(SERVICES[name]) => {
                cluster.delete(SERVICES[name]);
            }
            Happening::Recreate(name) if cluster.services.contains_key(SERVICES[name]) => {
                cluster.delete(SERVICES[name]).apply(SERVICES[name], json!({}));
            }
            Happening::Pool { name, addresses: which, rule: of } => {
                let mut spec = json!({"addresses": addresses(name, which), "autoAssign": of != 4});
                if let Some(rule) = rule(of) {
                    spec["serviceAllocation"] = rule;
                }
                cluster.pool(POOLS[name], spec);
            }
            Happening::DeletePool(name) if cluster.pools.contains_key(POOLS[name]) => {
                cluster.delete_pool(POOLS[name]);
            }
            Happening::Namespace { labelled } => {
                self.gold = labelled;
                cluster.namespace("other", if labelled { &[("tier", "gold")] } else { &[] });
            }
            Happening::Node(name) => drop(cluster.node(NODES[name], &[])),
            Happening::DeleteNode(name) => drop(cluster.delete_node(NODES[name])),
            Happening::WriteBegins => {
                self.under_way.extend(cluster.next());
                self.decided.extend(self.under_way.iter().filter_map(|write| match &write.target {
                    Target::Service(key) => Some(short(key)),
                    Target::Object(..) => None,
                }));
            }
            Happening::WritesEnd => self.writes_end(),
            Happening::ApiServer { down } => cluster.down = down,
            Happening::Relist => cluster.lists(),
            Happening::Restart => {
                // What was sent by the old process arrives, or does not; nobody hears of it.
                for write in std::mem::take(&mut self.under_way) {
                    cluster.finish(&write);
                }
                cluster.restart();
            }
            Happening::Settle => self.settle(),
            Happening::Delete(_) | Happening::Recreate(_) | Happening::DeletePool(_) => {}
        }
    }

    fn writes_end(&mut self) {
        for write in std::mem::take(&mut self.under_way) {
            self.cluster.finish(&write);
        }
    }

    fn settle(&mut self) {
        self.writes_end();
        if self.cluster.settle() > 0 && self.cluster.down {
            self.decided.extend(self.cluster.services.keys().cloned());
        }
    }

    fn status(&self, name: &str) -> Vec<IpAddr> {
        self.cluster.addresses(name).iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn uid(&self, name: &str) -> &Value {
        &self.cluster.services[name]["metadata"]["uid"]
    }

    /// What each Service had; one that is made again under the same name is another one.
    fn remember(&self) -> BTreeMap<String, (Value, Vec<IpAddr>)> {
        self.cluster.services.keys().map(|name| (name.clone(), (self.uid(name).clone(), self.status(name)))).collect()
    }

    fn statuses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        self.cluster.services.keys().map(|name| (name.clone(), self.status(name))).collect()
    }

    /// The pool that has all of `ips`, by its entries.
    fn pool_of(&self, ips: &[IpAddr]) -> Option<&Value> {
        self.cluster.pools.values().find(|pool| ips.iter().all(|ip| has(pool, *ip)))
    }

    fn accepts(&self, pool: &Value, name: &str) -> bool {
        let rule = &pool["spec"]["serviceAllocation"];
        let namespace = if name.contains('/') { "other" } else { "default" };
        if rule["namespaces"].is_array() {
            return namespace == "other";
        }
        if rule["namespaceSelectors"].is_array() {
            return namespace == "other" && self.gold;
        }
        !rule["serviceSelectors"].is_array() || self.cluster.services[name]["metadata"]["labels"]["class"] == "1"
    }

    /// Whether a Service may have these addresses, others aside.
    fn may_have(&self, name: &str, ips: &[IpAddr]) -> bool {
        let service = &self.cluster.services[name];
        let annotation = |key: &str| service["metadata"]["annotations"][key].as_str();
        let (dual, prefer) = (
            service["spec"]["clusterIPs"].as_array().is_some_and(|ips| ips.len() == 2),
            service["spec"]["ipFamilyPolicy"] == "PreferDualStack",
        );
        let six = service["spec"]["clusterIPs"][0].as_str().is_some_and(|ip| ip.contains(':'));
        let families = match ips {
            [ip] => {
                if dual {
                    prefer
                } else {
                    ip.is_ipv6() == six
                }
            }
            [a, b] => dual && a.is_ipv4() != b.is_ipv4(),
            _ => false,
        };
        let asked: Option<Result<BTreeSet<IpAddr>, _>> =
            annotation("metallb.io/loadBalancerIPs").map(|text| text.split(',').map(str::parse).collect());
        let as_asked = match &asked {
            None => true,
            Some(Ok(asked)) => *asked == ips.iter().copied().collect(),
            Some(Err(_)) => true,
        };
        let Some(pool) = self.pool_of(ips) else { return false };
        let pool_asked = annotation("metallb.io/address-pool").is_none_or(|asked| pool["metadata"]["name"] == asked);
        service["spec"]["type"] == "LoadBalancer" && families && as_asked && pool_asked && self.accepts(pool, name)
    }

    /// Whether two Services may hold one address.
    fn may_share(&self, one: &str, other: &str) -> bool {
        let terms = |name: &str| {
            let service = &self.cluster.services[name];
            let local = service["spec"]["externalTrafficPolicy"] == "Local";
            let backend = if local { service["spec"]["selector"].clone() } else { Value::Null };
            (service["metadata"]["annotations"]["metallb.io/allow-shared-ip"].clone(), backend)
        };
        let port = |name: &str| self.cluster.services[name]["spec"]["ports"].clone();
        terms(one).0.is_string() && terms(one) == terms(other) && port(one) != port(other)
    }

    /// Everything that must be true when nothing is left to do.
    fn check(&self, before: &BTreeMap<String, (Value, Vec<IpAddr>)>) {
        let now = self.statuses();
        let survives = |(name, (uid, ips)): (&String, &(Value, Vec<IpAddr>))| {
            (now.contains_key(name) && self.uid(name) == uid).then(|| (name.clone(), ips.clone()))
        };
        let before: BTreeMap<String, Vec<IpAddr>> = before.iter().filter_map(survives).collect();
        for (name, ips) in &now {
            assert!(ips.is_empty() || self.may_have(name, ips), "{name} has {ips:?}, which it may not have");
            for (other, _) in
                now.iter().filter(|(other, theirs)| *other != name && theirs.iter().any(|ip| ips.contains(ip)))
            {
                assert!(self.may_share(name, other), "{name} and {other} both hold {ips:?}");
                assert_eq!(self.cluster.placed(name), self.cluster.placed(other), "sharers {name} and {other}");
            }
        }
        for (name, had) in &before {
            let kept = !had.is_empty() && !self.decided.contains(name) && self.may_have(name, had);
            let Some(has) = now.get(name).filter(|_| kept) else { continue };
            // Who comes to share an address by a decision that is under way holds it, and whoever changes then loses.
            let joining = now.iter().filter(|(other, _)| self.decided.contains(*other));
            let undisputed = before.iter().chain(joining).all(|(other, theirs)| {
                other == name || !theirs.iter().any(|ip| had.contains(ip)) || self.may_share(name, other)
            });
            assert!(!undisputed || had.iter().all(|ip| has.contains(ip)), "{name} had {had:?} and has {has:?}");
        }
        let mut in_books: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for name in now.keys() {
            let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
            let key = ServiceKey { namespace: namespace.into(), name: short.into() };
            let mut held = self.cluster.model.ipam.held(&key).to_vec();
            held.sort_unstable();
            in_books.insert(name.clone(), held);
        }
        let sorted = now.iter().map(|(name, ips)| (name.clone(), ips.iter().copied().collect::<BTreeSet<_>>()));
        assert!(
            sorted.clone().all(|(name, ips)| ips.iter().eq(in_books[&name].iter())),
            "the books {in_books:?} are not the statuses {now:?}"
        );
        assert_eq!(
            self.cluster.model.ipam.services(),
            now.values().filter(|ips| !ips.is_empty()).count(),
            "somebody who is gone still holds an address"
        );
        self.nobody_waits_for_what_is_free(&now);
        for (name, ips) in &now {
            let (placed, some_node) = (self.cluster.placed(name), !self.cluster.nodes().is_empty());
            assert_eq!(
                placed.is_some(),
                !ips.is_empty() && some_node,
                "{name} has {ips:?} and is placed on {placed:?}"
            );
            assert!(
                placed.is_none_or(|node| self.cluster.nodes().contains_key(node)),
                "{name} is placed on {placed:?}"
            );
        }
    }

    fn nobody_waits_for_what_is_free(&self, now: &BTreeMap<String, Vec<IpAddr>>) {
        let held: BTreeSet<IpAddr> = now.values().flatten().copied().collect();
        for (name, _) in now.iter().filter(|(_, ips)| ips.is_empty()) {
            let service = &self.cluster.services[name];
            let annotations = &service["metadata"]["annotations"];
            let asks = annotations["metallb.io/loadBalancerIPs"].is_string()
                || annotations["metallb.io/address-pool"].is_string();
            if asks || service["spec"]["type"] != "LoadBalancer" {
                continue;
            }
            let automatic = self.cluster.pools.values().filter(|pool| pool["spec"]["autoAssign"] == true);
            for pool in automatic.filter(|pool| self.accepts(pool, name)) {
                let free: Vec<IpAddr> = entries(pool).filter(|ip| !held.contains(ip)).collect();
                let (four, six) = (free.iter().find(|ip| ip.is_ipv4()), free.iter().find(|ip| ip.is_ipv6()));
                for ips in [four.into_iter().chain(six).copied().collect(), free] {
                    let ips: Vec<IpAddr> = ips;
                    assert!(!self.may_have(name, &ips), "{name} waits, but {ips:?} are free");
                    assert!(
                        !ips.iter().any(|ip| self.may_have(name, &[*ip])),
                        "{name} waits, but of {ips:?} one is free"
                    );
                }
            }
        }
    }
}

fn entries(pool: &Value) -> impl Iterator<Item = IpAddr> {
    let list = pool["spec"]["addresses"].as_array().expect("a list").iter();
    list.filter_map(|entry| entry.as_str()?.split('/').next()?.parse().ok())
}

fn has(pool: &Value, ip: IpAddr) -> bool {
    entries(pool).any(|entry| entry == ip)
}

fn run(happenings: &[Happening]) -> Run {
    let mut run = Run::new();
    let mut before = run.remember();
    for happening in happenings {
        run.happen(happening);
        if matches!(happening, Happening::Settle) && !run.cluster.down {
            run.check(&before);
            before = run.remember();
            run.decided.clear();
        }
    }
    run.cluster.down = false;
    run.settle();
    run.check(&before);
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_the_promises_hold_and_a_restart_changes_nothing(
        happenings in prop::collection::vec(happening(), 1..60)
    ) {
        let mut run = run(&happenings);
        let before = run.statuses();
        run.cluster.restart();
        while let Some(write) = run.cluster.next() {
            // Who waits may be told of what has happened since it was told.
            let waits = matches!(&write.target, Target::Service(key) if before[&short(key)].is_empty());
            let only_told = write.patch["metadata"].get("annotations").is_none() && write.patch["status"].get("loadBalancer").is_none();
            prop_assert!(waits && only_told, "a restart writes {write:?}");
            run.cluster.finish(&write);
        }
        prop_assert_eq!(run.statuses(), before);
        run.check(&run.remember());
    }
}
