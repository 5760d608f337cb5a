//! Which address a Service gets, and when it gives it back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use landfall_cluster_tests::audit::Audit;
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, annotated, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::wire::{keep_asking, who_has};
use landfall_lab::steps;
use serde_json::json;

#[test]
fn what_a_service_asks_for_is_what_it_gets() -> Result<()> {
    with_landfall("asked", |scene| {
        let mut by_name_only = pool("asked-gold", &["172.30.0.160-172.30.0.169"]);
        by_name_only["spec"]["autoAssign"] = json!(false);
        let plain = |name| service(name, json!({}));
        scene.apply(&[
            pool("asked", &["172.30.0.150-172.30.0.159"]),
            by_name_only,
            service("by-spec", json!({"loadBalancerIP": "172.30.0.155"})),
            annotated(plain("by-ips"), "metallb.io/loadBalancerIPs", "172.30.0.156"),
            annotated(plain("by-pool"), "metallb.io/address-pool", "asked-gold"),
            annotated(plain("by-old-ips"), "metallb.universe.tf/loadBalancerIPs", "172.30.0.157"),
            annotated(plain("by-old-pool"), "metallb.universe.tf/address-pool", "asked-gold"),
            service("other-class", json!({"loadBalancerClass": "example.com/other"})),
        ])?;
        for (name, expected) in
            [("by-spec", "172.30.0.155"), ("by-ips", "172.30.0.156"), ("by-old-ips", "172.30.0.157")]
        {
            assert_eq!(scene.service(name).wait_for_address()?, expected.parse::<IpAddr>()?, "Service {name}");
        }
        for name in ["by-pool", "by-old-pool"] {
            let service = scene.service(name);
            let ip = service.wait_for_address()?;
            let gold: BTreeSet<IpAddr> = (160..170).map(|octet| IpAddr::from([172, 30, 0, octet])).collect();
            assert!(gold.contains(&ip), "Service {name} has {ip}");
            let from = &service.object()?["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
            assert_eq!(from, "asked-gold", "Service {name}");
        }
        let warnings = scene.service("by-old-pool").wait_for_event("deprecatedAnnotation")?;
        assert!(warnings[0].contains("metallb.universe.tf/address-pool"), "{warnings:?}");

        // It was applied with the others, which all have been served.
        let how = ["service", "other-class", "--namespace", &scene.namespace, "--show-managed-fields"];
        let other = scene.lab.get(&how)?;
        assert_eq!(other["status"], json!({"loadBalancer": {}}));
        assert_eq!(other["metadata"]["managedFields"].as_array().map(Vec::len), Some(1), "only kubectl wrote to it");
        Ok(())
    })
}

#[test]
fn every_port_of_a_service_answers() -> Result<()> {
    with_landfall("ports", |scene| {
        let ports = json!({"ports": [
            {"name": "http", "port": 80, "targetPort": 8080}, {"name": "more", "port": 8443, "targetPort": 8081}]});
        scene.start(&[
            pool("ports", &["172.30.0.149/32"]),
            advertisement("ports", json!({})),
            pods(1, &["8080", "8081"], None),
            service("two-ports", ports),
        ])?;
        let ip = scene.service("two-ports").wait_for_address()?;
        for (port, inside) in [(80, ":8080"), (8443, ":8081")] {
            let answer = scene.ask(ip, port)?;
            assert!(answer.local.ends_with(inside), "port {port}: {answer:?}");
        }
        Ok(())
    })
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_gives_back_its_address() -> Result<()> {
    with_landfall("type", |scene| {
        scene.apply(&[
            pool("type", &["172.30.0.148/32"]),
            advertisement("type", json!({})),
            service("changing", json!({})),
            service("waiting", json!({})),
        ])?;
        // Either may have been first.
        let first = eventually("address for one of two Services", || {
            for name in ["changing", "waiting"] {
                if !scene.service(name).addresses()?.is_empty() {
                    return Ok(Some(name));
                }
            }
            Ok(None)
        })?;
        let second = if first == "changing" { "waiting" } else { "changing" };
        scene.service(second).wait_for_allocated("False")?;
        scene.kubectl(&["patch", "service", first, "--patch", r#"{"spec": {"type": "ClusterIP"}}"#])?;
        scene.service(first).wait_for_addresses(0)?;
        assert_eq!(scene.service(second).wait_for_address()?, IpAddr::from([172, 30, 0, 148]));
        eventually("end of everything of ours on the Service", || {
            let object = scene.service(first).object()?;
            let annotation = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
            let conditions = object["status"]["conditions"].as_array().map_or(0, Vec::len);
            Ok((annotation.is_null() && conditions == 0).then_some(()))
        })
    })
}

/// The pause between two ARP requests.
const PAUSE: Duration = Duration::from_millis(30);

#[test]
fn a_deleted_services_address_is_not_answered_after_a_second_and_goes_to_the_next() -> Result<()> {
    with_landfall("deleted", |scene| {
        scene.start(&[
            pool("deleted", &["172.30.0.147/32"]),
            advertisement("deleted", json!({})),
            pods(1, &["8080"], None),
            service("old", json!({})),
        ])?;
        let ip = scene.service("old").wait_for_address()?;
        let node = scene.service("old").wait_for_announcer()?;
        assert!(who_has(&scene.lab, "eth0", ip)?.is_one_answerer(&scene.lab.node_mac(&node, "eth0")?));

        let probe = keep_asking(&scene.lab, ip, PAUSE)?;
        let limit = Duration::from_secs(10);
        steps::wait_for("ten answers", limit, PAUSE, || {
            Ok((probe.requests().iter().filter(|(_, answered)| *answered).count() >= 10).then_some(()))
        })?;
        let audit = Audit::from_now(&scene.lab)?;
        scene.kubectl(&["delete", "service", "old", "--wait=false"])?;
        let uri = format!("/api/v1/namespaces/{}/services/old", scene.namespace);
        let deletion = eventually("the deletion in the audit log", || {
            Ok(audit.entries(|entry| entry["verb"] == "delete" && entry["requestURI"] == uri)?.pop())
        })?;
        let deleted = seconds(deletion["stageTimestamp"].as_str().context("stageTimestamp")?)?;
        // What counts is the last answer: none after it for twenty requests.
        let last = steps::wait_for("end of the answers", limit, PAUSE, || {
            let requests = probe.requests();
            let last = requests.iter().rposition(|(_, answered)| *answered).context("no answer at all")?;
            Ok((requests.len() > last + 20).then(|| requests[last].0))
        })?;
        assert!(last - deleted < 1.0, "still answered {:.3} s after the deletion", last - deleted);
        println!("the last answer came {:.0} ms after the deletion", (last - deleted) * 1e3);
        drop(probe);

        scene.apply(&[service("new", json!({}))])?;
        assert_eq!(scene.service("new").wait_for_address()?, ip);
        let node = scene.service("new").wait_for_announcer()?;
        let mac = scene.lab.node_mac(&node, "eth0")?;
        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_one_answerer(&mac), "{node} is to answer: {heard:?}");
        Ok(())
    })
}

/// Seconds since 1970 of a time in an audit log.
fn seconds(time: &str) -> Result<f64> {
    let time: jiff::Timestamp = time.parse()?;
    Ok(time.as_duration().as_secs_f64())
}
