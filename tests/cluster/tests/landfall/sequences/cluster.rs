//! How something happens to the lab's cluster.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::api::{self, Api};
use landfall_cluster_tests::manifests::advertisement;
use landfall_cluster_tests::scene::{LABEL, Scene};
use landfall_lab::landfall::NAMESPACE;
use landfall_lab::{command, steps};
use landfall_sequences::happening::{Happening, Terms};
use landfall_sequences::history::History;
use landfall_sequences::manifests::{Names, POOLS};
use landfall_sequences::view::{Objects, View, addresses, annotation};
use serde_json::{Value, json};

/// The Service that shows what the controller has seen, and its pool.
pub(super) const WITNESS: &str = "witness";
/// A table of our own in each node's firewall, before kube-proxy's and whatever else is there.
const TABLE: &str = "landfall_sequences";
/// Pods' packets from and to the API server. kube-proxy has translated the address before they are forwarded. What the API
/// server asks the webhooks goes through.
const RULES: &str = "chain pods {
    type filter hook forward priority -200; policy accept;
    tcp dport 6443 drop
    tcp sport 6443 drop
}
";

/// The cluster, as far as sequences change it.
pub(super) struct Cluster<'a> {
    scene: &'a Scene,
    api: Api,
    names: Names,
    /// What there is; the status of each object is as old as the last [`read`](Self::read) or change of it.
    view: View,
    cut_off: bool,
    /// How often the witness was asked.
    asked: u32,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(scene: &'a Scene) -> Result<Self> {
        let names = Names {
            namespaces: [scene.namespace.clone(), format!("{}-other", scene.namespace)],
            nodes: [1, 2, 3].map(|number| format!("{}-n{number}", scene.namespace)),
        };
        let api = Api::connect(&scene.lab)?;
        let mut cluster = Self { scene, api, names, view: View::default(), cut_off: false, asked: 0 };
        let mut everywhere = advertisement("all", json!({}));
        everywhere["spec"] = json!({});
        scene.apply(&[everywhere])?;
        cluster.namespace(false)?;
        cluster.remove_nodes().context("Nodes that an earlier run left")?;
        cluster.read()?;
        Ok(cluster)
    }

    /// What there is, as far as it is known without asking.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// Asks what there is.
    pub(super) fn read(&mut self) -> Result<&View> {
        let api = &self.api;
        let mut services = Objects::new();
        for namespace in &self.names.namespaces {
            services.extend(by_key(api.list(api::SERVICE, Some(namespace), "")?)?);
        }
        self.view = View {
            services,
            pools: by_key(api.list(api::POOL, Some(NAMESPACE), "")?)?,
            namespaces: by_key(api.list(api::NAMESPACE, None, LABEL)?)?,
            nodes: by_key(api.list(api::NODE, None, "")?)?.into_keys().collect(),
        };
        Ok(&self.view)
    }

    /// Removes what sequences make.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.reconnect()?;
        self.read()?;
        for key in self.view.services.keys().cloned().collect::<Vec<_>>() {
            self.delete_service(&key)?;
        }
        for pool in 0..POOLS.len() {
            self.happen(&Happening::DeletePool(pool))?;
        }
        self.remove_nodes()?;
        self.namespace(false)?;
        self.read().map(drop)
    }

    /// Nothing that sequences do is to be refused: an error is a fault.
    pub(super) fn happen(&mut self, happening: &Happening) -> Result<()> {
        match *happening {
            Happening::Service { service, terms } => self.service(service, terms),
            Happening::Delete(service) => self.delete_service(&self.names.key(service)),
            Happening::Recreate(service) => {
                let key = self.names.key(service);
                if !self.view.services.contains_key(&key) {
                    return Ok(());
                }
                self.delete_service(&key)?;
                self.service(service, Terms::default())
            }
            Happening::Pool { pool, addresses, rule } => self.pool(self.names.pool(pool, addresses, rule)),
            Happening::DeletePool(pool) => {
                if self.view.pools.remove(POOLS[pool]).is_some() {
                    self.api.delete(api::POOL, Some(NAMESPACE), POOLS[pool])?;
                }
                Ok(())
            }
            Happening::Namespace { labelled } => self.namespace(labelled),
            Happening::Node(node) => self.node(node),
            Happening::DeleteNode(node) => {
                let name = &self.names.nodes[node];
                if self.view.nodes.remove(name) { self.api.delete(api::NODE, None, name) } else { Ok(()) }
            }
            Happening::ApiServer { down: true } => self.cut_off(),
            Happening::ApiServer { down: false } => self.reconnect(),
            Happening::Restart => self.restart(),
            Happening::Settle => Ok(()), // is for the caller to wait for
        }
    }

    fn service(&mut self, service: usize, terms: Terms) -> Result<()> {
        let (key, object) = (self.names.key(service), self.names.service(service, terms));
        let family = |object: &Value| object["spec"]["ipFamilies"][0].clone();
        // The first family of a Service is for good.
        if self.view.services.get(&key).is_some_and(|present| family(present) != family(&object)) {
            self.delete_service(&key)?;
        }
        self.view.services.insert(key, self.api.apply(&object)?);
        Ok(())
    }

    fn delete_service(&mut self, key: &str) -> Result<()> {
        if self.view.services.remove(key).is_some() {
            let (namespace, name) = key.split_once('/').context("namespace/name")?;
            self.api.delete(api::SERVICE, Some(namespace), name)?;
        }
        Ok(())
    }

    fn pool(&mut self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        let applied = self.api.apply(&object)?;
        self.view.pools.extend(by_key(vec![applied])?);
        Ok(())
    }

    fn namespace(&mut self, labelled: bool) -> Result<()> {
        let mut object = self.names.namespace(labelled);
        object["metadata"]["labels"][LABEL] = json!("");
        let applied = self.api.apply(&object)?;
        self.view.namespaces.extend(by_key(vec![applied])?);
        Ok(())
    }

    /// A Node without a computer: nothing is scheduled there.
    fn node(&mut self, node: usize) -> Result<()> {
        let name = &self.names.nodes[node];
        let taints = [json!({"key": LABEL, "effect": "NoSchedule"})];
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {LABEL: ""}}, "spec": {"taints": taints},
        }))?;
        self.view.nodes.insert(name.clone());
        Ok(())
    }

    fn remove_nodes(&mut self) -> Result<()> {
        for name in by_key(self.api.list(api::NODE, None, LABEL)?)?.into_keys() {
            self.api.delete(api::NODE, None, &name)?;
            self.view.nodes.remove(&name);
        }
        Ok(())
    }

    /// No controller reaches the API server.
    fn cut_off(&mut self) -> Result<()> {
        if !self.cut_off {
            self.cut_off = true;
            for node in self.scene.lab.nodes()? {
                self.scene.lab.exec(&node, &["nft", &format!("table inet {TABLE} {{\n{RULES}}}\n")])?;
            }
        }
        Ok(())
    }

    /// Every controller reaches the API server again.
    pub(super) fn reconnect(&mut self) -> Result<()> {
        if self.cut_off {
            for node in self.scene.lab.nodes()? {
                // It is not there when the test was stopped by an error half-way.
                self.scene.lab.exec(&node, &["nft", &format!("add table inet {TABLE}; delete table inet {TABLE}")])?;
            }
            self.cut_off = false;
        }
        Ok(())
    }

    /// Every controller dies in the middle of what it does. New Pods: a kubelet waits longer and longer before it starts
    /// again what dies again and again.
    fn restart(&mut self) -> Result<()> {
        let mut pids = Vec::new();
        for node in self.scene.lab.nodes()? {
            let processes = self.scene.lab.machine(&node)?.processes().into_iter();
            let controllers =
                processes.filter(|process| process.arguments.get(1).is_some_and(|arg| arg == "controller"));
            pids.extend(controllers.map(|process| process.pid.to_string()));
        }
        if !pids.is_empty() {
            // One that has ended meanwhile is no matter.
            let _ = command::output(Command::new("kill").arg("-KILL").args(&pids));
        }
        let controllers = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=controller";
        self.scene.kubectl_landfall(&[
            "delete",
            "pods",
            "--selector",
            controllers,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ])?;
        Ok(())
    }

    /// Waits until the controller has acted on changes of each kind that come after everything that has happened: each
    /// watch is in order, so that whatever it decides from then on it decides on the whole.
    pub(super) fn wait_until_everything_is_seen(&mut self, history: &mut History) -> Result<()> {
        self.asked += 1;
        let (mark, ip) = (self.asked.to_string(), format!("203.0.113.{}", self.asked % 256));
        let namespace = self.names.namespaces[0].clone();
        let labelled = self.api.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {LABEL: "", WITNESS: mark}},
        }))?;
        self.view.namespaces.extend(by_key(vec![labelled])?);
        history.note(&self.view);
        self.pool(json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": WITNESS},
            "spec": {
                "addresses": [format!("{ip}/32")], "autoAssign": false,
                "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {WITNESS: mark}}]},
            },
        }))?;
        history.note(&self.view);
        let mut service = self.names.service(0, Terms::default());
        service["metadata"]["name"] = json!(WITNESS);
        service["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": ip});
        let applied = self.api.apply(&service)?;
        self.view.services.insert(format!("{namespace}/{WITNESS}"), applied);
        history.note(&self.view);
        steps::wait_for(&format!("address {ip} for Service {WITNESS}"), super::LIMIT, super::GLANCE, || {
            let services = by_key(self.api.list(api::SERVICE, Some(&namespace), "")?)?;
            let service = services.get(&format!("{namespace}/{WITNESS}")).context("no such Service")?;
            ensure!(annotation(service, "metallb.io/loadBalancerIPs") == Some(&ip), "somebody else changes it");
            let given = addresses(service);
            ensure!(given.iter().any(|given| given.to_string() == ip), "it has {given:?}: {}", service["status"]);
            Ok(Some(()))
        })
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.reconnect().and_then(|()| self.remove_nodes()) {
            println!("the cluster is not as it was before the sequences: {error:#}");
        }
    }
}

/// Services by `namespace/name`, others by name.
fn by_key(objects: Vec<Value>) -> Result<Objects> {
    let key = |object: &Value| {
        let name = object["metadata"]["name"].as_str().context("an object without a name")?;
        let namespace = object["metadata"]["namespace"].as_str().filter(|_| object["spec"]["type"].is_string());
        anyhow::Ok(namespace.map_or(name.to_owned(), |namespace| format!("{namespace}/{name}")))
    };
    objects.into_iter().map(|object| Ok((key(&object)?, object))).collect()
}
