//! What must be noticed, how fast; and what must not be taken for a fault.

use std::time::Duration;

use super::world::World;
use super::{for_seeds, report};
use crate::Settings;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// From the power-off of a random node until each of its addresses is answered for again.
fn power_off(seed: u64, settings: Settings, loss: u64) -> Duration {
    let count = [2, 3, 5, 6, 7, 12][seed as usize % 6];
    let mut world = World::new(seed, count, 2, settings);
    assert!(world.all_at_home());
    world.network.loss = loss;
    let wait = world.dice.millis(0, 500);
    world.run_for(wait);
    let dead = world.dice.index(count);
    world.power_off(dead);
    let alive = world.running();
    let took = world.run_until(ms(3_000), |world| world.one_owner_each(&alive)).expect("taken over");
    assert!(
        world.taken.iter().all(|(_, _, address)| address % count == dead),
        "others' addresses stay: {:?}",
        world.taken
    );
    // Most of those that watch it have asked its kernel themselves.
    let most = (count - 1).min(5) / 2 + 1;
    let found = world.run_until(ms(100), |world| world.find_silent(dead) >= most);
    assert!(found.is_some(), "{} of {most} find node {dead} of {count} silent", world.find_silent(dead));
    assert!(alive.iter().all(|node| world.find_silent(*node) == 0));
    took
}

#[test]
fn a_dead_node_is_replaced_within_its_bound() {
    let times = std::cell::RefCell::new(Vec::new());
    for_seeds(60, |seed| times.borrow_mut().push(power_off(seed, Settings::default(), 0)));
    let (median, worst) = report("power-off, default profile, no loss", times.take());
    assert!(median <= ms(350) && worst <= ms(400), "{median:?} {worst:?}");

    for_seeds(60, |seed| times.borrow_mut().push(power_off(seed, Settings::default(), 10)));
    let (median, worst) = report("power-off, default profile, 1 % loss", times.take());
    assert!(median <= ms(450) && worst <= ms(800), "{median:?} {worst:?}");

    for_seeds(60, |seed| times.borrow_mut().push(power_off(seed, Settings::fast(), 0)));
    let (median, worst) = report("power-off, fast profile, no loss", times.take());
    assert!(median <= ms(130) && worst <= ms(150), "{median:?} {worst:?}");
}

#[test]
fn two_nodes_that_die_at_once_are_replaced() {
    let times = std::cell::RefCell::new(Vec::new());
    for_seeds(30, |seed| {
        let count = [4, 5, 6, 8][seed as usize % 4];
        let mut world = World::new(seed, count, 2, Settings::default());
        let first = world.dice.index(count);
        world.power_off(first);
        world.power_off((first + 1) % count);
        let alive = world.running();
        times.borrow_mut().push(world.run_until(ms(3_000), |world| world.one_owner_each(&alive)).expect("taken over"));
    });
    let (_, worst) = report("two power-offs at once", times.take());
    assert!(worst <= ms(800), "{worst:?}");
}

/// The loss in each direction below which no healthy node is taken over, per mille: what the parameters tolerate.
/// `docs/decisions/0009-membership.md` computes it.
const TOLERATED: [(usize, u64); 4] = [(2, 20), (3, 50), (5, 100), (9, 100)];

#[test]
fn no_healthy_node_is_taken_over_below_the_loss_that_is_tolerated() {
    for_seeds(16, |seed| {
        let (count, loss) = TOLERATED[seed as usize % TOLERATED.len()];
        let mut world = World::new(seed, count, 2, Settings::default());
        (world.network.loss, world.network.doubled, world.network.late) = (loss, 20, 50);
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.taken, [], "nothing moves");
        assert!(world.all_at_home());
    });
}

#[test]
fn a_link_that_carries_nothing_evicts_neither_end() {
    for_seeds(24, |seed| {
        let count = [3, 4, 5, 8][seed as usize % 4];
        let mut world = World::new(seed, count, 2, Settings::default());
        world.network.loss = 20;
        let a = world.dice.index(count);
        let b = (a + 1) % count;
        world.network.cut.insert((a, b));
        if seed % 2 == 0 {
            world.network.cut.insert((b, a));
        }
        world.run_for(Duration::from_secs(8));
        assert_eq!(world.taken, [], "nothing moves");
    });
}

#[test]
fn a_deaf_node_evicts_nobody() {
    for_seeds(24, |seed| {
        let count = [3, 4, 6, 9][seed as usize % 4];
        let mut world = World::new(seed, count, 2, Settings::default());
        let deaf = world.dice.index(count);
        for other in (0..count).filter(|other| *other != deaf) {
            world.network.cut.insert((other, deaf));
        }
        world.run_for(ms(2_500));
        assert_eq!(world.taken, [], "it waits before it believes that all the others are gone");
        world.run_for(Duration::from_secs(5));
        let moved = world.taken.iter().find(|(_, by, address)| *by != deaf && address % count != deaf);
        assert_eq!(moved, None, "the others hear each other and keep what is theirs");
        world.network.cut.clear();
        let all = world.running();
        let healed = world.run_until(ms(1_000), |world| world.one_owner_each(&all));
        assert!(healed.is_some(), "one owner again");
        for other in (0..count).filter(|other| *other != deaf) {
            assert!(world.nodes[other].owned.contains(&other), "the one that was deaf yields");
        }
    });
}

#[test]
fn a_slow_process_suspects_nobody() {
    for_seeds(24, |seed| {
        let count = [2, 3, 5, 8][seed as usize % 4];
        let mut world = World::new(seed, count, 2, Settings::default());
        let slow = world.dice.index(count);
        for _ in 0..30 {
            world.freeze(slow, false);
            let (stops, runs) = (world.dice.millis(50, 2_000), world.dice.millis(0, 120));
            world.run_for(stops);
            world.thaw(slow);
            world.run_for(runs);
            let suspects: Vec<_> = world.suspected.iter().filter(|(_, by, _)| *by == slow).collect();
            assert!(suspects.is_empty(), "{suspects:?} after {stops:?}");
        }
        world.run_for(ms(500));
        assert_eq!(world.taken, [], "its kernel answers: nothing moves");
    });
}

#[test]
fn a_frozen_node_that_thaws_yields_and_one_owner_remains() {
    let times = std::cell::RefCell::new(Vec::new());
    for_seeds(32, |seed| {
        let count = [2, 3, 5, 8][seed as usize % 4];
        let settings = Settings { cover_for: Duration::from_secs(5), ..Settings::default() };
        let mut world = World::new(seed, count, 2, settings);
        let (frozen, whole) = (world.dice.index(count), seed % 3 == 0);
        world.freeze(frozen, whole);
        let span = world.dice.millis(200, 12_000);
        world.run_for(span);
        world.thaw(frozen);
        let all = world.running();
        times.borrow_mut().push(world.run_until(ms(1_000), |world| world.one_owner_each(&all)).expect("one owner"));
        world.run_for(Duration::from_secs(2));
        assert!(world.one_owner_each(&all), "and it stays so");
        let back = world.run_until(Duration::from_secs(25), World::all_at_home);
        assert!(back.is_some(), "after the hold-down all is where it was");
    });
    report("one owner after a thaw", times.take());
}

#[test]
fn replayed_datagrams_keep_no_dead_node_alive() {
    for_seeds(12, |seed| {
        let count = [2, 3, 8][seed as usize % 3];
        let mut world = World::new(seed, count, 2, Settings::default());
        world.replay_after = Some(world.dice.millis(5, 900));
        world.run_for(Duration::from_secs(2));
        assert_eq!(world.taken, []);
        let dead = world.dice.index(count);
        world.power_off(dead);
        let alive = world.running();
        let took = world.run_until(ms(400), |world| world.one_owner_each(&alive));
        assert!(took.is_some(), "as if nothing were replayed");
        assert!(world.nodes[alive[0]].refusals["replay"] > 10);
    });
}
