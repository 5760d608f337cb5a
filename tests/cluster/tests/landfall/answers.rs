//! Clients are answered, by one node, about what is theirs.

use std::net::IpAddr;

use anyhow::Result;
use landfall_cluster_tests::manifests::{advertisement, families, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::wire::who_has;
use serde_json::json;

/// One node answers for the address: the one that the API names, with its own MAC, and traffic goes through.
fn assert_served(scene: &Scene, name: &str, ip: IpAddr) -> Result<()> {
    let answer = scene.ask(ip, 80)?;
    assert!(answer.pod.starts_with("web-"), "{answer:?}");
    let node = scene.service(name).wait_for_announcer()?;
    let mac = scene.lab.node_mac(&node, "eth0")?;
    let heard = who_has(&scene.lab, "eth0", ip)?;
    assert!(heard.is_one_answerer(&mac), "{ip} of Service {name} is to be answered by {node}, {mac}: {heard:?}");
    assert_eq!(scene.lab.neighbour("client", ip)?.as_deref(), Some(mac.as_str()), "the client's own entry for {ip}");
    let events = scene.service(name).wait_for_event("nodeAssigned")?;
    assert_eq!(events, [format!(r#"announcing from node "{node}" with protocol "layer2""#)], "Service {name}");
    Ok(())
}

#[test]
fn services_of_each_family_answer_and_exactly_one_node_answers_for_their_addresses() -> Result<()> {
    with_landfall("families", |scene| {
        scene.start(&[
            pool("families", &["172.30.0.130-172.30.0.133", "fd00:30::130-fd00:30::133"]),
            advertisement("families", json!({})),
            pods(3, &["8080"], None),
            service("four", families(&["IPv4"])),
            service("six", families(&["IPv6"])),
            service("both", families(&["IPv4", "IPv6"])),
        ])?;
        let four = scene.service("four").wait_for_address()?;
        let six = scene.service("six").wait_for_address()?;
        let both = scene.service("both").wait_for_addresses(2)?;
        assert!(four.is_ipv4() && six.is_ipv6(), "{four} {six}");
        assert!(both[0].is_ipv4() != both[1].is_ipv4(), "{both:?}");
        for (name, ip) in [("four", four), ("six", six), ("both", both[0]), ("both", both[1])] {
            assert_served(scene, name, ip)?;
        }

        let given = [four, six, both[0], both[1]];
        let in_pool = |octet: u8| [format!("172.30.0.{octet}"), format!("fd00:30::{octet}")];
        let addresses: Vec<IpAddr> = (130..134).flat_map(in_pool).filter_map(|ip| ip.parse().ok()).collect();
        let free: Vec<&IpAddr> = addresses.iter().filter(|ip| !given.contains(ip)).collect();
        assert_eq!((addresses.len(), free.len()), (8, 4), "{given:?} are of the pool");
        let outside: [IpAddr; 2] = ["172.30.0.134".parse()?, "fd00:30::134".parse()?];
        for stranger in free.into_iter().chain(&outside) {
            let heard = who_has(&scene.lab, "eth0", *stranger)?;
            assert!(heard.is_silence(), "nobody has {stranger}: {heard:?}");
        }
        Ok(())
    })
}
