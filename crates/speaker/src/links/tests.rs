use super::*;

fn mac(last: u8) -> MacAddr {
    MacAddr::new(2, 0, 0, 0, 0, last)
}

fn ethernet(name: &str, last: u8) -> Link {
    Link { name: name.to_owned(), mac: Some(mac(last)), up: true, enslaved: false }
}

fn address(text: &str) -> InterfaceAddress {
    let network: IpNet = text.parse().unwrap();
    InterfaceAddress { local: network.addr(), network: network.trunc() }
}

/// eth0 in 192.0.2.0/24 and 2001:db8::/64, eth1 in 198.51.100.0/24, eth2 without an address.
fn links(filter: InterfaceFilter) -> Links {
    let mut links = Links::new(filter);
    let three = [(2, ethernet("eth0", 2)), (3, ethernet("eth1", 3)), (4, ethernet("eth2", 4))];
    let addresses = vec![(2, address("192.0.2.2/24")), (2, address("2001:db8::2/64")), (3, address("198.51.100.2/24"))];
    links.apply(LinkEvent::Snapshot(three.into(), addresses));
    links
}

fn named(names: &[&str]) -> Interfaces {
    Interfaces::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

/// The names of the interfaces that answer for one address.
fn names(links: &Links, ip: &str, interfaces: Interfaces) -> Vec<String> {
    links.place([(&ip.parse().unwrap(), &interfaces)]).into_values().map(|placed| placed.name).collect()
}

fn filter(include: &[&str], exclude: &[&str]) -> InterfaceFilter {
    InterfaceFilter::new(include, exclude).unwrap()
}

#[test]
fn address_goes_where_a_network_holds_it_else_everywhere() {
    let links = links(InterfaceFilter::default());
    for (ip, expected) in [
        ("192.0.2.10", vec!["eth0"]),
        ("2001:db8::10", vec!["eth0"]),
        ("198.51.100.10", vec!["eth1"]),
        ("203.0.113.10", vec!["eth0", "eth1", "eth2"]),
        ("2001:db8:1::10", vec!["eth0", "eth1", "eth2"]),
    ] {
        assert_eq!(names(&links, ip, Interfaces::All), expected, "{ip}");
    }
}

#[test]
fn named_interfaces_win_over_networks_and_missing_ones_count_for_nothing() {
    let links = links(InterfaceFilter::default());
    for (interfaces, expected) in [
        (named(&["eth1"]), vec!["eth1"]),
        (named(&["eth1", "eth2", "eth9"]), vec!["eth1", "eth2"]),
        (named(&["eth9"]), vec![]),
        (named(&[]), vec![]),
    ] {
        assert_eq!(names(&links, "192.0.2.10", interfaces.clone()), expected, "{interfaces:?}");
    }
}

#[test]
fn patterns_choose_interfaces_and_exclusion_wins() {
    for (filter, expected) in [
        (filter(&[], &["^eth0$"]), vec!["eth1", "eth2"]),
        (filter(&["^eth[01]$"], &[]), vec!["eth0", "eth1"]),
        (filter(&["th1"], &[]), vec!["eth1"]),
        (filter(&["eth"], &["1", "2"]), vec!["eth0"]),
    ] {
        assert_eq!(names(&links(filter.clone()), "203.0.113.10", Interfaces::All), expected, "{filter:?}");
    }
    let excluded = links(filter(&[], &["^eth0$"]));
    assert_eq!(names(&excluded, "192.0.2.10", named(&["eth0"])), Vec::<String>::new(), "even when it is named");
    assert_eq!(names(&excluded, "192.0.2.10", Interfaces::All), ["eth1", "eth2"], "its network counts no longer");
}

#[test]
fn default_exclusions_leave_container_interfaces_alone() {
    let filter = filter(&[], &EXCLUDED_BY_DEFAULT);
    for (name, allowed) in [
        ("eth0", true),
        ("ens3", true),
        ("bond0.100", true),
        ("br0", true),
        ("wlan0", true),
        ("lo", false),
        ("docker0", false),
        ("veth1a2b", false),
        ("cali123", false),
        ("cni0", false),
        ("flannel.1", false),
        ("kube-ipvs0", false),
        ("lxc_health", false),
        ("virbr0", false),
    ] {
        assert_eq!(filter.allows(name), allowed, "{name}");
    }
}

#[test]
fn wrong_pattern_is_refused_with_the_way_out() {
    let error = InterfaceFilter::new(&["eth0", "eth("], &[]).unwrap_err().to_string();
    assert!(error.starts_with("the interface pattern \"eth(\" is not a regular expression: "), "{error}");
    assert!(error.ends_with("; correct it or leave it out"), "{error}");
}

#[test]
fn interface_that_cannot_serve_is_passed_over() {
    for (what, link) in [
        ("down or without carrier", Link { up: false, ..ethernet("eth0", 2) }),
        ("port of a bridge", Link { enslaved: true, ..ethernet("eth0", 2) }),
        ("not Ethernet, or NOARP", Link { mac: None, ..ethernet("eth0", 2) }),
    ] {
        let mut links = links(InterfaceFilter::default());
        links.apply(LinkEvent::Link(2, link));
        assert_eq!(names(&links, "192.0.2.10", Interfaces::All), ["eth1", "eth2"], "{what}");
        assert_eq!(names(&links, "192.0.2.10", named(&["eth0"])), Vec::<String>::new(), "{what}");
        links.apply(LinkEvent::Link(2, ethernet("eth0", 2)));
        assert_eq!(names(&links, "192.0.2.10", Interfaces::All), ["eth0"], "{what}, and back");
    }
}

#[test]
fn placement_follows_news_of_links_and_addresses() {
    let mut links = links(InterfaceFilter::default());
    let everywhere = ["eth0", "eth1", "eth2"];
    for (event, ip, expected) in [
        (LinkEvent::Address(4, address("203.0.113.2/24")), "203.0.113.10", vec!["eth2"]),
        (LinkEvent::Address(3, address("203.0.113.3/25")), "203.0.113.10", vec!["eth1", "eth2"]),
        (LinkEvent::AddressGone(4, address("203.0.113.2/24")), "203.0.113.10", vec!["eth1"]),
        (LinkEvent::AddressGone(4, address("203.0.113.2/24")), "203.0.113.10", vec!["eth1"]),
        (LinkEvent::Address(3, address("203.0.113.4/25")), "203.0.113.10", vec!["eth1"]),
        (LinkEvent::AddressGone(3, address("203.0.113.3/25")), "203.0.113.10", vec!["eth1"]),
        (LinkEvent::AddressGone(3, address("203.0.113.4/25")), "203.0.113.10", everywhere.to_vec()),
        (LinkEvent::Link(3, ethernet("lan", 3)), "198.51.100.10", vec!["lan"]),
        (LinkEvent::LinkGone(3), "198.51.100.10", vec!["eth0", "eth2"]),
        (LinkEvent::Link(3, ethernet("eth1", 3)), "198.51.100.10", everywhere.to_vec()),
        (LinkEvent::Snapshot([(9, ethernet("new", 9))].into(), vec![]), "192.0.2.10", vec!["new"]),
    ] {
        links.apply(event.clone());
        let mut placed = names(&links, ip, Interfaces::All);
        placed.sort();
        assert_eq!(placed, expected, "after {event:?}");
    }
}

#[test]
fn placement_carries_mac_and_all_addresses_of_an_interface() {
    let links = links(InterfaceFilter::default());
    let ips: BTreeSet<IpAddr> = ["192.0.2.10", "192.0.2.11", "2001:db8::10"].map(|ip| ip.parse().unwrap()).into();
    let all = ips.iter().map(|ip| (ip, &Interfaces::All)).collect::<Vec<_>>();
    let placement = links.place(all);
    let placed = Placed { name: "eth0".to_owned(), mac: mac(2), addresses: ips };
    assert_eq!(placement, Placement::from([(2, placed)]));
}

#[test]
fn the_networks_that_are_told_are_those_of_usable_interfaces_that_say_where_the_node_is() {
    let told = |links: &Links| links.networks().iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut all = links(InterfaceFilter::default());
    assert_eq!(told(&all), ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"]);
    for nothing in ["169.254.7.7/16", "fe80::2/64", "203.0.113.7/32", "2001:db8:9::1/128"] {
        all.apply(LinkEvent::Address(4, address(nothing)));
    }
    assert_eq!(told(&all), ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"]);
    all.apply(LinkEvent::Link(3, Link { up: false, ..ethernet("eth1", 3) }));
    all.apply(LinkEvent::AddressGone(2, address("2001:db8::2/64")));
    assert_eq!(told(&all), ["192.0.2.0/24"]);
    assert_eq!(told(&links(filter(&[], &["^eth0$"]))), ["198.51.100.0/24"]);
}

#[test]
fn what_is_down_is_told_by_interface_by_network_and_as_a_whole() {
    let mut all = links(InterfaceFilter::default());
    let networks = all.networks();
    let named = BTreeSet::from(["eth0", "eth9"]);
    let names = ["eth0", "eth1", "eth9", "192.0.2.0/24", "2001:db8::/64", "198.51.100.0/24", EVERYTHING];
    let told = |links: &Links| {
        let down = links.down(&named, &networks);
        names.iter().copied().filter(|name| down.contains(name)).collect::<Vec<_>>()
    };
    assert_eq!(told(&all), ["eth9"], "an interface that advertisements name and that is not there");
    all.apply(LinkEvent::Link(2, Link { up: false, ..ethernet("eth0", 2) }));
    assert_eq!(told(&all), ["eth0", "eth9", "192.0.2.0/24", "2001:db8::/64"]);
    all.apply(LinkEvent::Link(3, Link { up: false, ..ethernet("eth1", 3) }));
    all.apply(LinkEvent::LinkGone(4));
    assert_eq!(told(&all), ["eth0", "eth9", "192.0.2.0/24", "2001:db8::/64", "198.51.100.0/24", EVERYTHING]);
}

#[test]
fn node_is_on_the_networks_of_all_its_ethernet_interfaces_also_of_those_that_may_not_announce_or_are_down() {
    let mut links = links(filter(&[], &["^eth0$"]));
    links.apply(LinkEvent::Link(3, Link { up: false, ..ethernet("eth1", 3) }));
    for (index, link) in
        [(5, Link { enslaved: true, ..ethernet("port", 5) }), (6, Link { mac: None, ..ethernet("wg0", 6) })]
    {
        links.apply(LinkEvent::Link(index, link));
        links.apply(LinkEvent::Address(index, address("203.0.113.2/24")));
    }
    let on = |interface, name: &str, up, text: &str| {
        let InterfaceAddress { local, network } = address(text);
        Attached { interface, name: name.to_owned(), mac: mac(interface as u8), up, local, network }
    };
    let wanted = [
        on(2, "eth0", true, "192.0.2.2/24"),
        on(2, "eth0", true, "2001:db8::2/64"),
        on(3, "eth1", false, "198.51.100.2/24"),
    ];
    assert_eq!(links.attached(), wanted);
}
