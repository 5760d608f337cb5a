//! Against the real kernel, in a namespace of the test's own.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::ipvs;
use crate::links::{InterfaceFilter, Links};
use crate::new_namespace;

/// Runs `body` in a runtime on a thread in a new network namespace, which ends with it.
fn in_new_namespace<F: Future>(body: impl FnOnce() -> F + Send + 'static) {
    new_namespace::in_new_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), body()).await.expect("in time") });
    });
}

/// Runs `ip` commands in the thread's namespace, one a line.
fn ip(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{commands}");
}

/// Reads news until `wanted` holds for one.
async fn until(netlink: &mut Netlink, wanted: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
    loop {
        let event = netlink.next().await.unwrap();
        if wanted(&event) {
            return event;
        }
    }
}

#[test]
fn first_news_is_a_snapshot_and_changes_follow() {
    in_new_namespace(|| async {
        ip(
            "link add one address 02:00:00:00:00:01 type veth peer name two\nlink set one up\naddress add 192.0.2.2/24 dev one\n",
        );
        let mut netlink = Netlink::open().unwrap();
        let LinkEvent::Snapshot(links, addresses) = netlink.next().await.unwrap() else { panic!("no snapshot") };
        let (&one, link) = links.iter().find(|(_, link)| link.name == "one").unwrap();
        let mac = Some(MacAddr::new(2, 0, 0, 0, 0, 1));
        assert_eq!(*link, Link { name: "one".to_owned(), mac, up: false, enslaved: false }, "two is down");
        assert!(links.values().any(|link| link.name == "lo" && link.mac.is_none()), "{links:?}");
        let address =
            InterfaceAddress { local: "192.0.2.2".parse().unwrap(), network: "192.0.2.0/24".parse().unwrap() };
        assert_eq!(addresses, [(one, address)]);

        ip("link set two up\n");
        let up = Link { name: "one".to_owned(), mac, up: true, enslaved: false };
        until(&mut netlink, |event| *event == LinkEvent::Link(one, up.clone())).await;
        ip("link add br0 type bridge\nlink set one master br0\n");
        let enslaved = Link { enslaved: true, ..up.clone() };
        until(&mut netlink, |event| *event == LinkEvent::Link(one, enslaved.clone())).await;
        ip("link set one nomaster\n");
        // Leaving a bridge also deletes a bridge port, which has the interface's index.
        let wanted = LinkEvent::Link(one, up.clone());
        let event = until(&mut netlink, |event| *event == wanted || matches!(event, LinkEvent::LinkGone(_))).await;
        assert_eq!(event, wanted);
        ip("link set one arp off\n");
        until(&mut netlink, |event| *event == LinkEvent::Link(one, Link { mac: None, ..up.clone() })).await;
        ip("address delete 192.0.2.2/24 dev one\nlink delete one\n");
        until(&mut netlink, |event| *event == LinkEvent::AddressGone(one, address)).await;
        until(&mut netlink, |event| *event == LinkEvent::LinkGone(one)).await;
    });
}

#[test]
fn lost_news_lead_to_a_snapshot_and_nothing_older_follows_it() {
    in_new_namespace(|| async {
        ip("link add one type veth peer name two\nlink set two up\n");
        let mut netlink = Netlink::with_buffer(16_384).unwrap();
        assert!(matches!(netlink.next().await.unwrap(), LinkEvent::Snapshot(..)));
        // Nobody reads meanwhile. The first of these news fit the buffer, the last do not.
        ip(&format!("{}link delete one\n", "link set one up\nlink set one down\n".repeat(200)));
        let snapshot = until(&mut netlink, |event| matches!(event, LinkEvent::Snapshot(..))).await;
        let LinkEvent::Snapshot(links, _) = snapshot else { unreachable!() };
        assert_eq!(links.into_values().map(|link| link.name).collect::<Vec<_>>(), ["lo"]);
        ip("link add last type veth peer name other\n");
        let event = netlink.next().await.unwrap();
        assert!(matches!(&event, LinkEvent::Link(_, link) if link.name == "other" || link.name == "last"), "{event:?}");
    });
}

#[test]
fn a_service_address_on_kube_proxys_interface_is_seen_and_strict_arp_is_the_way_out() {
    in_new_namespace(|| async {
        // Of kube-proxy's interface only the name and its addresses matter; not every kernel has type dummy.
        ip("link add one type veth peer name two\nlink set one up\nlink set two up\nlink add kube-ipvs0 type bridge\n");
        ip("address add 192.0.2.240/32 dev kube-ipvs0\naddress add 2001:db8::1/128 dev kube-ipvs0\n");
        let mut netlink = Netlink::open().unwrap();
        let excluded = crate::links::EXCLUDED_BY_DEFAULT;
        let mut links = Links::new(InterfaceFilter::new(&[], &excluded).unwrap());
        links.apply(netlink.next().await.unwrap());
        let held = |links: &Links, text: &str| links.held_by_ipvs([&text.parse().unwrap()]);
        assert_eq!((held(&links, "192.0.2.241"), held(&links, "2001:db8::1")), (None, None));
        let found = held(&links, "192.0.2.240").expect("it is there");
        assert!(found.interfaces.contains("one") && !found.interfaces.contains("kube-ipvs0"), "{found:?}");

        let all = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        std::fs::write(all, "0").unwrap();
        let trap = ipvs::trap(&found, ipvs::read_arp_ignore).expect("the kernel answers");
        assert!(trap.to_string().contains("192.0.2.240"), "{trap}");
        std::fs::write(all, "1").unwrap();
        assert_eq!(ipvs::trap(&found, ipvs::read_arp_ignore), None);

        ip("address delete 192.0.2.240/32 dev kube-ipvs0\n");
        let gone = until(&mut netlink, |event| matches!(event, LinkEvent::AddressGone(..))).await;
        links.apply(gone);
        assert_eq!(held(&links, "192.0.2.240"), None);
    });
}
