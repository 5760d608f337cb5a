//! Everything at once; then peace, and order within a bound.

use std::time::Duration;

use super::world::World;
use super::{for_seeds, report};
use crate::{Leave, Settings, View};

fn anything(world: &mut World) {
    let count = world.nodes.len();
    let node = world.dice.index(count);
    let runs = world.nodes[node].speaker.is_some();
    match world.dice.between(0, 11) {
        0 => world.power_off(node),
        1 => world.kill(node),
        2 => world.leave(node, Leave::Restart),
        3 => world.leave(node, Leave::Drain),
        4 => world.stay(node),
        5 if runs => world.freeze(node, false),
        6 if runs => world.freeze(node, true),
        7 => {
            let part: Vec<_> = (0..count).filter(|_| world.dice.per_mille(400)).collect();
            world.network.split(&part, count);
        }
        8 => {
            let other = world.dice.index(count);
            world.network.cut.insert((node, other));
        }
        9 => world.network.cut.clear(),
        10 => {
            world.network.loss = world.dice.between(0, 400);
            (world.network.doubled, world.network.late) = (100, 200);
        }
        _ if !runs => {
            world.nodes[node].clock = world.dice.between(1, 2_000_000_000_000);
            world.start(node);
        }
        _ => {
            let wake = world.dice.per_mille(800);
            if wake {
                world.thaw(node);
            }
        }
    }
}

fn peace(world: &mut World) {
    world.network = super::network::Network::default();
    for node in 0..world.nodes.len() {
        world.thaw_if_frozen(node);
        if world.nodes[node].speaker.is_none() || world.nodes[node].handed_over {
            world.kill(node);
            world.start(node);
        }
        world.stay(node);
    }
}

#[test]
fn after_any_faults_one_owner_is_left_and_all_agree() {
    let (one, agree) = (std::cell::RefCell::new(Vec::new()), std::cell::RefCell::new(Vec::new()));
    for_seeds(60, |seed| {
        let count = [2, 3, 4, 5, 6, 9][seed as usize % 6];
        let settings = Settings { hold_down: Duration::from_secs(2), ..Settings::default() };
        let mut world = World::new(seed, count, 1, settings);
        for _ in 0..world.dice.between(3, 25) {
            anything(&mut world);
            let pause = world.dice.millis(0, 1_500);
            world.run_for(pause);
        }
        peace(&mut world);
        let all: Vec<_> = (0..count).collect();
        let took = world.run_until(Duration::from_secs(2), |world| world.one_owner_each(&all));
        one.borrow_mut().push(took.expect("one owner each"));
        // The longest hold-down that these outages can have brought about is ten minutes: not waited for here.
        world.run_for(Duration::from_secs(2));
        for _ in 0..50 {
            world.run_for(Duration::from_millis(100));
            // Where one of them comes back just now, both own the address until the other has heard of it.
            let soon = world.run_until(Duration::from_millis(5), |world| world.one_owner_each(&all));
            assert!(soon.is_some(), "one owner each, for good");
        }
        let sees_all = |world: &World| {
            all.iter().all(|by| {
                all.iter().all(|of| match (world.view(*of, *by), world.view(*of, *of)) {
                    (Some(View::HoldDown { .. }), Some(View::HoldDown { .. })) => true,
                    (seen, own) => seen == own,
                })
            })
        };
        let took = world.run_until(Duration::from_secs(2), sees_all);
        agree.borrow_mut().push(took.expect("every node sees every other as it sees itself"));
    });
    report("one owner each after any faults", one.take());
    report("all agree, 9 s after any faults", agree.take());
}
