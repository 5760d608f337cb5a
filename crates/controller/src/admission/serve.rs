//! The webhooks' paths, which are MetalLB's, and the look at the cluster that a review asks for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::try_join;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt as _};
use landfall_config::{Nodes, Resources};
use landfall_runtime::client::chain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::review::{self, Step};
use super::{CONVERT_PATH, conversion};
use crate::report::Kind;

/// A second less than the API server waits for us (`timeoutSeconds` in the chart), so that the warning still reaches it.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the handlers need.
#[derive(Clone)]
pub struct Context {
    /// For the look at the cluster.
    pub client: Client,
    /// The namespace with the configuration objects.
    pub namespace: String,
}

/// Where the API server sends objects of a kind.
pub fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Pool => "/validate-metallb-io-v1beta1-ipaddresspool",
        Kind::L2Advertisement => "/validate-metallb-io-v1beta1-l2advertisement",
        Kind::BgpPeer => "/validate-metallb-io-v1beta2-bgppeer",
        Kind::BgpAdvertisement => "/validate-metallb-io-v1beta1-bgpadvertisement",
        Kind::BfdProfile => "/validate-metallb-io-v1beta1-bfdprofile",
        Kind::Community => "/validate-metallb-io-v1beta1-community",
    }
}

/// Every path.
pub fn router(context: Context) -> Router {
    use Kind::{BfdProfile, BgpAdvertisement, BgpPeer, Community, L2Advertisement, Pool};
    let mut router = Router::new().route(CONVERT_PATH, post(convert));
    for kind in [Pool, L2Advertisement, BgpPeer, BgpAdvertisement, BfdProfile, Community] {
        let handler = move |State(context): State<Arc<Context>>, body: Bytes| async move {
            validate(kind, &context, &body).await
        };
        router = router.route(path(kind), post(handler));
    }
    router.with_state(Arc::new(context))
}

async fn validate(kind: Kind, context: &Context, body: &[u8]) -> Response {
    let request = match review::read(body) {
        Ok(request) => request,
        Err(sentence) => return (StatusCode::BAD_REQUEST, sentence).into_response(),
    };
    let answer = match review::begin(kind, request, &context.namespace) {
        Step::Answer(answer) => answer,
        Step::Compare(comparison) => {
            let current = current(kind, context).await;
            if let Err(why) = &current {
                warn!(kind = kind.as_str(), why, "an object is not checked against the others");
            }
            comparison.finish(current.as_ref().map_err(String::as_str))
        }
    };
    if let Some(said) = answer.refusal() {
        info!(kind = kind.as_str(), said, "an object is refused");
    }
    json(&answer.into_review())
}

async fn convert(body: Bytes) -> Response {
    match conversion::review(&body) {
        Ok(review) => json(&review),
        Err(sentence) => (StatusCode::BAD_REQUEST, sentence).into_response(),
    }
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The objects that one of `kind` is judged together with, from the API server and not from a watch: who applies two objects
/// one after the other expects the second to be checked against the first.
async fn current(kind: Kind, context: &Context) -> Result<Resources, String> {
    let nothing = Resources::default();
    let looked = tokio::time::timeout(PATIENCE, async {
        Ok::<_, kube::Error>(match kind {
            Kind::Pool => Resources { pools: list(context).await?, ..nothing },
            Kind::L2Advertisement => {
                let (l2_advertisements, pools) = try_join!(list(context), list(context))?;
                Resources { l2_advertisements, pools, ..nothing }
            }
            Kind::BgpPeer => {
                let (bgp_peers, nodes) = try_join!(list(context), nodes(context))?;
                Resources { bgp_peers, nodes, ..nothing }
            }
            Kind::BgpAdvertisement => {
                let (bgp_advertisements, pools, nodes) = try_join!(list(context), list(context), nodes(context))?;
                Resources { bgp_advertisements, pools, nodes, ..nothing }
            }
            Kind::BfdProfile => Resources { bgp_peers: list(context).await?, ..nothing },
            Kind::Community => Resources { communities: list(context).await?, ..nothing },
        })
    });
    match looked.await {
        Ok(Ok(resources)) => Ok(resources),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("the API server does not answer within {} s", PATIENCE.as_secs())),
    }
}

async fn list<K>(context: &Context) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    Ok(Api::<K>::namespaced(context.client.clone(), &context.namespace).list(&ListParams::default()).await?.items)
}

async fn nodes(context: &Context) -> Result<Nodes, kube::Error> {
    let nodes = Api::<Node>::all(context.client.clone()).list_metadata(&ListParams::default()).await?;
    Ok(nodes.into_iter().map(|node| (node.name_any(), node.metadata.labels.unwrap_or_default())).collect())
}
