//! Nodes that cannot reach each other, and the control plane that reaches them all.
//!
//! The switches drop what goes from a node of the one part to a node of the other, on both segments and in both directions,
//! broadcasts included. Everybody else is heard as ever: the control plane (all traffic to the API server goes through its
//! port), the clients, the router. [`crate::network::split`] is another kind of break, in which one half loses the control
//! plane, too.

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::lab::Lab;
use crate::network::port;

/// The table of rules in the switches, which are in the fabric.
const TABLE: &str = "bridge partition";

/// The nodes are in two parts; they are joined when this is dropped, also by a test that fails.
#[must_use = "the nodes are joined again when this is dropped"]
#[derive(Debug)]
pub struct Partition {
    lab: Lab,
}

impl Lab {
    /// Cuts these nodes off from all other nodes; within each part, and with all that is no node, nothing changes. It lasts
    /// over a reboot of a node.
    /// # Errors
    /// A name that is no node's, a part without nodes, or there are two parts already.
    pub fn partition(&self, nodes: &[&str]) -> Result<Partition> {
        for node in nodes {
            self.node(node)?;
        }
        let all = self.nodes()?;
        let rest: Vec<&str> = all.iter().map(String::as_str).filter(|node| !nodes.contains(node)).collect();
        ensure!(
            !nodes.is_empty() && !rest.is_empty(),
            "a partition of {all:?} into {nodes:?} and {rest:?}: each part needs a node; name some of them, not all"
        );
        self.nft(&rules(nodes, &rest)).with_context(|| {
            format!("if lab {} is in two parts already, `cargo lab --name {0} heal {}` joins them", self.name(), all[0])
        })?;
        Ok(Partition { lab: self.clone() })
    }

    /// Lets all nodes reach each other again; nothing happens when they do. For what a killed test left: a [`Partition`] does
    /// it by itself.
    /// # Errors
    /// The lab is not up, or what nft said.
    pub fn end_partition(&self) -> Result<()> {
        // A table that is not there cannot be deleted, and one that is there can be added.
        self.nft(&format!("add table {TABLE}\ndelete table {TABLE}\n"))
    }

    /// Gives the switches rules: all of the batch, or none.
    fn nft(&self, batch: &str) -> Result<()> {
        let mut nft = self.netns_command("fabric", "nft");
        command::output_with_input(nft.args(["-f", "-"]), batch).map(drop)
    }
}

impl Partition {
    /// Lets all nodes reach each other again.
    /// # Errors
    /// What nft said.
    pub fn end(self) -> Result<()> {
        self.lab.end_partition()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        // Who wants to hear of an error calls `end`; after that there is nothing to do here.
        let _ = self.lab.end_partition();
    }
}

/// What the switches are told, in nft's language.
fn rules(one: &[&str], other: &[&str]) -> String {
    let ports = |nodes: &[&str]| {
        let ports = nodes.iter().flat_map(|node| [port(node, 0), port(node, 1)]);
        ports.map(|port| format!("\"{port}\"")).collect::<Vec<_>>().join(", ")
    };
    let drop =
        |from, to| format!("add rule {TABLE} forward iifname {{ {} }} oifname {{ {} }} drop\n", ports(from), ports(to));
    format!(
        "create table {TABLE}\n\
         add chain {TABLE} forward {{ type filter hook forward priority 0; policy accept; }}\n"
    ) + &drop(one, other)
        + &drop(other, one)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::panic::catch_unwind;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::lab::LabState;
    use crate::network::{self, ipv4, ipv6};
    use crate::steps::wait_for;

    /// A frame from one namespace to another takes microseconds; a busy computer may let the reader wait.
    const WAIT: Duration = Duration::from_millis(500);

    /// The network of a lab, without anything that runs in it.
    struct Network(Lab);

    impl Network {
        fn of(name: &str, nodes: usize) -> Network {
            let lab = Lab::named(&format!("{name}{}", std::process::id())).unwrap();
            let network = Network(lab);
            let lab = &network.0;
            lab.down().unwrap();
            fs::create_dir_all(lab.state_dir()).unwrap();
            lab.write_state(&LabState { nodes, tools: "none".into(), guest: "none".into() }).unwrap();
            network::create(lab, nodes).unwrap();
            network
        }

        /// Whether a datagram from one place arrives at the other, by each family and on each segment that both have: IPv4
        /// and IPv6 of eth0, then of eth1.
        fn reaches(&self, from: &str, to: &str) -> Vec<bool> {
            let (host4, host6) = match to {
                "cp" => (2, 2),
                "client" => (100, 0x100),
                node => {
                    let index: u8 = node[1..].parse().unwrap();
                    (10 + index, 9 + u16::from(index))
                }
            };
            let segments = if [from, to].contains(&"cp") { 0..1 } else { 0..2 };
            let addresses =
                segments.flat_map(|segment| [IpAddr::from(ipv4(segment, host4)), ipv6(segment, host6).into()]);
            // All at once: what does not arrive is waited for.
            thread::scope(|scope| {
                let asked: Vec<_> = addresses.map(|to_it| scope.spawn(move || self.arrives(from, to, to_it))).collect();
                asked.into_iter().map(|thread| thread.join().unwrap()).collect()
            })
        }

        fn arrives(&self, from: &str, to: &str, address: IpAddr) -> bool {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = |place, address: IpAddr| self.0.in_netns(place, || UdpSocket::bind((address, 0))).unwrap();
            let ear = socket(to, address).unwrap();
            ear.set_read_timeout(Some(WAIT)).unwrap();
            // A kernel that has found nobody there may say so to the sender.
            let _ = socket(from, any).unwrap().send_to(b"?", ear.local_addr().unwrap());
            ear.recv(&mut [0; 1]).is_ok()
        }
    }

    impl Drop for Network {
        fn drop(&mut self) {
            let down = self.0.down();
            assert!(thread::panicking() || down.is_ok(), "{down:?}");
        }
    }

    #[test]
    fn two_parts_hear_nothing_of_each_other_and_the_control_plane_hears_both() {
        let network = Network::of("parts", 4);
        let pairs = [("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n4", "n1"), ("n3", "n4")];
        let always = [("cp", "n1"), ("n1", "cp"), ("cp", "n3"), ("n3", "cp"), ("client", "n1"), ("n4", "client")];
        let reached = |pairs: &[(&str, &str)]| -> Vec<Vec<bool>> {
            pairs.iter().map(|(from, to)| network.reaches(from, to)).collect()
        };
        // All know each other: the parts cannot be told by questions that are not heard alone.
        assert_eq!(reached(&pairs), vec![vec![true; 4]; 5]);
        let before = reached(&always);
        assert!(before.iter().flatten().all(|arrived| *arrived), "{before:?}");

        let partition = network.0.partition(&["n1", "n4"]).unwrap();
        let cut = |arrives| vec![arrives; 4];
        assert_eq!(reached(&pairs), [false, false, true, true, false].map(cut));
        assert_eq!(reached(&always), before);

        // A node that boots has new cables, and is where it was.
        network::unplug(&network.0, "n1").unwrap();
        network::plug_in(&network.0, "n1", 4).unwrap();
        assert_eq!((network.reaches("n1", "n2"), network.reaches("n1", "n4")), (cut(false), cut(true)));

        partition.end().unwrap();
        // Who asked in vain asks again a second later.
        wait_for("arrival everywhere", 10 * WAIT, WAIT / 5, || {
            Ok(reached(&pairs).into_iter().flatten().all(|arrived| arrived).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn a_test_that_fails_leaves_the_nodes_joined() {
        let network = Network::of("joined", 2);
        let lab = network.0.clone();
        let failed = catch_unwind(move || {
            let _partition = lab.partition(&["n2"]).unwrap();
            assert!(lab.partition(&["n1"]).is_err(), "there is one already");
            panic!("as a test does that fails");
        });
        assert_eq!(failed.unwrap_err().downcast_ref(), Some(&"as a test does that fails"));
        assert_eq!(network.reaches("n1", "n2"), [true; 4]);
        network.0.end_partition().unwrap(); // nothing to do is no error
    }

    #[test]
    fn each_part_has_a_node_and_both_are_of_this_lab() {
        let network = Network::of("refused", 2);
        for (nodes, says) in [
            (&["n3"][..], "has no node \"n3\"; it has n1 n2"),
            (&["cp"], "has no node \"cp\"; it has n1 n2"),
            (&[], "into [] and [\"n1\", \"n2\"]: each part needs a node; name some of them, not all"),
            (&["n2", "n1"], "into [\"n2\", \"n1\"] and []: each part needs a node; name some of them, not all"),
        ] {
            let error = network.0.partition(nodes).unwrap_err().to_string();
            assert!(error.ends_with(says), "{error}");
        }
    }
}
