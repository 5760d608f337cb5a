//! A node: containerd, kubelet, kube-proxy and the Pods' network.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::lab::{Lab, node_name};
use crate::machine::{CONFIG_INSIDE, Machine, TOOLS_INSIDE};
use crate::network;

/// containerd's socket, from inside.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// containerd starts within a second or two; on a busy computer with two cores, more.
const CONTAINERD_TIMEOUT: Duration = Duration::from_secs(60);
/// The image that holds each Pod's namespaces.
pub const PAUSE_IMAGE: &str = "docker.io/lab/pause:1";

/// Writes the node's configuration, switches it on and starts its programs. Its namespace must exist.
pub fn start(lab: &Lab, index: usize) -> Result<()> {
    let node = lab.machine(&node_name(index))?;
    let config = node.config_dir();
    fs::create_dir_all(config.join("cni"))?;
    fs::write(config.join("cni/10-lab.conflist"), cni(index))?;
    fs::write(config.join("containerd.toml"), containerd())?;
    fs::write(config.join("kubelet.json"), kubelet(index))?;
    fs::write(config.join("proxy.json"), kube_proxy(&node))?;
    node.boot()?;

    node.start("containerd", &[format!("--config={CONFIG_INSIDE}/containerd.toml")])?;
    wait_for_containerd(&node)?;
    let (v4, v6) = network::node_addresses(index);
    node.start(
        "kubelet",
        &[
            format!("--config={CONFIG_INSIDE}/kubelet.json"),
            format!("--kubeconfig={CONFIG_INSIDE}/kubelet.kubeconfig"),
            format!("--hostname-override={}", node.name()),
            format!("--node-ip={v4},{v6}"),
        ],
    )?;
    node.start("kube-proxy", &[format!("--config={CONFIG_INSIDE}/proxy.json")])
}

fn wait_for_containerd(node: &Machine) -> Result<()> {
    let deadline = Instant::now() + CONTAINERD_TIMEOUT;
    while command::output(ctr(node)?.arg("version")).is_err() {
        ensure!(
            Instant::now() < deadline,
            "containerd of {} does not answer after {CONTAINERD_TIMEOUT:?}",
            node.name()
        );
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// `ctr` for the images and containers that Kubernetes sees.
pub(crate) fn ctr(node: &Machine) -> Result<Command> {
    let mut command = node.command(&format!("{TOOLS_INSIDE}/ctr"))?;
    command.args(["--address", CONTAINERD, "--namespace", "k8s.io"]);
    Ok(command)
}

impl Lab {
    /// Loads an image file (docker-archive) into every node at once.
    pub fn image_load(&self, tar: &std::path::Path) -> Result<()> {
        let nodes = self.nodes()?;
        thread::scope(|scope| {
            let loads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| load_into(&self.machine(node)?, tar))).collect();
            loads.into_iter().try_for_each(|load| load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

/// The file comes in as standard input: a machine does not see all of the computer's folders.
fn load_into(node: &Machine, tar: &std::path::Path) -> Result<()> {
    let file = fs::File::open(tar).with_context(|| format!("image {}", tar.display()))?;
    let result = ctr(node)?.args(["images", "import", "--local", "-"]).stdin(file).output()?;
    let said = String::from_utf8_lossy(&result.stderr);
    ensure!(result.status.success(), "{} into {}:\n{}", tar.display(), node.name(), command::last_lines(&said, 5));
    Ok(())
}

fn cni(index: usize) -> String {
    let (v4, v6) = network::pod_prefixes(index);
    let ipam = serde_json::json!({
        "type": "host-local",
        "dataDir": "/run/cni-addresses", // forgotten at a reboot, as the Pods' namespaces are
        "ranges": [[{"subnet": v4}], [{"subnet": v6}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let bridge = serde_json::json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "ipam": ipam,
    });
    let portmap = serde_json::json!({"type": "portmap", "capabilities": {"portMappings": true}});
    serde_json::json!({"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge, portmap]}).to_string()
}

fn containerd() -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# opt would make /opt/containerd.
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{CONFIG_INSIDE}/cni"
[plugins."io.containerd.cri.v1.runtime"]
enable_unprivileged_ports = true
restrict_oom_score_adj = true
# AppArmor profiles belong to the whole computer: load none.
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn kubelet(index: usize) -> String {
    let config = serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{CONFIG_INSIDE}/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "address": network::node_addresses(index).0,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins", // the default lies in /usr
        "resolvConf": "",
        "failSwapOn": false,
        // Works with cgroup v1 and v2, with and without systemd, and leaves the computer's own cgroups alone.
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "nodeStatusUpdateFrequency": "10s",
        // The computer's disk is not the lab's to judge.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%"},
    });
    config.to_string()
}

fn kube_proxy(node: &Machine) -> String {
    let config = serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": "10.244.0.0/16,fd00:244::/48",
        "hostnameOverride": node.name(),
        "clientConnection": {"kubeconfig": format!("{CONFIG_INSIDE}/proxy.kubeconfig")},
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "0.0.0.0:10256",
        "conntrack": {"maxPerCore": 0}, // the table's size belongs to the whole computer
    });
    config.to_string()
}
