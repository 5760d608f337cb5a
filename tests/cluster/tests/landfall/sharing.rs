//! Services that share an address, and what happens when they may not any more: whoever changed gives way.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, annotated, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::service::Service;
use landfall_cluster_tests::watch::Watch;
use landfall_cluster_tests::wire::who_has;
use serde_json::{Value, json};
use std::time::Duration;

const KEY: &str = "metallb.io/allow-shared-ip";
const ASKED: &str = "metallb.io/loadBalancerIPs";
const FIRST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 30, 0, 226));
const SECOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 30, 0, 227));
/// The range of the two.
const BOTH: &str = "172.30.0.226-172.30.0.227";

/// The part of a Service's spec that says its port, and which port of the Pods is behind it.
fn port(protocol: &str, port: u16, target: u16) -> Value {
    json!({"ports": [{"protocol": protocol, "port": port, "targetPort": target}]})
}

/// A Service that shares under this key.
fn sharer(name: &str, key: &str, spec: Value) -> Value {
    annotated(service(name, spec), KEY, key)
}

/// A pool of two addresses, announced, and Pods that serve on two ports.
fn serve(scene: &Scene, pool_name: &str) -> Result<()> {
    scene.start(&[pool(pool_name, &[BOTH]), advertisement(pool_name, json!({})), pods(1, &["8080", "8081"], None)])
}

/// The Services `a` and `b`, of which a test changes `b`.
struct Pair<'a> {
    a: Service<'a>,
    b: Service<'a>,
    /// Of `a`, before anything is changed.
    version: String,
}

impl<'a> Pair<'a> {
    /// Applies `a`, which is given the pool's first address, and then `b`, which is given the same. Each has a key, `web`.
    fn share(scene: &'a Scene, a: Value, b: Value) -> Result<Pair<'a>> {
        for (name, spec) in [("a", a), ("b", b)] {
            scene.apply(&[sharer(name, "web", spec)])?;
            scene.service(name).wait_for(&[FIRST])?;
        }
        let (a, b) = (scene.service("a"), scene.service("b"));
        Ok(Pair { a, b, version: a.version()? })
    }

    fn assert_that_a_was_not_written_to(&self) -> Result<()> {
        assert_eq!(self.a.version()?, self.version, "the Service that nobody touched was written to");
        Ok(())
    }
}

/// A watch that has seen what there is.
fn watch(scene: &Scene) -> Result<Watch> {
    let watch = Watch::services(scene)?;
    watch.history_until_now(scene)?;
    Ok(watch)
}

/// Waits until this port of the Pods answers: until kube-proxy has heard of it, the one that was there before may.
fn wait_for_answer(scene: &Scene, ip: IpAddr, port: u16, from: u16) -> Result<()> {
    eventually(&format!("answer of the Pods' port {from} from {ip} port {port}"), || {
        let answer = scene.ask(ip, port)?;
        ensure!(answer.local.ends_with(&format!(":{from}")), "{answer:?}");
        Ok(Some(()))
    })
}

#[test]
fn services_with_one_key_and_different_ports_share_an_address_and_each_answers_on_it() -> Result<()> {
    with_landfall("sharing", |scene| {
        scene.start(&[
            pool("sharing", &["172.30.0.226/32"]),
            advertisement("sharing", json!({})),
            pods(1, &["8080", "8081"], None),
            sharer("a", "web", port("TCP", 80, 8080)),
            sharer("b", "web", port("TCP", 8443, 8081)),
            // A protocol and a number are two things.
            sharer("c", "web", port("UDP", 80, 8080)),
        ])?;
        let names = ["a", "b", "c"];
        names.iter().try_for_each(|name| scene.service(name).wait_for(&[FIRST]))?;
        scene.wait_for_counters("sharing", [1, 0, 0, 0])?;
        wait_for_answer(scene, FIRST, 80, 8080)?;
        wait_for_answer(scene, FIRST, 8443, 8081)?;
        let answer =
            eventually("answer by UDP", || scene.lab.udp_ask("client", FIRST, 80, Duration::from_secs(1)).map(Some))?;
        assert_eq!((answer.protocol.as_str(), answer.local.as_str()), ("udp", ":8080"));
        // One node for all of them.
        let node = scene.service("a").wait_for_announcer()?;
        for name in names {
            scene.service(name).wait_for_announcer_that(&format!("is {node}"), |announcer| announcer == node)?;
        }
        let heard = who_has(&scene.lab, "eth0", FIRST)?;
        assert!(heard.is_one_answerer(&scene.lab.node_mac(&node, "eth0")?), "{node} is to answer: {heard:?}");

        // Who shares nothing gets the address when the last of them is gone, and not before.
        scene.apply(&[service("alone", json!({}))])?;
        let alone = scene.service("alone");
        let message = alone.wait_for_refusal("NoAddressAvailable")?;
        assert!(message.contains("pool sharing: all its IPv4 addresses are in use"), "{message}");
        let version = scene.service("b").version()?;
        scene.kubectl(&["delete", "services", "a", "c"])?;
        wait_for_answer(scene, FIRST, 8443, 8081)?;
        assert_eq!((scene.service("b").version()?, alone.addresses()?), (version, vec![]));
        scene.wait_for_counters("sharing", [1, 0, 0, 0])?;
        scene.kubectl(&["delete", "service", "b"])?;
        alone.wait_for(&[FIRST])?;
        wait_for_answer(scene, FIRST, 80, 8080)?;
        Ok(())
    })
}

#[test]
fn who_changes_its_key_moves_in_one_write_and_who_did_not_keeps_the_address() -> Result<()> {
    with_landfall("key", |scene| {
        serve(scene, "key")?;
        let pair = Pair::share(scene, port("TCP", 80, 8080), port("TCP", 81, 8081))?;
        let (b, watch) = (pair.b, watch(scene)?);
        b.annotate(KEY, Some("other"))?;
        b.wait_for(&[SECOND])?;
        wait_for_answer(scene, FIRST, 80, 8080)?;
        wait_for_answer(scene, SECOND, 81, 8081)?;
        let said = b.wait_for_event("ClearAssignment")?.concat();
        for part in ["can't change sharing key for", "172.30.0.226 also in use by", &format!("{}/a", scene.namespace)] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        scene.wait_for_counters("key", [2, 0, 0, 0])?;

        // The only one who holds an address may change its key, and what is still valid is kept.
        b.annotate(KEY, Some("web"))?;
        b.annotate(ASKED, Some("172.30.0.226"))?;
        b.wait_for(&[FIRST])?;
        assert_eq!(watch.history_until_now(scene)?.addresses_of("b"), [[FIRST], [SECOND], [FIRST]]);

        // It insists on the address that it may not share.
        b.annotate(KEY, None)?;
        let message = b.wait_for_refusal("AddressInUse")?;
        for part in [
            &format!(r#""{}/b""#, scene.namespace),
            &format!("address 172.30.0.226 also in use by {}/a", scene.namespace),
            "both must carry the same annotation metallb.io/allow-shared-ip",
        ] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        scene.wait_for_counters("key", [1, 0, 1, 0])?;
        b.annotate(KEY, Some("web"))?;
        b.wait_for(&[FIRST])?;
        wait_for_answer(scene, FIRST, 81, 8081)?;
        pair.assert_that_a_was_not_written_to()
    })
}

#[test]
fn who_takes_a_port_that_a_sharer_has_moves_in_one_write_or_is_told_whose_it_is() -> Result<()> {
    with_landfall("clash", |scene| {
        serve(scene, "clash")?;
        let pair = Pair::share(scene, port("TCP", 80, 8080), port("TCP", 81, 8081))?;
        let (b, watch) = (pair.b, watch(scene)?);
        b.patch(&json!({"spec": port("TCP", 80, 8081)}))?;
        b.wait_for(&[SECOND])?;
        wait_for_answer(scene, FIRST, 80, 8080)?;
        wait_for_answer(scene, SECOND, 80, 8081)?;
        assert_eq!(watch.history_until_now(scene)?.addresses_of("b"), [[FIRST], [SECOND]]);

        b.annotate(ASKED, Some("172.30.0.226"))?;
        let message = b.wait_for_refusal("PortInUse")?;
        for part in [
            r#"port TCP/80 is already in use on "172.30.0.226""#,
            &format!("by {}/a", scene.namespace),
            "give one of the two another port or another address",
        ] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        b.patch(&json!({"spec": port("TCP", 81, 8081)}))?;
        b.wait_for(&[FIRST])?;
        wait_for_answer(scene, FIRST, 81, 8081)?;
        pair.assert_that_a_was_not_written_to()
    })
}

#[test]
fn services_of_local_policy_share_only_while_they_have_the_same_pods() -> Result<()> {
    with_landfall("pods", |scene| {
        let local = |number: u16, site: &str| {
            let mut spec = port("TCP", number, 8080);
            spec["externalTrafficPolicy"] = json!("Local");
            spec["selector"] = json!({"site": site});
            spec
        };
        scene.apply(&[pool("pods", &[BOTH])])?;
        let pair = Pair::share(scene, local(80, "test"), local(81, "test"))?;
        pair.b.patch(&json!({"spec": {"selector": {"site": "elsewhere"}}}))?;
        pair.b.wait_for(&[SECOND])?;
        // So does one whose policy is another than the others'.
        scene.apply(&[sharer("c", "web", port("TCP", 82, 8080))])?;
        let message =
            scene.service("c").wait_for_refusal("NoAddressAvailable").context("Service c, of policy Cluster")?;
        ensure!(message.contains("all its IPv4 addresses are in use"), "{message}");
        pair.assert_that_a_was_not_written_to()
    })
}
