//! The fields of Kubernetes objects that the speaker reads. Others are skipped while an object is decoded.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use landfall_api::ServiceL2StatusStatus;
use landfall_runtime::view;
use landfall_runtime::view::{WithConditions, or_default};
use serde::Deserialize;

view! {
    /// A Service.
    ServiceView of core::Service { spec: ServiceSpec, status: ServiceStatus }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) type_: Option<String>,
    pub(crate) load_balancer_class: Option<String>,
    pub(crate) external_traffic_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    pub(crate) load_balancer: LoadBalancerStatus,
    #[serde(deserialize_with = "or_default")]
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancerStatus {
    #[serde(deserialize_with = "or_default")]
    pub(crate) ingress: Vec<Ingress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ingress {
    pub(crate) ip: Option<String>,
    pub(crate) hostname: Option<String>,
}

view! {
    /// An EndpointSlice.
    SliceView of discovery::EndpointSlice { endpoints: Vec<Endpoint> }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    pub(crate) node_name: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) conditions: EndpointConditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
}

view! {
    /// A Node.
    NodeView of core::Node { status: WithConditions }
}

view! {
    /// A Pod.
    PodView of core::Pod { spec: PodSpec, status: PodStatus }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: Option<String>,
    #[serde(rename = "hostIPs", deserialize_with = "or_default")]
    pub(crate) host_ips: Vec<HostIp>,
    #[serde(flatten)]
    pub(crate) conditions: WithConditions,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HostIp {
    pub(crate) ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
}

view! {
    /// A ServiceL2Status, whoever wrote it.
    StatusView of landfall_api::ServiceL2Status { status: ServiceL2StatusStatus }
}
