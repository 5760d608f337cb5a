//! Cluster in: one watch per kind, each object read into what the model keeps of it.

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use landfall_api::bgp_peer::v1beta2::BGPPeer;
use landfall_api::{
    BFDProfile, BGPAdvertisement, Community, ConfigurationState, IPAddressPool, L2Advertisement, annotations, labels,
};
use landfall_config::Labels;
use landfall_ipam::ServiceKey;
use landfall_runtime::tasks::Tasks;
use landfall_runtime::view;
use landfall_runtime::view::WithConditions;
use landfall_runtime::watch::{Change, spawn};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::placement::Node;
use crate::service::{Service, ServiceView};

/// The ConfigurationStates of speakers; [`landfall_runtime::configuration_state`] labels them so.
pub(crate) const SPEAKERS: &str = "metallb.io/component-type=speaker";

view! {
    /// A Node.
    NodeView of v1::Node { status: WithConditions }
}

/// Something changed in the cluster. The value is `None` where the object is none of our business.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Service of any namespace.
    Service(Change<(ServiceKey, Option<Box<Service>>)>),
    /// A Node.
    Node(Change<(String, Option<Node>)>),
    /// The networks of the interfaces on which a node's speaker may answer, by the Node's name.
    Networks(Change<(String, Option<Vec<IpNet>>)>),
    /// A Namespace's labels.
    Namespace(Change<(String, Option<Labels>)>),
    /// An IPAddressPool of our namespace.
    Pool(Change<(String, Option<IPAddressPool>)>),
    /// An L2Advertisement of our namespace.
    L2Advertisement(Change<(String, Option<L2Advertisement>)>),
    /// A BGPPeer of our namespace.
    BgpPeer(Change<(String, Option<BGPPeer>)>),
    /// A BGPAdvertisement of our namespace.
    BgpAdvertisement(Change<(String, Option<BGPAdvertisement>)>),
    /// A BFDProfile of our namespace.
    BfdProfile(Change<(String, Option<BFDProfile>)>),
    /// A Community of our namespace.
    Community(Change<(String, Option<Community>)>),
}

/// Starts the watches, which go on until the result is dropped. Each begins with a list that is as new as the call.
pub fn start(client: &Client, namespace: &str, class: Option<&str>, to: &mpsc::Sender<Event>) -> Tasks {
    let config = watcher::Config::default;
    let class = class.map(str::to_owned);
    let services: Api<ServiceView> = Api::all(client.clone());
    let namespaces: Api<PartialObjectMeta<v1::Namespace>> = Api::all(client.clone());
    let speakers: Api<PartialObjectMeta<ConfigurationState>> = Api::namespaced(client.clone(), namespace);
    Tasks::from(vec![
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
        spawn(speakers, config().labels(SPEAKERS), networks, to.clone(), Event::Networks),
        objects(client, namespace, to, Event::Pool),
        objects(client, namespace, to, Event::L2Advertisement),
        objects(client, namespace, to, Event::BgpPeer),
        objects(client, namespace, to, Event::BgpAdvertisement),
        objects(client, namespace, to, Event::BfdProfile),
        objects(client, namespace, to, Event::Community),
    ])
}

/// What a speaker says of its node's networks. One that cannot be read is left out: it only costs a preference.
fn networks(state: PartialObjectMeta<ConfigurationState>) -> (String, Option<Vec<IpNet>>) {
    let said = state.metadata.annotations.unwrap_or_default().remove(annotations::NETWORKS).unwrap_or_default();
    let networks: Vec<IpNet> = said.split(',').filter_map(|network| network.parse().ok()).collect();
    let node = state.metadata.labels.unwrap_or_default().remove(labels::NODE_NAME).unwrap_or_default();
    (node, Some(networks))
}

/// Watches a kind of configuration object in our namespace. managedFields are about half of an object's metadata, and nobody
/// here reads them; without resourceVersion, what comes back of our own writes is nothing new.
fn objects<K>(
    client: &Client,
    namespace: &str,
    to: &mpsc::Sender<Event>,
    wrap: impl Fn(Change<(String, Option<K>)>) -> Event + Send + 'static,
) -> JoinHandle<()>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let read = |mut object: K| {
        object.managed_fields_mut().clear();
        object.meta_mut().resource_version = None;
        (object.name_any(), Some(object))
    };
    let api = Api::<K>::namespaced(client.clone(), namespace);
    spawn(api, watcher::Config::default(), read, to.clone(), wrap)
}
