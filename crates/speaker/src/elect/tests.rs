//! Tables for the election: each row stands alone.

use landfall_config::{Labels, Resources};
use serde_json::{Value, json};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn config(advertisements: Value) -> Config {
    let pool = |name: &str, addresses: Value| {
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": name, "labels": {"zone": name}}, "spec": {"addresses": addresses}})
    };
    let pools = json!([
        pool("lan", json!(["172.30.0.200-172.30.0.219", "fd00:30::200-fd00:30::219"])),
        pool("edge", json!(["10.20.30.0/24"])),
    ]);
    let named = |(i, spec): (usize, &Value)| {
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
            "metadata": {"name": format!("ad-{i}")}, "spec": spec})
    };
    let advertisements: Vec<Value> = advertisements.as_array().unwrap().iter().enumerate().map(named).collect();
    let (config, problems) = Config::read(&Resources {
        pools: serde_json::from_value(pools).unwrap(),
        l2_advertisements: serde_json::from_value(json!(advertisements)).unwrap(),
        ..Resources::default()
    });
    assert_eq!(problems, []);
    config
}

/// n1, n2 and n3; n1 is of rack a, the others of rack b.
fn nodes() -> BTreeMap<String, Node> {
    [("n1", "a"), ("n2", "b"), ("n3", "b")]
        .map(|(name, rack)| {
            let labels = labels([("rack", rack), ("kubernetes.io/hostname", name)]);
            (name.to_owned(), Node { labels, ready: true, network_unavailable: false, drain: false })
        })
        .into()
}

fn service(ips: &[&str]) -> Service {
    Service {
        uid: "u".into(),
        labels: labels([("app", "web")]),
        ingress_ips: Ok(ips.iter().map(|text| ip(text)).collect()),
        local: false,
        may_share: false,
        placed: None,
        generation: None,
        stated: None,
    }
}

/// The nodes that announce while all live, each asked by itself, with the interfaces; and the reason of the first that may
/// not.
fn announcers(
    service: &Service,
    endpoints: &Endpoints<'_>,
    config: &Config,
    eligible: &BTreeSet<String>,
) -> (Vec<(&'static str, Interfaces)>, Option<Reason>) {
    let nodes = nodes();
    let eligible = &eligible.iter().map(|name| Arc::from(name.as_str())).collect();
    let mut announcing = Vec::new();
    let mut reason = None;
    for node in ["n1", "n2", "n3"] {
        match verdict(service, None, endpoints, &World { node, config, nodes: &nodes, eligible }) {
            Verdict::Serve { interfaces, ranking, .. } if *ranking[0] == *node => announcing.push((node, interfaces)),
            Verdict::Serve { .. } => {}
            Verdict::Withhold(why) => reason = reason.or(Some(why)),
        }
    }
    (announcing, reason)
}

fn somewhere() -> Endpoints<'static> {
    Endpoints { anywhere: true, nodes: BTreeSet::from(["n2"]) }
}

#[test]
fn every_address_has_exactly_one_announcer_and_it_is_metallbs() {
    let config = config(json!([{}]));
    let all = set(["n1", "n2", "n3"]);
    for (ips, owner) in [
        (&["172.30.0.200"][..], "n3"),
        (&["172.30.0.201"], "n1"),
        (&["172.30.0.202"], "n1"),
        (&["172.30.0.203"], "n3"),
        (&["172.30.0.204"], "n1"),
        (&["172.30.0.205"], "n2"),
        (&["fd00:30::200"], "n3"),
        // both go where the first goes
        (&["172.30.0.205", "fd00:30::200"], "n2"),
        (&["fd00:30::200", "172.30.0.205"], "n3"),
    ] {
        let (announcing, _) = announcers(&service(ips), &somewhere(), &config, &all);
        assert_eq!(announcing, [(owner, Interfaces::All)], "{ips:?}");
    }
}

#[test]
fn preferred_nodes_come_first_and_the_placed_node_before_the_hash() {
    let all = set(["n1", "n2", "n3"]);
    let prefer = |weight: i32, rack: &str| json!({"weight": weight, "preference": {"matchLabels": {"rack": rack}}});
    let on_host = |name: &str| json!({"matchLabels": {"kubernetes.io/hostname": name}});
    for (ads, placed, owner) in [
        (json!([{}]), None, "n3"),
        (json!([{"preferredNodeSelectors": [prefer(1, "a")]}]), None, "n1"),
        (json!([{"preferredNodeSelectors": [prefer(1, "a")]}]), Some("n2"), "n1"),
        (json!([{}]), Some("n2"), "n2"),
        (json!([{}]), Some("gone"), "n3"),
        // the weights of all matching advertisements add up, each only for nodes it selects
        (
            json!([
                {"preferredNodeSelectors": [prefer(10, "a")]},
                {"preferredNodeSelectors": [prefer(11, "b")], "nodeSelectors": [on_host("n2")]},
            ]),
            None,
            "n2",
        ),
    ] {
        let service = Service { placed: placed.map(str::to_owned), ..service(&["172.30.0.200"]) };
        let (announcing, _) = announcers(&service, &somewhere(), &config(ads.clone()), &all);
        assert_eq!(announcing, [(owner, Interfaces::All)], "{ads} placed {placed:?}");
    }
}

#[test]
fn only_eligible_nodes_that_an_advertisement_selects_take_part() {
    let rack = |rack: &str| json!([{"matchLabels": {"rack": rack}}]);
    for (ads, eligible, owner) in [
        (json!([{}]), set(["n1", "n2"]), Some("n1")),
        (json!([{}]), set(["n2"]), Some("n2")),
        (json!([{}]), set(["n2", "not-a-node"]), Some("n2")),
        (json!([{}]), set([]), None),
        (json!([{"nodeSelectors": rack("a")}]), set(["n1", "n2", "n3"]), Some("n1")),
        (json!([{"nodeSelectors": rack("a")}]), set(["n2", "n3"]), None),
        (json!([{"nodeSelectors": rack("a")}, {"nodeSelectors": rack("b")}]), set(["n2", "n3"]), Some("n3")),
    ] {
        let (announcing, reason) =
            announcers(&service(&["172.30.0.200"]), &somewhere(), &config(ads.clone()), &eligible);
        assert_eq!(announcing.first().map(|(node, _)| *node), owner, "{ads} among {eligible:?}");
        if owner.is_none() {
            assert_eq!(reason, Some(Reason::NoEligibleNode), "{ads} among {eligible:?}");
        }
    }
}

#[test]
fn with_policy_local_the_announcer_hosts_an_endpoint() {
    let config = config(json!([{}]));
    let all = set(["n1", "n2", "n3"]);
    let local = Service { local: true, ..service(&["172.30.0.200"]) }; // ranking: n3, n1, n2
    for (nodes, owner) in [
        (BTreeSet::from(["n1", "n2", "n3"]), Some("n3")),
        (BTreeSet::from(["n1", "n2"]), Some("n1")),
        (BTreeSet::from(["n2"]), Some("n2")),
        (BTreeSet::from(["elsewhere"]), None),
        (BTreeSet::new(), None),
    ] {
        let endpoints = Endpoints { anywhere: true, nodes };
        let (announcing, reason) = announcers(&local, &endpoints, &config, &all);
        assert_eq!(announcing.first().map(|(node, _)| *node), owner, "{endpoints:?}");
        if owner.is_none() {
            assert_eq!(reason, Some(Reason::NoEligibleNode));
        }
    }
}

#[test]
fn a_service_is_withheld_with_the_reason() {
    let all = set(["n1", "n2", "n3"]);
    let everything = json!([{}]);
    let only_api = json!([{"serviceSelectors": [{"matchLabels": {"app": "api"}}]}]);
    let only_web = json!([{"serviceSelectors": [{"matchLabels": {"app": "web"}}]}]);
    let lan = || service(&["172.30.0.200"]);
    let nowhere = Endpoints::default();
    for (what, service, endpoints, ads, expected) in [
        ("no address yet", service(&[]), somewhere(), &everything, Reason::NoIpAllocated),
        (
            "a host name",
            Service { ingress_ips: Err(r#"hostname "lb""#.into()), ..lan() },
            somewhere(),
            &everything,
            Reason::InvalidIp(r#"hostname "lb""#.into()),
        ),
        ("an address of no pool", service(&["192.0.2.1"]), somewhere(), &everything, Reason::IpNotAllowed),
        (
            "addresses of two pools",
            service(&["172.30.0.200", "10.20.30.1"]),
            somewhere(),
            &everything,
            Reason::IpNotAllowed,
        ),
        ("no endpoint", lan(), nowhere, &everything, Reason::NoEndpoints),
        ("no advertisement at all", lan(), somewhere(), &json!([]), Reason::NoMatchingAdvertisement),
        ("another pool's", lan(), somewhere(), &json!([{"ipAddressPools": ["edge"]}]), Reason::NoMatchingAdvertisement),
        ("another Service's", lan(), somewhere(), &only_api, Reason::NoMatchingAdvertisement),
        (
            "sharing and chosen by label",
            Service { may_share: true, ..lan() },
            somewhere(),
            &only_web,
            Reason::SharedIpWithServiceSelector,
        ),
    ] {
        let (announcing, reason) = announcers(&service, &endpoints, &config(ads.clone()), &all);
        assert_eq!((announcing, reason), (vec![], Some(expected)), "{what}");
    }
}

#[test]
fn advertisements_match_pools_by_name_or_label_and_services_by_label() {
    let all = set(["n1", "n2", "n3"]);
    for ads in [
        json!([{"ipAddressPools": ["lan"]}]),
        json!([{"ipAddressPools": ["edge"], "ipAddressPoolSelectors": [{"matchLabels": {"zone": "lan"}}]}]),
        json!([{"serviceSelectors": [{"matchLabels": {"app": "api"}}, {"matchLabels": {"app": "web"}}]}]),
    ] {
        let (announcing, _) = announcers(&service(&["172.30.0.200"]), &somewhere(), &config(ads.clone()), &all);
        assert_eq!(announcing, [("n3", Interfaces::All)], "{ads}");
    }
    let (_, reason) = announcers(
        &Service { may_share: true, ..service(&["172.30.0.200"]) },
        &somewhere(),
        &config(json!([{}])),
        &all,
    );
    assert_eq!(reason, None, "sharing alone is no obstacle");
}

#[test]
fn interfaces_are_the_union_of_the_advertisements_that_select_the_node() {
    let all = set(["n1", "n2", "n3"]);
    let rack = |rack: &str| json!([{"matchLabels": {"rack": rack}}]);
    for (ads, expected) in [
        (json!([{"interfaces": ["eth0"]}, {"interfaces": ["eth1", "eth0"]}]), Interfaces::Named(set(["eth0", "eth1"]))),
        (json!([{"interfaces": ["eth0"]}, {}]), Interfaces::All),
        // n3 is of rack b: what rack a says about interfaces is not for it
        (
            json!([{"interfaces": ["eth0"], "nodeSelectors": rack("b")}, {"nodeSelectors": rack("a")}]),
            Interfaces::Named(set(["eth0"])),
        ),
    ] {
        let (announcing, _) = announcers(&service(&["172.30.0.200"]), &somewhere(), &config(ads.clone()), &all);
        assert_eq!(announcing, [("n3", expected)], "{ads}");
    }
}

#[test]
fn services_that_share_an_address_are_answered_on_the_interfaces_of_all_and_what_is_for_others_is_told() {
    let ranking: Ranking = [Arc::from("n1")].into();
    let announce = |ips: &[&str], interfaces: Interfaces| Verdict::Serve {
        ips: ips.iter().map(|text| ip(text)).collect(),
        interfaces,
        ranking: Arc::clone(&ranking),
    };
    let key = |name: &str| ServiceKey { namespace: "shop".into(), name: name.into() };
    let verdicts = BTreeMap::from([
        (key("a"), announce(&["10.0.0.1"], Interfaces::Named(set(["eth0"])))),
        (key("b"), announce(&["10.0.0.1", "fd00::1"], Interfaces::Named(set(["eth1"])))),
        (key("c"), announce(&["10.0.0.2"], Interfaces::All)),
        (key("d"), announce(&["10.0.0.2"], Interfaces::Named(set(["eth1"])))),
        (key("e"), Verdict::Withhold(Reason::NoEndpoints)),
        (key("f"), Verdict::Withhold(Reason::NotEligible)),
        (key("g"), Verdict::Withhold(Reason::NotSelected)),
    ]);
    let services = BTreeMap::from([
        (key("e"), service(&["10.0.0.5"])),
        (key("f"), service(&["10.0.0.6", "10.0.0.1"])), // one is ours, by another Service
        (key("g"), service(&["10.0.0.7"])),
    ]);
    let desired = desired(&verdicts, |key| services.get(key));
    assert_eq!(desired.others, [ip("10.0.0.6"), ip("10.0.0.7")].into());
    assert_eq!(
        desired.addresses,
        BTreeMap::from(
            [
                (ip("10.0.0.1"), Interfaces::Named(set(["eth0", "eth1"]))),
                (ip("10.0.0.2"), Interfaces::All),
                (ip("fd00::1"), Interfaces::Named(set(["eth1"]))),
            ]
            .map(|(ip, interfaces)| (ip, Wanted { interfaces, ranking: Arc::clone(&ranking) }))
        )
    );
}

#[test]
fn who_is_drained_is_ranked_last_and_answers_where_nobody_else_can() {
    let config = config(json!([{}]));
    for (drained, first) in
        [(vec![], "n3"), (vec!["n3"], "n1"), (vec!["n3", "n1"], "n2"), (vec!["n1", "n2", "n3"], "n3")]
    {
        let mut nodes = nodes();
        drained.iter().for_each(|name| nodes.get_mut(*name).expect("a node").drain = true);
        let eligible = ["n1", "n2", "n3"].map(Arc::from).into();
        let world = World { node: "n2", config: &config, nodes: &nodes, eligible: &eligible };
        let verdict = verdict(&service(&["172.30.0.200"]), None, &somewhere(), &world);
        let Verdict::Serve { ranking, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((&*ranking[0], ranking.len()), (first, 3), "{drained:?} drained");
    }
}
