//! Whether a node is heard on the wire for what it owns: the others see to that.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::service::Service;
use landfall_cluster_tests::wire::{wait_for_answerer, who_has};
use landfall_lab::{Lab, command, steps};
use serde_json::json;

const TABLE: &str = "landfall_inspection_test";
/// A look comes after 66 s at the latest, takes one, and is repeated ten seconds later; then the condition is written.
const LOOK_LIMIT: Duration = Duration::from_secs(100);

/// A bridge that lets nothing of one address through, neither answers nor announcements. Everything else passes.
struct Deaf<'a>(&'a Lab);

impl<'a> Deaf<'a> {
    fn to(lab: &'a Lab, ip: IpAddr) -> Result<Self> {
        let deaf = Self(lab); // so that half a table is taken away, too
        let rule = format!("arp saddr ip {ip} drop");
        let table = format!(
            "table bridge {TABLE} {{\nchain forward {{ type filter hook forward priority 0; policy accept; {rule}; }}\n}}\n"
        );
        command::output(lab.netns_command("fabric", "nft").arg(table))?;
        Ok(deaf)
    }
}

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        let mut nft = self.0.netns_command("fabric", "nft");
        if let Err(error) = command::output(nft.args(["delete", "table", "bridge", TABLE])) {
            println!("the bridge of the lab is not as it was: {error:#}");
        }
    }
}

/// Waits for the condition `landfall.io/Announced` with this reason.
fn wait_for_reason(service: &Service<'_>, reason: &str, limit: Duration) -> Result<String> {
    steps::wait_for(&format!("condition with the reason {reason}"), limit, Duration::from_millis(500), || {
        let announced = service.announced()?;
        ensure!(announced["reason"] == reason, "it is {announced}");
        Ok(Some(announced["message"].as_str().unwrap_or_default().to_owned()))
    })
}

#[test]
fn a_node_that_is_not_heard_on_the_wire_is_told_so_by_the_next_and_the_service_says_it() -> Result<()> {
    with_landfall("unheard", |scene| {
        scene.start(&[
            pool("unheard", &["172.30.0.186/32"]),
            advertisement("unheard", json!({})),
            pods(1, &["8080"], None),
            service("unheard", json!({})),
        ])?;
        let unheard = scene.service("unheard");
        let (ip, node) = (unheard.wait_for_address()?, unheard.wait_for_announcer()?);
        wait_for_answerer(&scene.lab, &node, ip)?;
        unheard.wait_for_announced("Announced", &format!("node {node} answers for {ip} on eth0"))?;

        let deaf = Deaf::to(&scene.lab, ip)?;
        let heard = who_has(&scene.lab, "eth0", ip)?;
        ensure!(heard.is_silence(), "the bridge lets answers through: {heard:?}");
        let message = wait_for_reason(&unheard, "NotHeardByPeer", LOOK_LIMIT)?;
        let told = format!("node {node} answers for {ip} on eth0, and node n");
        ensure!(message.starts_with(&told) && message.contains("VLAN"), "{message}");
        ensure!(!unheard.wait_for_event("NotHeardByPeer")?.is_empty());
        assert_eq!(
            unheard.announcers()?,
            std::slice::from_ref(&node),
            "it may be the asker's port that is wrong: nothing moves"
        );

        drop(deaf);
        wait_for_reason(&unheard, "Announced", Duration::from_secs(20)).context("the wire is whole again")?;
        wait_for_answerer(&scene.lab, &node, ip)?;
        assert_eq!(unheard.announcers()?, [node]);
        Ok(())
    })
}
