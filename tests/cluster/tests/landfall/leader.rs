//! Of two controllers one writes, and when it cannot, the other does within five seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::audit::Audit;
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::install::wait_until_ready;
use landfall_cluster_tests::manifests::{pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::watch::Watch;
use landfall_lab::command;
use serde_json::{Value, json};

const LEASE: &str = "landfall-controller";
/// From the moment the leader is gone until a Service that came afterwards has its address.
const LIMIT: Duration = Duration::from_secs(5);
/// A leader is frozen and cut off for this long: past its Lease, which is 3 s, and well into the time of the next.
const AWAY: Duration = Duration::from_secs(7);
/// Between two new Services.
const PAUSE: Duration = Duration::from_millis(300);
/// How long the old leader is given to do something wrong after it is back.
const BACK: Duration = Duration::from_secs(3);

/// What happens to the leader, one after the other. Leaders alternate, so that the Pod whose process was killed is deleted
/// two rounds later: a kubelet waits longer and longer before it restarts what is killed again and again.
const FAULTS: [Fault; 4] = [Fault::Killed, Fault::Frozen, Fault::Deleted, Fault::CutOff];

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL; the kubelet starts another process in the same Pod.
    Killed,
    /// SIGSTOP, and SIGCONT later: it wakes up in the belief that it leads.
    Frozen,
    /// No packet of its Pod gets anywhere, for a while.
    CutOff,
    /// Its Pod is deleted: it lets go by itself.
    Deleted,
}

#[test]
fn a_leader_that_is_lost_is_replaced_in_five_seconds_and_never_writes_beside_the_next() -> Result<()> {
    let rounds = std::env::var("LANDFALL_LEADER_ROUNDS").map_or(Ok(8), |text| text.parse());
    let rounds: usize = rounds.context("LANDFALL_LEADER_ROUNDS is the number of rounds")?;
    with_landfall("leader", |scene| {
        // Few enough that what one round gives back is given again in the next. Nobody announces them.
        scene.apply(&[pool("leader", &["198.51.100.0-198.51.100.199"])])?;
        let services = Services::watch(scene)?;
        let mut longest = Duration::ZERO;
        for (number, fault) in FAULTS.iter().cycle().take(rounds).enumerate() {
            wait_until_ready(&scene.lab)?;
            let took = round(scene, &services, number, *fault).with_context(|| format!("round {number}: {fault:?}"))?;
            println!("round {number}: {fault:?}, allocation went on after {:.2} s", took.as_secs_f64());
            longest = longest.max(took);
        }
        println!("{rounds} rounds, the longest took {:.2} s", longest.as_secs_f64());
        Ok(())
    })
}

/// One leader's end, while Services come all the time. Returns how long none was given an address.
fn round(scene: &Scene, services: &Services, number: usize, fault: Fault) -> Result<Duration> {
    let stop = AtomicBool::new(false);
    let (took, made) = thread::scope(|scope| {
        let maker = scope.spawn(|| services.make(scene, number, &stop));
        let took = lose_leader(scene, services, fault);
        stop.store(true, Ordering::Relaxed);
        let made = maker.join().map_err(|_| anyhow::anyhow!("the thread that makes Services panicked"))?;
        anyhow::Ok((took, made))
    })?;
    let (took, made) = (took?, made?);
    eventually("address for every Service", || {
        let history = services.watch.history()?;
        let given = history.first_given();
        Ok(made.iter().all(|name| given.contains_key(name.as_str())).then_some(()))
    })?;
    services.no_address_was_held_twice_or_changed()?;
    scene.kubectl(&["delete", "services", "--all"])?;
    ensure!(took <= LIMIT, "the first Service after it had its address only after {:.2} s", took.as_secs_f64());
    Ok(took)
}

fn lose_leader(scene: &Scene, services: &Services, fault: Fault) -> Result<Duration> {
    let before = eventually("leader", || Ok(Some(holder(scene)?).filter(|holder| !holder.is_empty())))?;
    let pod = pod_of(&before)?;
    services.wait_for_one_made_after(Instant::now()).context("before anything happened")?;

    let lost = Instant::now();
    let fault = begin(scene, pod, fault)?;
    let after = eventually("other leader", || {
        let now = holder(scene)?;
        Ok((!now.is_empty() && now != before).then_some(now))
    })?;
    let audit = Audit::from_now(&scene.lab)?;
    let went_on = services.wait_for_one_made_after(lost)?;
    thread::sleep(AWAY.saturating_sub(lost.elapsed()));
    drop(fault);
    thread::sleep(BACK);

    let next = pod_of(&after)?;
    let writers = writers(&audit)?;
    ensure!(writers == BTreeSet::from([next.to_owned()]), "{next} leads, but these wrote to Services: {writers:?}");
    ensure!(holder(scene)? == after, "{next} leads no longer, without cause");
    Ok(went_on - lost)
}

/// What has been done to a leader; undone when it is dropped, also when the test fails meanwhile.
enum Undo<'a> {
    Nothing,
    Continue(i32),
    Reconnect(&'a Scene, String),
}

/// A table of our own in the node's firewall, before kube-proxy's and whatever else is there.
const TABLE: &str = "landfall_test";

fn begin<'a>(scene: &'a Scene, pod: &str, fault: Fault) -> Result<Undo<'a>> {
    let object = scene.landfall_object("pod", pod)?;
    let node = object["spec"]["nodeName"].as_str().context("spec.nodeName")?.to_owned();
    match fault {
        Fault::Killed => signal("-KILL", process(scene, &node, pod)?)?,
        Fault::Frozen => {
            let pid = process(scene, &node, pod)?;
            signal("-STOP", pid)?;
            return Ok(Undo::Continue(pid));
        }
        Fault::CutOff => {
            let undo = Undo::Reconnect(scene, node.clone());
            let mut rules =
                format!("table inet {TABLE} {{ chain pods {{ type filter hook forward priority -200; policy accept;\n");
            for ip in object["status"]["podIPs"].as_array().context("status.podIPs")? {
                let ip: IpAddr = ip["ip"].as_str().context("podIPs.ip")?.parse()?;
                let family = if ip.is_ipv4() { "ip" } else { "ip6" };
                rules += &format!("{family} saddr {ip} drop\n{family} daddr {ip} drop\n");
            }
            scene.lab.exec(&node, &["nft", &(rules + "}\n}\n")])?;
            return Ok(undo);
        }
        Fault::Deleted => {
            scene.kubectl_landfall(&["delete", "pod", pod, "--wait=false"])?;
        }
    }
    Ok(Undo::Nothing)
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let undone = match self {
            Undo::Nothing => Ok(()),
            Undo::Continue(pid) => signal("-CONT", *pid),
            Undo::Reconnect(scene, node) => {
                scene.lab.exec(node, &["nft", "delete", "table", "inet", TABLE]).map(|_| ())
            }
        };
        if let Err(error) = undone {
            println!("the old leader is not back: {error:#}");
        }
    }
}

fn signal(signal: &str, pid: i32) -> Result<()> {
    command::output(Command::new("kill").args([signal, &pid.to_string()])).map(|_| ())
}

/// The controller's process in this Pod. Two may be on one node.
pub(crate) fn process(scene: &Scene, node: &str, pod: &str) -> Result<i32> {
    let name = format!("HOSTNAME={pod}");
    let processes = scene.lab.machine(node)?.processes();
    let of_pod = processes.iter().find(|process| {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        process.arguments.get(1).is_some_and(|argument| argument == "controller")
            && environment.split(|octet| *octet == 0).any(|variable| variable == name.as_bytes())
    });
    Ok(of_pod.with_context(|| format!("no controller of Pod {pod} runs on {node}"))?.pid)
}

/// Who holds the Lease; empty: nobody.
pub(crate) fn holder(scene: &Scene) -> Result<String> {
    let lease = scene.landfall_object("lease", LEASE)?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

/// The Pod in an identity: what follows the last underscore names the process.
pub(crate) fn pod_of(identity: &str) -> Result<&str> {
    Ok(identity.rsplit_once('_').with_context(|| format!("holderIdentity {identity:?}"))?.0)
}

/// The Pods whose writes to the status of Services were accepted.
fn writers(audit: &Audit) -> Result<BTreeSet<String>> {
    let entries = audit.entries(|entry| {
        let object = &entry["objectRef"];
        object["resource"] == "services"
            && object["subresource"] == "status"
            && entry["responseStatus"]["code"] == 200
            && entry["user"]["username"].as_str().is_some_and(|user| user.ends_with(":landfall-controller"))
    })?;
    let pod = |entry: &Value| {
        let pod = entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0].as_str();
        pod.map(str::to_owned).context("an entry of the audit log does not say which Pod it was")
    };
    entries.iter().map(pod).collect()
}

/// The Services of the test: when each was made, and what a watch shows of them.
struct Services {
    made: Mutex<BTreeMap<String, Instant>>,
    watch: Watch,
}

impl Services {
    fn watch(scene: &Scene) -> Result<Self> {
        Ok(Self { made: Mutex::default(), watch: Watch::services(scene)? })
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one Service after the other until told to stop; returns their names.
    fn make(&self, scene: &Scene, round: usize, stop: &AtomicBool) -> Result<Vec<String>> {
        let mut names = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let name = format!("r{round}-{}", names.len());
            self.made().insert(name.clone(), Instant::now());
            scene.apply(&[service(&name, json!({"allocateLoadBalancerNodePorts": false}))])?;
            names.push(name);
            thread::sleep(PAUSE);
        }
        Ok(names)
    }

    /// Waits until some Service has an address that was made after `moment`, and returns when that was.
    fn wait_for_one_made_after(&self, moment: Instant) -> Result<Instant> {
        eventually("address for a new Service", || {
            let (history, made) = (self.watch.history()?, self.made());
            let first = history.first_given();
            let new = first.iter().filter(|(name, _)| made.get(**name).is_some_and(|made| *made > moment));
            Ok(new.map(|(_, given)| *given).min())
        })
    }

    /// None was asked for and no pool changed: what was given stays, and is given to nobody else.
    fn no_address_was_held_twice_or_changed(&self) -> Result<()> {
        let history = self.watch.history()?;
        ensure!(history.held_twice().is_empty(), "{}", history.held_twice().join("\n"));
        ensure!(history.losses().is_empty(), "{:?}", history.losses());
        Ok(())
    }
}
