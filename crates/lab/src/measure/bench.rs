//! What every measurement needs: a client, the implementation, things of its own, and none of them left behind.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource, ResourceExt};
use landfall_api::{IPAddressPool, L2Advertisement};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::damage::{Damage, Wound};
use super::installed::{Installed, Which};
use super::wait::wait_for;
use crate::lab::Lab;
use crate::network::{self, FAR};

/// On everything that a measurement makes; the value says which group of Services it belongs to.
pub(super) const LABEL: &str = "lab.landfall.io/measure";
/// The namespace of the Services and Pods.
pub(super) const NAMESPACE: &str = "lab-measure";
/// The pool, and the advertisement.
pub(super) const POOL: &str = "lab-measure";
/// Requests at a time. More makes the API server of a lab on two cores no faster.
pub(super) const WRITERS: usize = 16;
/// 131,072 addresses that no network uses (RFC 2544, benchmarks): room for any number of Services beside other pools.
const MANY_ADDRESSES: &str = "198.18.0.0/15";
/// The controller manager empties a namespace in a few seconds, at worst after a retry or two.
const DELETE_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);

/// The lab, its API and the implementation, set up for one measurement.
pub(super) struct Bench {
    pub(super) lab: Lab,
    pub(super) client: Client,
    pub(super) installed: Installed,
    /// What is broken at the moment.
    pub(super) damage: Damage,
    /// What was changed for the whole measurement.
    pub(super) setup: Damage,
}

impl Bench {
    /// Connects, finds the implementation, removes what an interrupted measurement left, and waits until all is ready.
    /// Must run in the network namespace of `cp`.
    pub(super) async fn open(lab: &Lab, which: &Which) -> Result<Bench> {
        let client = connect(lab).await?;
        let installed = Installed::find(&client, which).await?;
        let bench = Bench { lab: lab.clone(), client, installed, damage: Damage::new(lab), setup: Damage::new(lab) };
        bench.clear().await.context("clear what an earlier measurement left")?;
        bench.installed.ready().await?;
        Ok(bench)
    }

    /// Mends and removes everything that the measurement broke or made.
    pub(super) async fn close(&self) -> Result<()> {
        // One after the other, and each whatever became of the one before.
        let mended = self.damage.mend().await;
        let undone = self.setup.mend().await;
        mended.and(undone).and(self.clear().await)
    }

    async fn clear(&self) -> Result<()> {
        self.installed.start_controller().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(NAMESPACE).await?.is_some() {
            delete_all(&self.services(), LABEL).await?;
            gone(namespaces.delete(NAMESPACE, &DeleteParams::default()).await)?;
            wait_for(&format!("end of namespace {NAMESPACE}"), DELETE_TIMEOUT, POLL, || async {
                Ok(namespaces.get_opt(NAMESPACE).await?.is_none().then_some(()))
            })
            .await?;
        }
        // A webhook of the implementation may refuse until its controller is back.
        wait_for("removal of the pool", DELETE_TIMEOUT, POLL, || async {
            delete_all(&self.configuration::<L2Advertisement>(), LABEL).await?;
            delete_all(&self.configuration::<IPAddressPool>(), LABEL).await?;
            Ok(Some(()))
        })
        .await
    }

    /// Plugs in a second client for the whole measurement.
    pub(super) async fn far_client(&self) -> Result<()> {
        let nodes = self.lab.nodes()?.len();
        let plug_in = move |lab: &Lab| {
            network::unplug(lab, FAR)?; // what a killed measurement left
            network::plug_in(lab, FAR, nodes)
        };
        self.setup.cause(Wound::FarClient, plug_in).await.map(drop)
    }

    /// Makes the namespace, and a pool of many addresses.
    pub(super) async fn pool_of_many(&self) -> Result<()> {
        self.pool(&[MANY_ADDRESSES]).await
    }

    /// Makes the namespace, and a pool of these addresses with an advertisement. Only Services that name the pool get them.
    pub(super) async fn pool(&self, addresses: &[&str]) -> Result<()> {
        let labels = json!({LABEL: "configuration"});
        let metadata = json!({"name": POOL, "labels": labels});
        let new = PostParams::default();
        let namespace = object(json!({"metadata": {"name": NAMESPACE, "labels": labels}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&new, &namespace).await?;
        let version = json!("metallb.io/v1beta1");
        let pool = object(json!({
            "apiVersion": version, "kind": "IPAddressPool", "metadata": metadata,
            "spec": {"addresses": addresses, "autoAssign": false},
        }))?;
        self.configuration::<IPAddressPool>().create(&new, &pool).await.context("create the measurement's pool")?;
        let advertisement = object(json!({
            "apiVersion": version, "kind": "L2Advertisement", "metadata": metadata, "spec": {"ipAddressPools": [POOL]},
        }))?;
        self.configuration::<L2Advertisement>().create(&new, &advertisement).await?;
        Ok(())
    }

    /// The measurement's own Services.
    pub(super) fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn configuration<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.installed.namespace)
    }

    /// Creates Services, several at a time; returns when all exist.
    pub(super) async fn create_services(&self, services: Vec<Service>) -> Result<()> {
        let (api, new) = (self.services(), PostParams::default());
        let creates = stream::iter(&services).map(|service| api.create(&new, service));
        creates.buffer_unordered(WRITERS).try_for_each(|_| async { Ok(()) }).await.context("create Services")
    }

    /// Deletes the Services of one group; returns when they are gone.
    pub(super) async fn delete_services(&self, group: &str) -> Result<()> {
        delete_all(&self.services(), &format!("{LABEL}={group}")).await
    }
}

/// A client as the lab's administrator. It does not try again by itself: that would be measured.
async fn connect(lab: &Lab) -> Result<Client> {
    // An error only means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(lab.kubeconfig_path())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None; // there is no proxy inside
    config.default_retry = false;
    // Else the time that a pooled connection sat idle counts against the next answer.
    config.reset_reader_on_write = true;
    Ok(Client::try_from(config)?)
}

/// An object from JSON, for the fields that matter.
pub(super) fn object<K: DeserializeOwned>(json: Value) -> Result<K> {
    serde_json::from_value(json).context("a measurement's object")
}

/// Deletes what the selector selects, several at a time; returns when it is gone.
async fn delete_all<K>(api: &Api<K>, selector: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let selected = ListParams::default().labels(selector);
    let now = DeleteParams::default();
    // Thousands take minutes; what counts is that they get fewer.
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        let names: Vec<String> = api.list_metadata(&selected).await?.items.iter().map(ResourceExt::name_any).collect();
        if names.is_empty() {
            return Ok(());
        }
        if names.len() < fewest {
            (fewest, since) = (names.len(), Instant::now());
        }
        let (kind, limit) = (K::plural(&()), DELETE_TIMEOUT.as_secs());
        ensure!(
            since.elapsed() < DELETE_TIMEOUT,
            "{fewest} {kind} {selector} are left, and none has gone for {limit} s"
        );
        let deletes = stream::iter(&names).map(|name| async { gone(api.delete(name, &now).await) });
        deletes.buffer_unordered(WRITERS).try_for_each(|()| async { Ok(()) }).await?;
        tokio::time::sleep(POLL).await;
    }
}

/// Deleted, or not there any more.
pub(super) fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
        other => other.map(drop).context("delete"),
    }
}
