//! A Service as the controller sees it: the fields that decide, parsed once at the watch edge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ManagedFieldsEntry};
use landfall_api::{annotations, conditions};
use landfall_ipam::{Families, Family, Port, Protocol, ServiceKey, Sharing};
use landfall_runtime::view;
use landfall_runtime::view::or_default;
use serde::Deserialize;

use crate::packed_labels::PackedLabels;
use crate::patch::FIELD_MANAGER;

view! {
    /// The fields of a Service that the controller reads.
    ServiceView of v1::Service { spec: Spec, status: Status }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    type_: Option<String>,
    load_balancer_class: Option<String>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Option<String>,
    external_traffic_policy: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    ip_families: Vec<String>,
    ip_family_policy: Option<String>,
    #[serde(deserialize_with = "or_default")]
    selector: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ServicePort {
    protocol: Option<String>,
    port: i32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    load_balancer: LoadBalancer,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<Ingress>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    ip: Option<String>,
    hostname: Option<String>,
}

/// What the controller keeps of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// metadata.uid: a Service that is made again under the same name is another one.
    pub uid: String,
    /// metadata.resourceVersion: what we write is for what we have seen.
    pub resource_version: String,
    /// Whether it wants addresses from us: `type: LoadBalancer`, our class, and not on its way out.
    pub wanted: bool,
    /// metadata.labels
    pub labels: PackedLabels,
    /// spec.clusterIPs, or spec.clusterIP where there are none.
    pub cluster_ips: Vec<String>,
    /// The first of spec.ipFamilies.
    pub primary: Option<Family>,
    /// spec.ipFamilyPolicy
    pub policy: Policy,
    /// Addresses asked for by annotation: `metallb.io/loadBalancerIPs`.
    pub requested_by_annotation: Option<String>,
    /// The address asked for in spec.loadBalancerIP.
    pub requested_by_spec: Option<String>,
    /// The pool asked for: `metallb.io/address-pool`.
    pub requested_pool: Option<String>,
    /// Value of `metallb.io/allow-shared-ip` with the Pods it may be shared for.
    pub sharing: Option<Sharing>,
    /// Protocol and number of every port.
    pub ports: BTreeSet<Port>,
    /// Annotation keys with MetalLB's old prefix, to be warned of.
    pub deprecated_annotations: Vec<String>,
    /// What stands in status.loadBalancer.ingress, as text: an address, or a host name that somebody else wrote.
    pub ingress: Vec<String>,
    /// The pool that `metallb.io/ip-allocated-from-pool` names: written by us.
    pub allocated_from: Option<String>,
    /// The node that `landfall.io/node` names: written by us.
    pub placed: Option<String>,
    /// Our condition, as it stands.
    pub condition: Option<Condition>,
    /// It carries the condition `landfall.io/Announced`, which speakers write.
    pub announced: bool,
    /// Who else than we wrote `status.loadBalancer` last: the field manager.
    pub foreign_writer: Option<String>,
}

/// spec.ipFamilyPolicy
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// SingleStack
    #[default]
    Single,
    /// PreferDualStack
    Prefer,
    /// RequireDualStack
    Require,
}

impl Service {
    /// Reads a Service; `None` for one that is none of our business: of another type or class, and nothing of ours on it.
    pub(crate) fn read(service: ServiceView, class: Option<&str>) -> (ServiceKey, Option<Box<Self>>) {
        let key = ServiceKey {
            namespace: service.metadata.namespace.unwrap_or_default().into(),
            name: service.metadata.name.unwrap_or_default().into(),
        };
        let spec = service.spec;
        let annotations = service.metadata.annotations.unwrap_or_default();
        let load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        let foreign_writer = foreign_writer(service.metadata.managed_fields.as_deref().unwrap_or_default());
        let placed = annotations.get(annotations::NODE).cloned();
        let allocated_from = annotations.get(annotations::IP_ALLOCATED_FROM_POOL).cloned();
        // A Service of another class belongs to another load balancer, whatever annotation it carries.
        let ours = load_balancer && spec.load_balancer_class.as_deref() == class;
        let standing = service.status.conditions;
        let announced = standing.iter().any(|condition| condition.type_ == conditions::ANNOUNCED);
        // A speaker may have said its last word after we took away what was ours.
        let left_behind = !load_balancer && (allocated_from.is_some() || announced);
        if !ours && !left_behind {
            return (key, None);
        }
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let own = |annotation: annotations::Key| annotation.value(&annotations).map(str::to_owned);
        let service = Self {
            uid: service.metadata.uid.unwrap_or_default(),
            resource_version: service.metadata.resource_version.unwrap_or_default(),
            wanted: ours && service.metadata.deletion_timestamp.is_none(),
            labels: service.metadata.labels.as_ref().map(PackedLabels::from).unwrap_or_default(),
            cluster_ips: match spec.cluster_ips {
                none if none.is_empty() => spec.cluster_ip.into_iter().collect(),
                ips => ips,
            },
            primary: spec.ip_families.first().map(|family| match family.as_str() {
                "IPv6" => Family::V6,
                _ => Family::V4,
            }),
            policy: match spec.ip_family_policy.as_deref() {
                Some("PreferDualStack") => Policy::Prefer,
                Some("RequireDualStack") => Policy::Require,
                _ => Policy::Single,
            },
            requested_by_annotation: own(annotations::LOAD_BALANCER_IPS).filter(|value| !value.is_empty()),
            requested_by_spec: spec.load_balancer_ip.filter(|value| !value.is_empty()),
            requested_pool: own(annotations::ADDRESS_POOL).filter(|value| !value.is_empty()),
            sharing: own(annotations::ALLOW_SHARED_IP)
                .filter(|value| !value.is_empty())
                .map(|key| Sharing { key, backend: if local { selector_text(&spec.selector) } else { String::new() } }),
            ports: spec.ports.iter().filter_map(read_port).collect(),
            deprecated_annotations: annotations
                .keys()
                .filter(|key| key.starts_with("metallb.universe.tf"))
                .cloned()
                .collect(),
            ingress: service.status.load_balancer.ingress.into_iter().filter_map(|i| i.ip.or(i.hostname)).collect(),
            allocated_from,
            placed,
            foreign_writer,
            announced,
            condition: standing.into_iter().find(|condition| condition.type_ == conditions::ADDRESS_ALLOCATED),
        };
        (key, Some(Box::new(service)))
    }

    /// The addresses in status.loadBalancer.ingress; what is no address is not counted.
    pub fn ingress_ips(&self) -> Vec<IpAddr> {
        self.ingress.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// The families of its cluster addresses: those are the families that kube-proxy can deliver.
    /// # Errors
    /// What is wrong with the cluster addresses, as a sentence with the way out.
    pub fn families(&self) -> Result<Families, String> {
        let ips: Vec<IpAddr> = self.cluster_ips.iter().filter_map(|text| text.parse().ok()).collect();
        match ips[..] {
            [ip] if self.cluster_ips.len() == 1 && self.policy == Policy::Require => Err(format!(
                "Service requires dual stack but not enough clusterips {:?}; \
                 it is {} only: does the cluster have Service addresses of both families?",
                self.cluster_ips,
                Family::of(ip)
            )),
            [ip] if self.cluster_ips.len() == 1 => Ok(Families::Single(Family::of(ip))),
            [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(Families::Dual {
                primary: self.primary.unwrap_or(Family::V4),
                required: self.policy == Policy::Require,
            }),
            _ => Err(format!(
                "IPFamilyForAddresses: the Service's clusterIPs are {:?}: a load balancer delivers to a cluster IP, \
                 so a headless Service cannot have an external address; remove spec.clusterIP: None",
                self.cluster_ips
            )),
        }
    }

    /// The addresses that the Service asks for, by annotation or by spec.loadBalancerIP; empty: any.
    /// # Errors
    /// What is wrong with them, as a sentence.
    pub fn requested_ips(&self) -> Result<Vec<IpAddr>, String> {
        let (text, field) = match (&self.requested_by_annotation, &self.requested_by_spec) {
            (None, None) => return Ok(vec![]),
            (Some(_), Some(_)) => {
                return Err(format!(
                    "service can not have both {} and svc.Spec.LoadBalancerIP; remove spec.loadBalancerIP, \
                     which Kubernetes has deprecated",
                    annotations::LOAD_BALANCER_IPS.name
                ));
            }
            (Some(text), None) => (text, annotations::LOAD_BALANCER_IPS.name),
            (None, Some(text)) => (text, "spec.loadBalancerIP"),
        };
        let ips: Result<Vec<IpAddr>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let ips = ips.map_err(|_| {
            format!("invalid {field}: {text:?}; write one address, or one of each family separated by a comma")
        })?;
        match ips[..] {
            [_] => Ok(ips),
            [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(ips),
            _ => Err(format!(
                "invalid {field}: {text:?}: same address family or more than two addresses; at most one of each family is possible"
            )),
        }
    }
}

/// Who owns `status.loadBalancer.ingress`, if it is not us. The field has one owner: whoever changed it last.
fn foreign_writer(managed: &[ManagedFieldsEntry]) -> Option<String> {
    let writes_ingress = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:status"]["f:loadBalancer"]["f:ingress"]);
        fields.is_some_and(|fields| !fields.is_null())
    };
    let owner = managed.iter().find(writes_ingress)?.manager.clone()?;
    (owner != FIELD_MANAGER).then_some(owner)
}

fn read_port(port: &ServicePort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Some(Port { protocol, number: u16::try_from(port.port).ok()? })
}

/// `a=1,b=2` in the order of the keys: equal for equal selectors.
fn selector_text(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
