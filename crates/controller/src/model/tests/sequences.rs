//! Promise 1, over random sequences of changes, failures and restarts (see [`landfall_sequences`], which also says what is
//! promised). Here is what only a model can be put through: writes that are under way while other things happen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_ipam::ServiceKey;
use landfall_sequences::happening::{Happening, Terms, happening};
use landfall_sequences::history::History;
use landfall_sequences::manifests::{Names, POOLS};
use landfall_sequences::promises::violations;
use landfall_sequences::view::Standing;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Target, Write};
use super::cluster::{Cluster, short};

/// Something that happens to the cluster, or to the controller.
#[derive(Clone, Debug)]
enum Step {
    Happening(Happening),
    /// A decision is made, and its write is still under way while other things happen.
    WriteBegins,
    WritesEnd,
    Relist,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        33 => happening().prop_map(Step::Happening),
        4 => Just(Step::WriteBegins),
        2 => Just(Step::WritesEnd),
        1 => Just(Step::Relist),
    ]
}

/// A run: the cluster, and what is true of it.
struct Run {
    names: Names,
    cluster: Cluster,
    under_way: Vec<Write>,
    /// Services about which something was decided whose write is under way or has failed: it was right when it was
    /// decided, whatever has happened since.
    decided: BTreeSet<String>,
    /// Since the last check.
    history: History,
    /// At the last check.
    before: Standing,
}

impl Run {
    fn new() -> Self {
        let mut cluster = Cluster::with(&[]);
        cluster.advertise("all", json!({}));
        let names =
            Names { namespaces: ["default".into(), "other".into()], nodes: ["n1".into(), "n2".into(), "n3".into()] };
        let view = cluster.view();
        Self {
            names,
            under_way: vec![],
            decided: BTreeSet::new(),
            history: History::new(&view),
            before: view.standing(),
            cluster,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Happening(happening) => self.happen(happening),
            Step::WriteBegins => {
                self.under_way.extend(self.cluster.next());
                self.decided.extend(self.under_way.iter().filter_map(|write| match &write.target {
                    Target::Service(key) => Some(key.to_string()),
                    Target::Object(..) => None,
                }));
            }
            Step::WritesEnd => self.writes_end(),
            Step::Relist => self.cluster.lists(),
        }
        self.history.note(&self.cluster.view());
    }

    fn happen(&mut self, happening: &Happening) {
        let cluster = &mut self.cluster;
        match *happening {
            Happening::Service { service, terms } => self.apply(service, terms),
            Happening::Delete(service) if cluster.services.contains_key(&known_as(&self.names, service)) => {
                cluster.delete(&known_as(&self.names, service));
            }
            Happening::Recreate(service) if cluster.services.contains_key(&known_as(&self.names, service)) => {
                cluster.delete(&known_as(&self.names, service));
                self.apply(service, Terms::default());
            }
            Happening::Pool { pool, addresses, rule } => {
                let object = self.names.pool(pool, addresses, rule);
                cluster.pool(POOLS[pool], without_nulls(&object["spec"]));
            }
            Happening::DeletePool(pool) if cluster.pools.contains_key(POOLS[pool]) => {
                cluster.delete_pool(POOLS[pool]);
            }
            Happening::Namespace { labelled } => {
                let object = self.names.namespace(labelled);
                let labels = object["metadata"]["labels"].as_object().expect("labels").iter();
                let labels: Vec<_> = labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
                cluster.namespace(&self.names.namespaces[1], &labels);
            }
            Happening::Node(node) => drop(cluster.node(&self.names.nodes[node], &[])),
            Happening::DeleteNode(node) => drop(cluster.delete_node(&self.names.nodes[node])),
            Happening::ApiServer { down } => cluster.down = down,
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

    /// Creates or changes a Service, with the cluster addresses that an API server would give it.
    fn apply(&mut self, service: usize, terms: Terms) {
        let mut object = self.names.service(service, terms);
        let families = object["spec"]["ipFamilies"].as_array().expect("a list").iter();
        object["spec"]["clusterIPs"] =
            families.map(|family| json!(if family == "IPv4" { "10.96.0.9" } else { "fd96::9" })).collect();
        self.cluster.apply(&known_as(&self.names, service), object);
    }

    fn writes_end(&mut self) {
        for write in std::mem::take(&mut self.under_way) {
            self.cluster.finish(&write);
        }
    }

    fn settle(&mut self) {
        self.writes_end();
        if self.cluster.settle() > 0 && self.cluster.down {
            self.decided.extend(self.cluster.view().services.into_keys());
        }
    }

    /// Everything that must be true when nothing is left to do.
    fn check(&mut self) {
        let view = self.cluster.view();
        // Nothing was decided about anybody else; and who was always valid may not have lost an address by any decision.
        let mut excused = self.history.excused(&self.before);
        excused.retain(|key| self.decided.contains(key) || !self.decided.is_disjoint(&self.history.quarrels(key)));
        assert_eq!(violations(&view, &self.before, &excused), [""; 0]);
        let standing = view.standing();
        self.the_books_are_the_statuses(&standing);
        (self.history, self.before) = (History::new(&view), standing);
        self.decided.clear();
    }

    fn the_books_are_the_statuses(&self, standing: &Standing) {
        let ipam = &self.cluster.model.ipam;
        for (key, holder) in standing {
            let [held, shown] = [ipam.held(&service_key(key)), &holder.ips]
                .map(|ips| ips.iter().copied().collect::<BTreeSet<IpAddr>>());
            assert_eq!(held, shown, "in the books, and in the status of {key}");
        }
        let holders = standing.values().filter(|holder| !holder.ips.is_empty()).count();
        assert_eq!(ipam.services(), holders, "somebody who is gone still holds an address");
    }
}

fn service_key(key: &str) -> ServiceKey {
    let (namespace, name) = key.split_once('/').expect("namespace/name");
    ServiceKey { namespace: namespace.into(), name: name.into() }
}

/// How the [`Cluster`] calls a Service.
fn known_as(names: &Names, service: usize) -> String {
    short(&service_key(&names.key(service)))
}

fn without_nulls(spec: &Value) -> Value {
    let fields = spec.as_object().expect("an object").iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn run(steps: &[Step]) -> Run {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
        if matches!(step, Step::Happening(Happening::Settle)) && !run.cluster.down {
            run.check();
        }
    }
    run.cluster.down = false;
    run.settle();
    run.check();
    run
}

/// Runs through the steps, and then through a restart.
fn the_promises_hold_and_a_restart_changes_nothing(steps: &[Step]) {
    let mut run = run(steps);
    let before = run.cluster.view().standing();
    run.cluster.restart();
    while let Some(write) = run.cluster.next() {
        // Who waits may be told of what has happened since it was told.
        let waits = matches!(&write.target, Target::Service(key) if before[&key.to_string()].ips.is_empty());
        let addresses = write.patch["status"].get("loadBalancer");
        let only_told = write.patch["metadata"].get("annotations").is_none() && addresses.is_none();
        assert!(waits && only_told, "a restart writes {write:?}");
        run.cluster.finish(&write);
    }
    assert_eq!(run.cluster.view().standing(), before);
    run.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_the_promises_hold_and_a_restart_changes_nothing(steps in prop::collection::vec(step(), 1..60)) {
        the_promises_hold_and_a_restart_changes_nothing(&steps);
    }
}

/// Kept as sequences: the seed that proptest prints is another sequence as soon as the strategy changes.
#[test]
fn sequences_that_have_found_faults_find_none() {
    const SETTLE: Step = Step::Happening(Happening::Settle);
    let any = Terms::default();
    let service = |service, terms| Step::Happening(Happening::Service { service, terms });
    let pool = |pool, addresses, rule| Step::Happening(Happening::Pool { pool, addresses, rule });
    for steps in [
        vec![
            pool(1, 1, 0),
            Step::Happening(Happening::Node(0)),
            service(4, Terms { request: 0, ..any }),
            service(3, any),
            Step::Happening(Happening::Node(1)),
            Step::Happening(Happening::Recreate(4)),
            SETTLE,
            service(3, Terms { families: 2, sharing: 1, ..any }),
            service(4, Terms { families: 3, sharing: 1, port: 1, request: 2, ..any }),
        ],
        vec![
            service(3, Terms { sharing: 2, ..any }),
            Step::Happening(Happening::Delete(0)),
            pool(0, 0, 0),
            SETTLE,
            service(4, Terms { sharing: 2, port: 1, ..any }),
            Step::WriteBegins,
            service(3, Terms { request: 3, ..any }),
            SETTLE,
        ],
        vec![
            pool(0, 0, 3),
            service(1, any),
            SETTLE,
            service(0, any),
            service(1, Terms { request: 0, class: 5, ..any }),
            Step::Happening(Happening::ApiServer { down: true }),
            SETTLE,
        ],
        vec![
            service(0, Terms { request: 2, ..any }),
            pool(1, 2, 3),
            SETTLE,
            service(0, Terms { request: 0, class: 2, ..any }),
            pool(1, 2, 2),
            Step::Happening(Happening::Restart),
            pool(0, 0, 0),
            service(1, Terms { class: 1, ..any }),
            Step::Happening(Happening::Namespace { labelled: false }),
        ],
        vec![
            service(0, Terms { families: 3, sharing: 1, ..any }),
            pool(1, 1, 3),
            Step::Happening(Happening::Namespace { labelled: false }),
            service(1, Terms { sharing: 1, port: 1, request: 2, ..any }),
            SETTLE,
            Step::Happening(Happening::DeleteNode(0)),
            service(1, Terms { request: 0, ..any }),
            service(0, Terms { request: 2, ..any }),
            Step::WriteBegins,
            Step::WriteBegins,
        ],
        vec![
            service(0, Terms { sharing: 1, ..any }),
            pool(2, 1, 3),
            service(1, Terms { families: 3, sharing: 1, port: 1, ..any }),
            SETTLE,
            pool(2, 0, 0),
            Step::Happening(Happening::Restart),
            Step::Happening(Happening::Delete(2)),
            pool(2, 1, 3),
            SETTLE,
        ],
        vec![
            pool(0, 0, 3),
            service(3, any),
            SETTLE,
            service(0, Terms { sharing: 2, ..any }),
            service(3, Terms { sharing: 2, port: 1, request: 0, ..any }),
            Step::Happening(Happening::ApiServer { down: true }),
            SETTLE,
            service(1, Terms { request: 0, ..any }),
            SETTLE,
        ],
    ] {
        the_promises_hold_and_a_restart_changes_nothing(&steps);
    }
}
