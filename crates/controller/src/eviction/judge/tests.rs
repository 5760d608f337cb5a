//! Scenes, and sequences of anything.

use proptest::prelude::*;

use super::*;

fn set(nodes: &[&str]) -> BTreeSet<String> {
    nodes.iter().map(|node| (*node).to_owned()).collect()
}

/// A judge of nodes n1 to n`count`, whose time of grace is over; and that moment.
fn court(count: usize) -> (Judge, Instant) {
    let start = Instant::now();
    let mut judge = Judge::new(30, start);
    (1..=count).for_each(|n| judge.exists(&format!("n{n}")));
    (judge, start + GRACE)
}

fn say(judge: &mut Judge, now: Instant, words: &[(&str, &[&str])]) -> Findings {
    for (node, silent) in words {
        judge.says(node, set(silent), now);
    }
    judge.look(now)
}

/// What is found when the cases have settled.
fn settle(judge: &mut Judge, now: Instant) -> Findings {
    judge.look(now + SETTLE)
}

fn spared(node: &str, why: Why) -> Findings {
    Findings { dead: vec![], spared: vec![Spared { node: node.into(), why }] }
}

fn dead(node: &str, by: &[&str]) -> Findings {
    let by = by.iter().map(|node| (*node).to_owned()).collect();
    Findings { dead: vec![Verdict { node: node.into(), by }], spared: vec![] }
}

/// Says the same every two seconds; what comes of it first, after not less than half a minute.
fn insist(judge: &mut Judge, from: Instant, words: &[(&str, &[&str])]) -> Findings {
    for second in (2..90).step_by(2) {
        let findings = say(judge, from + Duration::from_secs(second), words);
        if findings != Findings::default() {
            assert!(second >= 30, "after {second} s: {findings:?}");
            return findings;
        }
    }
    panic!("nothing came of it");
}

#[test]
fn a_node_that_most_of_its_observers_find_silent_is_dead_after_a_moment() {
    let (mut judge, now) = court(3);
    assert_eq!(say(&mut judge, now, &[("n1", &["n2"]), ("n3", &["n2"])]), Findings::default());
    assert_eq!(judge.next_due(now), Some(now + SETTLE));
    assert_eq!(judge.look(now + SETTLE - Duration::from_millis(1)), Findings::default());
    assert_eq!(settle(&mut judge, now), dead("n2", &["n1", "n3"]));
    assert_eq!(settle(&mut judge, now + SETTLE), Findings::default(), "once");
}

#[test]
fn the_word_of_one_speaker_or_of_a_minority_is_not_enough() {
    for (count, words) in [
        (2, &[("n1", &["n2"][..])][..]),
        (3, &[("n1", &["n2"])]),
        (5, &[("n1", &["n2"]), ("n3", &["n2"])]),
        (50, &[("n1", &["n2"]), ("n3", &["n2"])]),
        (3, &[("n2", &["n2"]), ("n3", &["n2"])]), // its own word counts for nothing
    ] {
        let (mut judge, now) = court(count);
        say(&mut judge, now, words);
        assert_eq!(settle(&mut judge, now), Findings::default(), "{count} {words:?}");
    }
    let (mut judge, now) = court(50);
    say(&mut judge, now, &[("n1", &["n2"]), ("n3", &["n2"]), ("n40", &["n2"])]);
    assert_eq!(settle(&mut judge, now), dead("n2", &["n1", "n3", "n40"]));
}

#[test]
fn a_node_whose_own_speaker_is_heard_by_the_api_server_lives_as_long_as_it_repeats_itself() {
    for before in [0, 900] {
        let (mut judge, now) = court(3);
        say(&mut judge, now, &[("n2", &[])]);
        let quorum = now + Duration::from_millis(before);
        say(&mut judge, quorum, &[("n1", &["n2"]), ("n3", &["n2"])]);
        assert_eq!(settle(&mut judge, quorum), spared("n2", Why::Lives));
        let mut later = quorum;
        for _ in 0..5 {
            later += Duration::from_secs(2);
            say(&mut judge, later, &[("n1", &["n2"]), ("n2", &[]), ("n3", &["n2"])]);
            assert_eq!(settle(&mut judge, later), Findings::default(), "said once");
        }
        for _ in 0..2 {
            later += Duration::from_secs(2);
            say(&mut judge, later, &[("n1", &["n2"]), ("n3", &["n2"])]);
            assert_eq!(judge.look(later), Findings::default());
        }
        let silence = later + Duration::from_secs(2);
        assert_eq!(say(&mut judge, silence, &[("n1", &["n2"]), ("n3", &["n2"])]), dead("n2", &["n1", "n3"]));
    }
    // What it said long before is no sign of life.
    let (mut judge, now) = court(3);
    say(&mut judge, now, &[("n2", &["n3"])]);
    let later = now + Duration::from_millis(1_500);
    say(&mut judge, later, &[("n1", &["n2"]), ("n3", &["n2"])]);
    assert!(!settle(&mut judge, later).dead.is_empty());
}

#[test]
fn a_sign_of_life_that_comes_while_the_case_settles_is_in_time() {
    let (mut judge, now) = court(3);
    say(&mut judge, now, &[("n1", &["n2"]), ("n3", &["n2"])]);
    say(&mut judge, now + Duration::from_millis(400), &[("n2", &[])]);
    assert_eq!(settle(&mut judge, now), spared("n2", Why::Lives));
}

#[test]
fn more_nodes_at_once_than_are_allowed_are_a_broken_network() {
    // Two and three, and the two do not reach the API server either.
    let (mut judge, now) = court(5);
    let both: &[&str] = &["n4", "n5"];
    say(&mut judge, now, &[("n1", both), ("n2", both), ("n3", both)]);
    let why = Why::TooMany { seem_dead: 2, allowed: 1 };
    let expected = ["n4", "n5"].map(|node| Spared { node: node.into(), why });
    assert_eq!(settle(&mut judge, now), Findings { dead: vec![], spared: expected.to_vec() });
    // The same, and they do.
    let (mut judge, now) = court(5);
    let three: &[&str] = &["n1", "n2", "n3"];
    say(&mut judge, now, &[("n1", both), ("n2", both), ("n3", both), ("n4", three), ("n5", three)]);
    let expected = ["n4", "n5"].map(|node| Spared { node: node.into(), why: Why::Lives });
    assert_eq!(settle(&mut judge, now), Findings { dead: vec![], spared: expected.to_vec() });
    // One that nobody else accuses counts, too.
    let (mut judge, now) = court(5);
    say(&mut judge, now, &[("n1", &["n4"]), ("n2", &["n4"]), ("n3", both)]);
    assert_eq!(settle(&mut judge, now), spared("n4", why));
}

#[test]
fn the_last_node_that_is_heard_again_when_a_network_heals_is_not_dead() {
    let (mut judge, now) = court(5);
    let accuse = |silent: &'static [&'static str]| ["n1", "n2", "n3"].map(|by| (by, silent));
    say(&mut judge, now, &accuse(&["n4", "n5"]));
    assert_eq!(settle(&mut judge, now).dead, []);
    // n4 is heard first.
    let healed = now + Duration::from_secs(15);
    say(&mut judge, healed - Duration::from_millis(1), &accuse(&["n4", "n5"]));
    for after in (0..10).step_by(2) {
        let found = say(&mut judge, healed + Duration::from_secs(after), &accuse(&["n5"]));
        assert_eq!(found, Findings::default(), "after {after} s");
    }
    // It was no broken network: n5 stays silent.
    let last = healed + Duration::from_secs(8);
    let due = judge.next_due(last).expect("nobody needs to say anything for it");
    assert!(due <= healed + HEALING);
    assert_eq!(judge.look(healed + HEALING), dead("n5", &["n1", "n2", "n3"]));
}

#[test]
fn a_second_node_has_to_wait_until_the_first_is_back() {
    let (mut judge, now) = court(5);
    say(&mut judge, now, &[("n1", &["n4"]), ("n2", &["n4"]), ("n3", &["n4"])]);
    assert_eq!(settle(&mut judge, now).dead.len(), 1);
    let later = now + Duration::from_secs(2);
    let both: &[&str] = &["n4", "n5"];
    say(&mut judge, later, &[("n1", both), ("n2", both), ("n3", both)]);
    assert_eq!(settle(&mut judge, later), spared("n5", Why::TooMany { seem_dead: 2, allowed: 1 }));
    // n4 speaks again.
    let back = later + Duration::from_secs(2);
    let words: [(&str, &[&str]); 4] = [("n1", &["n5"]), ("n2", &["n5"]), ("n3", &["n5"]), ("n4", &["n5"])];
    assert_eq!(insist(&mut judge, back, &words), dead("n5", &["n1", "n2", "n3", "n4"]), "once the minute is over");
    // Of a hundred, thirty may be.
    let (mut judge, now) = court(100);
    let many: Vec<String> = (10..40).map(|n| format!("n{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    say(&mut judge, now, &[("n1", &many[..2]), ("n2", &many[..2]), ("n3", &many[..2])]);
    assert_eq!(settle(&mut judge, now).dead.len(), 2);
}

#[test]
fn in_a_minute_there_are_no_more_than_may_be_out_at_once_and_the_next_one_waits() {
    let (mut judge, now) = court(3);
    say(&mut judge, now, &[("n1", &["n2"]), ("n3", &["n2"])]);
    assert_eq!(settle(&mut judge, now).dead.len(), 1);
    // It is back, and dies again.
    let mut later = now + Duration::from_secs(20);
    say(&mut judge, later, &[("n1", &[]), ("n2", &[]), ("n3", &[])]);
    later += Duration::from_secs(10);
    say(&mut judge, later, &[("n1", &["n2"]), ("n3", &["n2"])]);
    assert_eq!(settle(&mut judge, later), spared("n2", Why::TooOften));
    assert_eq!(insist(&mut judge, later, &[("n1", &["n2"]), ("n3", &["n2"])]), dead("n2", &["n1", "n3"]));
}

#[test]
fn a_verdict_that_could_not_be_carried_out_is_found_again_while_it_stands() {
    let (mut judge, now) = court(3);
    let words: [(&str, &[&str]); 2] = [("n1", &["n2"]), ("n3", &["n2"])];
    say(&mut judge, now, &words);
    for second in [1, 3, 5] {
        let found = say(&mut judge, now + Duration::from_secs(second), &words);
        assert_eq!(found, dead("n2", &["n1", "n3"]), "after {second} s");
        judge.was_in_vain("n2");
    }
    assert_eq!(say(&mut judge, now + Duration::from_secs(6), &[("n2", &[])]), spared("n2", Why::Lives));
}

#[test]
fn who_becomes_the_leader_finds_again_what_the_leader_before_may_not_have_done() {
    let (mut judge, now) = court(3);
    let words: [(&str, &[&str]); 2] = [("n1", &["n2"]), ("n3", &["n2"])];
    say(&mut judge, now, &words);
    assert_eq!(settle(&mut judge, now), dead("n2", &["n1", "n3"]));
    let later = now + Duration::from_secs(2);
    assert_eq!(say(&mut judge, later, &words), Findings::default(), "the same term");
    judge.judge_anew();
    assert_eq!(judge.look(later), dead("n2", &["n1", "n3"]));
    // The limits hold on: what was out of service a moment ago and is accused no more counts.
    say(&mut judge, later + Duration::from_secs(1), &[("n1", &[]), ("n3", &[])]);
    judge.judge_anew();
    let other = later + Duration::from_secs(3);
    say(&mut judge, other, &[("n1", &["n3"]), ("n2", &["n3"])]);
    assert_eq!(settle(&mut judge, other), spared("n3", Why::TooOften));
    judge.judge_anew();
    assert_eq!(judge.look(other + SETTLE), spared("n3", Why::TooOften), "the new leader says it, too");
}

#[test]
fn old_words_and_a_young_listener_mean_nothing() {
    // What was said before we listened is never told to the judge as a word: it knows that there is a speaker.
    let (mut judge, now) = court(3);
    say(&mut judge, now, &[("n1", &["n2"])]);
    let late = now + BELIEVED_FOR;
    say(&mut judge, late, &[("n3", &["n2"])]);
    assert_eq!(settle(&mut judge, late), Findings::default(), "n1 has not repeated it");
    let (mut judge, after) = court(3);
    let now = after - GRACE;
    say(&mut judge, now, &[("n1", &["n2"]), ("n3", &["n2"])]);
    assert_eq!(settle(&mut judge, now), Findings::default());
    say(&mut judge, now + Duration::from_secs(2), &[("n1", &["n2"]), ("n3", &["n2"])]);
    assert_eq!(judge.look(after - Duration::from_millis(1)), Findings::default());
    assert!(judge.next_due(now).is_some());
    assert_eq!(judge.look(after), dead("n2", &["n1", "n3"]), "they still say so");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is said, in whatever order: no more nodes than allowed, none that speaks, none on the word of few, none in the
    /// time of grace, and no more than three.
    #[test]
    fn no_sequence_of_words_breaks_a_promise(
        count in 2..12_usize,
        steps in proptest::collection::vec((0..12_usize, proptest::collection::btree_set(0..12_usize, 0..4), 0..3_000_u64), 1..60),
    ) {
        let start = Instant::now();
        let mut judge = Judge::new(30, start);
        (0..count).for_each(|n| judge.exists(&format!("n{n}")));
        let (mut now, mut spoke, mut broken) = (start, BTreeMap::new(), None);
        for (speaker, silent, pause) in steps {
            now += Duration::from_millis(pause);
            for by_time in [true, false] {
                if !by_time {
                    let node = format!("n{}", speaker % count);
                    let silent = silent.iter().map(|n| format!("n{}", n % count)).collect();
                    judge.says(&node, silent, now);
                    spoke.insert(node, now);
                }
                let Findings { dead, spared } = judge.look(now);
                if spared.iter().any(|spared| matches!(spared.why, Why::TooMany { .. })) {
                    broken = Some(now);
                }
                for Verdict { node, by } in dead {
                    prop_assert!(now >= start + GRACE);
                    prop_assert!(broken.is_none_or(|at| now >= at + HEALING), "{node} while the network heals");
                    prop_assert!(by.len() > 5.min(count - 1) / 2 && by.len() >= 2 && !by.contains(&node));
                    let lately = |at: &Instant| now < *at + ALIBI.min(SETTLE);
                    prop_assert!(!spoke.get(&node).is_some_and(lately), "{node} has just spoken");
                    prop_assert!(by.iter().all(|by| spoke.get(by).is_some_and(|at| now < *at + BELIEVED_FOR)));
                    prop_assert!(judge.dead.len() <= (count * 30 / 100).max(1), "{:?} of {count}", judge.dead);
                    let lately = judge.judged.iter().filter(|(at, _)| now < *at + WITHIN);
                    prop_assert!(lately.count() <= (count * 30 / 100).max(1));
                }
            }
        }
    }
}
