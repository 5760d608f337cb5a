//! Communities and advertisements.

use super::*;
use crate::Labels;

#[test]
fn an_alias_stands_for_one_community() {
    assert_problems(
        &[(
            "Community/c",
            json!({"communities": [
                {"name": "gold", "value": "64512:70000"}, {"name": "silver", "value": "huge:1:2:3"}, {"name": "tin", "value": "7"}]}),
        )],
        &[
            "Community \"c\": spec.communities[0].value is \"64512:70000\": parsing community \"gold\": invalid community value: \
             \"70000\" is no number up to 65535; write",
            "Community \"c\": spec.communities[1].value is \"huge:1:2:3\": parsing community \"silver\": invalid community value: ",
            "Community \"c\": spec.communities[2].value is \"7\": parsing community \"tin\": invalid community format: 7; write",
        ],
    );
    let twice = [
        ("Community/z", json!({"communities": [{"name": "gold", "value": "1:1"}]})),
        (
            "Community/a",
            json!({"communities": [{"name": "tin", "value": "3:3"}, {"name": "gold", "value": "2:2"}, {"name": "tin", "value": "4:4"}]}),
        ),
    ];
    assert_problems(
        &twice,
        &[
            "Community \"a\": spec.communities[1].name is \"gold\": duplicate definition of community \"gold\": Community \"z\" \
             defines it already; rename",
            "Community \"a\": spec.communities[2].name is \"tin\": duplicate definition of community \"tin\": Community \"a\" \
             defines it already; rename",
        ],
    );
    let (config, _) = Config::read(&cluster(&twice));
    assert_eq!(config.bgp.communities["gold"], Community::Standard(1, 1), "the older one stays");
}

#[test]
fn an_advertisement_with_a_mistake_says_which_field_and_how_to_mend_it() {
    for (spec, transient, expected) in [
        (
            json!({"communities": ["1:70000"]}),
            false,
            "spec.communities[0] is \"1:70000\": invalid community \"1:70000\" in BGP \
            advertisement: invalid community value: \"70000\" is no number up to 65535; write",
        ),
        (
            json!({"communities": ["1:2:3"]}),
            false,
            "spec.communities[0] is \"1:2:3\": invalid community \"1:2:3\" in BGP \
            advertisement: invalid community format: 1:2:3; write it as",
        ),
        (
            json!({"communities": ["1:2", "gold"]}),
            true,
            "spec.communities[1] is \"gold\": invalid community \"gold\" in BGP \
            advertisement: invalid community format: gold; no Community object has an alias",
        ),
        (
            json!({"communities": ["1:2", "1:2"]}),
            false,
            "spec.communities[1] is \"1:2\": duplicate definition of community \
            \"1:2\"; remove one",
        ),
        (
            json!({"ipAddressPools": ["p", "q", "p"]}),
            false,
            "spec.ipAddressPools[2] is \"p\": duplicate definition of \
            ipAddressPools \"p\"; remove one",
        ),
        (
            json!({"peers": ["a", "a"]}),
            false,
            "spec.peers[1] is \"a\": duplicate definition of peers \"a\"; remove one",
        ),
        (
            json!({"nodeSelectors": [{}, {}]}),
            false,
            "spec.nodeSelectors[1] is \"\": duplicate definition of nodeSelectors; remove",
        ),
        (
            json!({"serviceSelectors": [{}, {}]}),
            false,
            "spec.serviceSelectors[1] is \"\": duplicate definition of \
            serviceSelectors; remove",
        ),
        (
            json!({"ipAddressPoolSelectors": [{}, {}]}),
            false,
            "spec.ipAddressPoolSelectors[1] is \"\": duplicate definition of \
            ipAddressPoolSelectors; remove",
        ),
        (
            json!({"aggregationLength": 33}),
            false,
            "spec.aggregationLength is \"33\": invalid aggregation length 33: a prefix of \
            IPv4 has a length from 1 to 32; write",
        ),
        (json!({"aggregationLength": 0}), false, "spec.aggregationLength is \"0\": invalid aggregation length 0"),
        (
            json!({"aggregationLengthV6": 129}),
            false,
            "spec.aggregationLengthV6 is \"129\": invalid aggregation length 129: a \
            prefix of IPv6 has a length from 0 to 128; write",
        ),
        (
            json!({"aggregationLengthV6": -1}),
            false,
            "spec.aggregationLengthV6 is \"-1\": invalid aggregation length -1",
        ),
        (
            json!({"serviceSelectors": [{}], "aggregationLength": 24}),
            false,
            "spec.aggregationLength is \"24\": serviceSelectors \
            and aggregationLength are mutually exclusive, both cannot be set in a: ",
        ),
        (
            json!({"serviceSelectors": [{}], "aggregationLengthV6": 64}),
            false,
            "spec.aggregationLengthV6 is \"64\": \
            serviceSelectors and aggregationLengthV6 are mutually exclusive, both cannot be set in a: ",
        ),
    ] {
        let objects = [("BGPAdvertisement/a", spec)];
        assert_problems(&objects, &[&format!("BGPAdvertisement \"a\": {expected}")]);
        let (config, problems) = Config::read(&cluster(&objects));
        assert!(config.bgp.advertisements.is_empty(), "{objects:?}");
        assert_eq!(problems[0].transient, transient, "{objects:?}");
    }
    for harmless in [
        json!({}),
        json!({"serviceSelectors": [{}], "aggregationLength": 32, "aggregationLengthV6": 128}),
        json!({"ipAddressPools": ["unknown"], "peers": ["unknown"], "aggregationLength": 1, "aggregationLengthV6": 0}),
    ] {
        assert_problems(&[("BGPAdvertisement/a", harmless)], &[]);
    }
}

#[test]
fn an_advertisement_says_what_is_advertised_to_whom() {
    let (config, problems) = Config::read(&cluster(&[
        ("IPAddressPool/p", json!({"addresses": ["192.0.2.0/24"]})),
        ("IPAddressPool/q", json!({"addresses": ["198.51.100.0/24"]})),
        (
            "Community/c",
            json!({"communities": [{"name": "gold", "value": "large:1:2:3"}, {"name": "7:7", "value": "8:8"}]}),
        ),
        ("BGPAdvertisement/all", json!({})),
        (
            "BGPAdvertisement/some",
            json!({
                "ipAddressPools": ["p"], "peers": ["x"], "nodeSelectors": rack("1"), "localPref": 4294967295_u32,
                "serviceSelectors": [{"matchLabels": {"app": "web"}}], "communities": ["gold", "7:7", "1:2", "large:1:2:3"]}),
        ),
    ]));
    assert_eq!(problems, []);
    let (all, some) = (&config.bgp.advertisements["all"], &config.bgp.advertisements["some"]);
    let label = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    for (advertisement, elsewhere) in [(all, true), (some, false)] {
        assert!(advertisement.scope.selects_pool(&config.pools["p"]) && advertisement.selects_peer("x"));
        assert!(
            advertisement.scope.selects_node(&label("rack", "1"))
                && advertisement.scope.selects_service(&label("app", "web"))
        );
        assert_eq!(advertisement.scope.selects_pool(&config.pools["q"]), elsewhere);
        assert_eq!(advertisement.selects_peer("y"), elsewhere);
        assert_eq!(advertisement.scope.selects_node(&label("rack", "2")), elsewhere);
        assert_eq!(advertisement.scope.selects_service(&label("app", "db")), elsewhere);
    }
    assert_eq!((all.local_pref, all.length(true), all.length(false)), (0, 32, 128));
    assert_eq!(some.local_pref, u32::MAX);
    let communities = [Community::Standard(1, 2), Community::Standard(8, 8), Community::Large(1, 2, 3)];
    assert_eq!(some.communities, communities.into(), "an alias comes before the number it looks like");
}

#[test]
fn a_combined_route_does_not_reach_beyond_the_pool() {
    for (addresses, spec, expected) in [
        (
            json!(["1.1.1.0/28"]),
            json!({"aggregationLength": 26}),
            Some(
                "spec.aggregationLength is \"26\": invalid aggregation length 26: prefix 28 in this pool is more specific \
                than the aggregation length for addresses 1.1.1.0/28 of IPAddressPool \"p\"; ",
            ),
        ),
        (json!(["1.1.1.0/28"]), json!({"aggregationLength": 28}), None),
        (json!(["1.1.1.0/28"]), json!({"aggregationLengthV6": 64}), None),
        // 1.1.1.1/32, .2/31, .4/30, .8/29 and so on: one of them is a /28 or wider, so a length of 28 is in order.
        (json!(["1.1.1.1-1.1.1.40"]), json!({"aggregationLength": 28}), None),
        (
            json!(["1.1.1.1-1.1.1.40"]),
            json!({"aggregationLength": 27}),
            Some(
                "spec.aggregationLength is \"27\": invalid aggregation length 27: prefix 28 in this pool is more specific \
                than the aggregation length for addresses 1.1.1.1-1.1.1.40 of IPAddressPool \"p\"; ",
            ),
        ),
        (
            json!(["1.1.1.0/24", "2.2.2.0-2.2.2.15"]),
            json!({"aggregationLength": 24}),
            Some(
                "spec.aggregationLength is \"24\": invalid aggregation length 24: prefix 28 in this pool is more specific \
                than the aggregation length for addresses 2.2.2.0/28 of IPAddressPool \"p\"; ",
            ),
        ),
        (
            json!(["1.1.1.0/24", "fd00::/124"]),
            json!({"aggregationLength": 24, "aggregationLengthV6": 64}),
            Some(
                "spec.aggregationLengthV6 is \"64\": invalid aggregation length 64: prefix 124 in this pool is more specific \
                than the aggregation length for addresses fd00::/124 of IPAddressPool \"p\"; ",
            ),
        ),
        (json!(["1.1.1.0/28"]), json!({"aggregationLength": 26, "ipAddressPools": ["other"]}), None),
        (
            json!(["1.1.1.0/28"]),
            json!({"aggregationLength": 26, "ipAddressPoolSelectors": [{"matchLabels": {"name": "p"}}]}),
            Some("spec.aggregationLength is \"26\": invalid aggregation length 26: prefix 28 "),
        ),
    ] {
        let objects = [("IPAddressPool/p", json!({"addresses": addresses})), ("BGPAdvertisement/a", spec)];
        let expected = expected.map(|expected| format!("BGPAdvertisement \"a\": {expected}"));
        assert_problems(&objects, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn one_prefix_has_one_local_preference_from_a_node_to_a_peer() {
    let (v4, v6) = (json!(["10.0.0.0/16"]), json!(["fd00::/64"]));
    let dual = json!(["10.0.0.0/16", "fd00::/64"]);
    for (pool, older, younger, conflict) in [
        (&v4, json!({"localPref": 100}), json!({"localPref": 100}), false),
        (&v4, json!({"localPref": 100}), json!({"localPref": 200}), true),
        (&v4, json!({"localPref": 100}), json!({}), true),
        (&v4, json!({"localPref": 100, "aggregationLength": 24}), json!({}), false),
        (&v4, json!({"localPref": 100, "aggregationLengthV6": 64}), json!({}), true),
        (&v6, json!({"localPref": 100, "aggregationLengthV6": 64}), json!({}), false),
        (&v6, json!({"localPref": 100, "aggregationLength": 24}), json!({}), true),
        (&dual, json!({"localPref": 100, "aggregationLength": 24}), json!({}), true),
        (&dual, json!({"localPref": 100, "aggregationLength": 24, "aggregationLengthV6": 64}), json!({}), false),
        (&v4, json!({"localPref": 100, "peers": ["x"]}), json!({"peers": ["y"]}), false),
        (&v4, json!({"localPref": 100, "peers": ["x"]}), json!({"peers": ["y", "x"]}), true),
        (&v4, json!({"localPref": 100, "peers": ["x"]}), json!({}), true),
        (&v4, json!({"localPref": 100, "nodeSelectors": rack("1")}), json!({"nodeSelectors": rack("2")}), false),
        (&v4, json!({"localPref": 100, "nodeSelectors": rack("1")}), json!({}), true),
        (&v4, json!({"localPref": 100, "serviceSelectors": [{}]}), json!({}), false),
        (&v4, json!({"localPref": 100, "ipAddressPools": ["p"]}), json!({"ipAddressPools": ["q"]}), false),
    ] {
        let objects = [
            ("IPAddressPool/p", json!({"addresses": pool})),
            ("BGPAdvertisement/z", older),
            ("BGPAdvertisement/a", younger.clone()),
            ("Node/one", json!({"rack": "1"})),
            ("Node/two", json!({"rack": "2"})),
        ];
        let given = younger["localPref"].as_u64().unwrap_or(0);
        let expected = format!(
            "BGPAdvertisement \"a\": spec.localPref is \"{given}\": invalid local preference {given}: BGPAdvertisement \"z\" gives \
             100 to the same prefixes of IPAddressPool \"p\", from"
        );
        let expected: &[&str] = &[&expected];
        assert_problems(&objects, if conflict { expected } else { &[] });
        assert_eq!(Config::read(&cluster(&objects)).0.bgp.advertisements.contains_key("a"), !conflict);
    }
    let unknown_nodes = [
        ("IPAddressPool/p", json!({"addresses": v4})),
        ("BGPAdvertisement/z", json!({"localPref": 100, "nodeSelectors": rack("1")})),
        ("BGPAdvertisement/a", json!({"nodeSelectors": rack("2")})),
    ];
    assert_eq!(problems(&unknown_nodes).len(), 1, "which nodes there are is not known");
}

#[test]
fn a_peer_watched_by_bfd_echo_is_not_told_of_ipv6() {
    for (addresses, peers, echo, expected) in [
        (json!(["10.0.0.0/24"]), json!([]), true, 0),
        (json!(["10.0.0.0/24", "fd00::/120"]), json!([]), false, 0),
        (json!(["10.0.0.0/24", "fd00::/120"]), json!([]), true, 1),
        (json!(["fd00::/120"]), json!(["echoing"]), true, 1),
        (json!(["fd00::/120"]), json!(["plain"]), true, 0),
    ] {
        let found = problems(&[
            ("IPAddressPool/p", json!({"addresses": addresses})),
            ("BFDProfile/b", json!({"echoMode": echo})),
            ("BGPPeer/echoing", peer(json!({"bfdProfile": "b"}))),
            ("BGPPeer/plain", peer(json!({"peerAddress": "10.0.0.2"}))),
            ("BGPAdvertisement/a", json!({"peers": peers})),
        ]);
        assert_eq!(found.len(), expected, "{found:?}");
        for found in found {
            let begins = "BGPAdvertisement \"a\": spec.peers is \"echoing\": IPAddressPool \"p\" has IPv6 addresses, but BGPPeer \
                          \"echoing\" has BFDProfile \"b\" with echoMode, which is not possible for IPv6; turn";
            assert!(found.starts_with(begins), "{found}");
        }
    }
}
