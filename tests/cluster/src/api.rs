//! The API, asked directly. kubectl takes a tenth of a second to start; what happens within milliseconds finds more.

use anyhow::{Context, Result};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use landfall_lab::Lab;
use serde_json::Value;
use tokio::runtime::Runtime;

/// A connection to the API server, as an administrator.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// A kind of objects.
#[derive(Clone, Copy, Debug)]
pub struct Kind(pub &'static str, pub &'static str);

/// Services.
pub const SERVICE: Kind = Kind("v1", "Service");
/// Namespaces.
pub const NAMESPACE: Kind = Kind("v1", "Namespace");
/// Nodes.
pub const NODE: Kind = Kind("v1", "Node");
/// Pools of addresses.
pub const POOL: Kind = Kind("metallb.io/v1beta1", "IPAddressPool");

impl Api {
    /// Connects. Everything must be called in the network namespace of `cp`, see [`Lab::in_netns`].
    /// # Errors
    /// The lab is not up.
    pub fn connect(lab: &Lab) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kubeconfig = Kubeconfig::read_from(lab.kubeconfig_path())?;
        let client = runtime.block_on(async {
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            config.proxy_url = None; // there is no proxy inside
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// Creates an object or makes it what this manifest says (server-side apply): fields that an earlier manifest of the
    /// object had and this one has not, or has as null, are removed. Returns the object as it is then.
    /// # Errors
    /// What the API server said.
    pub fn apply(&self, manifest: &Value) -> Result<Value> {
        let text = |at: &str| manifest.pointer(at).and_then(Value::as_str);
        let (version, kind) = text("/apiVersion").zip(text("/kind")).context("a manifest without a kind")?;
        let name = text("/metadata/name").context("a manifest without a name")?;
        let api = self.objects(version, kind, text("/metadata/namespace"));
        let mut manifest = manifest.clone();
        remove_nulls(&mut manifest);
        let how = PatchParams::apply("landfall-test").force();
        let applied = self.runtime.block_on(api.patch(name, &how, &Patch::Apply(&manifest)));
        Ok(serde_json::to_value(applied.with_context(|| format!("apply {manifest}"))?)?)
    }

    /// Deletes an object.
    /// # Errors
    /// What the API server said; that it does not exist is an error, too.
    pub fn delete(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<()> {
        let api = self.objects(kind.0, kind.1, namespace);
        let deleted = self.runtime.block_on(api.delete(name, &DeleteParams::default()));
        deleted.map(drop).with_context(|| format!("delete {} {name}", kind.1))
    }

    /// The objects of a kind, in a namespace or everywhere, that this label selector selects; empty: all.
    /// # Errors
    /// What the API server said.
    pub fn list(&self, kind: Kind, namespace: Option<&str>, selector: &str) -> Result<Vec<Value>> {
        let api = self.objects(kind.0, kind.1, namespace);
        let listed = self.runtime.block_on(api.list(&ListParams::default().labels(selector)));
        let objects = listed.with_context(|| format!("list {}", kind.1))?.items.into_iter();
        Ok(objects.map(serde_json::to_value).collect::<Result<_, _>>()?)
    }

    fn objects(&self, version: &str, kind: &str, namespace: Option<&str>) -> kube::Api<DynamicObject> {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let client = self.client.clone();
        match namespace {
            Some(namespace) => kube::Api::namespaced_with(client, namespace, &resource),
            None => kube::Api::all_with(client, &resource),
        }
    }
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}
