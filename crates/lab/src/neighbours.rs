//! Who answers for an address on the wire, asked with the tools that people use; and what kernels remember of others.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::lab::Lab;

impl Lab {
    /// The MAC address of a machine's interface (`eth0`), in lower case with colons.
    pub fn node_mac(&self, place: &str, interface: &str) -> Result<String> {
        let mut ip = Command::new("ip");
        let text = command::output(ip.args(["-n", &self.netns(place), "-j", "link", "show", "dev", interface]))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let mac = links[0]["address"].as_str();
        Ok(mac.with_context(|| format!("{place} has no {interface}"))?.to_owned())
    }

    /// The node that has this MAC address on one of its interfaces.
    pub fn node_with_mac(&self, mac: &str) -> Result<Option<String>> {
        let has =
            |node: &String| ["eth0", "eth1"].iter().any(|eth| self.node_mac(node, eth).is_ok_and(|own| own == mac));
        Ok(self.nodes()?.into_iter().find(has))
    }

    /// Asks by ARP from `place`, broadcast, once, and returns the MAC of every answer within `wait` (whole seconds, at least 1).
    /// None is an empty list, not an error.
    pub fn arping(&self, place: &str, interface: &str, address: IpAddr, wait: Duration) -> Result<Vec<String>> {
        let mut arping = self.netns_command(place, "arping");
        // Both programs of this name (Habets' and iputils') take these, and end with an error when nobody answers.
        arping.args(["-I", interface, "-c", "1", "-w", &wait.as_secs().max(1).to_string(), &address.to_string()]);
        let said = arping.output().context("arping")?;
        let lines = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(lines.lines().filter(|line| line.contains("from")).filter_map(find_mac).collect())
    }

    /// Asks by neighbour solicitation from `place`, once, and returns the MAC of every answer within `wait`.
    pub fn ndisc(&self, place: &str, interface: &str, address: IpAddr, wait: Duration) -> Result<Vec<String>> {
        let mut ndisc6 = self.netns_command(place, "ndisc6");
        ndisc6.args(["-m", "-n", "-r", "1", "-w", &wait.as_millis().to_string(), &address.to_string(), interface]);
        let said = ndisc6.output().context("ndisc6")?;
        let lines = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok(lines.lines().filter(|line| line.contains("link-layer address")).filter_map(find_mac).collect())
    }

    /// What the kernel of `place` has learnt: the MAC in its neighbour table for `address`.
    pub fn neighbour(&self, place: &str, address: IpAddr) -> Result<Option<String>> {
        let mut ip = Command::new("ip");
        let text = command::output(ip.args(["-n", &self.netns(place), "neigh", "show", &address.to_string()]))?;
        Ok(find_mac(&text))
    }

    /// Makes the kernel of a node forget every connection to this address. It remembers one whose first packet nobody answered for
    /// two minutes, and sends whoever comes from the same port within them to the same, dead Pod.
    pub fn forget_connections(&self, node: &str, to: IpAddr) -> Result<()> {
        let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
        let mut conntrack = self.netns_command(node, "conntrack");
        let said = conntrack.args(["--delete", "--family", family, "--orig-dst", &to.to_string()]).output()?;
        // It calls it a failure when there was none.
        let text = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success() || text.contains(": 0 flow entries"), "conntrack on {node}: {}", text.trim());
        Ok(())
    }

    /// Makes the kernel of `place` forget every neighbour, so that it asks again.
    pub fn forget_neighbours(&self, place: &str) -> Result<()> {
        command::output(Command::new("ip").args(["-n", &self.netns(place), "neigh", "flush", "all"]))?;
        Ok(())
    }
}

/// The first MAC address in a line, in lower case with two digits each (ndisc6 and arping print it in their own ways).
fn find_mac(line: &str) -> Option<String> {
    let word = |word: &str| {
        let octets: Result<Vec<u8>, _> = word.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
        octets.ok().filter(|octets| octets.len() == 6)
    };
    let octets = line.split(|c: char| c.is_whitespace() || "[]()".contains(c)).find_map(word)?;
    Some(octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::find_mac;

    #[test]
    fn a_mac_is_found_in_what_each_tool_prints() {
        for line in [
            "42 bytes from 02:1f:ac:1e:00:0b (172.30.0.11): index=0 time=6.1 usec",
            "Unicast reply from 172.30.0.11 [02:1F:AC:1E:00:0B]  0.6ms",
            "Target link-layer address: 02:1F:AC:1E:00:0B",
            "172.30.0.11 dev eth0 lladdr 02:1f:ac:1e:00:0b REACHABLE",
        ] {
            assert_eq!(find_mac(line).as_deref(), Some("02:1f:ac:1e:00:0b"), "{line}");
        }
        assert_eq!(find_mac("172.30.0.11 dev eth0 FAILED"), None);
        assert_eq!(find_mac("fd00:30::b dev eth0 INCOMPLETE"), None);
    }
}
