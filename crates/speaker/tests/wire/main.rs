//! The wire half against real kernels: a bridge and hosts in network namespaces. Questions and answers are those on the
//! wire. Needs root, and the packages iproute2, arping and ndisc6.

#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

mod announcements;
mod answers;
mod interfaces;
mod kernel_probe;
mod probation;
mod segment;

use landfall_speaker::links::InterfaceFilter;
use segment::{Host, Neighbour, Segment, Speaker};

const VIP4: &str = "192.0.2.10";
const VIP6: &str = "2001:db8::10";

/// A node with a speaker (eth0 has 02:00:00:00:00:02), and a client (02:00:00:00:00:01) with a raw socket.
struct Scene {
    segment: Segment,
    node: Host,
    speaker: Speaker,
    client: Host,
    neighbour: Neighbour,
}

impl Scene {
    fn new() -> Self {
        Self::filtered(InterfaceFilter::default())
    }

    fn filtered(filter: InterfaceFilter) -> Self {
        let mut segment = Segment::new();
        let node = segment.host("node", 2, &["192.0.2.2/24", "2001:db8::2/64"]);
        let client = segment.host("client", 1, &["192.0.2.1/24", "2001:db8::1/64"]);
        let speaker = node.speaker(filter);
        let neighbour = client.neighbour(1, "192.0.2.1", "2001:db8::1");
        Self { segment, node, speaker, client, neighbour }
    }
}
