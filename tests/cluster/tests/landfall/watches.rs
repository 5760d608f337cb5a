//! A connection to the API that dies without a word is noticed within a minute.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_lab::{command, steps};
use serde_json::json;

use crate::leader::{holder, pod_of, process};

/// From the death of the connections to what somebody waits for.
const LIMIT: Duration = Duration::from_secs(60);
/// What happens sooner than this was heard on a connection that was not dead: a kernel first asks again.
const TOO_SOON: Duration = Duration::from_secs(2);
/// Between two looks at what is awaited.
const GLANCE: Duration = Duration::from_millis(200);
/// A table of our own in the firewall of the process's network namespace.
const TABLE: &str = "landfall_test_watches";

#[test]
fn a_controller_whose_connections_die_silently_serves_a_new_service_within_a_minute() -> Result<()> {
    with_landfall("watches-controller", |scene| {
        scene.apply(&[pool("watches", &["198.51.100.0-198.51.100.9"]), service("before", json!({}))])?;
        scene.service("before").wait_for_address()?;
        let leader = holder(scene)?;
        let pod = pod_of(&leader)?;
        let node = scene.landfall_object("pod", pod)?["spec"]["nodeName"].as_str().context("nodeName")?.to_owned();
        let pid = process(scene, &node, pod)?;
        // The Lease has a client of its own, which notices within a second. Were its connection cut too, leadership could
        // lapse meanwhile; the next term lists everything anew, and the old watches would be proved by nothing.
        let ports = ports(pid)?.difference(&busy(pid)?).copied().collect();

        let cut = Cut::begin(pid, &ports)?;
        scene.apply(&[service("after", json!({}))])?;
        cut.until("address for a Service that came after its connections were dead", || {
            Ok(scene.service("after").addresses()?.first().copied())
        })?;
        ensure!(holder(scene)? == leader, "{pod} does not lead any more: this says nothing about its watches");
        Ok(())
    })
}

#[test]
fn a_speaker_whose_connections_die_silently_announces_a_new_service_within_a_minute() -> Result<()> {
    with_landfall("watches-speaker", |scene| {
        let node = scene.lab.nodes()?.first().context("a node")?.clone();
        let only = json!({"nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": node}}]});
        scene.start(&[
            pool("watches", &["172.30.0.160-172.30.0.169"]),
            advertisement("watches", only),
            pods(1, &["8080"], None),
            service("before", json!({})),
        ])?;
        scene.service("before").wait_for_announcer_that("is that node", |announcer| announcer == node)?;
        let pid = scene.lab.pid_of(&node, "speaker")?;

        let cut = Cut::begin(pid, &ports(pid)?)?;
        scene.apply(&[service("after", json!({}))])?;
        let address = scene.service("after").wait_for_address()?; // the controller's connections are alive
        cut.until("ServiceL2Status of a Service that came after the speaker's connections were dead", || {
            Ok((scene.service("after").announcers()? == [node.clone()]).then_some(()))
        })?;
        scene.ask(address, 80)?;
        Ok(())
    })
}

/// The local ports of a process's connections to the API's Service.
fn ports(pid: i32) -> Result<BTreeSet<u16>> {
    Ok(connections(pid)?.into_iter().map(|connection| connection.port).collect())
}

/// The ports of those on which it sends something every second, as on the Lease's. A watch sends once in 50 s.
fn busy(pid: i32) -> Result<BTreeSet<u16>> {
    let mut busy = ports(pid)?;
    for _ in 0..4 {
        thread::sleep(Duration::from_secs(1));
        let sent_now = connections(pid)?.into_iter().filter(|connection| connection.sent_ms_ago < 1000);
        let sent_now: BTreeSet<u16> = sent_now.map(|connection| connection.port).collect();
        busy = &busy & &sent_now;
    }
    Ok(busy)
}

#[derive(Debug, PartialEq)]
struct Connection {
    port: u16,
    sent_ms_ago: u64,
}

/// The process's established connections to port 443, as its network namespace sees them: before kube-proxy's rules.
fn connections(pid: i32) -> Result<Vec<Connection>> {
    let args = ["-tnpiHO", "state", "established", "dport", "=", "443"];
    let listing = command::output(in_network_of(pid, "ss").args(args))?;
    let owner = format!("pid={pid},");
    let connections = listing.lines().filter(|line| line.contains(&owner)).map(read);
    let connections: Vec<Connection> = connections.collect::<Result<_>>()?;
    ensure!(!connections.is_empty(), "process {pid} has no connection to port 443; ss says:\n{listing}");
    Ok(connections)
}

/// `0 0 10.244.0.5:43210 10.96.0.1:443 users:(("landfall",pid=7,fd=9)) cubic … lastsnd:120 lastrcv:120 …`
fn read(line: &str) -> Result<Connection> {
    let unclear = || format!("a line of ss: {line}");
    let mut words = line.split_whitespace();
    let port = words.nth(2).and_then(|local| local.rsplit_once(':')).with_context(unclear)?.1;
    let sent = words.find_map(|word| word.strip_prefix("lastsnd:"));
    Ok(Connection {
        port: port.parse().with_context(unclear)?,
        // Left out when it was this very millisecond.
        sent_ms_ago: sent.unwrap_or("0").parse().with_context(unclear)?,
    })
}

/// A program in the network namespace of a process, with the host's files.
fn in_network_of(pid: i32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", &pid.to_string(), "--", program]);
    command
}

/// Connections on which nothing arrives any more, in either direction, and nobody is told. New ones work.
struct Cut {
    pid: i32,
    since: Instant,
}

impl Cut {
    /// Cuts the connections of a process at these local ports.
    fn begin(pid: i32, ports: &BTreeSet<u16>) -> Result<Self> {
        ensure!(!ports.is_empty(), "no connection of process {pid} is to be cut");
        let set = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let chain = |hook: &str, port: &str| {
            let rule = format!("tcp {port} {{ {set} }} counter drop");
            format!("chain {hook} {{ type filter hook {hook} priority -10; policy accept; {rule}; }}\n")
        };
        let table = format!("table inet {TABLE} {{\n{}{}}}\n", chain("output", "sport"), chain("input", "dport"));
        let cut = Self { pid, since: Instant::now() };
        command::output(in_network_of(pid, "nft").arg(table))?;
        Ok(cut)
    }

    /// Waits for something that must not happen at once, and must happen within the limit. Says how long it took.
    fn until<T>(&self, what: &str, attempt: impl FnMut() -> Result<Option<T>>) -> Result<()> {
        let limit = LIMIT.saturating_sub(self.since.elapsed());
        steps::wait_for(what, limit, GLANCE, attempt)?;
        let took = self.since.elapsed();
        let dropped = self.dropped()?;
        println!("{what}: after {:.1} s; packets lost on the way out and in: {dropped:?}", took.as_secs_f64());
        ensure!(took > TOO_SOON, "{what} after {:.1} s: the connections were not dead", took.as_secs_f64());
        ensure!(dropped.len() == 2 && dropped.iter().all(|packets| *packets > 0), "nothing was lost: {dropped:?}");
        Ok(())
    }

    /// How many packets each direction has lost.
    fn dropped(&self) -> Result<Vec<u64>> {
        let table = command::output(in_network_of(self.pid, "nft").args(["list", "table", "inet", TABLE]))?;
        let counters = table.split("counter packets ").skip(1);
        counters.map(|text| text.split(' ').next().unwrap_or_default().parse().context("a counter of nft")).collect()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let deleted = command::output(in_network_of(self.pid, "nft").args(["delete", "table", "inet", TABLE]));
        if let Err(error) = deleted {
            println!("the firewall of process {} is not as it was: {error:#}", self.pid);
        }
    }
}

#[test]
fn connections_are_read_as_ss_prints_them() -> Result<()> {
    let head =
        "0      0      10.244.0.5:43210 10.96.0.1:443 users:((\"landfall\",pid=7,fd=9)) cubic wscale:7,7 rto:204";
    for (rest, sent_ms_ago) in [("lastsnd:120 lastrcv:4 lastack:4", 120), ("lastrcv:4 lastack:4", 0)] {
        assert_eq!(read(&format!("{head} {rest}"))?, Connection { port: 43210, sent_ms_ago });
    }
    assert!(read("what is this").is_err());
    Ok(())
}
