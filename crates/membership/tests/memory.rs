//! What a large cluster costs in memory. A test binary of its own: nothing else may allocate meanwhile.
#![allow(clippy::unwrap_used, reason = "clippy.toml lets tests unwrap, but not the helpers between them")]

use std::time::Instant;

use landfall_membership::{Keys, Member, Membership, Output, Settings, Start};

const MEMBERS: u64 = 1_000;
/// So many are made, so that what the allocator keeps back does not matter.
const MACHINES: u64 = 20;
/// The keys of all members, were they kept, would be 2.3 MB more.
const MOST_PER_MACHINE: u64 = 768 << 10;

fn speaker(node: u64, session: u64, members: impl Iterator<Item = u64>, now: Instant) -> Membership {
    let name = |node| format!("worker-{node}.example.org");
    let keys = Keys::new("cluster", &[b"a secret that all members have"]).unwrap();
    let start = Start { node: name(node).into(), incarnation: 1_700_000_000_000, session };
    let mut speaker = Membership::new(Settings::default(), keys, start, now).unwrap();
    speaker.set_members(members.map(|n| Member { node: name(n).into(), address: ([127, 0, 0, 1], 1).into() }), now);
    speaker
}

/// Octets that this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_node_that_has_heard_a_thousand_members_holds_less_than_three_quarters_of_a_mebibyte() {
    let now = Instant::now();
    let beat = |node| {
        let mut speaker = speaker(node, node, std::iter::once(0), now);
        speaker.tick(now);
        match speaker.poll() {
            Some(Output::Send { datagram, .. }) => datagram,
            other => panic!("a beat, not {other:?}"),
        }
    };
    let beats: Vec<_> = (1..MEMBERS).map(beat).collect();
    let before = resident();
    let machines: Vec<_> = (0..MACHINES)
        .map(|n| {
            let mut machine = speaker(0, n, 0..MEMBERS, now);
            for beat in &beats {
                machine.receive(beat, now).unwrap();
                while machine.poll().is_some() {}
            }
            machine
        })
        .collect();
    let each = (resident() - before) / MACHINES;
    println!("{each} octets for {MEMBERS} members");
    assert!(each < MOST_PER_MACHINE, "{each} octets for each of {} machines", machines.len());
    assert!(each > 100 * MEMBERS, "{each} octets are too few to be true");
}
