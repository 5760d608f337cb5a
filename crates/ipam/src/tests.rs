use std::collections::{BTreeMap, BTreeSet};

use super::*;
use landfall_config::{Labels, Resources, bits};
use proptest::prelude::*;
use serde_json::{Value, json};

fn config(pools: &[(&str, Value)]) -> Config {
    let pools = pools
        .iter()
        .map(|(name, spec)| serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pool"));
    let (config, problems) = Config::read(&Resources { pools: pools.collect(), ..Default::default() });
    assert_eq!(problems, []);
    config
}

fn plain(name: &str, addresses: &[&str]) -> Config {
    config(&[(name, json!({"addresses": addresses}))])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A request that owns its parts.
#[derive(Clone)]
struct Wish {
    service: ServiceKey,
    labels: Labels,
    namespace_labels: Labels,
    families: Families,
    ips: Vec<IpAddr>,
    pool: Option<String>,
    sharing: Option<Sharing>,
    ports: BTreeSet<Port>,
}

impl Wish {
    fn of(name: &str) -> Self {
        Self {
            service: ServiceKey { namespace: "default".into(), name: name.into() },
            labels: Labels::new(),
            namespace_labels: Labels::new(),
            families: Families::Single(Family::V4),
            ips: vec![],
            pool: None,
            sharing: None,
            ports: [tcp(80)].into(),
        }
    }
    fn dual(mut self, required: bool) -> Self {
        self.families = Families::Dual { primary: Family::V4, required };
        self
    }
    fn primary(mut self, primary: Family) -> Self {
        self.families = Families::Dual { primary, required: false };
        self
    }
    fn ips(mut self, ips: &[&str]) -> Self {
        self.ips = ips.iter().map(|text| ip(text)).collect();
        self
    }
    fn pool(mut self, pool: &str) -> Self {
        self.pool = Some(pool.into());
        self
    }
    fn shared(mut self, key: &str, backend: &str, port: u16) -> Self {
        self.sharing = Some(Sharing { key: key.into(), backend: backend.into() });
        self.ports = [tcp(port)].into();
        self
    }
    fn request(&self) -> Request<'_> {
        Request {
            service: &self.service,
            labels: &self.labels,
            namespace_labels: &self.namespace_labels,
            families: self.families,
            ips: &self.ips,
            pool: self.pool.as_deref(),
            sharing: self.sharing.as_ref(),
            ports: &self.ports,
        }
    }
}

fn tcp(number: u16) -> Port {
    Port { protocol: Protocol::Tcp, number }
}

/// The addresses as text, or the reason why there is none.
fn outcome(result: Result<Assignment, AllocateError>) -> String {
    match result {
        Ok(given) => {
            format!("{}: {}", given.pool, given.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        }
        Err(error) => error.reason().into(),
    }
}

#[test]
fn addresses_are_handed_out_in_the_order_of_the_pool() {
    let config = plain("p", &["192.168.10.100/32", "192.168.1.0/31", "fd00::1/128"]);
    let mut ipam = Ipam::default();
    for (name, expected) in [
        ("first", "p: 192.168.10.100"),
        ("second", "p: 192.168.1.0"),
        ("third", "p: 192.168.1.1"),
        ("fourth", "NoAddressAvailable"),
    ] {
        assert_eq!(outcome(ipam.allocate(&config, &Wish::of(name).request())), expected, "{name}");
    }
    ipam.release(&Wish::of("second").service);
    assert_eq!(outcome(ipam.allocate(&config, &Wish::of("fourth").request())), "p: 192.168.1.0");
}

#[test]
fn addresses_that_end_in_0_and_255_are_skipped_where_the_pool_says_so() {
    let config = config(&[("p", json!({"addresses": ["10.0.0.254-10.0.1.1"], "avoidBuggyIPs": true}))]);
    let mut ipam = Ipam::default();
    for (name, expected) in [("a", "p: 10.0.0.254"), ("b", "p: 10.0.1.1"), ("c", "NoAddressAvailable")] {
        assert_eq!(outcome(ipam.allocate(&config, &Wish::of(name).request())), expected);
    }
    let usage = ipam.usage(&config.pools["p"], Family::V4);
    assert_eq!(usage, Usage { assigned: 2, available: 0 });
    assert_eq!(outcome(ipam.allocate(&config, &Wish::of("d").ips(&["10.0.1.0"]).request())), "AddressNotInAnyPool");
}

#[test]
fn a_refusal_names_every_pool_and_why_and_the_way_out() {
    let config = config(&[
        ("closed", json!({"addresses": ["10.0.0.0/24"], "autoAssign": false})),
        ("full", json!({"addresses": ["10.1.0.1/32"]})),
        ("six", json!({"addresses": ["fd00::/64"]})),
        ("team", json!({"addresses": ["10.2.0.0/24"], "serviceAllocation": {"namespaces": ["team"]}})),
    ]);
    let mut ipam = Ipam::default();
    assert_eq!(outcome(ipam.allocate(&config, &Wish::of("first").request())), "full: 10.1.0.1");
    for (wish, message) in [
        (
            Wish::of("x"),
            "no available IPs: pool team: spec.serviceAllocation does not accept the Service; \
             pool closed: autoAssign is false and the Service does not ask for it; \
             pool full: all its IPv4 addresses are in use; pool six: it has no IPv4 addresses; \
             add addresses to a pool or create another",
        ),
        (
            Wish::of("x").pool("gone"),
            "unknown pool \"gone\"; the pools are closed, full, six, team; \
             correct the annotation metallb.io/address-pool",
        ),
        (
            Wish::of("x").pool("full"),
            "no available IPs in pool full: all its IPv4 addresses are in use; add addresses to it or ask for another pool",
        ),
        (
            Wish::of("x").pool("team"),
            "no available IPs in pool team: spec.serviceAllocation does not accept the Service; \
             change it or ask for another pool",
        ),
        (
            Wish::of("x").ips(&["10.9.9.9"]),
            "[\"10.9.9.9\"] is not allowed in config: no IPAddressPool contains it; \
             add it to spec.addresses of a pool or ask for another address",
        ),
        (
            Wish::of("x").ips(&["10.2.0.1"]),
            "pool team not compatible for ip assignment: its spec.serviceAllocation does not accept this Service in \
             namespace \"default\"; change it or ask for an address of another pool",
        ),
        (
            Wish::of("x").ips(&["fd00::1"]),
            "requested loadBalancer IP(s) [\"fd00::1\"] does not match the ipFamily of the service, which is IPv4; \
             a dual-stack Service must ask for one address of each family",
        ),
        (
            Wish::of("x").ips(&["10.0.0.1"]).pool("full"),
            "requested loadBalancer IP(s) [\"10.0.0.1\"] is not compatible with requested address pool full: \
             it belongs to pool closed; remove one of the two annotations",
        ),
        (
            Wish::of("x").ips(&["10.1.0.1"]),
            "can't change sharing key for \"default/x\", address 10.1.0.1 also in use by default/first; both must carry \
             the same annotation metallb.io/allow-shared-ip and, with externalTrafficPolicy Local, the same selector",
        ),
    ] {
        let error = ipam.allocate(&config, &wish.request()).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert!(ipam.held(&wish.service).is_empty());
    }
    let none = ipam.allocate(&Config::default(), &Wish::of("x").request()).expect_err("no pools");
    assert_eq!(none.to_string(), "there is no IPAddressPool; create one");
}

#[test]
fn pools_are_tried_by_pinning_then_priority_then_name() {
    let one = |n: u8, allocation: Value| {
        let mut spec = json!({"addresses": [format!("10.0.0.{n}/32")]});
        if !allocation.is_null() {
            spec["serviceAllocation"] = allocation;
        }
        spec
    };
    let config = config(&[
        ("a-open", one(1, Value::Null)),
        ("b-open", one(2, Value::Null)),
        ("c-unset", one(3, json!({"namespaces": ["default"]}))),
        ("d-20", one(4, json!({"namespaces": ["default"], "priority": 20}))),
        ("e-10", one(5, json!({"namespaces": ["default"], "priority": 10}))),
        ("f-10", one(6, json!({"namespaces": ["default"], "priority": 10}))),
    ]);
    let mut ipam = Ipam::default();
    let mut got = vec![];
    for i in 0..6 {
        let given = ipam.allocate(&config, &Wish::of(&i.to_string()).request()).expect("six pools, six Services");
        got.push(given.pool);
    }
    assert_eq!(got, ["e-10", "f-10", "d-20", "c-unset", "a-open", "b-open"]);
}

#[test]
fn dual_stack_takes_both_families_from_one_pool_or_what_it_prefers() {
    let separate =
        config(&[("four", json!({"addresses": ["10.0.0.0/31"]})), ("six", json!({"addresses": ["fd00::/127"]}))]);
    let with_both = config(&[
        ("four", json!({"addresses": ["10.0.0.0/31"]})),
        ("both", json!({"addresses": ["10.1.0.0/32", "fd01::/127"]})),
    ]);
    let six_first = config(&[
        ("a-six", json!({"addresses": ["fd00::/127"]})),
        ("b-four", json!({"addresses": ["10.0.0.0/31"]})),
        ("c-four", json!({"addresses": ["10.1.0.0/31"]})),
    ]);
    let only_six = plain("six", &["fd00::/127"]);
    let pin = |namespace: &str| json!({"addresses": ["10.0.0.0/31"], "serviceAllocation": {"namespaces": [namespace]}});
    let pinned = config(&[("open", json!({"addresses": ["10.1.0.0/31", "fd01::/127"]})), ("pinned", pin("default"))]);
    let for_others = config(&[("pinned", pin("other"))]);
    for (config, wish, expected) in [
        (&with_both, Wish::of("s").dual(true), "both: 10.1.0.0 fd01::"),
        (&with_both, Wish::of("s").dual(false), "both: 10.1.0.0 fd01::"),
        (&separate, Wish::of("s").dual(true), "NoAddressOfFamily"),
        (&separate, Wish::of("s").dual(false), "four: 10.0.0.0"),
        (&separate, Wish::of("s").primary(Family::V6), "six: fd00::"),
        (&separate, Wish::of("s").dual(true).ips(&["fd00::1", "10.0.0.1"]), "AddressNotInAnyPool"),
        (&with_both, Wish::of("s").dual(true).ips(&["fd01::1", "10.1.0.0"]), "both: 10.1.0.0 fd01::1"),
        (&with_both, Wish::of("s").dual(true).ips(&["10.1.0.0"]), "FamilyMismatch"),
        // One of two: the primary family wherever it is, else the other; the first pool that has it; what is pinned
        // before what is open, even if that has both.
        (&six_first, Wish::of("s").dual(false), "b-four: 10.0.0.0"),
        (&six_first, Wish::of("s").primary(Family::V6), "a-six: fd00::"),
        (&only_six, Wish::of("s").dual(false), "six: fd00::"),
        (&pinned, Wish::of("s").dual(false), "pinned: 10.0.0.0"),
        (&pinned, Wish::of("s").dual(true), "open: 10.1.0.0 fd01::"),
        (&for_others, Wish::of("s").dual(false), "PoolNotForService"),
    ] {
        assert_eq!(outcome(Ipam::default().allocate(config, &wish.request())), expected, "{:?}", wish.families);
    }
}

#[test]
fn the_second_family_is_added_from_the_same_pool_and_the_first_stays() {
    let mut ipam = Ipam::default();
    let wish = Wish::of("s").dual(false);
    let before = plain("p", &["10.0.0.7/32"]);
    assert_eq!(outcome(ipam.allocate(&before, &wish.request())), "p: 10.0.0.7");
    let refused = ipam.add_family(&before, &wish.request(), ip("10.0.0.7")).expect_err("no IPv6 yet");
    assert_eq!(
        refused.to_string(),
        "no available IPs in pool p: it has no IPv6 addresses; add addresses to it or ask for another pool"
    );
    let after = plain("p", &["10.0.0.7/32", "fd00::7/128"]);
    assert_eq!(outcome(ipam.add_family(&after, &wish.request(), ip("10.0.0.7"))), "p: 10.0.0.7 fd00::7");
    assert_eq!(ipam.held(&wish.service), [ip("10.0.0.7"), ip("fd00::7")]);
}

#[test]
fn services_share_an_address_by_key_backend_and_ports() {
    let config = plain("p", &["10.0.0.0/30"]);
    let mut ipam = Ipam::default();
    for (wish, expected) in [
        (Wish::of("a").shared("k", "", 80), "p: 10.0.0.0"),
        (Wish::of("b").shared("k", "", 81), "p: 10.0.0.0"),
        (Wish::of("c").shared("k", "", 80), "p: 10.0.0.1"),
        (Wish::of("d").shared("other", "", 82), "p: 10.0.0.2"),
        (Wish::of("e").shared("k", "app=x", 83), "p: 10.0.0.3"),
        (Wish::of("f"), "NoAddressAvailable"),
        (Wish::of("g").shared("k", "", 84), "p: 10.0.0.0"),
        (Wish::of("h").shared("k", "", 81).ips(&["10.0.0.0"]), "PortInUse"),
        (Wish::of("i").shared("z", "", 90).ips(&["10.0.0.0"]), "AddressInUse"),
        (Wish::of("j").ips(&["10.0.0.0"]), "AddressInUse"),
    ] {
        assert_eq!(outcome(ipam.allocate(&config, &wish.request())), expected, "{}", wish.service);
    }
    assert_eq!(ipam.usage(&config.pools["p"], Family::V4), Usage { assigned: 4, available: 0 });
    // The only user changes its terms in place; one of several cannot.
    assert_eq!(
        outcome(ipam.assign(&config, &Wish::of("d").shared("new", "", 82).request(), &[ip("10.0.0.2")])),
        "p: 10.0.0.2"
    );
    assert_eq!(
        outcome(ipam.assign(&config, &Wish::of("b").shared("new", "", 81).request(), &[ip("10.0.0.0")])),
        "AddressInUse"
    );
    assert_eq!(outcome(ipam.allocate(&config, &Wish::of("k").shared("new", "", 83).request())), "p: 10.0.0.2");
    // An address is free again when its last sharer has gone.
    for name in ["a", "b", "g"] {
        assert_eq!(
            outcome(ipam.allocate(&config, &Wish::of("f").request())),
            "NoAddressAvailable",
            "before {name} goes"
        );
        ipam.release(&Wish::of(name).service);
    }
    assert_eq!(outcome(ipam.allocate(&config, &Wish::of("f").request())), "p: 10.0.0.0");
}

#[test]
fn a_million_addresses_and_a_slash_64_cost_nothing_until_they_are_held() {
    let config = plain("p", &["10.0.0.0/12", "fd00::/64"]);
    let pool = &config.pools["p"];
    let mut ipam = Ipam::default();
    for i in 0..2_000 {
        ipam.allocate(&config, &Wish::of(&i.to_string()).dual(true).request()).expect("room");
    }
    assert_eq!(ipam.usage(pool, Family::V4), Usage { assigned: 2_000, available: (1 << 20) - 2_000 });
    assert_eq!(ipam.usage(pool, Family::V6), Usage { assigned: 2_000, available: (1 << 64) - 2_000 });
    assert_eq!(ipam.held(&Wish::of("1999").service), [ip("10.0.7.207"), ip("fd00::7cf")]);
}

/// The same rules without any index: walk the pool, look at everybody.
#[derive(Default)]
struct Naive {
    held: BTreeMap<ServiceKey, (IpAddr, Option<Sharing>, BTreeSet<Port>)>,
}

impl Naive {
    fn may(&self, wish: &Wish, ip: IpAddr) -> bool {
        self.held.iter().filter(|(key, (other, ..))| **key != wish.service && *other == ip).all(
            |(_, (_, sharing, ports))| sharing.is_some() && *sharing == wish.sharing && ports.is_disjoint(&wish.ports),
        )
    }
    fn allocate(&mut self, config: &Config, wish: &Wish) -> Option<IpAddr> {
        self.held.remove(&wish.service);
        let found = config.pools["p"].ranges.iter().find_map(|range| {
            (0..range.size())
                .map(|i| IpAddr::from((u32::try_from(bits(range.first()) + i).unwrap()).to_be_bytes()))
                .find(|ip| config.pools["p"].contains(*ip) && self.may(wish, *ip))
        })?;
        self.held.insert(wish.service.clone(), (found, wish.sharing.clone(), wish.ports.clone()));
        Some(found)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Allocate { service: u8, key: Option<u8>, port: u16 },
    Release { service: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0u8..12, proptest::option::of(0u8..2), 80u16..83)
            .prop_map(|(service, key, port)| Op::Allocate { service, key, port }),
        1 => (0u8..12).prop_map(|service| Op::Release { service }),
    ]
}

proptest! {
    #[test]
    fn the_indexed_allocator_agrees_with_the_naive_one(ops in proptest::collection::vec(op(), 1..80), buggy in any::<bool>()) {
        let config = config(&[("p", json!({"addresses": ["10.0.0.253-10.0.1.1", "10.0.0.4/31"], "avoidBuggyIPs": buggy}))]);
        let (mut ipam, mut naive) = (Ipam::default(), Naive::default());
        for op in ops {
            match op {
                Op::Allocate { service, key, port } => {
                    let mut wish = Wish::of(&service.to_string());
                    wish.ports = [tcp(port)].into();
                    wish.sharing = key.map(|key| Sharing { key: key.to_string(), backend: String::new() });
                    ipam.release(&wish.service);
                    let given = ipam.allocate(&config, &wish.request()).ok().map(|given| given.ips[0]);
                    prop_assert_eq!(given, naive.allocate(&config, &wish));
                }
                Op::Release { service } => {
                    let key = Wish::of(&service.to_string()).service;
                    let expected: Vec<IpAddr> = naive.held.remove(&key).map(|(ip, ..)| ip).into_iter().collect();
                    prop_assert_eq!(ipam.release(&key), expected);
                }
            }
            let distinct: BTreeSet<IpAddr> = naive.held.values().map(|(ip, ..)| *ip).collect();
            prop_assert_eq!(ipam.usage(&config.pools["p"], Family::V4).assigned, distinct.len() as u128);
        }
    }
}

#[test]
fn a_namespace_holds_no_more_addresses_than_the_pools_quota_allows() {
    let config = |max: &str| {
        let annotations = json!({"landfall.io/max-addresses-per-namespace": max});
        let metadata = json!({"name": "p", "annotations": annotations});
        let pool = json!({"metadata": metadata, "spec": {"addresses": ["10.0.0.0/28", "fd00::/124"]}});
        let pools = vec![serde_json::from_value(pool).expect("a pool")];
        let (config, problems) = Config::read(&Resources { pools, ..Default::default() });
        assert_eq!(problems, []);
        config
    };
    let (one, two, mut ipam) = (config("1"), config("2"), Ipam::default());
    let elsewhere = Wish { service: ServiceKey { namespace: "other".into(), name: "x".into() }, ..Wish::of("x") };
    for (wish, expected) in [
        (Wish::of("a").shared("k", "", 80), "p: 10.0.0.0"),
        (Wish::of("dual").dual(true), "QuotaExceeded"),
        (Wish::of("b"), "p: 10.0.0.1"),
        (Wish::of("c"), "QuotaExceeded"),
        (Wish::of("by-name").ips(&["10.0.0.9"]), "QuotaExceeded"),
        (Wish::of("sharer").shared("k", "", 81), "p: 10.0.0.0"),
        (elsewhere, "p: 10.0.0.2"),
    ] {
        assert_eq!(outcome(ipam.allocate(&two, &wish.request())), expected, "{}", wish.service);
    }
    // A quota that is lowered takes nothing away.
    let held = [ip("10.0.0.1")];
    assert_eq!(outcome(ipam.assign(&config("0"), &Wish::of("b").request(), &held)), "p: 10.0.0.1");
    ipam.release(&Wish::of("b").service);
    assert_eq!(outcome(ipam.allocate(&two, &Wish::of("c").request())), "p: 10.0.0.1");
    let error = ipam.allocate(&two, &Wish::of("d").request()).expect_err("the quota is used up");
    let text = error.to_string();
    assert!(text.contains(r#"namespace "default" hold 2 of its addresses, and may hold 2"#), "{text}");
    // Above a quota that was lowered, what is held can still be shared.
    assert_eq!(outcome(ipam.allocate(&one, &Wish::of("third").shared("k", "", 82).request())), "p: 10.0.0.0");
    // At the quota, what the namespace holds is shared, though a free address comes before it.
    let mut ipam = Ipam::default();
    let holder = Wish::of("a").shared("k", "", 80).ips(&["10.0.0.3"]);
    assert_eq!(outcome(ipam.allocate(&one, &holder.request())), "p: 10.0.0.3");
    assert_eq!(outcome(ipam.allocate(&one, &Wish::of("b").shared("k", "", 81).request())), "p: 10.0.0.3");
    assert_eq!(outcome(ipam.allocate(&one, &Wish::of("c").shared("k", "", 81).request())), "QuotaExceeded");
    // What a Service holds itself is no obstacle to holding another instead.
    let mut ipam = Ipam::default();
    assert_eq!(outcome(ipam.allocate(&one, &Wish::of("a").request())), "p: 10.0.0.0");
    assert_eq!(outcome(ipam.allocate(&one, &Wish::of("a").ips(&["10.0.0.5"]).request())), "p: 10.0.0.5");
}

#[test]
fn a_service_that_prefers_two_families_gets_what_the_quota_leaves() {
    let pool = |name: &str, max: &str, network: u8| {
        let metadata = json!({"name": name, "annotations": {"landfall.io/max-addresses-per-namespace": max}});
        let addresses = [format!("10.{network}.0.0/28"), format!("fd0{network}::/124")];
        serde_json::from_value(json!({"metadata": metadata, "spec": {"addresses": addresses}})).expect("a pool")
    };
    let config = |pools: Vec<landfall_api::IPAddressPool>| Config::read(&Resources { pools, ..Default::default() }).0;
    for (max, expected, added) in [
        ("0", "QuotaExceeded", "QuotaExceeded"),
        ("1", "p: 10.0.0.0", "QuotaExceeded"),
        ("2", "p: 10.0.0.0 fd00::", "p: 10.0.0.0 fd00::"),
    ] {
        let (config, wish) = (config(vec![pool("p", max, 0)]), Wish::of("s").dual(false));
        assert_eq!(outcome(Ipam::default().allocate(&config, &wish.request())), expected, "quota {max}");
        let mut ipam = Ipam::default();
        ipam.assign(&config, &wish.request(), &[ip("10.0.0.0")]).expect("a quota takes nothing away");
        assert_eq!(outcome(ipam.add_family(&config, &wish.request(), ip("10.0.0.0"))), added, "quota {max}");
    }
    // Each pool counts its own addresses.
    let (config, mut ipam) = (config(vec![pool("p", "1", 0), pool("q", "1", 1)]), Ipam::default());
    for (name, expected) in [("a", "p: 10.0.0.0"), ("b", "q: 10.1.0.0"), ("c", "QuotaExceeded")] {
        assert_eq!(outcome(ipam.allocate(&config, &Wish::of(name).request())), expected, "{name}");
    }
}

#[test]
fn nobody_holds_two_addresses_of_a_family_or_of_two_pools() {
    let config = config(&[
        ("p", json!({"addresses": ["10.0.0.0/30", "fd00::/126"]})),
        ("q", json!({"addresses": ["10.1.0.0/30", "fd01::/126"]})),
    ]);
    let mut ipam = Ipam::default();
    for (ips, expected) in [
        (&["10.0.0.1", "10.0.0.2"][..], "FamilyMismatch"),
        (&["10.0.0.1", "fd00::1", "10.0.0.2"], "FamilyMismatch"),
        (&[], "FamilyMismatch"),
        (&["10.0.0.1", "fd01::1"], "AddressNotInAnyPool"),
        (&["fd00::1", "10.0.0.1"], "p: 10.0.0.1 fd00::1"),
    ] {
        let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
        assert_eq!(outcome(ipam.assign(&config, &Wish::of("s").dual(true).request(), &ips)), expected, "{ips:?}");
    }
    assert_eq!(ipam.held(&Wish::of("s").service), [ip("10.0.0.1"), ip("fd00::1")], "IPv4 first");
}

#[test]
fn an_address_that_its_pool_comes_to_avoid_is_shared_no_further() {
    let avoid = |avoid: bool| config(&[("p", json!({"addresses": ["10.0.0.0/30"], "avoidBuggyIPs": avoid}))]);
    let mut ipam = Ipam::default();
    assert_eq!(outcome(ipam.allocate(&avoid(false), &Wish::of("a").shared("k", "", 80).request())), "p: 10.0.0.0");
    assert_eq!(outcome(ipam.allocate(&avoid(true), &Wish::of("b").shared("k", "", 81).request())), "p: 10.0.0.1");
    assert_eq!(ipam.usage(&avoid(true).pools["p"], Family::V4), Usage { assigned: 1, available: 2 });
}
