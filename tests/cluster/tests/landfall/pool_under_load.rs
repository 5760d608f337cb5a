//! A pool is edited while Services come and go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use landfall_cluster_tests::manifests::{pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::service::standing;
use landfall_cluster_tests::watch::Watch;
use landfall_cluster_tests::{eventually, install};
use serde_json::json;

/// How many Services come.
const SERVICES: usize = 60;
/// So many come at a time, and as many others are looked at again.
const GROUP: usize = 3;
/// So many are there at one time, and those that stay.
const AT_ONCE: usize = 18;
/// One of so many stays.
const STAYS: usize = 5;
/// The addresses that some pool has all the time: 198.51.100.0 to .15.
const ALWAYS: u8 = 16;
/// At the end there are so many: one for each Service that is left.
const AT_THE_END: u8 = 32;

/// One round of edits: what is applied, in this order. No addresses: the pool is deleted. Where two overlap, what was in
/// force before stays so until the next edit.
const EDITS: [(&str, &[&str]); 8] = [
    ("load", &["198.51.100.0-198.51.100.23"]),
    // Split at .8.
    ("load-upper", &["198.51.100.8-198.51.100.23"]),
    ("load", &["198.51.100.0/29"]),
    // Shrunk and extended.
    ("load-upper", &["198.51.100.8-198.51.100.19"]),
    ("load-upper", &["198.51.100.8-198.51.100.27"]),
    // Put together again.
    ("load", &["198.51.100.0-198.51.100.27"]),
    ("load-upper", &[]),
    ("load", &["198.51.100.0/28"]),
];

#[test]
fn a_pool_edited_under_load_moves_nobody_whose_address_stayed_valid_and_gives_none_twice() -> Result<()> {
    with_landfall("load", |scene| {
        scene.apply(&[pool("load", EDITS[7].1)])?;
        let watch = Watch::services(scene)?;
        let done = AtomicBool::new(false);
        let rounds = install::without_webhooks(&scene.lab, || {
            eventually("overlapping pool that nobody is asked about", || {
                edit(scene, EDITS[7].0, &["198.51.100.0/27"])
                    .and_then(|()| edit(scene, "load-upper", EDITS[1].1))
                    .map(Some)
            })?;
            edit(scene, "load-upper", &[])?;
            thread::scope(|scope| {
                let load = scope.spawn(|| {
                    let outcome = come_and_go(scene);
                    done.store(true, Ordering::Relaxed);
                    outcome
                });
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) {
                    EDITS.iter().try_for_each(|(name, addresses)| edit(scene, name, addresses))?;
                    rounds += 1;
                }
                load.join().map_err(|_| anyhow!("the thread that makes Services panicked"))??;
                anyhow::Ok(rounds)
            })
        })?;
        scene.apply(&[pool("load", &["198.51.100.0/27"])])?;

        let valid: BTreeSet<IpAddr> = (0..AT_THE_END).map(|last| IpAddr::from([198, 51, 100, last])).collect();
        let left = eventually("valid address for every Service that is left", || {
            let left = standing(scene)?;
            let served = left.values().all(|service| matches!(service.addresses[..], [ip] if valid.contains(&ip)));
            anyhow::ensure!(served, "{left:?}");
            Ok(Some(left))
        })?;
        let addresses: BTreeSet<IpAddr> = left.values().map(|service| service.addresses[0]).collect();
        assert_eq!((addresses.len(), left.len()), (left.len(), AT_ONCE + (SERVICES - AT_ONCE).div_ceil(STAYS)));
        let count = u64::try_from(left.len())?;
        scene.wait_for_counters("load", [count, 0, u64::from(AT_THE_END) - count, 0])?;

        let history = watch.history_until_now(scene)?;
        assert_eq!(history.held_twice(), [""; 0]);
        let always: BTreeSet<&IpAddr> = valid.iter().take(usize::from(ALWAYS)).collect();
        let (wrong, moved): (Vec<_>, Vec<_>) =
            history.losses().into_iter().partition(|loss| always.contains(&loss.lost));
        assert_eq!(wrong, [], "these addresses had a pool all the time");
        println!("{rounds} rounds of edits, {} Services lost an address that had no pool any more", moved.len());
        Ok(())
    })
}

fn edit(scene: &Scene, name: &str, addresses: &[&str]) -> Result<()> {
    let edited = match addresses {
        [] => scene.kubectl_landfall(&["delete", "ipaddresspool", name]),
        _ => scene.apply(&[pool(name, addresses)]),
    };
    edited.map(|_| ()).with_context(|| format!("pool {name}: {addresses:?}"))
}

/// One group of Services after the other; of those that are there for a while, some stay and the others go.
fn come_and_go(scene: &Scene) -> Result<()> {
    let name = |number: usize| format!("s{number}");
    for first in (0..SERVICES).step_by(GROUP) {
        let fresh = |number| service(&name(number), json!({"allocateLoadBalancerNodePorts": false}));
        scene.apply(&(first..first + GROUP).map(fresh).collect::<Vec<_>>())?;
        if let Some(old) = first.checked_sub(AT_ONCE) {
            let going: Vec<String> = (old..old + GROUP).filter(|number| number % STAYS != 0).map(name).collect();
            let going: Vec<&str> = going.iter().map(String::as_str).collect();
            scene.kubectl(&[&["delete", "services", "--wait=false"], &going[..]].concat())?;
        }
    }
    Ok(())
}
