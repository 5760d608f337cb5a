//! Cluster in: one watch per kind, each object read into what the model keeps of it.

use k8s_openapi::api::core::v1;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use landfall_api::conditions::ConditionsStatus;
use landfall_api::{BFDProfile, BGPAdvertisement, Community, IPAddressPool, L2Advertisement, bgp_peer};
use landfall_config::Labels;
use landfall_ipam::ServiceKey;
use landfall_runtime::view;
use landfall_runtime::view::WithConditions;
use landfall_runtime::watch::{Change, spawn};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::placement::Node;
use crate::report::{Kind, Standing};
use crate::service::Service;

view! {
    /// A Node.
    NodeView of v1::Node { status: WithConditions }
}

/// Something changed in the cluster. The value is `None` where the object is none of our business.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Service of any namespace.
    Service(Change<(ServiceKey, Option<Service>)>),
    /// A Node.
    Node(Change<(String, Option<Node>)>),
    /// A Namespace's labels.
    Namespace(Change<(String, Option<Labels>)>),
    /// An IPAddressPool of our namespace.
    Pool(Change<(String, Option<IPAddressPool>)>),
    /// An L2Advertisement of our namespace.
    L2Advertisement(Change<(String, Option<L2Advertisement>)>),
    /// An object of a kind that is kept but does nothing yet.
    Kept(Kind, Change<(String, Option<Standing>)>),
}

/// Starts the watches. They end when the receiver of `to` is gone.
pub fn start(client: &Client, namespace: &str, class: Option<&str>, to: &mpsc::Sender<Event>) -> Vec<JoinHandle<()>> {
    let config = watcher::Config::default;
    let class = class.map(str::to_owned);
    let services: Api<v1::Service> = Api::all(client.clone());
    let namespaces: Api<PartialObjectMeta<v1::Namespace>> = Api::all(client.clone());
    let pools: Api<IPAddressPool> = Api::namespaced(client.clone(), namespace);
    let advertisements: Api<L2Advertisement> = Api::namespaced(client.clone(), namespace);
    vec![
        spawn(services, config(), move |service| Service::read(service, class.as_deref()), to.clone(), Event::Service),
        spawn(
            namespaces,
            config(),
            |namespace| (namespace.name_any(), Some(namespace.metadata.labels.unwrap_or_default())),
            to.clone(),
            Event::Namespace,
        ),
        spawn(
            Api::<NodeView>::all(client.clone()),
            config(),
            |node| {
                let network_unavailable = node.status.is("NetworkUnavailable");
                (node.name_any(), Some(Node { labels: node.metadata.labels.unwrap_or_default(), network_unavailable }))
            },
            to.clone(),
            Event::Node,
        ),
        spawn(pools, config(), |pool| (pool.name_any(), Some(lean(pool))), to.clone(), Event::Pool),
        spawn(
            advertisements,
            config(),
            |advertisement| (advertisement.name_any(), Some(lean(advertisement))),
            to.clone(),
            Event::L2Advertisement,
        ),
        kept::<bgp_peer::v1beta2::BGPPeer>(client, namespace, Kind::BgpPeer, to, |peer| peer.status),
        kept::<BGPAdvertisement>(client, namespace, Kind::BgpAdvertisement, to, |advertisement| advertisement.status),
        kept::<BFDProfile>(client, namespace, Kind::BfdProfile, to, |profile| profile.status),
        kept::<Community>(client, namespace, Kind::Community, to, |community| community.status),
    ]
}

/// managedFields are about half of an object's metadata, and nobody here reads them.
fn lean<K: Resource>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    object
}

fn kept<K>(
    client: &Client,
    namespace: &str,
    kind: Kind,
    to: &mpsc::Sender<Event>,
    status: fn(K) -> Option<ConditionsStatus>,
) -> JoinHandle<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let read = move |object: K| {
        let standing = Standing {
            uid: object.meta().uid.clone().unwrap_or_default(),
            generation: object.meta().generation,
            conditions: vec![],
        };
        let name = object.name_any();
        let conditions = status(object).map(|status| status.conditions).unwrap_or_default();
        (name, Some(Standing { conditions, ..standing }))
    };
    spawn(
        Api::<K>::namespaced(client.clone(), namespace),
        watcher::Config::default(),
        read,
        to.clone(),
        move |change| Event::Kept(kind, change),
    )
}
