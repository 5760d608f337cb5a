//! Decide → cluster out: the only place of the controller that changes the cluster.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use landfall_api::{BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement, bgp_peer};
use landfall_runtime::client::chain;
use landfall_runtime::events::Recorder;
use landfall_runtime::lease::Leadership;
use landfall_runtime::view;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::model::{Target, Write, Written};
use crate::patch::FIELD_MANAGER;
use crate::report::Kind;

/// A patch that takes longer counts as failed: it will be decided anew and sent again, which does no harm.
const TIMEOUT: Duration = Duration::from_secs(10);

view! {
    /// What a write changes and nobody else tells: the resourceVersion.
    ServiceVersion of Service {}
}

/// Sends the patches.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
    recorder: Recorder,
    leadership: watch::Receiver<Leadership>,
}

impl Writer {
    /// `namespace` is where the configuration objects are.
    pub fn new(client: Client, namespace: String, recorder: Recorder, leadership: watch::Receiver<Leadership>) -> Self {
        Self { client, namespace, recorder, leadership }
    }

    /// Sends one write that was decided in `term` and, if it was done, what is to be said about it. Without the right to
    /// write nothing is sent.
    pub async fn send(&self, write: &Write, term: u64) -> Written {
        let limit = self.leadership.borrow().time_for_write(term, Instant::now(), TIMEOUT);
        let Some(limit) = limit else { return Written::Failed };
        let sent = tokio::time::timeout(limit, self.patch(write)).await;
        let object = name(&write.target);
        match sent {
            Ok(Ok(version)) => {
                self.said(write, &version);
                Written::Done(version)
            }
            Ok(Err(kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => {
                debug!(object, why = refusal.message, "not written: the object is gone or has changed meanwhile");
                Written::Gone
            }
            Ok(Err(error)) => {
                warn!(object, error = chain(&error), "status not written, trying again");
                Written::Failed
            }
            Err(_) => {
                warn!(object, seconds = limit.as_secs_f32(), "status not written in time, trying again");
                Written::Failed
            }
        }
    }

    /// The resource version after the patch.
    async fn patch(&self, write: &Write) -> Result<String, kube::Error> {
        match &write.target {
            Target::Service(key) => {
                // Only the metadata of the answer is decoded.
                let services: Api<ServiceVersion> = Api::namespaced(self.client.clone(), &key.namespace);
                let patch = Patch::Strategic(&write.patch);
                let after = services.patch_status(&key.name, &params(), &patch).await?;
                Ok(after.resource_version().unwrap_or_default())
            }
            Target::Object(Kind::Pool, name) => self.merge::<IPAddressPool>(name, write).await,
            Target::Object(Kind::L2Advertisement, name) => self.merge::<L2Advertisement>(name, write).await,
            Target::Object(Kind::BgpPeer, name) => self.merge::<bgp_peer::v1beta2::BGPPeer>(name, write).await,
            Target::Object(Kind::BgpAdvertisement, name) => self.merge::<BGPAdvertisement>(name, write).await,
            Target::Object(Kind::BfdProfile, name) => self.merge::<BFDProfile>(name, write).await,
            Target::Object(Kind::Community, name) => self.merge::<Community>(name, write).await,
        }
    }

    async fn merge<K>(&self, name: &str, write: &Write) -> Result<String, kube::Error>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let after = api.patch_status(name, &params(), &Patch::Merge(&write.patch)).await?;
        Ok(after.resource_version().unwrap_or_default())
    }

    fn said(&self, write: &Write, version: &str) {
        let object = name(&write.target);
        debug!(object, patch = %write.patch, "status written");
        for event in &write.events {
            let mut event = event.clone();
            info!(object, reason = event.reason, said = event.message, "decided");
            // What happened once is told once; the same at another time is news.
            version.clone_into(&mut event.occasion);
            event.about.namespace.get_or_insert_with(|| self.namespace.clone());
            self.recorder.record(event);
        }
    }
}

/// Patches are made in our name.
pub(crate) fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// How a target is named in the log.
fn name(target: &Target) -> String {
    match target {
        Target::Service(key) => format!("Service {key}"),
        Target::Object(kind, name) => format!("{} {name}", kind.as_str()),
    }
}
