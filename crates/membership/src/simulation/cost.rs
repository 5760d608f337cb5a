//! What membership costs a node: the same in a cluster of any size.

use std::time::Duration;

use super::world::World;
use crate::{MemberId, Settings};

/// So many nodes know the whole cluster and are measured; consecutive ones of the ring, so that they watch each other too.
const WHOLE: usize = 40;
/// How far the others see in each direction of the ring: their observers, whom they watch, and the observers of these.
/// A thousand nodes that all know all of them are a million peers: too much for an ordinary test.
const NEAR: usize = 10;

/// Datagrams sent and received in a second by the busiest of the nodes that know the whole cluster.
fn datagrams_per_second(count: usize) -> (u64, u64) {
    let mut world = World::empty(1, count, 0, Settings::default());
    let mut ring: Vec<_> = (0..count).collect();
    ring.sort_by_key(|node| MemberId::of(&world.nodes[*node].name));
    for place in WHOLE..count {
        let near = (0..=2 * NEAR).map(|away| ring[(place + count + away - NEAR) % count]);
        world.nodes[ring[place]].knows = Some(near.collect());
    }
    (0..count).for_each(|node| world.start(node));
    // They start within 50 ms, tell all of it, and are quiet a second later.
    world.run_for(Duration::from_secs(2));
    world.sent.fill(0);
    world.received.fill(0);
    world.run_for(Duration::from_secs(10));
    let measured = &ring[..WHOLE.min(count)];
    let busiest = |counts: &[u64]| measured.iter().map(|node| counts[*node]).max().unwrap_or(0).div_ceil(10);
    (busiest(&world.sent), busiest(&world.received))
}

#[test]
fn cost_per_node_does_not_grow_with_the_cluster() {
    let rates = [3, 10, 100, 1_000].map(|count| {
        let (sent, received) = datagrams_per_second(count);
        println!("{count} nodes: at most {sent} sent and {received} received per second and node");
        (sent, received)
    });
    // Five observers ten times a second, and one word a second to one member in turn.
    for (sent, received) in &rates[1..] {
        assert!((50..=52).contains(sent) && (50..=56).contains(received), "{rates:?}");
    }
    assert!(rates[0].0 <= 22 && rates[0].1 <= 22, "three nodes have two observers each: {rates:?}");
}
