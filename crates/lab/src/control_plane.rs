//! The machine `cp`: etcd, API server, controller manager, scheduler.

use std::fs;

use anyhow::Result;

use crate::lab::Lab;
use crate::machine::{CONFIG_INSIDE, Machine};
use crate::network::API_SERVER;

const SERVICE_PREFIXES: &str = "10.96.0.0/16,fd00:96::/112";
const ETCD: &str = "http://127.0.0.1:2379";

/// Writes are counted by tests ("an idle minute makes no write"), so each is logged once, with who made it; reads are not.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, list, watch]}
- {level: Metadata}
";

/// Starts all four; they find each other in their own time.
pub fn start(lab: &Lab) -> Result<()> {
    let cp = lab.machine("cp")?;
    fs::write(cp.config_dir().join("audit-policy.yaml"), AUDIT_POLICY)?;
    cp.boot()?;
    start_etcd(&cp)?;
    start_api_server(&cp)?;
    start_controller_manager(&cp)?;
    start_scheduler(&cp)
}

/// The API server's log of writes: one JSON object a line, as the computer sees it.
pub fn audit_log(lab: &Lab) -> Result<std::path::PathBuf> {
    Ok(lab.machine("cp")?.log_dir().join("audit.jsonl"))
}

fn start_etcd(cp: &Machine) -> Result<()> {
    let peer = "http://127.0.0.1:2380";
    let flags = [
        ("data-dir", "/var/lib/etcd"),
        ("listen-client-urls", ETCD),
        ("advertise-client-urls", ETCD),
        ("listen-peer-urls", peer),
        ("initial-advertise-peer-urls", peer),
        ("initial-cluster", &format!("default={peer}")),
        ("unsafe-no-fsync", "true"), // a lab's data need not outlive a power cut, and disks of CI machines are slow
        ("log-level", "warn"),
    ];
    cp.start("etcd", &arguments(&flags))
}

/// Also for a control plane that has lost its API server.
pub(crate) fn start_api_server(cp: &Machine) -> Result<()> {
    let file = |name: &str| format!("{CONFIG_INSIDE}/{name}");
    let flags = [
        ("etcd-servers", ETCD),
        ("secure-port", "6443"),
        ("bind-address", "0.0.0.0"),
        ("advertise-address", API_SERVER),
        ("tls-cert-file", &file("api.crt")),
        ("tls-private-key-file", &file("api.key")),
        ("client-ca-file", &file("ca.crt")),
        ("token-auth-file", &file("tokens.csv")),
        ("service-account-key-file", &file("sa.pub")),
        ("service-account-signing-key-file", &file("sa.key")),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-cluster-ip-range", SERVICE_PREFIXES),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("allow-privileged", "true"),
        ("enable-aggregator-routing", "true"), // webhooks go to Pod addresses: no kube-proxy runs here
        ("kubelet-preferred-address-types", "InternalIP"),
        ("kubelet-client-certificate", &file("kubelet-client.crt")),
        ("kubelet-client-key", &file("kubelet-client.key")),
        ("audit-policy-file", &file("audit-policy.yaml")),
        ("audit-log-path", "/var/log/audit.jsonl"),
        ("audit-log-maxsize", "1000"), // MB; at the default of 100 a measurement could lose lines to rotation
    ];
    cp.start("kube-apiserver", &arguments(&flags))
}

fn start_controller_manager(cp: &Machine) -> Result<()> {
    let file = |name: &str| format!("{CONFIG_INSIDE}/{name}");
    let flags = [
        ("leader-elect", "false"),
        ("kubeconfig", &file("kcm.kubeconfig")),
        ("service-account-private-key-file", &file("sa.key")),
        ("root-ca-file", &file("ca.crt")),
        ("cluster-signing-cert-file", &file("ca.crt")),
        ("cluster-signing-key-file", &file("ca.key")),
        ("use-service-account-credentials", "true"),
        ("flex-volume-plugin-dir", "/var/lib/volume-plugins"), // the default lies in /usr
        ("allocate-node-cidrs", "false"),
        ("service-cluster-ip-range", SERVICE_PREFIXES),
        ("authentication-skip-lookup", "true"),
    ];
    cp.start("kube-controller-manager", &arguments(&flags))
}

fn start_scheduler(cp: &Machine) -> Result<()> {
    let kubeconfig = format!("{CONFIG_INSIDE}/sched.kubeconfig");
    let flags =
        [("kubeconfig", kubeconfig.as_str()), ("leader-elect", "false"), ("authentication-skip-lookup", "true")];
    cp.start("kube-scheduler", &arguments(&flags))
}

fn arguments(flags: &[(&str, &str)]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}
