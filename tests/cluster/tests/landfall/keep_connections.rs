//! `failover.keepConnections`: established connections outlive a planned move.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::install::{self, wait_until_ready};
use landfall_cluster_tests::manifests::{advertisement, families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::wire::wait_for_answerer;
use serde_json::json;

/// Longer than TCP needs to send again what was lost once, or a reset to arrive.
const ANSWER: Duration = Duration::from_secs(5);

fn set(scene: &Scene, keep: bool) -> Result<()> {
    install::helm_upgrade(&scene.lab, &["--set", &format!("failover.keepConnections={keep}")])?;
    wait_until_ready(&scene.lab)
}

/// A connection of the client's.
fn connect(scene: &Scene, ip: IpAddr) -> Result<TcpStream> {
    let server = SocketAddr::new(ip, 80);
    let stream = scene.lab.in_netns("client", || TcpStream::connect_timeout(&server, ANSWER))??;
    stream.set_read_timeout(Some(ANSWER))?;
    ask(&stream).context("at once")?;
    Ok(stream)
}

/// A request, and its whole answer: a JSON object.
fn ask(mut stream: &TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: landfall\r\n\r\n")?;
    let (mut answer, mut some) = (String::new(), [0; 2048]);
    while !answer.trim_end().ends_with('}') {
        let length = stream.read(&mut some)?;
        ensure!(length > 0, "closed after {answer:?}");
        answer += &String::from_utf8_lossy(&some[..length]);
    }
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    Ok(())
}

fn drain(scene: &Scene, node: &str, how: &str) -> Result<()> {
    scene.lab.kubectl(&["annotate", "node", node, how, "--overwrite"]).map(drop)
}

#[test]
fn established_connections_outlive_a_drain_and_the_return() -> Result<()> {
    with_landfall("kept", |scene| {
        set(scene, true)?;
        let outcome = moved(scene);
        let annotated = scene.lab.nodes()?.iter().try_for_each(|node| drain(scene, node, "landfall.io/drain-"));
        set(scene, false)?;
        outcome.and(annotated)
    })
}

fn moved(scene: &Scene) -> Result<()> {
    scene.start(&[
        pool("kept", &["172.30.0.182/32", "fd00:30::182/128"]),
        advertisement("kept", json!({})),
        pods(1, &["8080"], Some("n3")),
        service("kept", families(&["IPv4", "IPv6"])),
    ])?;
    let service = scene.service("kept");
    let addresses = service.wait_for_addresses(2)?;
    let first = service.wait_for_announcer()?;
    for ip in &addresses {
        wait_for_answerer(&scene.lab, &first, *ip)?;
    }
    let open = |when: &str| -> Result<Vec<TcpStream>> {
        addresses.iter().map(|ip| connect(scene, *ip)).collect::<Result<_>>().with_context(|| when.to_owned())
    };
    let live = |streams: &[TcpStream], when: &str| -> Result<()> {
        streams.iter().try_for_each(ask).with_context(|| when.to_owned())
    };

    let before = open("before the drain")?;
    drain(scene, &first, "landfall.io/drain=true")?;
    let second = service.wait_for_announcer_that("another than the drained one", |now| now != first)?;
    for ip in &addresses {
        wait_for_answerer(&scene.lab, &second, *ip)?;
    }
    live(&before, "opened before the drain, after it")?;
    let between = open("after the drain")?;

    // The speaker of the new owner is replaced: the kernel goes on.
    let here = ["--field-selector", &format!("spec.nodeName={second}")];
    let which = ["delete", "pods", "--selector", "app.kubernetes.io/component=speaker"];
    scene.kubectl_landfall(&[&which[..], &here].concat())?;
    wait_until_ready(&scene.lab)?;
    live(&before, "opened before the drain, after the new owner's speaker was replaced")?;

    drain(scene, &first, "landfall.io/drain-")?;
    service.wait_for_announcer_that("the first again", |now| now == first)?;
    for ip in &addresses {
        wait_for_answerer(&scene.lab, &first, *ip)?;
    }
    live(&before, "opened before the drain, after the return")?;
    live(&between, "opened after the drain, after the return")
}
