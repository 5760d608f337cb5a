//! Peers and their BFD profiles.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::Labels;

#[test]
fn a_peer_with_a_mistake_says_which_field_and_how_to_mend_it() {
    for (change, expected) in [
        (json!({"myASN": 0}), "spec.myASN is \"0\": missing local ASN; set"),
        (json!({"peerASN": null}), "spec.peerASN is \"\": missing peer ASN and dynamicASN; set"),
        (json!({"peerASN": 0}), "spec.peerASN is \"\": missing peer ASN and dynamicASN; set"),
        (
            json!({"dynamicASN": "external"}),
            "spec.peerASN is \"64513\": both peer ASN and dynamicASN specified; remove one",
        ),
        (
            json!({"peerASN": 64512, "ebgpMultiHop": true}),
            "spec.ebgpMultiHop is \"true\": invalid ebgp-multihop parameter set for an ibgp peer: peerASN equals myASN; remove",
        ),
        (json!({"peerAddress": null}), "spec.peerAddress is \"\": peer has no Address or Interface specified; set"),
        (
            json!({"interface": "eth1"}),
            "spec.peerAddress is \"10.0.0.1\": peer has both Address and Interface specified; remove one",
        ),
        (
            json!({"peerAddress": "router.example"}),
            "spec.peerAddress is \"router.example\": invalid BGPPeer address \"router.example\"; write",
        ),
        (json!({"routerID": "10.0.0"}), "spec.routerID is \"10.0.0\": invalid router ID \"10.0.0\"; write"),
        (json!({"routerID": "fd00::1"}), "spec.routerID is \"fd00::1\": invalid router ID \"fd00::1\"; write"),
        (json!({"routerID": "0.0.0.0"}), "spec.routerID is \"0.0.0.0\": invalid router ID \"0.0.0.0\"; write"),
        (json!({"sourceAddress": "eth0"}), "spec.sourceAddress is \"eth0\": invalid source IP \"eth0\"; write"),
        (json!({"holdTime": "2s"}), "spec.holdTime is \"2s\": invalid BGPPeer timers: a hold time must be 0s"),
        (json!({"holdTime": "2.9s"}), "spec.holdTime is \"2.9s\": invalid BGPPeer timers: a hold time must be 0s"),
        (json!({"holdTime": "65536s"}), "spec.holdTime is \"65536s\": invalid BGPPeer timers: a hold time must be 0s"),
        (json!({"holdTime": "90"}), "spec.holdTime is \"90\": invalid BGPPeer timers: not a duration; write"),
        (
            json!({"holdTime": "-90s"}),
            "spec.holdTime is \"-90s\": invalid BGPPeer timers: a duration below zero; leave",
        ),
        (
            json!({"keepaliveTime": "500ms"}),
            "spec.keepaliveTime is \"500ms\": invalid BGPPeer timers: the hold time, three times the keepalive time",
        ),
        (json!({"keepaliveTime": "x"}), "spec.keepaliveTime is \"x\": invalid BGPPeer timers: not a duration; write"),
        (
            json!({"holdTime": "9s", "keepaliveTime": "10s"}),
            "spec.keepaliveTime is \"10s\": invalid BGPPeer timers: the keepalive time is longer than the hold time of 9s",
        ),
        (
            json!({"holdTime": "0s", "keepaliveTime": "1s"}),
            "spec.keepaliveTime is \"1s\": invalid BGPPeer timers: the keepalive time is longer than the hold time of 0ns",
        ),
        (
            json!({"connectTime": "500ms"}),
            "spec.connectTime is \"500ms\": invalid BGPPeer connect time: must be whole seconds",
        ),
        (
            json!({"connectTime": "0s"}),
            "spec.connectTime is \"0s\": invalid BGPPeer connect time: must be whole seconds",
        ),
        (
            json!({"connectTime": "65536s"}),
            "spec.connectTime is \"65536s\": invalid BGPPeer connect time: must be whole",
        ),
        (
            json!({"connectTime": "ten"}),
            "spec.connectTime is \"ten\": invalid BGPPeer connect time: not a duration; write",
        ),
        (
            json!({"password": "hush", "passwordSecret": {"name": "bgp"}}),
            "spec.passwordSecret.name is \"bgp\": can not have both password and secret ref set in peer config \
             \"landfall\"/\"a\"; remove",
        ),
        (
            json!({"nodeSelectors": [{"matchLabels": {"rack": "1"}}, {"matchLabels": {"rack": "1"}}]}),
            "spec.nodeSelectors[1] is \"rack=1\": duplicate definition of nodeSelectors; remove one",
        ),
        (
            json!({"nodeSelectors": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["2", "1", "2"]}]}]}),
            "spec.nodeSelectors[0].matchExpressions[0].values is \"2\": duplicate definition of match expression value in \
             label selector; remove one",
        ),
        (
            json!({"nodeSelectors": [{"matchExpressions": [
                {"key": "rack", "operator": "In", "values": ["1", "2"]},
                {"key": "rack", "operator": "In", "values": ["2", "1"]}]}]}),
            "spec.nodeSelectors[0].matchExpressions[1] is \"rack\": duplicate definition of match expressions; remove one",
        ),
    ] {
        let objects = [("BGPPeer/a", peer(change))];
        assert_problems(&objects, &[&format!("BGPPeer \"a\": {expected}")]);
        assert!(Config::read(&cluster(&objects)).0.bgp.peers.is_empty(), "half a peer is another peer: {objects:?}");
        assert!(!problems(&objects)[0].contains("hush"), "a password gets into no message");
    }
}

#[test]
fn a_peer_says_what_a_session_needs() {
    let (config, problems) = Config::read(&cluster(&[
        (
            "BGPPeer/all",
            peer(json!({
                "peerASN": null, "dynamicASN": "external", "localASN": 7, "peerAddress": "fd00:0::1", "vrf": "red",
                "peerPort": 1179, "sourceAddress": "fd00::7", "holdTime": "1m30s", "connectTime": "10s",
                "routerID": "10.9.9.9", "nodeSelectors": rack("1"), "passwordSecret": {"name": "bgp", "namespace": "other"},
                "bfdProfile": "fast", "enableGracefulRestart": true, "ebgpMultiHop": true, "disableMP": true,
                "dualStackAddressFamily": true})),
        ),
        (
            "BGPPeer/few",
            peer(json!({"peerAddress": null, "interface": "eth1", "password": "hush", "routerID": "10.9.9.9"})),
        ),
        (
            "BFDProfile/fast",
            json!({"receiveInterval": 10, "detectMultiplier": 255, "echoMode": true, "minimumTtl": 254}),
        ),
    ]));
    assert_eq!(problems, []);
    assert_eq!(
        config.bgp.peers["all"],
        Peer {
            name: "all".into(),
            my_asn: 64512,
            local_asn: Some(7),
            remote_as: RemoteAs::External,
            endpoint: Endpoint::Address("fd00::1".parse().unwrap()),
            vrf: Some("red".into()),
            port: 1179,
            source_address: Some("fd00::7".parse::<IpAddr>().unwrap()),
            timers: Some(Timers { hold: Duration::from_secs(90), keepalive: Duration::from_secs(30) }),
            connect_time: Some(Duration::from_secs(10)),
            router_id: Some("10.9.9.9".parse().unwrap()),
            node_selectors: config.bgp.peers["all"].node_selectors.clone(),
            password: Some(Password::Secret("bgp".into())),
            bfd_profile: Some("fast".into()),
            graceful_restart: true,
            ebgp_multi_hop: true,
            dual_stack: true,
        }
    );
    let label = |rack: &str| Labels::from([("rack".to_owned(), rack.to_owned())]);
    assert!(config.bgp.peers["all"].selects_node(&label("1")) && !config.bgp.peers["all"].selects_node(&label("2")));
    let few = &config.bgp.peers["few"];
    assert_eq!((&few.endpoint, few.port, few.timers), (&Endpoint::Interface("eth1".into()), 179, None));
    assert_eq!((few.remote_as, few.password.clone()), (RemoteAs::Number(64513), Some(Password::Text("hush".into()))));
    assert!(few.selects_node(&label("2")) && !format!("{few:?}").contains("hush"));
    let fast = &config.bgp.bfd_profiles["fast"];
    assert_eq!((fast.receive_interval, fast.transmit_interval), (Some(Duration::from_millis(10)), None));
    assert_eq!((fast.detect_multiplier, fast.minimum_ttl, fast.echo_mode), (Some(255), Some(254), true));
}

#[test]
fn of_the_two_times_of_a_session_one_follows_from_the_other() {
    for (change, hold, keepalive) in [
        (json!({"holdTime": "90s"}), 90_000, 30_000),
        (json!({"keepaliveTime": "10s"}), 30_000, 10_000),
        (json!({"holdTime": "90s", "keepaliveTime": "90s"}), 90_000, 90_000),
        (json!({"holdTime": "3.7s", "keepaliveTime": "500ms"}), 3_000, 500),
        (json!({"holdTime": "0s", "keepaliveTime": "0s"}), 0, 0),
        (json!({"holdTime": "900ms"}), 0, 0),
        (json!({"holdTime": "65535s", "keepaliveTime": "1s"}), 65_535_000, 1_000),
    ] {
        let (config, problems) = Config::read(&cluster(&[("BGPPeer/a", peer(change.clone()))]));
        assert_eq!(problems, [], "{change}");
        let expected = Timers { hold: Duration::from_millis(hold), keepalive: Duration::from_millis(keepalive) };
        assert_eq!(config.bgp.peers["a"].timers, Some(expected), "{change}");
    }
}

#[test]
fn numbers_of_a_bfd_profile_are_within_what_the_protocol_and_the_schema_allow() {
    for (field, called, from, to) in [
        ("receiveInterval", "receive interval", 10, 60_000),
        ("transmitInterval", "transmit interval", 10, 60_000),
        ("echoInterval", "echo interval", 10, 60_000),
        ("detectMultiplier", "detect multiplier", 2, 255),
        ("minimumTtl", "minimum ttl", 1, 254),
    ] {
        for number in [from, to] {
            assert_problems(&[("BFDProfile/f", json!({field: number}))], &[]);
        }
        for number in [from - 1, to + 1] {
            let expected = format!(
                "BFDProfile \"f\": spec.{field} is \"{number}\": invalid {called} value: must be in {from}-{to} range; write"
            );
            assert_problems(&[("BFDProfile/f", json!({field: number}))], &[&expected]);
        }
    }
}

#[test]
fn a_peer_waits_for_its_bfd_profile() {
    let waiting = [("BGPPeer/a", peer(json!({"bfdProfile": "fast"})))];
    assert_problems(
        &waiting,
        &["BGPPeer \"a\": spec.bfdProfile is \"fast\": peer a referencing non existing bfd profile fast: there is no"],
    );
    let (config, problems) = Config::read(&cluster(&waiting));
    assert!(problems[0].transient && config.bgp.peers.is_empty());
    let complete = [waiting[0].clone(), ("BFDProfile/fast", json!({}))];
    assert_problems(&complete, &[]);
}

#[test]
fn peers_of_one_node_agree_in_what_a_node_has_once() {
    let same_router = "peer 10.0.0.2 has RouterID different from 10.0.0.1, in FRR mode peers selecting the same node must all \
                       have the same RouterID: BGPPeer \"z\" is for the same nodes; make";
    for (older, younger, expected) in [
        (json!({}), json!({"peerAddress": "10.0.0.2"}), None),
        (json!({"routerID": "1.1.1.1"}), json!({"peerAddress": "10.0.0.2", "routerID": "1.1.1.1"}), None),
        (
            json!({"routerID": "1.1.1.1"}),
            json!({"peerAddress": "10.0.0.2", "routerID": "2.2.2.2"}),
            Some(format!("spec.routerID is \"2.2.2.2\": {same_router}")),
        ),
        (
            json!({"routerID": "1.1.1.1"}),
            json!({"peerAddress": "10.0.0.2"}),
            Some(format!("spec.routerID is \"\": {same_router}")),
        ),
        (
            json!({"peerAddress": "fd00::1"}),
            json!({"peerAddress": "fd00:0:0::1", "peerPort": 1179}),
            Some(
                "spec.peerAddress is \"fd00::1\": peer fd00::1 already exists, FRR mode doesn't support duplicate BGPPeers \
                 selecting the same node: BGPPeer \"z\" is for the same nodes; remove"
                    .to_owned(),
            ),
        ),
        (
            json!({"peerAddress": null, "interface": "eth1", "vrf": "red"}),
            json!({"peerAddress": null, "interface": "eth1", "vrf": "red"}),
            Some("spec.interface is \"eth1\": peer eth1-red already exists, FRR mode doesn't support".to_owned()),
        ),
        (json!({"vrf": "red"}), json!({"vrf": "blue", "myASN": 64999}), None),
        (json!({"vrf": "red"}), json!({}), None),
        (
            json!({"vrf": "red"}),
            json!({"vrf": "red", "peerAddress": "10.0.0.2", "myASN": 64999}),
            Some("spec.myASN is \"64999\": peer 10.0.0.2-red has myAsn different from 10.0.0.1-red, but".to_owned()),
        ),
    ] {
        let with = |change: &Value, selectors: Value| {
            let mut change = change.clone();
            change["nodeSelectors"] = selectors;
            peer(change)
        };
        let node_of_both = ("Node/n", json!({"rack": "1", "row": "2"}));
        let row = json!([{"matchLabels": {"row": "2"}}]);
        // The older one stays, whatever the names.
        let expected = expected.map(|expected| format!("BGPPeer \"a\": {expected}"));
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        for (together, objects) in [
            ("no node is known", vec![("BGPPeer/z", with(&older, rack("1"))), ("BGPPeer/a", with(&younger, rack("2")))]),
            (
                "a node that both select",
                vec![("BGPPeer/z", with(&older, rack("1"))), ("BGPPeer/a", with(&younger, row)), node_of_both.clone()],
            ),
            (
                "no selectors",
                vec![("BGPPeer/z", with(&older, json!([]))), ("BGPPeer/a", with(&younger, rack("1"))), node_of_both],
            ),
        ] {
            assert_problems(&objects, &expected);
            let (config, _) = Config::read(&cluster(&objects));
            assert!(config.bgp.peers.contains_key("z"), "{together}");
            assert_eq!(config.bgp.peers.contains_key("a"), expected.is_empty(), "{together}");
        }
        assert_problems(
            &[
                ("BGPPeer/z", with(&older, rack("1"))),
                ("BGPPeer/a", with(&younger, rack("2"))),
                ("Node/one", json!({"rack": "1"})),
                ("Node/two", json!({"rack": "2"})),
            ],
            &[],
        );
    }
}
