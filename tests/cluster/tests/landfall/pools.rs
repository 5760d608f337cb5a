//! Pools are edited while Services hold their addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::manifests::{families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::service::standing;
use landfall_cluster_tests::watch::Watch;
use landfall_cluster_tests::{eventually, install};
use landfall_lab::landfall::NAMESPACE;
use serde_json::json;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, last])
}

fn delete_pool(scene: &Scene, name: &str) -> Result<()> {
    scene.kubectl_landfall(&["delete", "ipaddresspool", name]).map(|_| ())
}

#[test]
fn a_pool_that_shrinks_or_goes_has_its_services_served_by_another_and_the_last_one_leaves_them_waiting() -> Result<()> {
    with_landfall("removed", |scene| {
        scene.apply(&[pool("removed-1", &["198.51.100.0/31"]), pool("removed-2", &["198.51.100.8/31"])])?;
        let (a, b) = (scene.service("a"), scene.service("b"));
        for (name, service_of_test, last) in [("a", a, 0), ("b", b, 1)] {
            scene.apply(&[service(name, json!({}))])?;
            service_of_test.wait_for(&[ip(last)])?;
        }
        let watch = Watch::services(scene)?;
        watch.history_until_now(scene)?;

        let version = b.version()?;
        scene.apply(&[pool("removed-1", &["198.51.100.1/32"])])?;
        a.wait_for(&[ip(8)])?;
        assert_eq!((a.pool()?.as_str(), b.version()?), ("removed-2", version), "and b was not written to");
        let said = a.wait_for_event("ClearAssignment")?.concat();
        assert!(said.contains(r#"["198.51.100.0"] is not allowed in config"#), "{said}");
        scene.wait_for_counters("removed-1", [1, 0, 0, 0])?;
        scene.wait_for_counters("removed-2", [1, 0, 1, 0])?;

        delete_pool(scene, "removed-1")?;
        b.wait_for(&[ip(9)])?;
        assert_eq!(b.pool()?, "removed-2");
        scene.wait_for_counters("removed-2", [2, 0, 0, 0])?;

        delete_pool(scene, "removed-2")?;
        for waiting in [a, b] {
            let message = waiting.wait_for_refusal("NoPools")?;
            assert_eq!((message.as_str(), waiting.pool()?), ("there is no IPAddressPool; create one", String::new()));
        }
        scene.apply(&[pool("removed-3", &["198.51.100.16/31"])])?;
        a.wait_for(&[ip(16)])?;
        b.wait_for(&[ip(17)])?;

        let history = watch.history_until_now(scene)?;
        let course = |each: &[&[u8]]| each.iter().map(|all| all.iter().map(|last| ip(*last)).collect()).collect();
        let expected: [Vec<Vec<IpAddr>>; 2] = [course(&[&[0], &[8], &[], &[16]]), course(&[&[1], &[9], &[], &[17]])];
        assert_eq!([history.addresses_of("a"), history.addresses_of("b")], expected);
        Ok(())
    })
}

/// Waits until the annotation of each Service names the pool that `pool_of` says for its address.
fn wait_for_pools(scene: &Scene, held: &BTreeMap<String, IpAddr>, pool_of: impl Fn(u8) -> &'static str) -> Result<()> {
    for (name, ip) in held {
        let IpAddr::V4(v4) = ip else { anyhow::bail!("{ip} is no IPv4 address") };
        let (expected, service) = (pool_of(v4.octets()[3]), scene.service(name));
        eventually(&format!("pool {expected} in the annotation of Service {name}, which has {ip}"), || {
            let pool = service.pool()?;
            ensure!(pool == expected, "it is {pool:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

/// What one `kubectl apply` changes is taken together. Two pools may not overlap, so the webhook refuses a second name for what
/// the first has. Where nobody is asked, the mistake is held back, and what was in force stays so, until the first is out
/// of the way: so an address never is without a pool.
#[test]
fn an_address_stays_when_its_pool_is_split_renamed_or_handed_over_and_the_annotation_follows() -> Result<()> {
    with_landfall("split", |scene| {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let all = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": "split"}, "spec": {}});
        // As many as the pool has addresses: whoever loses one for a moment may come back to another.
        scene.start(&[pool("split", &["172.30.0.216/29"]), all, pods(1, &["8080"], None)])?;
        scene.apply(&names.map(|name| service(name, json!({}))))?;
        let held = names.map(|name| Ok((name.to_owned(), scene.service(name).wait_for_address()?)));
        let held: BTreeMap<String, IpAddr> = held.into_iter().collect::<Result<_>>()?;
        wait_for_pools(scene, &held, |_| "split")?;
        let watch = Watch::services(scene)?;
        watch.history_until_now(scene)?;

        scene.apply(&[pool("split", &["172.30.0.216/30"]), pool("split-upper", &["172.30.0.220/30"])])?;
        let split = |last| if last < 220 { "split" } else { "split-upper" };
        wait_for_pools(scene, &held, split).context("after the split")?;

        install::without_webhooks(&scene.lab, || {
            let overlapping = |name: &str, addresses: &[&str]| {
                eventually("overlapping pool that nobody is asked about", || {
                    scene.apply(&[pool(name, addresses)]).map(Some)
                })?;
                scene.accepted("ipaddresspool", name, "Invalid")
            };
            overlapping("split-renamed", &["172.30.0.220/30"])?;
            delete_pool(scene, "split-upper")?;
            let renamed = |last| if last < 220 { "split" } else { "split-renamed" };
            wait_for_pools(scene, &held, renamed).context("after the upper half has another name")
        })?;

        let more = pool("split-renamed", &["172.30.0.220/30", "172.30.0.218/31"]);
        scene.apply(&[pool("split", &["172.30.0.216/31"]), more])?;
        let handed_over = |last| if last < 218 { "split" } else { "split-renamed" };
        wait_for_pools(scene, &held, handed_over).context("after two addresses were handed over")?;
        scene.wait_for_counters("split", [2, 0, 0, 0])?;
        scene.wait_for_counters("split-renamed", [6, 0, 0, 0])?;
        for name in ["split", "split-renamed"] {
            scene.accepted("ipaddresspool", name, "Valid")?;
        }
        assert_eq!(watch.history_until_now(scene)?.losses(), []);
        let after: BTreeMap<String, Vec<IpAddr>> =
            standing(scene)?.into_iter().map(|(name, standing)| (name, standing.addresses)).collect();
        assert_eq!(after, held.iter().map(|(name, ip)| (name.clone(), vec![*ip])).collect());
        held.values().try_for_each(|ip| scene.ask(*ip, 80).map(|_| ()))
    })
}

#[test]
fn the_counters_of_a_pool_follow_at_once_and_heal_when_edited_by_hand() -> Result<()> {
    with_landfall("counted", |scene| {
        let counters = |expected| scene.wait_for_counters("counted", expected);
        scene.apply(&[pool("counted", &["198.51.100.0/30", "2001:db8::/126"])])?;
        counters([0, 0, 4, 4])?;
        scene.apply(&[service("four", families(&["IPv4"])), service("both", families(&["IPv4", "IPv6"]))])?;
        counters([2, 1, 2, 3])?;
        scene.apply(&[pool("counted", &["198.51.100.0/29", "2001:db8::/125"])])?;
        counters([2, 1, 6, 7])?;

        let four = scene.service("four").version()?;
        let edit = |change: &str| {
            let how = ["patch", "ipaddresspool", "counted", "--subresource=status", "--type=merge", "--patch", change];
            let said =
                scene.lab.kubectl(&[&how[..], &["--namespace", NAMESPACE, "--output=jsonpath={.status}"]].concat())?;
            ensure!(said.contains("99"), "the edit did not come to pass: {said}");
            Ok(())
        };
        edit(r#"{"status": {"assignedIPv4": 99}}"#)?;
        counters([2, 1, 6, 7])?;
        edit(r#"{"status": {"assignedIPv4": 0, "assignedIPv6": 99, "availableIPv4": 0, "availableIPv6": 0}}"#)?;
        counters([2, 1, 6, 7])?;
        assert_eq!(scene.service("four").version()?, four, "counters are no reason to write to a Service");

        scene.kubectl(&["delete", "service", "both"])?;
        counters([1, 0, 7, 8])
    })
}
