//! Services of two families, and every change between one and two that the API server permits: the address that still fits
//! stays, the second comes and goes.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::manifests::{advertisement, families, pods, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use landfall_cluster_tests::service::Service;
use landfall_cluster_tests::watch::Watch;
use serde_json::{Value, json};

/// Each of the three followed by each of the others once, from SingleStack on.
const POLICIES: [&str; 6] =
    ["PreferDualStack", "RequireDualStack", "SingleStack", "RequireDualStack", "PreferDualStack", "SingleStack"];

/// A Service that prefers two families, this one first.
fn prefers(first: &str) -> Value {
    let other = if first == "IPv4" { "IPv6" } else { "IPv4" };
    json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": [first, other]})
}

/// The first family cannot be changed; the API server adds the other, or takes it away.
fn change_policy(service: Service<'_>, policy: &str) -> Result<()> {
    service.patch(&json!({"spec": {"ipFamilyPolicy": policy}}))?;
    let cluster_ips = service.object()?["spec"]["clusterIPs"].as_array().map_or(0, Vec::len);
    ensure!(cluster_ips == if policy == "SingleStack" { 1 } else { 2 }, "{policy}: {cluster_ips} clusterIPs");
    Ok(())
}

#[test]
fn the_address_stays_through_every_change_of_the_family_policy_and_the_second_comes_and_goes() -> Result<()> {
    with_landfall("policy", |scene| {
        scene.start(&[
            pool("policy", &["172.30.0.230-172.30.0.237", "fd00:30::230-fd00:30::237"]),
            advertisement("policy", json!({})),
            pods(1, &["8080"], None),
            service("hole", families(&["IPv4", "IPv6"])),
        ])?;
        scene.service("hole").wait_for_addresses(2)?;
        scene.apply(&[service("four", families(&["IPv4"])), service("six", families(&["IPv6"]))])?;
        let first =
            [("four", scene.service("four").wait_for_address()?), ("six", scene.service("six").wait_for_address()?)];
        // Whoever is given an address anew gets a lower one from now on.
        scene.kubectl(&["delete", "service", "hole"])?;
        let watch = Watch::services(scene)?;
        watch.history_until_now(scene)?;
        let mut step = "SingleStack";
        for policy in POLICIES {
            for (name, ip) in first {
                let (service, change) = (scene.service(name), format!("Service {name}, {step} to {policy}"));
                change_policy(service, policy)?;
                let wanted = if policy == "SingleStack" { 1 } else { 2 };
                let has = service.wait_for_addresses(wanted)?;
                ensure!(has.contains(&ip), "{change}: it had {ip} and has {has:?}");
                ensure!(has.iter().any(|other| other.is_ipv4() != ip.is_ipv4()) == (wanted == 2), "{change}: {has:?}");
                has.iter().try_for_each(|ip| scene.ask(*ip, 80).map(|_| ()))?;
            }
            step = policy;
        }
        scene.wait_for_counters("policy", [1, 1, 7, 7])?;
        let history = watch.history_until_now(scene)?;
        for (name, ip) in first {
            let course = history.addresses_of(name);
            assert!(course.iter().all(|addresses| addresses.contains(&ip)), "Service {name} had {ip}: {course:?}");
        }
        assert_eq!(history.held_twice(), [""; 0]);
        Ok(())
    })
}

#[test]
fn what_a_pool_has_of_one_family_only_is_enough_for_who_prefers_two_until_there_is_more() -> Result<()> {
    with_landfall("prefers", |scene| {
        let addresses = ["172.30.0.230-172.30.0.232", "fd00:30::230-fd00:30::232"];
        scene.start(&[
            pool("prefers", &addresses[..1]),
            advertisement("prefers", json!({})),
            pods(1, &["8080"], None),
            service("four", prefers("IPv4")),
            service("six", prefers("IPv6")),
            service("requires", families(&["IPv4", "IPv6"])),
        ])?;
        let held: Vec<(&str, IpAddr)> = ["four", "six"]
            .map(|name| Ok((name, scene.service(name).wait_for_address()?)))
            .into_iter()
            .collect::<Result<_>>()?;
        for (name, _) in &held {
            let message = scene.service(name).wait_for_allocated("True")?["message"].to_string();
            assert!(message.contains("cannot assign additional IP in PreferDualStack"), "{name}: {message}");
        }
        let message = scene.service("requires").wait_for_refusal("NoAddressOfFamily")?;
        assert!(message.contains("pool prefers: it has no IPv6 addresses; add addresses to a pool"), "{message}");

        scene.apply(&[pool("prefers", &addresses)])?;
        for (name, ip) in held {
            let has = scene.service(name).wait_for_addresses(2)?;
            assert!(has.contains(&ip), "Service {name} had {ip} and has {has:?}");
            wait_for_message(scene.service(name), "from pool prefers")?;
        }
        for ip in scene.service("requires").wait_for_addresses(2)? {
            scene.ask(ip, 80)?;
        }
        Ok(())
    })
}

#[test]
fn who_requires_two_families_where_there_is_one_gives_up_the_one_it_has_and_says_why() -> Result<()> {
    with_landfall("requires", |scene| {
        scene.apply(&[pool("requires", &["198.51.100.0/31"]), service("four", families(&["IPv4"]))])?;
        let four = scene.service("four");
        let ip = four.wait_for_address()?;
        change_policy(four, "RequireDualStack")?;
        let message = four.wait_for_refusal("NoAddressOfFamily")?;
        assert!(message.contains("pool requires: it has no IPv6 addresses"), "{message}");
        assert_eq!(four.pool()?, "");
        change_policy(four, "PreferDualStack")?;
        four.wait_for(&[ip])?;
        change_policy(four, "SingleStack")?;
        wait_for_message(four, "from pool requires")?;
        assert_eq!(four.addresses()?, [ip]);
        Ok(())
    })
}

/// Waits until the condition says just this.
fn wait_for_message(service: Service<'_>, message: &str) -> Result<()> {
    eventually(&format!("message {message:?}"), || {
        let condition = service.condition()?;
        ensure!(condition["message"] == message, "its condition is {condition}");
        Ok(Some(()))
    })
}
