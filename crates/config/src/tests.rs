use super::*;
use serde_json::{Value, json};

fn pool(name: &str, spec: Value) -> IPAddressPool {
    serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": name, "labels": {"pool": name}}, "spec": spec,
    }))
    .expect("a pool")
}

fn created(mut pool: IPAddressPool, at: &str) -> IPAddressPool {
    pool.metadata.creation_timestamp = serde_json::from_value(json!(at)).expect("a time");
    pool
}

fn l2(name: &str, spec: Value) -> landfall_api::L2Advertisement {
    serde_json::from_value(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement", "metadata": {"name": name}, "spec": spec,
    }))
    .expect("an advertisement")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn read(pools: Vec<IPAddressPool>, l2_advertisements: Vec<landfall_api::L2Advertisement>) -> (Config, Vec<String>) {
    let (config, problems) = Config::read(&Resources { pools, l2_advertisements, ..Resources::default() });
    (config, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_pool_of_both_families_says_what_it_contains_and_how_much() {
    let (config, problems) = read(
        vec![pool("p", json!({"addresses": ["192.0.2.0/24", "fd00::10-fd00::1f"], "avoidBuggyIPs": true}))],
        vec![],
    );
    assert_eq!(problems, Vec::<String>::new());
    let pool = &config.pools["p"];
    assert_eq!((pool.capacity(true), pool.capacity(false)), (254, 16));
    for (address, contains, covers) in [
        ("192.0.2.0", false, true),
        ("192.0.2.1", true, true),
        ("192.0.2.255", false, true),
        ("192.0.3.1", false, false),
        ("fd00::10", true, true),
        ("fd00::20", false, false),
    ] {
        assert_eq!((pool.contains(ip(address)), pool.covers(ip(address))), (contains, covers), "{address}");
    }
    assert_eq!(config.pool_of(&[ip("192.0.2.1"), ip("fd00::11")]).map(|p| p.name.as_str()), Some("p"));
    assert_eq!(config.pool_of(&[ip("192.0.2.0")]), None);
    assert_eq!(config.pool_covering(&[ip("192.0.2.0")]), Some(pool));
    assert_eq!(config.pool_of(&[]), None);
}

#[test]
fn mistakes_are_named_with_object_field_value_and_remedy() {
    let (config, problems) = read(
        vec![
            pool("a", json!({"addresses": ["10.0.0.0/24", "10.0.1.9-10.0.1.1", "nonsense"]})),
            pool("b", json!({"addresses": []})),
            pool(
                "c",
                json!({"addresses": ["10.9.0.0/24"], "serviceAllocation": {
                "namespaces": ["x", "x"],
                "serviceSelectors": [{"matchExpressions": [{"key": "k", "operator": "Near", "values": ["v"]}]}]}}),
            ),
        ],
        vec![l2(
            "l",
            json!({
            "ipAddressPools": ["a", "a"],
            "nodeSelectors": [{"matchLabels": {"z": "1"}}, {"matchLabels": {"z": "1"}}],
            "preferredNodeSelectors": [{"weight": 0, "preference": {}}]}),
        )],
    );
    assert_eq!(config.pools["a"].ranges.len(), 1, "what can be read is read");
    let expected = [
        "IPAddressPool \"a\": spec.addresses[1] is \"10.0.1.9-10.0.1.1\": invalid IP range: start IP 10.0.1.9 is after the end IP 10.0.1.1; swap them",
        "IPAddressPool \"a\": spec.addresses[2] is \"nonsense\": invalid CIDR; write a CIDR",
        "IPAddressPool \"b\": spec.addresses is \"[]\": pool has no prefixes defined; add a CIDR or a range",
        "IPAddressPool \"c\": spec.serviceAllocation.namespaces[1] is \"x\": duplicate definition of namespaces",
        "IPAddressPool \"c\": spec.serviceAllocation.serviceSelectors[0] is ",
        "L2Advertisement \"l\": spec.ipAddressPools[1] is \"a\": duplicate definition of ipAddressPools \"a\"",
        "L2Advertisement \"l\": spec.nodeSelectors[1] is \"z=1\": duplicate definition of nodeSelectors",
        "L2Advertisement \"l\": spec.preferredNodeSelectors[0].weight is \"0\": a weight is from 1 to 100",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n does not start with\n{expected}");
    }
}

#[test]
fn of_two_ranges_that_overlap_the_older_pool_keeps_its_own() {
    let young = created(pool("a", json!({"addresses": ["10.0.0.128/25", "10.7.0.0/24"]})), "2026-02-01T00:00:00Z");
    let old = created(pool("z", json!({"addresses": ["10.0.0.0/24"]})), "2026-01-01T00:00:00Z");
    let (config, problems) = read(vec![young, old], vec![]);
    assert_eq!(config.pools["z"].ranges.len(), 1);
    assert_eq!(config.pools["a"].ranges, [AddressRange::parse("10.7.0.0/24").unwrap()]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].contains("overlaps with already defined CIDR \"10.0.0.0-10.0.0.255\" of pool \"z\""),
        "{problems:?}"
    );
}

#[test]
fn overlap_is_found_wherever_it_lies() {
    for (first, second, overlap) in [
        ("10.0.0.0-10.0.0.9", "10.0.0.10-10.0.0.19", false),
        ("10.0.0.0-10.0.0.9", "10.0.0.9-10.0.0.19", true),
        ("10.0.0.5-10.0.0.6", "10.0.0.0-10.0.0.255", true),
        ("10.0.0.0-10.0.0.255", "10.0.0.5-10.0.0.6", true),
        ("0.0.0.0/0", "::/0", false),
        ("::/0", "fd00::1-fd00::2", true),
    ] {
        let (_, problems) = read(vec![pool("p", json!({"addresses": [first, second]}))], vec![]);
        assert_eq!(!problems.is_empty(), overlap, "{first} and {second}: {problems:?}");
    }
}

#[test]
fn a_pinned_pool_accepts_the_services_it_is_for() {
    let spec = json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": {
        "priority": 20, "namespaces": ["shop"], "namespaceSelectors": [{"matchLabels": {"team": "a"}}],
        "serviceSelectors": [{"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]}]}});
    let (config, _) = read(
        vec![
            pool("p", spec),
            pool("open", json!({"addresses": ["10.1.0.0/24"], "serviceAllocation": {"priority": 5}})),
        ],
        vec![],
    );
    let (web, db, team_a, none) =
        (labels(&[("tier", "web")]), labels(&[("tier", "db")]), labels(&[("team", "a")]), labels(&[]));
    for (namespace, namespace_labels, service_labels, accepted) in [
        ("shop", &none, &web, true),
        ("shop", &none, &db, false),
        ("other", &none, &web, false),
        ("other", &team_a, &web, true),
        ("other", &team_a, &none, false),
    ] {
        assert_eq!(
            config.pools["p"].accepts(namespace, namespace_labels, service_labels),
            accepted,
            "{namespace} {namespace_labels:?} {service_labels:?}"
        );
        assert!(
            config.pools["open"].accepts(namespace, namespace_labels, service_labels),
            "no condition: for everybody"
        );
    }
    assert_eq!((config.pools["p"].priority(), config.pools["open"].priority()), (20, 5));
}

#[test]
fn namespace_selectors_that_match_nothing_close_the_pool() {
    let spec = json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": {"namespaceSelectors": [{"matchLabels": {"team": "gone"}}]}});
    let (config, _) = read(vec![pool("p", spec)], vec![]);
    assert!(!config.pools["p"].accepts("any", &labels(&[]), &labels(&[])));
}

#[test]
fn an_advertisement_selects_pools_nodes_and_services_and_scores_nodes() {
    let (config, problems) = read(
        vec![pool("a", json!({"addresses": ["10.0.0.0/24"]})), pool("b", json!({"addresses": ["10.1.0.0/24"]}))],
        vec![
            l2("all", json!({})),
            l2("by-name", json!({"ipAddressPools": ["a", "unknown"]})),
            l2("by-label", json!({"ipAddressPoolSelectors": [{"matchLabels": {"pool": "b"}}]})),
            l2(
                "picky",
                json!({
                "nodeSelectors": [{"matchLabels": {"edge": "yes"}}],
                "serviceSelectors": [{"matchLabels": {"tier": "web"}}],
                "preferredNodeSelectors": [
                    {"weight": 60, "preference": {"matchLabels": {"rack": "1"}}},
                    {"weight": 5, "preference": {"matchLabels": {"edge": "yes"}}}]}),
            ),
        ],
    );
    assert_eq!(problems, Vec::<String>::new());
    let of = |name: &str| config.advertisements_of(&config.pools[name]).map(|l| l.name.as_str()).collect::<Vec<_>>();
    assert_eq!(of("a"), ["all", "by-name", "picky"]);
    assert_eq!(of("b"), ["all", "by-label", "picky"]);
    let picky = &config.l2_advertisements["picky"];
    for (node, selected, score) in [
        (labels(&[("edge", "yes"), ("rack", "1")]), true, 65),
        (labels(&[("edge", "yes")]), true, 5),
        (labels(&[("rack", "1")]), false, 0),
    ] {
        assert_eq!((picky.scope.selects_node(&node), picky.score(&node)), (selected, score), "{node:?}");
    }
    assert!(picky.scope.selects_service(&labels(&[("tier", "web")])) && !picky.scope.selects_service(&labels(&[])));
}

#[test]
fn the_last_good_configuration_stays_in_force_over_a_mistake() {
    let good = Resources { pools: vec![pool("p", json!({"addresses": ["10.0.0.0/24"]}))], ..Default::default() };
    let bad = Resources { pools: vec![pool("p", json!({"addresses": ["10.0.0.0/99"]}))], ..Default::default() };
    let mut loader = Loader::default();
    assert_eq!(loader.load(&good), Loaded { config_changed: true, bgp_changed: true, problems_changed: false });
    let before = loader.config().cloned();
    assert_eq!(loader.load(&bad), Loaded { config_changed: false, bgp_changed: false, problems_changed: true });
    assert_eq!(loader.config().cloned(), before);
    assert_eq!(loader.problems().len(), 1);
    assert!(!loader.is_partial() && !loader.pool_in_force("p"));
    assert_eq!(loader.load(&good), Loaded { config_changed: false, bgp_changed: false, problems_changed: true });
    assert_eq!(loader.problems(), []);
}

#[test]
fn a_process_that_starts_with_a_mistake_serves_what_can_be_read() {
    let bad = Resources {
        pools: vec![pool("p", json!({"addresses": ["10.0.0.0/99", "10.1.0.0/24"]}))],
        ..Default::default()
    };
    let mut loader = Loader::default();
    assert_eq!(loader.load(&bad), Loaded { config_changed: true, bgp_changed: true, problems_changed: true });
    assert!(loader.config().is_some_and(|config| config.pools["p"].contains(ip("10.1.0.1"))));
    assert!(loader.is_partial() && loader.pool_in_force("p"));
    let better = Resources { pools: vec![pool("p", json!({"addresses": ["10.0.0.0/24", "x"]}))], ..Default::default() };
    assert!(loader.load(&better).config_changed, "still no good one to go back to");
    let good = Resources { pools: vec![pool("p", json!({"addresses": ["10.0.0.0/24"]}))], ..Default::default() };
    loader.load(&good);
    assert!(!loader.is_partial());
}

#[test]
fn what_is_no_priority_no_quota_or_stands_twice_in_a_selector_is_a_mistake() {
    let quota = |text: &str| {
        let mut pool = pool("q", json!({"addresses": ["10.1.0.0/24"]}));
        pool.metadata.annotations = Some(labels(&[("landfall.io/max-addresses-per-namespace", text)]));
        pool
    };
    let selector = |expressions: Value| json!({"serviceSelectors": [{"matchExpressions": expressions}]});
    let allocated =
        |allocation: Value| pool("p", json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": allocation}));
    let within = |values: &[&str]| json!({"key": "k", "operator": "In", "values": values});
    for (pool, expected) in [
        (allocated(json!({"priority": -1})), Some("spec.serviceAllocation.priority is \"-1\": a priority is a number")),
        (allocated(json!({"priority": 7})), None),
        (quota("many"), Some("landfall.io/max-addresses-per-namespace] is \"many\": a quota is a whole number")),
        (quota("-1"), Some("landfall.io/max-addresses-per-namespace] is \"-1\": a quota is a whole number")),
        (quota(" 3 "), None),
        (
            allocated(selector(json!([within(&["a", "b", "a"])]))),
            Some("duplicate definition of match expression value"),
        ),
        (
            allocated(selector(json!([within(&["a", "b"]), within(&["b", "a"])]))),
            Some("duplicate definition of match expressions"),
        ),
        (allocated(selector(json!([within(&["a", "b"]), within(&["b", "c"])]))), None),
    ] {
        let (_, problems) = read(vec![pool.clone()], vec![]);
        assert_eq!(problems.len(), usize::from(expected.is_some()), "{:?}: {problems:?}", pool.spec);
        assert!(problems.iter().zip(expected).all(|(problem, words)| problem.contains(words)), "{problems:?}");
    }
}

#[test]
fn one_of_several_selectors_is_enough_and_one_that_matches_nothing_adds_nothing() {
    let selectors = json!([{"matchLabels": {"tier": "web"}}, {"matchLabels": {"tier": "db"}}]);
    let spec = json!({"addresses": ["10.0.0.0/24"], "serviceAllocation": {"serviceSelectors": selectors}});
    let (config, _) = read(vec![pool("p", spec)], vec![]);
    for (tier, accepted) in [("web", true), ("db", true), ("cache", false)] {
        assert_eq!(config.pools["p"].accepts("any", &labels(&[]), &labels(&[("tier", tier)])), accepted, "{tier}");
    }
}

#[test]
fn a_capacity_beyond_all_numbers_is_the_greatest_number() {
    let (config, problems) = read(vec![pool("p", json!({"addresses": ["::/1", "8000::/1", "10.0.0.0/30"]}))], vec![]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((config.pools["p"].capacity(false), config.pools["p"].capacity(true)), (u128::MAX, 4));
}

#[test]
fn an_advertisement_alone_is_a_change_and_a_mistake_about_a_pool_holds_it_back() {
    let good = vec![pool("p", json!({"addresses": ["10.0.0.0/24"]}))];
    let mut loader = Loader::default();
    loader.load(&Resources { pools: good.clone(), ..Default::default() });
    let advertised = vec![l2("l", json!({}))];
    let with = |pools, l2_advertisements| Resources { pools, l2_advertisements, ..Default::default() };
    assert!(loader.load(&with(good.clone(), advertised)).config_changed);
    let broken = [good, vec![pool("q", json!({"addresses": ["ten"]}))]].concat();
    assert!(!loader.load(&with(broken, vec![])).config_changed);
    assert!(loader.config().is_some_and(|config| config.l2_advertisements.contains_key("l")), "it stays in force");
}
