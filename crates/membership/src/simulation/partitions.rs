//! Networks that fall apart and grow together again.

use std::cmp::Reverse;
use std::time::Duration;

use super::world::World;
use super::{for_seeds, report};
use crate::{MemberId, Settings, View};

/// Cuts the cluster in two at random; returns the parts, the first not empty.
fn split(world: &mut World) -> [Vec<usize>; 2] {
    let count = world.nodes.len();
    let first = world.dice.index(count);
    let mut parts = [vec![first], vec![(first + 1) % count]];
    for node in (0..count).filter(|node| *node != first && *node != (first + 1) % count) {
        let part = world.dice.index(2);
        parts[part].push(node);
    }
    world.network.split(&parts[0], count);
    parts
}

#[test]
fn each_part_of_a_split_network_serves_every_address_and_one_owner_is_left_when_it_heals() {
    let (serving, healed) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    for_seeds(40, |seed| {
        let count = [2, 3, 4, 5, 6, 8, 10, 20][seed as usize % 8];
        let mut world = World::new(seed, count, 1, Settings::default());
        let parts = split(&mut world);
        for part in &parts {
            let serves = world.run_until(Duration::from_secs(5), |world| world.one_owner_each(part));
            serving.borrow_mut().push(serves.expect("each part serves, with one owner"));
        }
        let quiet = world.dice.millis(3_500, 5_000);
        world.run_for(quiet);
        for part in &parts {
            assert!(world.one_owner_each(part), "and goes on to");
        }
        world.network.cut.clear();
        let all = world.running();
        let took = world.run_until(Duration::from_secs(1), |world| world.one_owner_each(&all));
        healed.borrow_mut().push(took.expect("one owner is left"));
        world.run_for(Duration::from_secs(2));
        for _ in 0..100 {
            world.run_for(Duration::from_millis(10));
            assert!(world.one_owner_each(&all), "and stays the only one");
        }
        let lowest = |part: &[usize]| part.iter().map(|node| MemberId::of(&world.nodes[*node].name)).min();
        let kept = parts.iter().max_by_key(|part| (part.len(), Reverse(lowest(part)))).expect("two parts");
        for node in kept {
            assert_eq!(world.view(*node, *node), Some(View::Alive), "the larger part keeps its addresses");
        }
        let home = world.run_until(Duration::from_secs(30), World::all_at_home);
        assert!(home.is_some(), "after the hold-down all is where it was");
    });
    report("until each part serves", serving.take());
    report("one owner after healing", healed.take());
}

#[test]
fn a_part_that_is_only_heard_and_a_part_that_only_hears_end_with_one_owner_each() {
    for_seeds(16, |seed| {
        let count = [3, 5, 8][seed as usize % 3];
        let mut world = World::new(seed, count, 1, Settings::default());
        let parts = split(&mut world);
        // From the second part to the first everything goes through.
        for (to, from) in parts[0].iter().flat_map(|to| parts[1].iter().map(move |from| (*to, *from))) {
            world.network.cut.remove(&(from, to));
        }
        world.run_for(Duration::from_secs(5));
        world.network.cut.clear();
        let all = world.running();
        let took = world.run_until(Duration::from_secs(2), |world| world.one_owner_each(&all));
        assert!(took.is_some(), "one owner is left when it heals");
        let home = world.run_until(Duration::from_secs(60), World::all_at_home);
        assert!(home.is_some(), "after the hold-down all is where it was");
    });
}

#[test]
fn who_is_cut_off_misses_beats_as_soon_as_the_others_and_finds_nobody_silent_for_seconds() {
    for_seeds(24, |seed| {
        let count = [3, 4, 5, 7, 12][seed as usize % 5];
        let mut world = World::new(seed, count, 1, Settings::default());
        let node = world.dice.index(count);
        world.network.split(&[node], count);
        let others: Vec<_> = (0..count).filter(|other| *other != node).collect();
        let misses = |world: &World| world.nodes[node].speaker.as_ref().is_some_and(crate::Membership::misses_beats);
        world.run_until(Duration::from_millis(400), misses).expect("it hears nobody");
        world.run_for(Duration::from_millis(2_500));
        assert!(misses(&world));
        assert!(others.iter().all(|other| world.find_silent(*other) == 0), "nobody is out for it yet");
        assert!(world.find_silent(node) > 0);
    });
}
