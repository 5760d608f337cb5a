//! Keeps the certificate in its Secret, shows it, and tells the API server which authority to trust. Every replica does: the
//! first one to write the Secret wins, and the others read what it wrote.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, ServiceReference, WebhookClientConfig, WebhookConversion,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use landfall_runtime::client::chain;
use landfall_runtime::probes::Step;
use landfall_runtime::tls_server::Shown;
use landfall_runtime::watch;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::certificate::{Issued, Usable, assess, dns_name, issue};
use super::{CONVERT_PATH, Settings};
use crate::patch::FIELD_MANAGER;
use crate::write::params;

/// The definition that is converted.
const PEERS_CRD: &str = "bgppeers.metallb.io";
/// The Service's port; the API server's default.
const SERVICE_PORT: i32 = 443;

/// How often is looked when nothing is heard. A certificate is renewed months before it ends; this is for what a watch missed.
const CHECK: Duration = Duration::from_secs(300);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
/// What changes comes in bursts, our own writes among it: it is looked at once.
const SETTLE: Duration = Duration::from_millis(200);
/// How often another replica may be first before we give up for now.
const RACES: usize = 5;

/// How a look at everything ended.
enum Round {
    /// All is in order.
    Settled,
    /// Somebody else, another replica perhaps, was writing at the same time: to be looked at again.
    Overtaken,
}

/// The task's means.
pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) settings: Settings,
    pub(super) shown: Shown,
    pub(super) ready: Step,
}

impl Publisher {
    /// Runs for ever; may be aborted at any time.
    pub(super) async fn run(self) {
        let (to, mut changes) = mpsc::channel(watch::CHANNEL_BOUND);
        let Self { client, namespace, settings, .. } = &self;
        follow::<Secret>(Api::namespaced(client.clone(), namespace), &settings.secret, &to);
        follow::<ValidatingWebhookConfiguration>(Api::all(client.clone()), &settings.configuration, &to);
        follow::<CustomResourceDefinition>(Api::all(client.clone()), PEERS_CRD, &to);
        let mut failure = None;
        loop {
            let pause = match self.round().await {
                Ok(Round::Settled) => {
                    if failure.take().is_some() {
                        info!("the webhooks' certificate is in order again");
                    }
                    CHECK
                }
                Ok(Round::Overtaken) => Duration::ZERO,
                Err(error) => {
                    let said = format!("{error:#}");
                    if failure.as_ref() != Some(&said) {
                        warn!(error = said, "the webhooks' certificate is not in order, trying again");
                        failure = Some(said);
                    }
                    RETRY
                }
            };
            let _ = tokio::time::timeout(pause, changes.recv()).await;
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
        }
    }

    async fn round(&self) -> anyhow::Result<Round> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let name = &self.settings.configuration;
        let about = || format!("ValidatingWebhookConfiguration {name}");
        let Some(configuration) = configurations.get_opt(name).await.map_err(said).with_context(about)? else {
            bail!("there is no {}: apply the one of the chart, or run with --webhook-mode disabled", about());
        };
        let Usable { identity, ca } = self.usable(&configuration).await?;
        self.shown.set(identity);
        if let Some(patch) = webhooks_patch(&configuration, &ca) {
            match configurations.patch(name, &params(), &Patch::Strategic(patch)).await {
                Ok(_) => info!(configuration = name, "the API server is told whom to trust about webhooks"),
                Err(error) if is_race(&error) => return Ok(Round::Overtaken),
                Err(error) => return Err(said(error)).with_context(about),
            }
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let about = || format!("CustomResourceDefinition {PEERS_CRD}");
        let peers = definitions.get(PEERS_CRD).await.map_err(said).with_context(about)?;
        if let Some(patch) = conversion_patch(&peers, &self.settings.service, &self.namespace, &ca) {
            match definitions.patch(PEERS_CRD, &params(), &Patch::Merge(patch)).await {
                Ok(_) => info!(crd = PEERS_CRD, "the API server has BGPPeers converted by us"),
                Err(error) if is_race(&error) => return Ok(Round::Overtaken),
                Err(error) => return Err(said(error)).with_context(about),
            }
        }
        self.ready.done();
        Ok(Round::Settled)
    }

    /// What the Secret holds, after a renewal if that is due. A Secret that is made belongs to `owner` and goes with it.
    async fn usable(&self, owner: &ValidatingWebhookConfiguration) -> anyhow::Result<Usable> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let (name, dns_name) = (&self.settings.secret, dns_name(&self.settings.service, &self.namespace));
        let about = || format!("Secret {name} in namespace {}", self.namespace);
        for _ in 0..RACES {
            let now = Timestamp::now();
            let present = secrets.get_opt(name).await.map_err(said).with_context(about)?;
            let why = match &present {
                None => "there is none".to_owned(),
                Some(secret) => match assess(secret.data.as_ref().unwrap_or(&BTreeMap::new()), &dns_name, now) {
                    Ok(usable) => return Ok(usable),
                    Err(why) => format!("{why:#}"),
                },
            };
            let issued = issue(present.as_ref(), &dns_name, now).context("a certificate cannot be made")?;
            let usable = assess(&issued.data, &dns_name, now).context("the certificate that was made is no good")?;
            match self.store(&secrets, present.as_ref(), owner, issued).await {
                Ok(()) => {
                    info!(secret = name, dns_name, why, "a new certificate for the webhooks");
                    return Ok(usable);
                }
                Err(error) if is_race(&error) => {}
                Err(error) => return Err(said(error)).with_context(about),
            }
        }
        bail!("{} changes whenever it is to be written", about())
    }

    async fn store(
        &self,
        secrets: &Api<Secret>,
        present: Option<&Secret>,
        owner: &ValidatingWebhookConfiguration,
        issued: Issued,
    ) -> Result<(), kube::Error> {
        let Issued { data, annotations } = issued;
        match present {
            Some(present) => {
                let patch = json!({
                    "metadata": {"resourceVersion": present.metadata.resource_version, "annotations": annotations},
                    "data": data,
                });
                secrets.patch(&self.settings.secret, &params(), &Patch::Merge(patch)).await?;
            }
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(self.settings.secret.clone()),
                        annotations: Some(annotations),
                        owner_references: owner.owner_ref(&()).map(|owner| vec![owner]),
                        ..ObjectMeta::default()
                    },
                    data: Some(data),
                    ..Secret::default()
                };
                let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
                secrets.create(&params, &secret).await?;
            }
        }
        Ok(())
    }
}

/// Says when the object of this name changes.
fn follow<K>(api: Api<PartialObjectMeta<K>>, name: &str, to: &mpsc::Sender<()>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch::spawn(api, by_name, |_| (), to.clone(), |_| ());
}

/// What makes every webhook of the configuration trust `ca`; `None` if all do.
fn webhooks_patch(present: &ValidatingWebhookConfiguration, ca: &[u8]) -> Option<Value> {
    let ca = ByteString(ca.to_vec());
    let webhooks = present.webhooks.iter().flatten();
    let others: Vec<Value> = webhooks
        .filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&ca))
        .map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": ca}}))
        .collect();
    let version = present.resource_version();
    (!others.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": others}))
}

/// What makes the API server have BGPPeers converted by the Service, trusting `ca`; `None` if it does. What another load balancer
/// left there is replaced.
fn conversion_patch(present: &CustomResourceDefinition, service: &str, namespace: &str, ca: &[u8]) -> Option<Value> {
    let conversion = CustomResourceConversion {
        strategy: "Webhook".into(),
        webhook: Some(WebhookConversion {
            client_config: Some(WebhookClientConfig {
                ca_bundle: Some(ByteString(ca.to_vec())),
                service: Some(ServiceReference {
                    name: service.to_owned(),
                    namespace: namespace.to_owned(),
                    path: Some(CONVERT_PATH.to_owned()),
                    port: Some(SERVICE_PORT),
                }),
                url: None,
            }),
            conversion_review_versions: vec!["v1".into()],
        }),
    };
    let mut patch =
        json!({"metadata": {"resourceVersion": present.resource_version()}, "spec": {"conversion": conversion}});
    // One or the other; a merge would leave both.
    patch["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = Value::Null;
    (present.spec.conversion.as_ref() != Some(&conversion)).then_some(patch)
}

/// Whether the object was changed or deleted by somebody else between our look and our write.
fn is_race(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(refusal) if matches!(refusal.code, 404 | 409))
}

/// With its causes; a missing permission is named in the API server's own words.
fn said(error: kube::Error) -> anyhow::Error {
    anyhow!(chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundles: &[Option<&str>]) -> ValidatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .enumerate()
            .map(|(i, bundle)| {
                json!({
                    "name": format!("w{i}.metallb.io"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "clientConfig": {"caBundle": bundle.map(|text| ByteString(text.into()))},
                })
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "webhooks": webhooks})).unwrap()
    }

    #[test]
    fn only_webhooks_that_trust_somebody_else_are_written() {
        assert_eq!(webhooks_patch(&configuration(&[Some("ca"), Some("ca")]), b"ca"), None);
        assert_eq!(webhooks_patch(&configuration(&[]), b"ca"), None);
        let patch = webhooks_patch(&configuration(&[Some("ca"), None, Some("old")]), b"ca");
        let bundle = json!({"caBundle": "Y2E="});
        assert_eq!(
            patch,
            Some(json!({
                "metadata": {"resourceVersion": "7"},
                "webhooks": [
                    {"name": "w1.metallb.io", "clientConfig": bundle},
                    {"name": "w2.metallb.io", "clientConfig": bundle},
                ],
            }))
        );
    }

    #[test]
    fn the_conversion_of_peers_becomes_ours_whatever_it_was_and_is_then_left_alone() {
        let all = landfall_api::crds::all().unwrap();
        let fresh = all.into_iter().find(|crd| crd.name_any() == PEERS_CRD).unwrap();
        let mut metallb = fresh.clone();
        metallb.spec.conversion = serde_json::from_value(json!({
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1beta1", "v1beta2"],
                "clientConfig": {
                    "url": "https://example.com/convert",
                    "caBundle": "b2xk",
                    "service": {"name": "metallb-webhook-service", "namespace": "metallb-system", "path": "/convert"},
                },
            },
        }))
        .unwrap();
        for before in [fresh, metallb] {
            let patch = conversion_patch(&before, "hooks", "lb", b"ca").expect("a patch");
            let mut after = serde_json::to_value(&before).unwrap();
            merge(&mut after, &patch);
            assert_eq!(
                after["spec"]["conversion"],
                json!({
                    "strategy": "Webhook",
                    "webhook": {
                        "conversionReviewVersions": ["v1"],
                        "clientConfig": {
                            "caBundle": "Y2E=",
                            "service": {"name": "hooks", "namespace": "lb", "path": "/convert", "port": 443},
                        },
                    },
                })
            );
            let after: CustomResourceDefinition = serde_json::from_value(after).unwrap();
            assert_eq!(conversion_patch(&after, "hooks", "lb", b"ca"), None);
            assert!(conversion_patch(&after, "hooks", "lb", b"new").is_some());
        }
    }

    /// RFC 7396, section 2.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(fields) = patch else { return *target = patch.clone() };
        for (field, value) in fields {
            match value {
                Value::Null => drop(target.as_object_mut().and_then(|target| target.remove(field))),
                Value::Object(_) => {
                    if !target[field].is_object() {
                        target[field] = json!({});
                    }
                    merge(&mut target[field], value);
                }
                _ => target[field] = value.clone(),
            }
        }
    }
}
