//! What is said, and by whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn here(names: &[&str]) -> Answers {
    Answers::Here(set(names))
}

fn elsewhere(node: Option<&str>) -> Answers {
    Answers::Elsewhere(node.map(Arc::from))
}

/// What n1 says of a Service with these addresses.
fn said(
    ips: &[&str],
    interfaces: Interfaces,
    answers: Vec<(&str, Answers)>,
    stranger: Option<&str>,
) -> Option<Statement> {
    let ranking = [Arc::from("n1"), Arc::from("n2")].into();
    let verdict = Verdict::Serve { ips: ips.iter().map(|text| ip(text)).collect(), interfaces, ranking };
    let announced = Announced {
        addresses: answers.into_iter().map(|(text, answers)| (ip(text), answers)).collect(),
        conflicts: stranger.map(|text| (ip(text), MacAddr::new(2, 0, 0, 0, 0, 9))).into_iter().collect(),
        unheard: BTreeMap::new(),
    };
    statement("n1", &verdict, &announced, true)
}

#[test]
fn the_owner_of_the_first_address_says_who_answers_for_each_and_where() {
    for (answers, message) in [
        (vec![(V4, here(&["eth0"]))], Some("node n1 answers for 192.0.2.1 on eth0")),
        (vec![(V4, here(&["eth0", "eth1"]))], Some("node n1 answers for 192.0.2.1 on eth0, eth1")),
        (
            vec![(V4, here(&["eth0"])), (V6, here(&["eth0"]))],
            Some("node n1 answers for 192.0.2.1 and 2001:db8::1 on eth0"),
        ),
        (
            vec![(V4, here(&["eth0"])), (V6, here(&["eth1"]))],
            Some("node n1 answers for 192.0.2.1 on eth0, and node n1 answers for 2001:db8::1 on eth1"),
        ),
        (
            vec![(V4, here(&["eth0"])), (V6, elsewhere(Some("n2")))],
            Some("node n1 answers for 192.0.2.1 on eth0, and node n2 answers for 2001:db8::1"),
        ),
        // Another owns the first one, or nobody: nothing is ours to say.
        (vec![(V4, elsewhere(Some("n2"))), (V6, here(&["eth0"]))], None),
        (vec![(V4, elsewhere(None))], None),
    ] {
        let ips: Vec<&str> = answers.iter().map(|(ip, _)| *ip).collect();
        let said = said(&ips, Interfaces::All, answers.clone(), None);
        let expected =
            message.map(|message| Statement { announced: true, reason: "Announced", message: message.to_owned() });
        assert_eq!(said, expected, "{answers:?}");
    }
    assert_eq!(said(&[V4, V6], Interfaces::All, vec![(V4, here(&["eth0"]))], None), None, "not looked at yet");
}

#[test]
fn what_is_amiss_with_an_address_is_said_with_the_way_out() {
    let named = || Interfaces::Named(set(&["eth8", "eth9"]));
    for (answers, interfaces, stranger, reason, words) in [
        (
            vec![(V4, here(&["eth0"]))],
            Interfaces::All,
            Some(V4),
            "AddressConflict",
            vec!["192.0.2.1", "02:00:00:00:00:09", "take the address from that machine, or out of the IPAddressPool"],
        ),
        (
            vec![(V4, here(&["eth0"])), (V6, here(&["eth0"]))],
            Interfaces::All,
            Some(V6),
            "AddressConflict",
            vec!["2001:db8::1"],
        ),
        (
            vec![(V4, here(&[]))],
            named(),
            None,
            "NoInterface",
            vec!["node n1 is to answer for 192.0.2.1", "(eth8, eth9)", "correct spec.interfaces"],
        ),
        (
            vec![(V4, here(&["eth0"])), (V6, here(&[]))],
            Interfaces::All,
            None,
            "NoInterface",
            vec!["2001:db8::1", "bring one up"],
        ),
        (
            vec![(V4, here(&["eth0"])), (V6, elsewhere(None))],
            Interfaces::All,
            None,
            "NoEligibleNode",
            vec!["2001:db8::1 can do so at present"],
        ),
    ] {
        let ips: Vec<&str> = answers.iter().map(|(ip, _)| *ip).collect();
        let said = said(&ips, interfaces, answers.clone(), stranger).expect("something is said");
        assert_eq!((said.announced, said.reason), (false, reason), "{answers:?}");
        for word in words {
            assert!(said.message.contains(word), "{word:?} is not in: {}", said.message);
        }
    }
    // A new address that somebody has is not answered for by anybody of ours.
    let taken = said(&[V4, V6], Interfaces::All, vec![(V4, here(&["eth0"]))], Some(V6)).expect("something is said");
    assert_eq!((taken.announced, taken.reason), (false, "AddressConflict"));
    assert!(taken.message.contains("does not announce the new address 2001:db8::1"), "{}", taken.message);
    // Who does not own the first address says nothing about the others.
    assert_eq!(said(&[V4, V6], named(), vec![(V4, elsewhere(Some("n2"))), (V6, here(&[]))], Some(V6)), None);
}

#[test]
fn of_a_service_that_no_node_may_announce_one_speaker_says_why_and_none_says_what_is_about_one_node() {
    let announced = Announced::default();
    for (reason, condition, way_out) in [
        (Reason::InvalidIp(r#"hostname "lb""#.into()), Some("InvalidIP"), "stop who writes it"),
        (Reason::IpNotAllowed, Some("IPNotAllowed"), "add them to one pool's spec.addresses"),
        (Reason::NoEndpoints, Some("NoEndpoints"), "look at the Pods that spec.selector selects"),
        (Reason::SharedIpWithServiceSelector, Some("SharedIPWithServiceSelector"), "remove the annotation"),
        (Reason::NoMatchingAdvertisement, Some("NoMatchingAdvertisement"), "create one, or correct"),
        (Reason::NoEligibleNode, Some("NoEligibleNode"), "give one node what it lacks"),
        (Reason::NoIpAllocated, None, ""),
        (Reason::NotSelected, None, ""),
        (Reason::NotEligible, None, ""),
    ] {
        let verdict = Verdict::Withhold(reason);
        assert_eq!(statement("n1", &verdict, &announced, false), None, "another one's to say: {verdict:?}");
        let said = statement("n1", &verdict, &announced, true);
        assert_eq!(said.as_ref().map(|said| (said.announced, said.reason)), condition.map(|reason| (false, reason)));
        assert!(said.is_none_or(|said| said.message.contains(way_out)), "{verdict:?}");
    }
}

#[test]
fn of_an_address_that_a_peer_asks_for_in_vain_it_is_said_where_to_look() {
    let verdict = Verdict::Serve {
        ips: vec![ip(V4), ip(V6)],
        interfaces: Interfaces::All,
        ranking: [Arc::from("n1"), Arc::from("n2")].into(),
    };
    let announced = Announced {
        addresses: BTreeMap::from([(ip(V4), here(&["eth0"])), (ip(V6), here(&["eth0", "eth1"]))]),
        unheard: BTreeMap::from([(ip(V6), "n2".into())]),
        ..Announced::default()
    };
    let said = statement("n1", &verdict, &announced, true).expect("it is ours to say");
    assert_eq!((said.announced, said.reason), (false, "NotHeardByPeer"));
    let beginning = "node n1 answers for 2001:db8::1 on eth0, eth1, and node n2, which asks for it there as a client would, \
                     hears no answer: see whether the switch ports";
    assert!(said.message.starts_with(beginning), "{}", said.message);
}
