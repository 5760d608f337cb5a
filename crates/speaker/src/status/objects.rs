//! The way to the `ServiceL2Status` objects: one write each.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use landfall_api::{ServiceL2Status, labels};
use landfall_runtime::client::{chain, within};
use landfall_runtime::watch::Change;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::FIELD_MANAGER;
use crate::claims::{Existing, Said, Write};
use crate::model::ServiceKey;
use crate::views::StatusView;

/// Longer than a healthy API server ever takes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the objects.
#[derive(Clone, Debug)]
pub(crate) struct ObjectClient {
    /// The node that speaks.
    pub(super) node: String,
    /// To create them.
    full: Api<ServiceL2Status>,
    /// For the rest.
    views: Api<StatusView>,
}

impl ObjectClient {
    /// For the speaker on `node`, whose objects are in `namespace`.
    pub(crate) fn new(client: &Client, namespace: &str, node: String) -> Self {
        Self {
            node,
            full: Api::namespaced(client.clone(), namespace),
            views: Api::namespaced(client.clone(), namespace),
        }
    }

    /// Watches the objects of all nodes.
    pub(crate) fn watch(&self, to: mpsc::Sender<Change<(String, Option<Existing>)>>) {
        let ours = watcher::Config::default().labels(labels::SERVICE_NAME);
        landfall_runtime::watch::spawn(self.views.clone(), ours, Existing::read, to, std::convert::identity);
    }

    /// Sets the status of an object of ours, and reads it back.
    async fn set_status(
        &self,
        name: &str,
        service: &ServiceKey,
        interfaces: &[String],
    ) -> kube::Result<Option<Existing>> {
        let interfaces: Vec<_> = interfaces.iter().map(|name| json!({ "name": name })).collect();
        let status = json!({ "status": {
            "node": self.node,
            "serviceName": service.name,
            "serviceNamespace": service.namespace,
            "interfaces": interfaces,
        }});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let object = self.views.patch_status(name, &params, &Patch::Merge(status)).await?;
        Ok(Existing::read(object).1)
    }
}

/// A write that took place, and the object as it is now.
#[derive(Debug)]
pub(super) enum Done {
    Created(String, Existing),
    Changed(String, Existing),
    Deleted(String),
}

/// Executes one write; `None` when it shall be planned again. Says why. `pod` owns what is created.
pub(super) async fn execute(client: &ObjectClient, pod: Option<&(String, String)>, write: Write) -> Option<Done> {
    let action = async {
        match &write {
            Write::Create { service, interfaces } => {
                let new = new_object(&client.node, pod, service);
                let created = client.full.create(&PostParams::default(), &new).await?;
                let name = created.metadata.name.unwrap_or_default();
                // Should this fail, the plan sees an object without a status and sets it.
                let object = client.set_status(&name, service, interfaces).await.unwrap_or_else(|error| {
                    debug!(%service, error = chain(&error), "status of a new ServiceL2Status not set yet");
                    Some(Existing { service: service.clone(), node: client.node.clone(), status: Said::Nothing })
                });
                Ok(object.map(|object| Done::Created(name, object)))
            }
            Write::SetStatus { name, service, interfaces } => {
                match client.set_status(name, service, interfaces).await {
                    Ok(object) => Ok(object.map(|object| Done::Changed(name.clone(), object))),
                    Err(error) if is_gone(&error) => Ok(Some(Done::Deleted(name.clone()))),
                    Err(error) => Err(error),
                }
            }
            Write::Delete { name } => match client.views.delete(name, &DeleteParams::default()).await {
                Ok(_) => Ok(Some(Done::Deleted(name.clone()))),
                Err(error) if is_gone(&error) => Ok(Some(Done::Deleted(name.clone()))),
                Err(error) => Err(error),
            },
        }
    };
    let failure = match within(WRITE_TIMEOUT, action).await {
        Ok(done) => return done,
        Err(failure) => failure,
    };
    warn!(?write, error = failure, "ServiceL2Status not written, trying again");
    None
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// The names come with the object's labels as well, so that a speaker finds its own and its Service's.
pub(super) fn new_object(node: &str, pod: Option<&(String, String)>, service: &ServiceKey) -> ServiceL2Status {
    let own_labels = [
        (labels::NODE, node),
        (labels::SERVICE_NAME, service.name.as_str()),
        (labels::SERVICE_NAMESPACE, service.namespace.as_str()),
    ];
    let owner = pod.map(|(name, uid)| OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: name.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    });
    let mut object = ServiceL2Status::new("", landfall_api::ServiceL2StatusSpec::default());
    *object.meta_mut() = ObjectMeta {
        generate_name: Some("l2-".into()),
        labels: Some(own_labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    object
}
