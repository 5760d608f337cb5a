//! `cargo lab demo`: the story of a Service that waits for an address, told with the commands that tell it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::echo::EchoAnswer;
use crate::lab::Lab;
use crate::steps::wait_for;
use crate::{command, landfall};

/// Three Pods that answer, and the Service of the article that this project began with; a second one asks for both families.
const SERVICES: &str = include_str!("demo/services.yaml");
/// Which addresses may be given, and that they are announced on the local network.
const POOL: &str = include_str!("demo/pool.yaml");
/// Anything the demo waits for takes a second or two; this long means that something is wrong.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long each chapter took, for the end.
struct Story {
    chapters: Vec<(&'static str, Duration)>,
}

impl Story {
    fn chapter<T>(&mut self, title: &'static str, tell: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n{}. {title}", self.chapters.len() + 1);
        let start = Instant::now();
        let result = tell().with_context(|| title.to_owned());
        self.chapters.push((title, start.elapsed()));
        result
    }
}

/// Tells the whole story on `lab`, and leaves it up. Can be told again.
/// # Errors
/// Any part that did not happen; what to look at is printed.
pub fn run(lab: &Lab) -> Result<()> {
    println!("Landfall: a Service of type LoadBalancer, from <pending> to an answer");
    let mut story = Story { chapters: Vec::new() };
    tell(lab, &mut story).inspect_err(|_| {
        eprintln!("\nThe demo stopped here. Look at:");
        for what in ["status", "logs controller", "logs speaker", "kubectl describe service test-svc-1"] {
            eprintln!("  cargo lab --name {} {what}", lab.name());
        }
    })?;
    println!("\nHow long it took");
    for (title, duration) in &story.chapters {
        println!("  {:>6.1} s  {title}", duration.as_secs_f64());
    }
    println!("\nThe cluster stays up. Try next:");
    for (command, what) in [
        (
            "cargo lab kubectl get ipaddresspools,l2advertisements,servicel2statuses -A",
            "what Landfall was told, and says",
        ),
        ("cargo lab kubectl describe service test-svc-1", "events: who assigned, who announces"),
        ("cargo lab exec client -- curl -s http://172.30.0.200", "ask again, as the client"),
        ("cargo lab exec client -- tcpdump -ni eth0 arp", "watch the wire"),
        ("cargo lab fault n1 cable-pull", "break a node; `cargo lab heal n1` mends it"),
        ("cargo lab down", "and nothing is left"),
    ] {
        println!("  {command:<78} {what}");
    }
    Ok(())
}

fn tell(lab: &Lab, story: &mut Story) -> Result<()> {
    story.chapter("A cluster", || lab.up(lab.state().map_or(3, |state| state.nodes)))?;
    story.chapter("A Service of type LoadBalancer, and nobody to serve it", || {
        apply(lab, "services.yaml", SERVICES)?;
        lab.kubectl(&["rollout", "status", "deployment/test", &timeout()])?;
        let table = services(lab)?;
        print!("{table}");
        if !table.contains("<pending>") {
            println!("  (the addresses are from an earlier run of this demo)");
        }
        Ok(())
    })?;
    story.chapter("Landfall", || {
        lab.load_landfall()?;
        println!("  $ helm install {} charts/landfall --namespace {}", landfall::RELEASE, landfall::NAMESPACE);
        lab.install_landfall(&[])?;
        let pods = lab.kubectl(&["get", "pods", "--namespace", landfall::NAMESPACE, "-o", "wide", "--no-headers"])?;
        for pod in pods.lines() {
            let columns: Vec<&str> = pod.split_whitespace().collect();
            if let [name, ready, status, ..] = columns[..] {
                println!("  {name:<40} {ready} {status}");
            }
        }
        Ok(())
    })?;
    story.chapter("A pool of addresses", || {
        apply(lab, "pool.yaml", POOL)?;
        let start = Instant::now();
        for service in ["service/test-svc-1", "service/test-svc-2"] {
            let given = "--for=jsonpath={.status.loadBalancer.ingress[0].ip}";
            lab.kubectl(&["wait", given, service, &timeout()]).context("no EXTERNAL-IP")?;
        }
        println!("  both Services have their addresses {:.2} s after the pool", start.elapsed().as_secs_f64());
        print!("{}", services(lab)?);
        Ok(())
    })?;
    story.chapter("A client on the same network segment", || {
        let mut addresses = ingress(lab, "test-svc-1")?;
        addresses.extend(ingress(lab, "test-svc-2")?);
        anyhow::ensure!(addresses.iter().any(IpAddr::is_ipv6), "test-svc-2 has no IPv6 address: {addresses:?}");
        addresses.into_iter().try_for_each(|address| ask(lab, address))
    })
}

fn apply(lab: &Lab, file: &str, yaml: &str) -> Result<()> {
    println!("  $ kubectl apply -f {file}");
    for line in lab.apply(yaml)?.lines() {
        println!("  {line}");
    }
    Ok(())
}

fn services(lab: &Lab) -> Result<String> {
    let table = lab.kubectl(&["get", "service", "test-svc-1", "test-svc-2"])?;
    Ok(table.lines().map(|line| format!("  {line}\n")).collect())
}

fn ingress(lab: &Lab, service: &str) -> Result<Vec<IpAddr>> {
    let list = lab.kubectl(&["get", "service", service, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"])?;
    list.split_whitespace().map(|ip| ip.parse().with_context(|| format!("{service}: {ip:?} in status"))).collect()
}

/// One request, then who answered for the address on the wire.
fn ask(lab: &Lab, address: IpAddr) -> Result<()> {
    let (url, family) = match address {
        IpAddr::V4(ip) => (format!("http://{ip}"), "ARP"),
        IpAddr::V6(ip) => (format!("http://[{ip}]"), "NDP"),
    };
    // kube-proxy on the announcing node may learn of the address a moment after the speaker.
    let answer = wait_for(&format!("answer from {url}"), PATIENCE, Duration::from_millis(100), || {
        request(lab, address, &url).map(Some)
    })?;
    let mac = lab
        .neighbour("client", address)?
        .with_context(|| format!("{address} is not in the client's neighbour table"))?;
    let node = lab.node_with_mac(&mac)?.with_context(|| format!("{address} is at {mac}, which is no node's"))?;
    println!("  client $ curl {url}");
    println!("    answered by Pod {} on {}; it saw the client as {}", answer.pod, answer.node, answer.client.ip());
    println!("  client $ ip neigh show {address}");
    println!("    {address} dev eth0 lladdr {mac}   ({family}: answered by {node})");
    Ok(())
}

/// With curl where the computer has it, because that is what people type.
fn request(lab: &Lab, address: IpAddr, url: &str) -> Result<EchoAnswer> {
    if command::find_on_path("curl").is_none() {
        return lab.http_get("client", address, 80, Duration::from_secs(2));
    }
    let answer = lab.exec("client", &["curl", "--silent", "--show-error", "--globoff", "--max-time", "2", url])?;
    serde_json::from_str(&answer).with_context(|| format!("{url} is not the lab's echo server: {answer:?}"))
}

fn timeout() -> String {
    format!("--timeout={}s", PATIENCE.as_secs())
}
