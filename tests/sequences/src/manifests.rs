//! The objects that happenings make. A field that is null is one that the object must not have, as in a merge patch.
//!
//! Everything is scarce, so that Services wait, share and take over: no pool has more than two addresses of a family.

use serde_json::{Value, json};

use crate::happening::Terms;

/// The Services: which of the two Namespaces each is in, and its name.
pub const SERVICES: [(usize, &str); 5] = [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e")];
/// The names of the IPAddressPools.
pub const POOLS: [&str; 3] = ["p", "q", "r"];
/// How many Nodes come and go.
pub const NODES: usize = 3;

/// What the test at hand calls what it has to name itself.
#[derive(Clone, Debug)]
pub struct Names {
    /// The two Namespaces.
    pub namespaces: [String; 2],
    /// The Nodes.
    pub nodes: [String; NODES],
}

impl Names {
    /// The key of a Service in a [`View`](crate::view::View).
    pub fn key(&self, service: usize) -> String {
        let (namespace, name) = SERVICES[service];
        format!("{}/{name}", self.namespaces[namespace])
    }

    /// A Service.
    pub fn service(&self, service: usize, terms: Terms) -> Value {
        let (namespace, name) = SERVICES[service];
        let (families, policy) = match terms.families {
            0 | 1 => (&["IPv4"][..], "SingleStack"),
            2 => (&["IPv6"][..], "SingleStack"),
            3 => (&["IPv4", "IPv6"][..], "PreferDualStack"),
            _ => (&["IPv4", "IPv6"][..], "RequireDualStack"),
        };
        let (ips, pool) = match terms.request {
            0 => (Some("198.51.100.1"), None),
            1 => (Some("198.51.100.17,2001:db8:1::1"), None),
            2 => (None, Some("q")),
            3 => (Some("nonsense"), None),
            _ => (None, None),
        };
        let (kind, traffic) = match terms {
            Terms { class: 5, .. } => ("ClusterIP", None),
            Terms { local: true, .. } => ("LoadBalancer", Some("Local")),
            _ => ("LoadBalancer", Some("Cluster")),
        };
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "namespace": self.namespaces[namespace], "name": name,
                "labels": {"class": terms.class.to_string()},
                "annotations": {
                    "metallb.io/allow-shared-ip": (terms.sharing > 0).then(|| format!("key{}", terms.sharing)),
                    "metallb.io/loadBalancerIPs": ips,
                    "metallb.io/address-pool": pool,
                },
            },
            "spec": {
                "type": kind, "ipFamilies": families, "ipFamilyPolicy": policy,
                "selector": {"app": format!("app{}", terms.class % 2)},
                "externalTrafficPolicy": traffic,
                "ports": [{"port": 80 + terms.port, "protocol": "TCP"}],
            },
        })
    }

    /// An IPAddressPool. No two have an address in common.
    pub fn pool(&self, pool: usize, addresses: usize, rule: usize) -> Value {
        let four = |n| format!("198.51.100.{}/32", 16 * pool + n);
        let six = |n| format!("2001:db8:{pool}::{n}/128");
        let addresses = match addresses {
            0 => vec![four(0)],
            1 => vec![four(0), four(1), six(0)],
            2 => vec![four(1), six(1)],
            _ => vec![six(0), six(1), four(2)],
        };
        let allocation = match rule {
            0 => json!({"namespaces": [self.namespaces[1]]}),
            1 => json!({"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}], "priority": 5}),
            2 => json!({"priority": 1, "serviceSelectors": [{"matchLabels": {"class": "1"}}]}),
            _ => Value::Null,
        };
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": POOLS[pool]},
            "spec": {"addresses": addresses, "autoAssign": rule != 4, "serviceAllocation": allocation},
        })
    }

    /// The second Namespace.
    pub fn namespace(&self, labelled: bool) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespaces[1], "labels": {"tier": labelled.then_some("gold")}},
        })
    }
}
