//! An address is replaced by another in one write: nobody who watches ever sees a Service without one.

use std::net::IpAddr;

use anyhow::Result;
use landfall_cluster_tests::manifests::{families, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::watch::Watch;
use serde_json::{Value, json};

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn a_watch_sees_one_address_after_the_other_and_never_none() -> Result<()> {
    with_landfall("replaced", |scene| {
        scene.apply(&[
            pool("replaced-1", &["198.51.100.0/30", "2001:db8::/126"]),
            pool("replaced-2", &["198.51.100.16/30", "2001:db8::10/126"]),
            service("four", families(&["IPv4"])),
        ])?;
        let (four, both) = (scene.service("four"), scene.service("both"));
        four.wait_for(&ips(&["198.51.100.0"]))?;
        scene.apply(&[service("both", families(&["IPv4", "IPv6"]))])?;
        both.wait_for(&ips(&["198.51.100.1", "2001:db8::"]))?;
        let watch = Watch::services(scene)?;
        watch.history_until_now(scene)?;

        // The Service asks for something else.
        let asks = |ips: Value, field: Value, pool: Value| {
            json!({
                "metadata": {"annotations": {"metallb.io/loadBalancerIPs": ips, "metallb.io/address-pool": pool}},
                "spec": {"loadBalancerIP": field},
            })
        };
        for (asks, gets) in [
            (asks(json!("198.51.100.2"), json!(null), json!(null)), "198.51.100.2"),
            (asks(json!(null), json!("198.51.100.3"), json!(null)), "198.51.100.3"),
            (asks(json!(null), json!(null), json!("replaced-2")), "198.51.100.16"),
            (asks(json!("198.51.100.18"), json!(null), json!("replaced-2")), "198.51.100.18"),
        ] {
            four.patch(&asks)?;
            four.wait_for(&ips(&[gets]))?;
        }
        // It asks for nothing any more, and keeps what it has.
        four.patch(&asks(json!(null), json!(null), json!(null)))?;
        // The pool is another one.
        scene.apply(&[pool("replaced-1", &["198.51.100.32/30", "2001:db8::20/126"])])?;
        both.wait_for(&ips(&["198.51.100.32", "2001:db8::20"]))?;
        scene.kubectl_landfall(&["delete", "ipaddresspool", "replaced-2"])?;
        four.wait_for(&ips(&["198.51.100.33"]))?;
        // One of its two families is.
        scene.apply(&[pool("replaced-1", &["198.51.100.32/30", "2001:db8::30/126"])])?;
        both.wait_for(&ips(&["198.51.100.32", "2001:db8::30"]))?;

        let history = watch.history_until_now(scene)?;
        let expected = ["0", "2", "3", "16", "18", "33"].map(|last| ips(&[&format!("198.51.100.{last}")]));
        assert_eq!(history.addresses_of("four"), expected);
        let expected = [("1", ""), ("32", "20"), ("32", "30")]
            .map(|(four, six)| ips(&[&format!("198.51.100.{four}"), &format!("2001:db8::{six}")]));
        assert_eq!(history.addresses_of("both"), expected);
        assert_eq!(history.held_twice(), [""; 0]);
        Ok(())
    })
}
