//! The lab's cables: one namespace per machine, and `fabric`, which holds the two switches and is the router.
//!
//! No namespace has a way out of the computer, and no interface ever appears in the root namespace: each veth pair is
//! made with one end in the machine and the other in the fabric. Every lab has the same addresses; they cannot meet.
//!
//! | place  | eth0 (`br0`)                   | eth1 (`br1`)                    |
//! |--------|--------------------------------|---------------------------------|
//! | fabric | 172.30.0.1, fd00:30::1         | -                               |
//! | cp     | 172.30.0.2, fd00:30::2         | -                               |
//! | n1 ... | 172.30.0.11 ..., fd00:30::a ...| 172.31.0.11 ..., fd00:31::a ... |
//! | client | 172.30.0.100, fd00:30::100     | 172.31.0.100, fd00:31::100      |
//! | far    | 172.30.0.101, fd00:30::101     | 172.31.0.101, fd00:31::101      |
//!
//! The cluster talks to itself over eth0 alone: Services' addresses on eth1 have a network of their own.
//! `far` is a second client, which is there only while a measurement needs one, as when it splits the network ([`split`]).

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::lab::{Lab, node_name};
use crate::netns;

/// Most nodes in one lab: their addresses end before the client's.
pub const NODES_MAX: usize = 9;
/// The client of the other half of a split network.
pub const FAR: &str = "far";
/// Where the API server listens.
pub const API_SERVER: &str = "172.30.0.2";

/// One cable: where it is plugged in, and what the machine's end is called.
struct Cable {
    place: String,
    /// 0 or 1: the segment, and the number in `eth0`, `br0`.
    segment: u8,
    /// Last octet of the IPv4 address.
    host4: u8,
    /// Host part of the IPv6 address.
    host6: u16,
}

impl Cable {
    /// Name of the switch's end, in the fabric: `n1-0`.
    fn port(&self) -> String {
        port(&self.place, self.segment)
    }

    fn ipv4(&self) -> Ipv4Addr {
        ipv4(self.segment, self.host4)
    }

    fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.segment, self.host6)
    }

    /// Locally administered; the same after each boot, as a real card's.
    fn mac(&self) -> String {
        let [a, b, c, d] = self.ipv4().octets();
        format!("02:1f:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// An address on a segment (0 or 1): its network is a /24.
pub fn ipv4(segment: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30 + segment, 0, host)
}

/// An address on a segment (0 or 1): its network is a /64.
pub fn ipv6(segment: u8, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x30 + u16::from(segment), 0, 0, 0, 0, 0, host)
}

/// The switch's end of a machine's cable: pull it with `ip -n FABRIC link set PORT down`.
pub fn port(place: &str, segment: u8) -> String {
    format!("{place}-{segment}")
}

/// The number of a node: 1 for `n1`.
fn node_index(place: &str) -> Option<u8> {
    place.strip_prefix('n')?.parse().ok()
}

/// A node's addresses on eth0, the ones that Kubernetes knows.
pub fn node_addresses(index: usize) -> (Ipv4Addr, Ipv6Addr) {
    let cable = cables(&node_name(index)).remove(0);
    (cable.ipv4(), cable.ipv6())
}

/// The addresses of a node's Pods, IPv4 and IPv6 prefix.
pub fn pod_prefixes(index: usize) -> (String, String) {
    (format!("10.244.{index}.0/24"), format!("fd00:244:0:{index}::/64"))
}

fn cables(place: &str) -> Vec<Cable> {
    let cable = |segment, host4, host6| Cable { place: place.to_owned(), segment, host4, host6 };
    match (place, node_index(place)) {
        ("cp", _) => vec![cable(0, 2, 2)],
        ("client", _) => vec![cable(0, 100, 0x100), cable(1, 100, 0x100)],
        (FAR, _) => vec![cable(0, 101, 0x101), cable(1, 101, 0x101)],
        (_, Some(index)) => (0..2).map(|segment| cable(segment, 10 + index, 9 + u16::from(index))).collect(),
        _ => Vec::new(),
    }
}

/// Makes the fabric, the client and every machine's namespace, with cables, addresses and routes.
pub fn create(lab: &Lab, nodes: usize) -> Result<()> {
    add_namespace(lab, "fabric")?;
    ip(
        lab,
        "fabric",
        "link set lo up\nlink add br0 type bridge\nlink add br1 type bridge\nlink set br0 up\nlink set br1 up\n\
         addr add 172.30.0.1/24 dev br0\naddr add fd00:30::1/64 dev br0 nodad\n",
    )?;
    forward(lab, "fabric")?;
    for place in ["cp", "client"] {
        plug_in(lab, place, nodes)?;
    }
    (1..=nodes).try_for_each(|index| plug_in(lab, &node_name(index), nodes))
}

/// Makes the namespace of one machine and plugs it in: what `create` does for each, and what a node's next boot does.
pub fn plug_in(lab: &Lab, place: &str, nodes: usize) -> Result<()> {
    add_namespace(lab, place)?;
    ignore_redirects(lab, place)?;
    let fabric = lab.netns("fabric");
    let (mut machine, mut switch) = (String::from("link set lo up\n"), String::new());
    for cable in cables(place) {
        let (eth, port) = (format!("eth{}", cable.segment), cable.port());
        machine += &format!(
            "link add {eth} address {} type veth peer name {port} netns {fabric}\n\
             addr add {}/24 dev {eth}\naddr add {}/64 dev {eth} nodad\nlink set {eth} up\n",
            cable.mac(),
            cable.ipv4(),
            cable.ipv6()
        );
        switch += &format!("link set {port} master br{} up\n", cable.segment);
    }
    ip(lab, place, &machine)?;
    ip(lab, "fabric", &switch)?;
    ip(lab, place, &routes(place, nodes))?;
    if node_index(place).is_some() {
        forward(lab, place)?;
    }
    Ok(())
}

/// Pulls a machine out and forgets its namespace; nothing happens if it is not there.
pub fn unplug(lab: &Lab, place: &str) -> Result<()> {
    for cable in cables(place) {
        // Removing the switch's end removes both at once; the namespace itself goes when its last process is gone.
        let _ = command::output(Command::new("ip").args(["-n", &lab.netns("fabric"), "link", "del", &cable.port()]));
    }
    if Path::new("/run/netns").join(lab.netns(place)).exists() {
        command::output(Command::new("ip").args(["netns", "del", &lab.netns(place)]))?;
    }
    Ok(())
}

/// Makes a second pair of switches and plugs these places into it: they see each other, and nobody else, from now on.
pub fn split(lab: &Lab, places: &[&str]) -> Result<()> {
    let mut batch = String::new();
    for segment in 0..2 {
        batch += &format!("link add br{segment}-far type bridge\nlink set br{segment}-far up\n");
    }
    let ports = |place: &&str| -> String {
        let to = |segment| format!("link set {} master br{segment}-far\n", port(place, segment));
        to(0) + &to(1)
    };
    batch += &places.iter().map(ports).collect::<String>();
    ip(lab, "fabric", &batch)
}

/// Undoes [`split`]: plugs everything into the first pair of switches again. Nothing happens when nothing is split.
pub fn join(lab: &Lab) -> Result<()> {
    let mut batch = String::new();
    for segment in 0..2 {
        let far = format!("br{segment}-far");
        let mut list = Command::new("ip");
        let Ok(text) = command::output(list.args(["-n", &lab.netns("fabric"), "-j", "link", "show", "master", &far]))
        else {
            continue;
        };
        let links: serde_json::Value = serde_json::from_str(&text)?;
        for link in links.as_array().into_iter().flatten() {
            let name = link["ifname"].as_str().context("a link without a name")?;
            batch += &format!("link set {name} master br{segment}\n");
        }
        batch += &format!("link del {far}\n");
    }
    ip(lab, "fabric", &batch)
}

fn routes(place: &str, nodes: usize) -> String {
    let own = node_index(place).map(usize::from);
    let mut routes = String::new();
    if own.is_some() {
        // A process on a node's own network reaches cluster addresses (10.96.0.1) only if some route matches first.
        routes += "route add default via 172.30.0.1\nroute add default via fd00:30::1\n";
    }
    if own.is_some() || place == "cp" {
        for index in (1..=nodes).filter(|index| own != Some(*index)) {
            let ((via4, via6), (pods4, pods6)) = (node_addresses(index), pod_prefixes(index));
            routes += &format!("route add {pods4} via {via4}\nroute add {pods6} via {via6}\n");
        }
    }
    routes
}

fn add_namespace(lab: &Lab, place: &str) -> Result<()> {
    command::output(Command::new("ip").args(["netns", "add", &lab.netns(place)]))?;
    Ok(())
}

/// While a node boots, it has no route to its own Pods yet, sends what comes for them on to its default gateway, and tells the
/// sender to go there directly. Who believes that cannot reach the Pods for five minutes.
fn ignore_redirects(lab: &Lab, place: &str) -> Result<()> {
    netns::run_in(&lab.netns(place), || {
        for family in ["ipv4", "ipv6"] {
            for interfaces in ["all", "default"] {
                let name = format!("net/{family}/conf/{interfaces}/accept_redirects");
                fs::write(Path::new("/proc/sys").join(&name), "0").with_context(|| format!("set {name} to 0"))?;
            }
        }
        Ok(())
    })?
}

/// Runs a batch of `ip` commands inside a namespace of the lab.
pub fn ip(lab: &Lab, place: &str, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", &lab.netns(place), "-batch", "-"]);
    command::output_with_input(&mut command, batch).with_context(|| format!("network of {place}:\n{batch}"))?;
    Ok(())
}

/// Lets a place forward packets, and pass bridged ones through its firewall where the kernel can.
fn forward(lab: &Lab, place: &str) -> Result<()> {
    netns::run_in(&lab.netns(place), || {
        for (name, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
            fs::write(Path::new("/proc/sys").join(name), value).with_context(|| format!("set {name} to {value}"))?;
        }
        // Pods of one node that meet through a Service address: needs the module br_netfilter, which not every kernel has.
        let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
        Ok(())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_addresses_and_a_mac_that_stays() {
        let of = |place| cables(place).iter().map(|c| (c.ipv4(), c.ipv6().to_string(), c.mac())).collect::<Vec<_>>();
        assert_eq!(
            of("n2"),
            [
                (Ipv4Addr::new(172, 30, 0, 12), "fd00:30::b".to_owned(), "02:1f:ac:1e:00:0c".to_owned()),
                (Ipv4Addr::new(172, 31, 0, 12), "fd00:31::b".to_owned(), "02:1f:ac:1f:00:0c".to_owned()),
            ]
        );
        assert_eq!(cables("fabric").len(), 0);
    }

    #[test]
    fn a_node_has_routes_to_every_other_nodes_pods_and_none_to_its_own() {
        let routes = routes("n1", 2);
        assert!(routes.contains("route add 10.244.2.0/24 via 172.30.0.12\n"), "{routes}");
        assert!(!routes.contains("10.244.1.0"), "{routes}");
    }
}
