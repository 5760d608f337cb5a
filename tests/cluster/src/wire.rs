//! Who answers on the client's segment: asked by real ARP and neighbour solicitations, heard by a capture.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_lab::{Capture, Lab, command};

use crate::eventually;

/// How often an address is asked for.
pub const REQUESTS: usize = 3;
/// Between two requests; an answer within the lab takes less than a millisecond.
const PAUSE: Duration = Duration::from_millis(200);

/// What the client's segment carried while an address was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// How many requests the client sent: [`REQUESTS`], and those of its kernel, if it asked too.
    pub requests: usize,
    /// For each answer the MAC that sent it.
    pub senders: Vec<String>,
    /// For each answer the MAC that it names as the address's. For IPv6 those that the asking program was told.
    pub names: Vec<String>,
}

impl Heard {
    /// Whether each request got one answer, all from this MAC and about this MAC.
    pub fn is_one_answerer(&self, mac: &str) -> bool {
        let only = |macs: &[String]| macs.iter().all(|heard| heard == mac);
        self.requests >= REQUESTS
            && self.senders.len() == self.requests
            && self.names.len() >= REQUESTS
            && only(&self.senders)
            && only(&self.names)
    }

    /// Whether it was asked for and nobody answered.
    pub fn is_silence(&self) -> bool {
        self.requests >= REQUESTS && self.senders.is_empty() && self.names.is_empty()
    }
}

/// Waits until `node` alone answers for `ip` on the client's first segment: everybody has heard of a change by then.
/// # Errors
/// Who answers instead.
pub fn wait_for_answerer(lab: &Lab, node: &str, ip: IpAddr) -> Result<()> {
    let mac = lab.node_mac(node, "eth0")?;
    eventually(&format!("{node}, {mac}, as the only one that answers for {ip}"), || {
        let heard = who_has(lab, "eth0", ip)?;
        ensure!(heard.is_one_answerer(&mac), "{heard:?}");
        Ok(Some(()))
    })
}

/// Asks everybody on the client's segment behind `interface` for `ip`, several times.
/// # Errors
/// A tool does not run.
pub fn who_has(lab: &Lab, interface: &str, ip: IpAddr) -> Result<Heard> {
    let client = lab.node_mac("client", interface)?;
    let capture = lab.capture("client", interface, filter(ip))?;
    let mut told = Vec::new();
    match ip {
        IpAddr::V4(_) => send_arp(lab, interface, ip)?,
        IpAddr::V6(_) => {
            for _ in 0..REQUESTS {
                told.extend(lab.ndisc("client", interface, ip, PAUSE)?);
            }
        }
    }
    let (answers, requests): (Vec<Frame>, Vec<Frame>) =
        heard(&capture.stop(), ip, &client).into_iter().partition(|frame| frame.is_answer);
    Ok(Heard {
        requests: requests.len(),
        senders: answers.iter().map(|frame| frame.from.clone()).collect(),
        names: if ip.is_ipv4() { answers.into_iter().filter_map(|frame| frame.names).collect() } else { told },
    })
}

/// Starts to ask for an IPv4 address every `pause`, until the probe is dropped.
/// # Errors
/// A tool does not run.
pub fn keep_asking(lab: &Lab, ip: IpAddr, pause: Duration) -> Result<Probe> {
    let client = lab.node_mac("client", "eth0")?;
    let capture = lab.capture("client", "eth0", filter(ip))?;
    let mut arping = lab.netns_command("client", "arping");
    arping.args(["-q", "-i", "eth0", "-c", "100000", "-W", &pause.as_secs_f64().to_string(), &ip.to_string()]);
    Ok(Probe { arping: arping.spawn().context("arping")?, capture, client, ip })
}

/// Requests that go on, and what is heard of them.
pub struct Probe {
    arping: std::process::Child,
    capture: Capture,
    client: String,
    ip: IpAddr,
}

impl Probe {
    /// Each request so far, in seconds since 1970, and whether it was answered before the next.
    pub fn requests(&self) -> Vec<(f64, bool)> {
        let mut requests: Vec<(f64, bool)> = Vec::new();
        for frame in heard(&self.capture.lines(), self.ip, &self.client) {
            match requests.last_mut() {
                _ if !frame.is_answer => requests.push((frame.at, false)),
                Some(last) => last.1 = true,
                None => {}
            }
        }
        requests
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.arping.kill(); // it has ended by itself
        let _ = self.arping.wait();
    }
}

/// Everything that is asked and answered about addresses of this family.
fn filter(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "arp" } else { "icmp6 and (ip6[40] == 135 or ip6[40] == 136)" }
}

/// Broadcast requests. arping ends with an error when nobody answers: that is for the capture to say.
fn send_arp(lab: &Lab, interface: &str, ip: IpAddr) -> Result<()> {
    let mut arping = lab.netns_command("client", "arping");
    let (count, pause) = (REQUESTS.to_string(), PAUSE.as_secs_f64().to_string());
    arping.args(["-q", "-i", interface, "-c", &count, "-W", &pause, &ip.to_string()]);
    arping.output().context("arping")?;
    Ok(())
}

/// One frame about an address, as tcpdump prints it.
#[derive(Debug, PartialEq)]
struct Frame {
    /// Seconds since 1970.
    at: f64,
    from: String,
    to: String,
    is_answer: bool,
    /// The MAC that an ARP answer names.
    names: Option<String>,
}

/// The frames in which the client asks for `ip` or is answered. Announcements that nobody asked for are sent to everybody.
fn heard(lines: &[String], ip: IpAddr, client: &str) -> Vec<Frame> {
    let frames = lines.iter().filter_map(|line| read(line, ip));
    frames.filter(|frame| if frame.is_answer { frame.to == client } else { frame.from == client }).collect()
}

/// `1700000000.1 02:..:01 > 02:..:02, ethertype ARP (0x0806), length 60: Reply 192.0.2.1 is-at 02:..:01, length 46`
fn read(line: &str, ip: IpAddr) -> Option<Frame> {
    let mut words = line.split_whitespace();
    let (at, from, _, to) = (words.next()?.parse().ok()?, words.next()?, words.next()?, words.next()?);
    let rest: Vec<&str> = words.map(|word| word.trim_matches([',', ':'])).collect();
    let after = |what: &[&str]| {
        let start = rest.windows(what.len()).position(|words| words == what)? + what.len();
        rest.get(start).copied()
    };
    let address = ip.to_string();
    let asks = [&["who-has"][..], &["who", "has"]].iter().any(|what| after(what) == Some(&address));
    let answers = [&["Reply"][..], &["tgt", "is"]].iter().any(|what| after(what) == Some(&address));
    (asks || answers).then(|| Frame {
        at,
        from: from.to_owned(),
        to: to.trim_end_matches(',').to_owned(),
        is_answer: answers,
        names: after(&["is-at"]).map(str::to_owned),
    })
}

/// What the client's kernel knows of its neighbours, for a person to read.
/// # Errors
/// `ip` does not run.
pub fn neighbour_table(lab: &Lab, place: &str) -> Result<String> {
    command::output(std::process::Command::new("ip").args(["-n", &lab.netns(place), "neigh", "show"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_tcpdump_prints_them() {
        let (a, b) = ("02:00:00:00:00:0a", "02:00:00:00:00:0b");
        let head = format!("1700000000.5 {a} > {b}, ethertype");
        let frame = |is_answer, names: Option<&str>| {
            Some(Frame {
                at: 1_700_000_000.5,
                from: a.into(),
                to: b.into(),
                is_answer,
                names: names.map(str::to_owned),
            })
        };
        for (rest, ip, expected) in [
            (
                "ARP (0x0806), length 60: Reply 192.0.2.1 is-at 02:00:00:00:00:0a, length 46",
                "192.0.2.1",
                frame(true, Some(a)),
            ),
            (
                "ARP (0x0806), length 42: Request who-has 192.0.2.1 tell 192.0.2.9, length 28",
                "192.0.2.1",
                frame(false, None),
            ),
            (
                "ARP (0x0806), length 42: Request who-has 192.0.2.1 (ff:ff:ff:ff:ff:ff) tell 192.0.2.9, length 28",
                "192.0.2.1",
                frame(false, None),
            ),
            ("ARP (0x0806), length 60: Reply 192.0.2.11 is-at 02:00:00:00:00:0a, length 46", "192.0.2.1", None),
            (
                "IPv6 (0x86dd), length 86: fd00::1 > fd00::2: ICMP6, neighbor advertisement, tgt is fd00::1, length 32",
                "fd00::1",
                frame(true, None),
            ),
            (
                "IPv6 (0x86dd), length 86: fd00::2 > ff02::1:ff00:1: ICMP6, neighbor solicitation, who has fd00::1, length 32",
                "fd00::1",
                frame(false, None),
            ),
        ] {
            assert_eq!(read(&format!("{head} {rest}"), ip.parse().unwrap()), expected, "{rest}");
        }
    }
}
