//! Single steps; whole clusters run in `simulation`.

use super::*;
use crate::message::{Opinion, Stance};
use crate::{Finding, Refusal, WireCheck};

const SECRETS: [&[u8]; 2] = [b"the first secret", b"the second secret"];

fn keys(secrets: &[&[u8]]) -> Keys {
    Keys::new("cluster", secrets).expect("good secrets")
}

/// A node among these others, with what it said at first thrown away.
fn started(node: &str, others: &[&str], session: u64, now: Instant) -> Membership {
    let start = Start { node: node.into(), incarnation: 100 + session, session };
    let mut membership = Membership::new(Settings::default(), keys(&SECRETS[..1]), start, now).expect("settings");
    let member = |node: &&str| Member { node: (*node).into(), address: ([127, 0, 0, 1], 1).into() };
    membership.set_members(others.iter().map(member), now);
    membership
}

fn outputs(membership: &mut Membership) -> Vec<Output> {
    std::iter::from_fn(|| membership.poll()).collect()
}

/// The datagrams that it wants sent, and to how many.
fn datagrams(membership: &mut Membership) -> Vec<(usize, Vec<u8>)> {
    let send = |output| match output {
        Output::Send { to, datagram } => Some((to.len(), datagram)),
        _ => None,
    };
    outputs(membership).into_iter().filter_map(send).collect()
}

/// Gives each what the other says until both are silent.
fn exchange(a: &mut Membership, b: &mut Membership, now: Instant) -> Vec<Output> {
    let mut rest = Vec::new();
    loop {
        let (from_a, from_b) = (outputs(a), outputs(b));
        if from_a.is_empty() && from_b.is_empty() {
            return rest;
        }
        for (to, said) in [(&mut *b, from_a), (&mut *a, from_b)] {
            for output in said {
                match output {
                    Output::Send { datagram, .. } => assert_eq!(to.receive(&datagram, now), Ok(())),
                    other => rest.push(other),
                }
            }
        }
    }
}

/// A word against a member, without a hold-down.
fn against(about: MemberId, incarnation: u64) -> Opinion {
    Opinion { about, incarnation, stance: Stance::Gone, verdict: false, hold: Duration::ZERO }
}

#[test]
fn a_beat_is_sealed_once_for_all_observers() {
    let now = Instant::now();
    let mut a = started("a", &["b", "c", "d", "e", "f", "g", "h", "i"], 1, now);
    for beat in 0..3 {
        a.tick(now + Duration::from_millis(beat * 100));
    }
    let said: Vec<_> = datagrams(&mut a).into_iter().map(|(to, _)| to).collect();
    assert_eq!(said, [8, 8, 8], "the first three to all: it has just started");
    a.beat(now + Duration::from_millis(300));
    let said: Vec<_> = datagrams(&mut a).into_iter().map(|(to, _)| to).collect();
    assert_eq!(said, [5]);
}

#[test]
fn a_stranger_leaves_no_trace() {
    let now = Instant::now();
    let (mut a, mut stranger) = (started("a", &["b"], 1, now), started("s", &["a"], 2, now));
    stranger.tick(now);
    let (_, datagram) = datagrams(&mut stranger).remove(0);
    assert_eq!(a.receive(&datagram, now), Err(Refusal::Sender { have: MemberId::of("s") }));
    assert_eq!((outputs(&mut a), a.peers.len()), (vec![], 1));
}

#[test]
fn a_datagram_is_taken_once() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    b.tick(now);
    let (_, datagram) = datagrams(&mut b).remove(0);
    assert_eq!(a.receive(&datagram, now), Ok(()));
    assert_eq!(a.receive(&datagram, now), Err(Refusal::Replay { number: 1 }));
}

#[test]
fn an_earlier_start_is_refused_and_its_node_told_once_in_an_interval() {
    let now = Instant::now();
    let mut a = started("a", &["b"], 1, now);
    let (mut before, mut after) = (started("b", &["a"], 2, now), started("b", &["a"], 3, now));
    for b in [&mut before, &mut after] {
        b.tick(now);
    }
    let (_, recorded) = datagrams(&mut before).remove(0);
    assert_eq!(a.receive(&datagrams(&mut after)[0].1, now), Ok(()));
    outputs(&mut a);
    for _ in 0..3 {
        assert_eq!(a.receive(&recorded, now), Err(Refusal::Session));
    }
    let answers = datagrams(&mut a);
    assert_eq!(answers.len(), 1);
    // The node itself knows better and changes nothing. One whose clock was set back goes on above.
    assert_eq!((after.receive(&answers[0].1, now), after.us.incarnation), (Ok(()), 103));
    assert_eq!((before.receive(&answers[0].1, now), before.us.incarnation), (Ok(()), 104));
}

#[test]
fn when_the_numbers_of_a_session_are_used_up_another_begins() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    a.us.number = u32::MAX - 2;
    for beat in 0..6 {
        let now = now + Duration::from_millis(100 * beat);
        a.tick(now);
        for (_, datagram) in datagrams(&mut a) {
            assert_eq!(b.receive(&datagram, now), Ok(()), "beat {beat}");
        }
    }
    assert_eq!((a.us.session, a.us.incarnation), (2, 102));
    assert!(a.us.number < 10);
}

#[test]
fn keys_are_changed_while_members_talk() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    exchange(&mut a, &mut b, now);
    let steps = [&SECRETS[..], &[SECRETS[1], SECRETS[0]], &SECRETS[1..]];
    for (n, secrets) in steps.into_iter().enumerate() {
        for turn in 0..2 {
            (if turn == 0 { &mut a } else { &mut b }).set_keys(keys(secrets));
            let now = now + Duration::from_millis(200 * n as u64 + 100 * turn);
            a.tick(now);
            b.tick(now);
            exchange(&mut a, &mut b, now); // nothing is refused
        }
    }
}

#[test]
fn of_two_that_answer_for_one_address_the_later_owner_stays() {
    let (now, address) = (Instant::now(), "192.0.2.7".parse().unwrap());
    for heard_by_the_later in [true, false] {
        let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
        exchange(&mut a, &mut b, now);
        a.own(address, now);
        // What a says carries its term, so b takes the address in a higher one.
        a.tick(now);
        exchange(&mut a, &mut b, now);
        assert_eq!((a.own(address, now), b.own(address, now)), (Some(1), Some(2)));
        if heard_by_the_later {
            b.heard_owner(address, "a", now)
        } else {
            a.heard_owner(address, "b", now)
        }
        let done: Vec<_> =
            exchange(&mut a, &mut b, now).into_iter().filter(|output| matches!(output, Output::Yield { .. })).collect();
        assert_eq!(done, [Output::Yield { address, to: "b".into() }]);
        assert_eq!((a.own(address, now), b.own(address, now)), (None, Some(2)));
        assert_eq!(a.own(address, now + Duration::from_millis(300)), Some(3), "if it is still ours by then");
    }
}

#[test]
fn what_a_node_cannot_serve_and_where_it_is_reach_the_others_with_its_next_datagram() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    a.tick(now);
    exchange(&mut a, &mut b, now);
    a.set_down(Down::new(["eth1"]), now);
    a.set_down(Down::new(["eth1"]), now);
    a.tick(now);
    assert_eq!(exchange(&mut a, &mut b, now), [Output::LinksChanged { node: "a".into() }]);
    let mac = [2, 0, 0, 0, 0, 1];
    a.set_macs(Macs::new([("192.0.2.0/24", mac)]), now);
    a.tick(now);
    assert_eq!(exchange(&mut a, &mut b, now), [Output::LinksChanged { node: "a".into() }]);
    for membership in [&a, &b] {
        assert_eq!(membership.macs("a").and_then(|macs| macs.get("192.0.2.0/24")), Some(mac));
        assert_eq!(membership.macs("b").and_then(|macs| macs.get("192.0.2.0/24")), None);
    }
    assert_eq!((b.node_at(mac), a.node_at(mac)), (Some(&"a".into()), None), "the others are meant");
    for membership in [&a, &b] {
        let down = [("a", "eth0"), ("a", "eth1"), ("b", "eth1"), ("c", "eth1")];
        assert_eq!(down.map(|(node, name)| membership.is_down(node, name)), [false, true, false, false]);
    }
}

#[test]
fn what_a_member_finds_on_the_wire_reaches_the_owner() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    let check = WireCheck { address: "192.0.2.1".parse().unwrap(), finding: Finding::Silent };
    a.tell_owner("b", check, now);
    a.tell_owner("nobody", check, now);
    assert_eq!(exchange(&mut a, &mut b, now), [Output::Checked { by: "a".into(), check }]);
}

#[test]
fn the_first_that_may_and_can_owns_and_the_next_covers_it() {
    let now = Instant::now();
    let mut a = started("a", &["b", "c", "d"], 1, now);
    a.set_own_view(View::Alive, Cause::Fit);
    let covered = View::Covered { since: now };
    for (views, unable, owner, next) in [
        ([View::Alive, View::Alive, View::Alive], "", Some("b"), Some("c")),
        ([View::Alive, View::Alive, View::Alive], "b", Some("c"), Some("d")),
        ([View::Suspect, View::Alive, View::Alive], "", Some("b"), Some("c")),
        ([View::Alive, covered, View::Alive], "", Some("b"), Some("d")),
        ([covered, View::Alive, View::Alive], "", Some("b"), Some("c")),
        ([covered, View::Alive, View::Alive], "c", Some("b"), Some("d")),
        ([covered, covered, View::Out], "", Some("b"), Some("a")),
        ([covered, covered, covered], "a", Some("b"), None),
        ([View::Out, covered, View::Alive], "", Some("c"), Some("d")),
        ([View::HoldDown { until: now }, View::Draining, View::Out], "", Some("a"), None),
        ([View::HoldDown { until: now }, View::Draining, View::Out], "a", None, None),
    ] {
        for (node, view) in ["b", "c", "d"].into_iter().zip(views) {
            a.set_view(MemberId::of(node), view, Cause::Heard);
        }
        let answers = a.answers(["b", "c", "d", "a", "stranger"], |node| node != unable);
        let cover = next.filter(|_| owner.and_then(|owner| a.view(owner)).is_some_and(View::is_covered));
        assert_eq!(answers, Answers { owner, cover, next }, "{views:?} without {unable:?}");
    }
}

#[test]
fn a_node_that_was_out_learns_it_from_the_first_answer() {
    let mut now = Instant::now();
    let (mut a, mut before) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    before.tick(now);
    exchange(&mut a, &mut before, now);
    while a.view("b") != Some(View::Out) {
        now += Duration::from_millis(25);
        a.tick(now);
        outputs(&mut a);
    }
    let mut b = started("b", &["a"], 3, now);
    b.tick(now);
    let changes = exchange(&mut a, &mut b, now);
    let until = now + Settings::default().hold_down;
    assert_eq!((b.own_view(), b.us.incarnation), (View::HoldDown { until }, 104), "{changes:?}");
}

#[test]
fn who_begins_to_watch_a_member_that_is_out_does_not_say_that_it_hears_it() {
    let now = Instant::now();
    let names: Vec<_> = (0..20).map(|n| format!("node-{n}")).collect();
    let mut others: Vec<_> = names.iter().map(String::as_str).collect();
    let mut a = started("a", &others, 1, now);
    let unwatched = |name: &&str| !a.rings.watched.contains(&MemberId::of(name));
    let out = *others.iter().find(|name| unwatched(name)).expect("a watches five of them");
    a.set_view(MemberId::of(out), View::Out, Cause::NodeSilent);
    others.retain(|name| *name == out);
    a.set_members(others.iter().map(|name| Member { node: (*name).into(), address: ([127, 0, 0, 1], 1).into() }), now);
    let opinion = a.opinion(MemberId::of(out)).expect("now it watches that one");
    assert_eq!((opinion.stance, opinion.verdict), (Stance::Gone, true));
}

#[test]
fn after_a_standstill_of_our_own_everybody_has_a_whole_window_anew() {
    let start = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, start), started("b", &["a"], 2, start));
    b.tick(start);
    exchange(&mut a, &mut b, start);
    let (stalled, thawed) = (start + Duration::from_millis(90), start + Duration::from_secs(5));
    a.tick(stalled);
    for ms in (0..325).step_by(25) {
        a.tick(thawed + Duration::from_millis(ms));
        assert_eq!(a.view("b"), Some(View::Alive), "{ms} ms after it");
    }
    a.tick(thawed + Duration::from_millis(325));
    assert_eq!(a.view("b"), Some(View::Suspect));
}

#[test]
fn a_word_that_was_under_way_when_it_was_refuted_does_not_count() {
    let now = Instant::now();
    let mut all = ["a", "b", "c"].map(|node| started(node, &["a", "b", "c"], 1, now));
    let [a, b, c] = &mut all;
    for (late, open) in [(true, false), (false, true)] {
        b.us.incarnation += 1;
        b.beat(now);
        let beat = datagrams(b).pop().expect("a beat").1;
        assert_eq!(a.receive(&beat, now), Ok(()));
        let incarnation = b.us.incarnation - u64::from(late);
        let about = b.us.id;
        c.send_opinions(&[a.us.id], false, &[against(about, incarnation)]);
        assert_eq!(a.receive(&datagrams(c).pop().expect("a word").1, now), Ok(()));
        let ballot = &mut a.peers.get_mut(&about).expect("a member").ballot;
        assert_eq!(ballot.is_open(now, None), open, "late: {late}");
    }
}

#[test]
fn a_joining_node_does_not_refute_what_its_start_has_refuted() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    let word = against(b.us.id, b.us.incarnation);
    a.send_opinions(&[b.us.id], false, &[word]);
    assert_eq!(b.receive(&datagrams(&mut a).remove(0).1, now), Ok(()));
    assert_eq!(b.us.incarnation, word.incarnation, "words of others about it are under way");
    b.set_own_view(View::Alive, Cause::Fit);
    a.send_opinions(&[b.us.id], false, &[word]);
    assert_eq!(b.receive(&datagrams(&mut a).remove(0).1, now), Ok(()));
    assert_eq!(b.us.incarnation, word.incarnation + 1);
}

#[test]
fn a_status_that_was_overtaken_changes_nothing() {
    let now = Instant::now();
    let (mut a, mut b) = (started("a", &["b"], 1, now), started("b", &["a"], 2, now));
    b.tick(now);
    b.leave(Leave::Drain, now);
    let mut said = datagrams(&mut b);
    for (_, datagram) in [said.pop().expect("the later one"), said.remove(0)] {
        assert_eq!(a.receive(&datagram, now), Ok(()));
        assert_eq!(a.view("b"), Some(View::Draining));
    }
}

#[test]
fn a_change_of_our_own_is_told_to_all_three_times() {
    let now = Instant::now();
    let others = ["b", "c", "d", "e", "f", "g", "h", "i"];
    for change in [
        |a: &mut Membership, now| a.set_down(Down::new(["eth1"]), now),
        |a: &mut Membership, now| a.leave(Leave::Restart, now),
        |a: &mut Membership, now| a.hold_ourselves(Duration::from_secs(20), Cause::Returned, now),
    ] {
        let mut a = started("a", &others, 1, now);
        (a.us.flood, a.us.view) = (0, View::Alive);
        change(&mut a, now);
        for beat in 0..4 {
            a.tick(now + Duration::from_millis(beat * 75));
        }
        let to_all = datagrams(&mut a).into_iter().filter(|(to, _)| *to == others.len()).count();
        assert_eq!(to_all, 3);
    }
}

#[test]
fn who_hears_a_member_contradicts_whoever_doubts_it() {
    let now = Instant::now();
    let mut all = ["a", "b", "c"].map(|node| started(node, &["a", "b", "c"], 1, now));
    let [a, b, c] = &mut all;
    b.beat(now);
    assert_eq!(a.receive(&datagrams(b).pop().expect("a beat").1, now), Ok(()));
    outputs(a);
    c.send_opinions(&[a.us.id], false, &[against(b.us.id, b.us.incarnation)]);
    assert_eq!(a.receive(&datagrams(c).pop().expect("a word").1, now), Ok(()));
    let answers = datagrams(a);
    assert_eq!(answers.len(), 1);
    assert_eq!(c.receive(&answers[0].1, now), Ok(()));
    let said: Vec<_> = c.peers[&b.us.id].ballot.voters().collect();
    assert_eq!(said, [a.us.id], "its word is in the ballot of the one that doubted");
}

#[test]
fn where_nobody_is_fit_those_in_their_hold_down_own_and_at_last_those_that_drain() {
    let now = Instant::now();
    let held = View::HoldDown { until: now };
    for (own, other, owner) in [
        (held, View::Draining, Some("a")),
        (View::Draining, held, Some("b")),
        (held, held, Some("b")),
        (View::Draining, View::Draining, Some("b")),
        (View::Draining, View::Out, Some("a")),
        (View::Joining, View::Out, None),
    ] {
        let mut a = started("a", &["b"], 1, now);
        a.set_own_view(own, Cause::Returned);
        a.set_view(MemberId::of("b"), other, Cause::Returned);
        assert_eq!(a.answers(["b", "a"], |_| true).owner, owner, "we are {own:?}, b is {other:?}");
    }
}

#[test]
fn what_a_node_said_before_it_yielded_does_not_count_when_it_comes_after() {
    let now = Instant::now();
    let mut all = ["a", "b", "c"].map(|node| started(node, &["a", "b", "c"], 1, now));
    let [a, b, c] = &mut all;
    b.send_opinions(&[a.us.id], false, &[against(c.us.id, c.us.incarnation)]);
    let word = datagrams(b).pop().expect("a word").1;
    b.hold_ourselves(Duration::from_secs(20), Cause::SmallerPart, now);
    b.beat(now);
    for datagram in [datagrams(b).pop().expect("a beat").1, word] {
        assert_eq!(a.receive(&datagram, now), Ok(()));
    }
    assert!(matches!(a.view("b"), Some(View::HoldDown { .. })));
    let ballot = &mut a.peers.get_mut(&c.us.id).expect("a member").ballot;
    assert!(!ballot.is_open(now, None));
}
