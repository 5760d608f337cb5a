//! Which node answers, and on which interface.

use anyhow::Result;
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{EXCLUDE_LABEL, advertisement, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::wire::{wait_for_answerer, who_has};
use serde_json::json;

#[test]
fn an_advertisement_for_an_interface_is_announced_on_that_interface_only() -> Result<()> {
    with_landfall("interface", |scene| {
        scene.start(&[
            pool("interface", &["172.31.0.200/32"]),
            advertisement("interface", json!({"interfaces": ["eth1"]})),
            pods(1, &["8080"], None),
            service("second", json!({})),
        ])?;
        let service = scene.service("second");
        let (ip, node) = (service.wait_for_address()?, service.wait_for_announcer()?);
        scene.ask(ip, 80)?;
        let heard = who_has(&scene.lab, "eth1", ip)?;
        assert!(heard.is_one_answerer(&scene.lab.node_mac(&node, "eth1")?), "{node} is to answer on eth1: {heard:?}");
        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_silence(), "{ip} is for eth1 only: {heard:?}");
        let of_node = format!("metallb.io/node={node}");
        let list = scene.kubectl_landfall(&[
            "get",
            "servicel2statuses",
            "--selector",
            &of_node,
            "--output",
            "jsonpath={.items[*].status.interfaces}",
        ])?;
        assert_eq!(list, r#"[{"name":"eth1"}]"#);
        Ok(())
    })
}

#[test]
fn an_interface_that_does_not_exist_is_announced_nowhere_and_said_in_an_event() -> Result<()> {
    with_landfall("nowhere", |scene| {
        scene.start(&[
            pool("nowhere", &["172.30.0.210/32"]),
            advertisement("nowhere", json!({"interfaces": ["eth9"]})),
            pods(1, &["8080"], None),
            service("silent", json!({})),
        ])?;
        let service = scene.service("silent");
        let ip = service.wait_for_address()?;
        let events = service.wait_for_event("announceFailed")?;
        assert!(events[0].contains(&ip.to_string()), "{events:?}");
        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_silence(), "{heard:?}");
        assert_eq!(service.announcers()?, [""; 0]);
        Ok(())
    })
}

#[test]
fn node_selectors_and_the_exclude_label_decide_which_node_answers() -> Result<()> {
    with_landfall("nodes", |scene| {
        let on = |node: &str| json!({"nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": node}}]});
        scene.start(&[
            pool("nodes", &["172.30.0.211/32"]),
            advertisement("nodes", on("n2")),
            pods(1, &["8080"], None),
            service("moving", json!({})),
        ])?;
        let service = scene.service("moving");
        let ip = service.wait_for_address()?;
        for node in ["n2", "n3", "n1"] {
            scene.apply(&[advertisement("nodes", on(node))])?;
            service.wait_for_announcer_that(&format!("is {node}"), |announcer| announcer == node)?;
            wait_for_answerer(&scene.lab, node, ip)?;
        }
        let events = service.events("nodeAssigned")?;
        for node in ["n1", "n2", "n3"] {
            let said = events.iter().any(|message| message.contains(&format!("\"{node}\"")));
            assert!(said, "no event about {node}: {events:?}");
        }
        Ok(())
    })
}

#[test]
fn a_node_with_the_exclude_label_hands_over_and_has_its_services_back_without_it() -> Result<()> {
    with_landfall("excluded", |scene| {
        scene.start(&[
            pool("excluded", &["172.30.0.213/32"]),
            advertisement("excluded", json!({})),
            pods(1, &["8080"], None),
            service("homed", json!({})),
        ])?;
        let service = scene.service("homed");
        let (ip, home) = (service.wait_for_address()?, service.wait_for_announcer()?);
        wait_for_answerer(&scene.lab, &home, ip)?;
        scene.lab.kubectl(&["label", "node", &home, &format!("{EXCLUDE_LABEL}=")])?;
        let refuge = service.wait_for_announcer_that(&format!("is not {home}"), |announcer| announcer != home)?;
        wait_for_answerer(&scene.lab, &refuge, ip)?;
        scene.lab.kubectl(&["label", "node", &home, &format!("{EXCLUDE_LABEL}-")])?;
        service.wait_for_announcer_that(&format!("is {home} again"), |announcer| announcer == home)?;
        wait_for_answerer(&scene.lab, &home, ip)
    })
}

#[test]
fn service_selectors_decide_which_services_are_announced() -> Result<()> {
    with_landfall("selected", |scene| {
        scene.start(&[
            pool("selected", &["172.30.0.212/32"]),
            advertisement("selected", json!({"serviceSelectors": [{"matchLabels": {"announce": "yes"}}]})),
            pods(1, &["8080"], None),
            service("shy", json!({})),
        ])?;
        let service = scene.service("shy");
        let ip = service.wait_for_address()?;
        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_silence(), "not selected: {heard:?}");
        scene.kubectl(&["label", "service", "shy", "announce=yes"])?;
        wait_for_answerer(&scene.lab, &service.wait_for_announcer()?, ip)?;
        scene.ask(ip, 80)?;
        scene.kubectl(&["label", "service", "shy", "announce-"])?;
        eventually("silence", || Ok(who_has(&scene.lab, "eth0", ip)?.is_silence().then_some(())))?;
        assert_eq!(service.addresses()?, [ip], "an address that is not announced is kept all the same");
        Ok(())
    })
}
