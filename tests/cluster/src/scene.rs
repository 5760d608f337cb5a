//! What a test is given, and what is left when it is over: a namespace of its own, and nothing.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use landfall_lab::landfall::NAMESPACE;
use landfall_lab::{EchoAnswer, Lab};
use serde_json::{Value, json};

use crate::service::Service;
use crate::{diagnosis, eventually, install, manifests};

/// On every namespace that a test makes, and on every Node.
pub const LABEL: &str = "landfall-test";
/// A connection within the lab takes less than a millisecond.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Every kind that users write; what tests leave behind of them would serve the next test.
const KINDS: &str = "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements,bfdprofiles,communities";

/// There is one cluster, and tests install and remove Landfall in it. Holds whether an earlier run was cleared up after.
static CLUSTER: Mutex<bool> = Mutex::new(false);

/// One test's part of the cluster.
pub struct Scene {
    /// The cluster.
    pub lab: Lab,
    /// The test's own namespace.
    pub namespace: String,
}

/// Runs a test with Landfall installed and ready, without any pool. `name` becomes part of the namespace's name.
/// # Errors
/// Those of the test; what the cluster looked like at that moment is printed.
pub fn with_landfall(name: &str, test: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    run(name, |scene| {
        install::ensure_installed(&scene.lab)?;
        test(scene)
    })
}

/// Runs a test on a cluster without Landfall. Its CRDs may be there from an earlier installation.
/// # Errors
/// As [`with_landfall`].
pub fn without_landfall(name: &str, test: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    run(name, |scene| {
        install::uninstall(&scene.lab)?;
        test(scene)
    })
}

fn run(name: &str, test: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    let mut cleared = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(
        std::env::var_os("LANDFALL_LAB").is_some(),
        "these tests need a cluster: `cargo lab test` makes one and runs them; to use a lab that is up, name it in the \
         environment variable LANDFALL_LAB"
    );
    let scene = Scene { lab: Lab::from_env()?, namespace: format!("{name}-{}", std::process::id()) };
    if !*cleared {
        scene.clear().context("clear up after an earlier run")?;
        *cleared = true;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        scene.make_namespace()?;
        test(&scene)
    }));
    if !matches!(outcome, Ok(Ok(()))) {
        diagnosis::print(&scene);
    }
    let cleared = scene.clear().context("clear up after the test");
    outcome.unwrap_or_else(|panic| resume_unwind(panic)).and(cleared)
}

impl Scene {
    fn make_namespace(&self) -> Result<()> {
        let labels = json!({ LABEL: "" });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}});
        self.lab.apply(&namespace.to_string())?;
        Ok(())
    }

    /// Joins the nodes if they are in two parts, and removes what tests make. Services go at once, so that nothing of them is
    /// announced; the rest of the namespaces goes in its own time.
    fn clear(&self) -> Result<()> {
        let lab = &self.lab;
        lab.end_partition()?;
        let namespaces = lab.kubectl(&["get", "namespaces", "--selector", LABEL, "--output", "name"])?;
        for namespace in namespaces.lines().filter_map(|line| line.split_once('/')) {
            lab.kubectl(&["delete", "services", "--all", "--namespace", namespace.1])?;
        }
        lab.kubectl(&["delete", "namespaces", "--selector", LABEL, "--wait=false"])?;
        if install::has_crds(lab)? {
            lab.kubectl(&["delete", KINDS, "--all", "--namespace", NAMESPACE])?;
        }
        lab.kubectl(&["label", "nodes", "--all", &format!("{}-", manifests::EXCLUDE_LABEL)])?;
        Ok(())
    }

    /// `kubectl apply` of these objects in one go. They need not name a namespace: those of `metallb.io` go to Landfall's,
    /// others to the test's own.
    /// # Errors
    /// What kubectl said.
    pub fn apply(&self, objects: &[Value]) -> Result<String> {
        let items: Vec<Value> = objects.iter().cloned().map(|object| self.at_home(object)).collect();
        self.lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
    }

    fn at_home(&self, mut object: Value) -> Value {
        let ours = object["apiVersion"].as_str().is_some_and(|version| version.starts_with("metallb.io/"));
        object["metadata"]["namespace"] = json!(if ours { NAMESPACE } else { self.namespace.as_str() });
        object
    }

    /// kubectl in the test's namespace.
    /// # Errors
    /// What kubectl said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.lab.kubectl(&[args, &["--namespace", &self.namespace]].concat())
    }

    /// kubectl in Landfall's namespace.
    /// # Errors
    /// What kubectl said.
    pub fn kubectl_landfall(&self, args: &[&str]) -> Result<String> {
        self.lab.kubectl(&[args, &["--namespace", NAMESPACE]].concat())
    }

    /// An object of Landfall's namespace.
    /// # Errors
    /// There is none of this kind and name.
    pub fn landfall_object(&self, kind: &str, name: &str) -> Result<Value> {
        self.lab.get(&[kind, name, "--namespace", NAMESPACE])
    }

    /// Waits until an object of Landfall's namespace carries the condition Accepted with this reason, and returns the condition.
    /// # Errors
    /// It does not: says which conditions it has.
    pub fn accepted(&self, kind: &str, name: &str, reason: &str) -> Result<Value> {
        eventually(&format!("condition Accepted with the reason {reason} on {kind} {name}"), || {
            let status = self.landfall_object(kind, name)?["status"].take();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            match conditions.iter().find(|c| c["type"] == "Accepted" && c["reason"] == reason) {
                Some(condition) => Ok(Some(condition.clone())),
                None => bail!("its status is {status}"),
            }
        })
    }

    /// Waits until a pool's status counts so: assigned IPv4 and IPv6 addresses, then available ones.
    /// # Errors
    /// It does not: says what its status is.
    pub fn wait_for_counters(&self, pool: &str, expected: [u64; 4]) -> Result<()> {
        eventually(&format!("counters {expected:?} of IPAddressPool {pool}"), || {
            let status = self.landfall_object("ipaddresspool", pool)?["status"].take();
            let counters = ["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"];
            let counted = counters.map(|counter| status[counter].as_u64());
            ensure!(counted == expected.map(Some), "its status is {status}");
            Ok(Some(()))
        })
    }

    /// A Service of the test's namespace, which may or may not exist.
    pub fn service<'a>(&'a self, name: &'a str) -> Service<'a> {
        Service::new(self, name)
    }

    /// Applies these objects and waits until every Deployment among them has all its Pods.
    /// # Errors
    /// A Pod does not start.
    pub fn start(&self, objects: &[Value]) -> Result<()> {
        self.apply(objects)?;
        self.kubectl(&["wait", "deployments", "--all", "--for=condition=Available", "--timeout=60s"])?;
        Ok(())
    }

    /// Asks from the client until a Pod answers: kube-proxy takes a moment to learn of a new Service.
    /// # Errors
    /// None answers within 30 s.
    pub fn ask(&self, ip: IpAddr, port: u16) -> Result<EchoAnswer> {
        eventually(&format!("answer from {ip} port {port}"), || {
            self.lab.http_get("client", ip, port, TIMEOUT).map(Some)
        })
    }
}
