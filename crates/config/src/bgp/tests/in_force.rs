//! Which mistakes hold back what, and what admission refuses.

use super::*;
use crate::{Loaded, Loader, introduced, may_delete_bfd_profile};

#[test]
fn a_mistake_about_bgp_does_not_hold_back_pools_and_l2_advertisements() {
    let pool = |addresses: &str| ("IPAddressPool/p", json!({"addresses": [addresses]}));
    let l2 = ("L2Advertisement/l", json!({}));
    let (good, bad) = (("BGPPeer/a", peer(json!({}))), ("BGPPeer/a", peer(json!({"myASN": 0}))));
    let other = ("BGPPeer/b", peer(json!({"peerAddress": "10.0.0.2"})));
    let mut loader = Loader::default();
    loader.load(&cluster(&[pool("10.0.0.0/24"), good.clone()]));

    let loaded = loader.load(&cluster(&[pool("10.0.0.0/16"), l2.clone(), bad.clone(), other.clone()]));
    assert_eq!(loaded, Loaded { config_changed: true, bgp_changed: false, problems_changed: true });
    let config = loader.config().expect("a configuration");
    assert_eq!(config.pools["p"].capacity(true), 65536);
    assert!(config.l2_advertisements.contains_key("l"));
    assert_eq!(config.bgp.peers.keys().collect::<Vec<_>>(), ["a"], "the last good one");
    assert!(!loader.is_partial() && loader.pool_in_force("p") && loader.l2_advertisement_in_force("l"));
    assert_eq!((loader.problems().len(), loader.holding_back().count()), (1, 0));

    let loaded = loader.load(&cluster(&[pool("nonsense"), l2.clone(), good.clone(), other.clone()]));
    assert_eq!(loaded, Loaded { config_changed: false, bgp_changed: false, problems_changed: true });
    assert_eq!((loader.problems().len(), loader.holding_back().count()), (1, 1));
    let config = loader.config().expect("a configuration");
    assert_eq!(config.bgp.peers.len(), 1, "what is advertised is judged beside the pools");

    let loaded = loader.load(&cluster(&[pool("10.0.0.0/16"), l2, good, other]));
    assert_eq!(loaded, Loaded { config_changed: false, bgp_changed: true, problems_changed: true });
    assert_eq!(loader.config().expect("a configuration").bgp.peers.len(), 2);
}

#[test]
fn a_process_that_starts_with_a_mistake_about_bgp_takes_the_rest() {
    let wrong = ("BGPPeer/a", peer(json!({"myASN": 0})));
    let right = ("BGPPeer/b", peer(json!({"peerAddress": "10.0.0.2"})));
    let mut loader = Loader::default();
    loader.load(&cluster(&[wrong.clone(), right.clone(), ("IPAddressPool/p", json!({"addresses": ["10.0.0.0/24"]}))]));
    let config = loader.config().expect("a configuration");
    assert_eq!((config.bgp.peers.len(), config.pools.len()), (1, 1));
    assert!(!loader.is_partial(), "all pools could be read");
    assert!(loader.load(&cluster(&[wrong])).bgp_changed, "still no good one to go back to");
    assert!(loader.load(&cluster(&[right])).bgp_changed);
}

#[test]
fn admission_refuses_what_a_candidate_brings_in_and_nothing_else() {
    let wrong_already = ("BGPPeer/wrong", peer(json!({"peerAddress": "10.0.0.9", "holdTime": "1s"})));
    let standing = ("BGPPeer/standing", peer(json!({})));
    for (what, before, after, refused) in [
        ("a sound peer", vec![], vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2"})))], None),
        ("a peer twice", vec![], vec![("BGPPeer/new", peer(json!({})))], Some("peer 10.0.0.1 already exists")),
        (
            "a profile still to come",
            vec![],
            vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2", "bfdProfile": "f"})))],
            None,
        ),
        (
            "a profile still to come does not hide another mistake",
            vec![],
            vec![("BGPPeer/new", peer(json!({"bfdProfile": "f"})))],
            Some("peer 10.0.0.1 already exists"),
        ),
        ("an alias still to come", vec![], vec![("BGPAdvertisement/a", json!({"communities": ["gold"]}))], None),
        (
            "an alias still to come does not hide another mistake",
            vec![("IPAddressPool/p", json!({"addresses": ["10.0.0.0/24"]}))],
            vec![
                ("IPAddressPool/p", json!({"addresses": ["10.0.0.0/24"]})),
                ("BGPAdvertisement/a", json!({"communities": ["gold"], "aggregationLength": 8})),
            ],
            Some("invalid aggregation length 8"),
        ),
        (
            "a mistake that stays",
            vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2", "connectTime": "0s"})))],
            vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2", "connectTime": "0s", "localASN": 7})))],
            None,
        ),
        (
            "a mistake in place of another",
            vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2", "connectTime": "0s"})))],
            vec![("BGPPeer/new", peer(json!({"peerAddress": "10.0.0.2", "sourceAddress": "x"})))],
            Some("invalid source IP"),
        ),
    ] {
        let with = |objects: Vec<(&'static str, Value)>| {
            cluster(&[vec![wrong_already.clone(), standing.clone()], objects].concat())
        };
        let found: Vec<String> = introduced(&with(before), &with(after)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), usize::from(refused.is_some()), "{what}: {found:?}");
        assert!(found.iter().zip(refused).all(|(found, refused)| found.contains(refused)), "{what}: {found:?}");
    }
}

#[test]
fn a_candidate_that_has_no_age_yet_counts_as_the_youngest() {
    let before = cluster(&[("BGPPeer/z", peer(json!({})))]);
    let mut after = before.clone();
    let mut candidate = cluster(&[("BGPPeer/a", peer(json!({})))]).bgp_peers.remove(0);
    candidate.metadata.creation_timestamp = None;
    after.bgp_peers.push(candidate);
    assert_eq!(introduced(&before, &after).iter().map(|problem| problem.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_bfd_profile_in_use_is_not_deleted() {
    let peers = cluster(&[
        ("BGPPeer/r", peer(json!({"bfdProfile": "fast"}))),
        ("BGPPeer/q", peer(json!({"bfdProfile": "fast"}))),
        ("BGPPeer/p", peer(json!({}))),
    ])
    .bgp_peers;
    let refused = may_delete_bfd_profile("fast", &peers).expect_err("in use").to_string();
    assert!(refused.starts_with("failed to delete BFDProfile fast, used by BGPPeer q, BGPPeer r; remove"), "{refused}");
    assert_eq!(may_delete_bfd_profile("slow", &peers), Ok(()));
}
