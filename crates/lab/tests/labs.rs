//! What the lab promises, on real clusters. `cargo lab test` runs these (`--ignored`, one at a time) with a three-node lab
//! up, which LANDFALL_LAB names; a plain `cargo test` leaves them out, because they start a cluster and break nodes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use landfall_lab::command::output;
use landfall_lab::down::leftovers;
use landfall_lab::{Fault, Lab};

/// Three echo Pods, one on each node, without a Service.
const ECHO: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: lab-echo}
spec:
  selector: {matchLabels: {app: lab-echo}}
  template:
    metadata: {labels: {app: lab-echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: lab/echo:1
        env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
";
const SECOND: Duration = Duration::from_secs(1);

fn running_lab() -> Lab {
    let lab = Lab::from_env().unwrap();
    lab.ready_nodes().expect("these tests need a running lab: run them with `cargo lab test`");
    lab
}

/// Starts the echo Pods and returns each one's name, node and addresses.
fn echo_pods(lab: &Lab) -> Vec<(String, String, Vec<IpAddr>)> {
    lab.apply(ECHO).unwrap();
    let nodes = lab.nodes().unwrap().len();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let pod = |pod: &serde_json::Value| {
        let ips = pod["status"]["podIPs"].as_array().unwrap().iter().map(|ip| text(&ip["ip"]).parse().unwrap());
        (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]), ips.collect())
    };
    // Not `rollout status`: of a DaemonSet that its controller has not seen yet, 0 of 0 Pods are ready.
    let is_ready = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let start = Instant::now();
    loop {
        let pods = lab.get(&["pods", "--selector", "app=lab-echo"]).unwrap();
        let pods = pods["items"].as_array().unwrap();
        if pods.len() == nodes && pods.iter().all(is_ready) {
            return pods.iter().map(pod).collect();
        }
        assert!(start.elapsed() < 90 * SECOND, "of {nodes} echo Pods some are not ready: {pods:?}");
        std::thread::sleep(SECOND / 5);
    }
}

#[test]
#[ignore = "needs a running lab: cargo lab test"]
fn pods_answer_over_both_families_and_protocols_and_say_who_asked() {
    let lab = running_lab();
    let pods = echo_pods(&lab);
    assert_eq!(pods.len(), lab.nodes().unwrap().len());
    for (name, node, addresses) in &pods {
        assert_eq!(addresses.len(), 2, "{name} has one address of each family");
        for address in addresses {
            let own: IpAddr = if address.is_ipv4() { "172.30.0.2" } else { "fd00:30::2" }.parse().unwrap();
            let http = lab.http_get("cp", *address, 8080, 5 * SECOND).unwrap();
            let udp = lab.udp_ask("cp", *address, 8080, 5 * SECOND).unwrap();
            for answer in [http, udp] {
                assert_eq!((&answer.pod, &answer.node, answer.client.ip()), (name, node, own), "{answer:?}");
            }
        }
    }
    lab.kubectl(&["delete", "daemonset/lab-echo"]).unwrap();
}

/// A failed test must not leave a broken node to the next.
struct Mended<'a>(&'a Lab, &'a str);

impl Drop for Mended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.heal(self.1);
        }
    }
}

#[test]
#[ignore = "breaks a node of a running lab: cargo lab test"]
fn a_node_is_silent_or_not_as_its_fault_says_and_comes_back() {
    let lab = running_lab();
    let _mended = Mended(&lab, "n2");
    let (node, address): (&str, IpAddr) = ("n2", "172.30.0.12".parse().unwrap());
    let mac = lab.node_mac(node, "eth0").unwrap();
    let answers = || lab.arping("client", "eth0", address, SECOND).unwrap();

    for (fault, expected) in [
        (Fault::CablePull, vec![]),
        (Fault::Freeze, vec![mac.clone()]), // its kernel goes on
        (Fault::PowerOff, vec![]),
    ] {
        assert_eq!(answers(), std::slice::from_ref(&mac), "before {fault:?}");
        let capture = lab.capture("client", "eth0", "arp and ether src not 02:1f:ac:1e:00:64").unwrap();
        lab.fault(node, fault).unwrap();
        assert_eq!(answers(), expected, "{fault:?}");
        // Its word to the client alone: nodes ask for each other all the time, since their speakers beat to each other.
        let to_client = format!(" {mac} > 02:1f:ac:1e:00:64,");
        let said: Vec<String> = capture.stop().into_iter().filter(|line| line.contains(&to_client)).collect();
        assert_eq!(said.len(), expected.len(), "{fault:?}: {said:#?}");
        lab.heal(node).unwrap();
    }
    assert_eq!(answers(), [mac], "after the last");
    let pods = echo_pods(&lab);
    let (name, _, addresses) = pods.iter().find(|(_, on, _)| on == node).unwrap();
    assert_eq!(
        &lab.http_get("cp", addresses[0], 8080, 5 * SECOND).unwrap().pod,
        name,
        "a Pod that started after the reboot"
    );
    lab.kubectl(&["delete", "daemonset/lab-echo"]).unwrap();
}

#[test]
#[ignore = "starts a second cluster: cargo lab test"]
fn a_second_lab_lives_beside_the_first_and_leaves_nothing() {
    let first = running_lab();
    let second = Lab::named("second").unwrap();
    second.down().unwrap();
    let before = traces();
    second.up(1).unwrap();
    let pods = echo_pods(&second);
    let strangers = first.kubectl(&["get", "pods", "--selector", "app=lab-echo", "-o", "name"]).unwrap();
    assert_eq!((pods.len(), strangers.as_str()), (1, ""), "each lab has its own Pods");
    let forgotten = second.capture("client", "eth0", "arp").unwrap(); // something that a user left running
    let processes: Vec<i32> = second.machine("n1").unwrap().processes().iter().map(|process| process.pid).collect();
    let cgroups: BTreeSet<PathBuf> = processes.iter().flat_map(|pid| container_cgroups(*pid)).collect();
    assert!(processes.len() > 5 && !cgroups.is_empty() && cgroups.iter().all(|group| group.exists()), "{cgroups:?}");

    second.down().unwrap();
    assert_eq!(leftovers("second"), Vec::<String>::new());
    assert_eq!(traces().difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(cgroups.into_iter().filter(|group| group.exists()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    let alive = processes.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(alive.collect::<Vec<_>>(), Vec::<i32>::new());
    drop(forgotten);
    assert_eq!(first.ready_nodes().unwrap(), first.nodes().unwrap());
    second.down().unwrap(); // nothing to do is no error
}

/// What a lab could leave on the computer: links, mounts, namespaces, and folders where programs of a cluster keep state.
/// Without other people's namespaces and labs: they come and go meanwhile.
fn traces() -> BTreeSet<String> {
    let links = output(Command::new("ip").args(["-o", "link"])).unwrap();
    let link_name = |line: &str| line.split(": ").nth(1).map(|name| format!("link {name}"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount_point = |line: &str| line.split(' ').nth(4).map(|point| format!("mount {point}"));
    let mut found: BTreeSet<String> = links.lines().filter_map(link_name).collect();
    found.extend(mounts.lines().filter_map(mount_point));
    for dir in
        ["/run/netns", "/run", "/var/lib", "/var/lib/landfall-lab", "/var/log", "/etc", "/opt", "/usr/libexec", "/"]
    {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    let others = |trace: &String| {
        ["/run/netns/", "/landfall-lab/"].iter().any(|dir| trace.contains(dir)) && !trace.contains("second")
    };
    found.retain(|trace| !others(trace));
    found
}

/// The folders of the cgroups that a process of a container is in, in every hierarchy.
fn container_cgroups(pid: i32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let ours: Vec<&str> = paths.filter(|path| path.starts_with("/k8s.io/")).collect();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
    let folders = hierarchies.flat_map(|dir| ours.iter().map(move |path| dir.join(path.trim_start_matches('/'))));
    folders.filter(|folder| folder.is_dir()).collect()
}
