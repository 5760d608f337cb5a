//! A leader's life with the Secret, in virtual time.

use landfall_api::speaker_key::{CLUSTER, KEY, LENGTH};

use super::*;

const PAUSE: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn rules() -> Rules {
    Rules { cluster: "uid".into(), rotate_after: Some(30 * DAY), pause: PAUSE }
}

fn key(number: u8) -> Key {
    Key(vec![number; LENGTH])
}

fn at(since_start: Duration) -> Timestamp {
    let start: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    start.checked_add(since_start).unwrap()
}

/// The data of a Secret with these fields, each key by its number.
fn data(fields: &[(&str, u8)]) -> BTreeMap<String, ByteString> {
    let keys = fields.iter().map(|(field, number)| ((*field).to_owned(), ByteString(key(*number).0)));
    keys.chain([(CLUSTER.to_owned(), ByteString(b"uid".to_vec()))]).collect()
}

/// A Secret with these fields, whose key is of the start of time and has just been seen.
fn standing(fields: &[(&str, u8)]) -> Standing {
    Standing { data: data(fields), since: Some(at(Duration::ZERO)), asked: false, seen_for: Duration::ZERO }
}

/// The data that stands after a write, as the speakers read it.
fn written(key: &SpeakerKey) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::from([
        (CLUSTER.to_owned(), ByteString(key.cluster.clone().into_bytes())),
        (KEY.to_owned(), ByteString(key.key.0.clone())),
    ]);
    match &key.other {
        Other::None => {}
        Other::Next(other) => drop(data.insert(NEXT.into(), ByteString(other.0.clone()))),
        Other::Previous(other) => drop(data.insert(PREVIOUS.into(), ByteString(other.0.clone()))),
    }
    data
}

/// What is to be written, as the numbers of the keys; or nothing.
fn step(plan: Plan) -> Option<(Step, Vec<u8>)> {
    match plan {
        Plan::Write(next, step) => Some((step, next.key.keys().into_iter().map(|key| key.0[0]).collect())),
        Plan::Wait(_) => None,
    }
}

#[test]
fn a_secret_is_made_and_then_left_alone_for_thirty_days() {
    let Plan::Write(next, Step::Made) = plan(None, &rules(), key(1), at(Duration::ZERO)) else { panic!("none made") };
    assert_eq!((next.since, next.asked), (at(Duration::ZERO), false));
    let made = Standing { data: written(&next.key), ..standing(&[]) };
    for (age, expected) in [
        (Duration::ZERO, Plan::Wait(LOOK_AGAIN)),
        (29 * DAY, Plan::Wait(LOOK_AGAIN)),
        (30 * DAY - Duration::from_secs(1), Plan::Wait(Duration::from_secs(1))),
    ] {
        assert_eq!(plan(Some(&made), &rules(), key(2), at(age)), expected, "{age:?}");
    }
    assert_eq!(step(plan(Some(&made), &rules(), key(2), at(30 * DAY))), Some((Step::Accepted, vec![1, 2])));
    let never = Rules { rotate_after: None, ..rules() };
    assert_eq!(plan(Some(&made), &never, key(2), at(3000 * DAY)), Plan::Wait(LOOK_AGAIN));
}

#[test]
fn a_change_has_three_steps_and_before_each_every_speaker_had_time_to_read_the_one_before() {
    let second = Duration::from_secs(1);
    for (fields, expected) in
        [(&[(KEY, 1), (NEXT, 2)], (Step::Used, vec![2, 1])), (&[(KEY, 2), (PREVIOUS, 1)], (Step::Dropped, vec![2]))]
    {
        let mut stands = standing(fields);
        // The wall clock has no say in it.
        for now in [at(Duration::ZERO), at(1000 * DAY)] {
            stands.seen_for = PAUSE - second;
            assert_eq!(plan(Some(&stands), &rules(), key(3), now), Plan::Wait(second), "{fields:?}");
            stands.seen_for = PAUSE;
            assert_eq!(step(plan(Some(&stands), &rules(), key(3), now)), Some(expected.clone()), "{fields:?}");
        }
    }
}

#[test]
fn the_age_counts_from_when_the_key_began_to_seal() {
    let stands = Standing { seen_for: PAUSE, ..standing(&[(KEY, 1), (NEXT, 2)]) };
    let Plan::Write(used, Step::Used) = plan(Some(&stands), &rules(), key(3), at(31 * DAY)) else { panic!("not used") };
    assert_eq!(used.since, at(31 * DAY));
    let stands = Standing { data: written(&used.key), since: Some(used.since), ..stands };
    let Plan::Write(dropped, Step::Dropped) = plan(Some(&stands), &rules(), key(3), at(32 * DAY)) else { panic!() };
    assert_eq!(dropped.since, at(31 * DAY));
}

/// Of two speakers one may have read the Secret a step later than the other; each opens what the other seals.
#[test]
fn whoever_is_one_step_behind_understands_and_is_understood() {
    let (mut stands, mut reads) = (Standing { asked: true, ..standing(&[(KEY, 1)]) }, vec![vec![1]]);
    for fresh in 2..9 {
        if let Plan::Write(next, step) = plan(Some(&stands), &rules(), key(fresh), at(Duration::ZERO)) {
            reads.push(next.key.keys().into_iter().map(|key| key.0[0]).collect());
            // A step whose answer is lost, or whose leader dies after it, is found by the next one: it reads what stands.
            stands = Standing { data: written(&next.key), asked: next.asked, seen_for: PAUSE, ..stands };
            assert!(matches!(step, Step::Accepted | Step::Used | Step::Dropped), "{step:?}");
        }
    }
    assert_eq!(reads, [vec![1], vec![1, 2], vec![2, 1], vec![2]]);
    for pair in reads.windows(2) {
        let [before, after] = pair else { panic!() };
        assert!(after.contains(&before[0]) && before.contains(&after[0]), "{before:?} and {after:?}");
    }
}

#[test]
fn a_request_for_another_key_is_met_once_and_waits_for_the_change_under_way() {
    let asked = |fields| Standing { asked: true, seen_for: PAUSE, ..standing(fields) };
    for (fields, expected, still_asked) in [
        (&[(KEY, 1)][..], Step::Accepted, false),
        (&[(KEY, 1), (NEXT, 2)], Step::Used, true),
        (&[(KEY, 2), (PREVIOUS, 1)], Step::Dropped, true),
    ] {
        let Plan::Write(next, step) = plan(Some(&asked(fields)), &rules(), key(3), at(DAY)) else {
            panic!("{fields:?}")
        };
        assert_eq!((step, next.asked), (expected, still_asked));
    }
    let never = Rules { rotate_after: None, ..rules() };
    let plan = plan(Some(&asked(&[(KEY, 1)])), &never, key(2), at(DAY));
    assert_eq!(step(plan), Some((Step::Accepted, vec![1, 2])), "also where none is changed by itself");
}

#[test]
fn what_was_edited_into_nonsense_is_replaced_with_the_reason_and_a_good_key_is_kept() {
    let mut wrong_cluster = data(&[(KEY, 1)]);
    wrong_cluster.insert(CLUSTER.into(), ByteString(b"another".to_vec()));
    let mut short = data(&[(KEY, 1), (NEXT, 2)]);
    short.insert(KEY.into(), ByteString(vec![1; 5]));
    let why = |text: &str| text.to_owned();
    for (data, expected) in [
        (BTreeMap::new(), (Step::Replaced(why("its field cluster is missing or empty")), vec![9])),
        (
            wrong_cluster,
            (
                Step::Replaced(why(r#"its field cluster is "another"; the Namespace kube-system has the uid uid"#)),
                vec![9],
            ),
        ),
        (
            short,
            (Step::Replaced(why("its field key has 5 octets; 16 are the least, 32 random ones are best")), vec![9]),
        ),
        (data(&[(KEY, 1), (NEXT, 1)]), (Step::Repaired(why("its fields key and next are the same")), vec![1])),
        (
            data(&[(KEY, 1), (NEXT, 2), (PREVIOUS, 3)]),
            (
                Step::Repaired(why(
                    "it has next and previous at the same time; a change of the key has one after the other",
                )),
                vec![1],
            ),
        ),
    ] {
        let stands = Standing { data, ..standing(&[]) };
        let planned = plan(Some(&stands), &rules(), key(9), at(DAY));
        assert_eq!(step(planned.clone()), Some(expected));
        let Plan::Write(next, _) = planned else { panic!() };
        let after = Standing { data: written(&next.key), since: Some(next.since), ..standing(&[]) };
        assert_eq!(step(plan(Some(&after), &rules(), key(8), at(DAY))), None, "written once");
    }
}

#[test]
fn a_clock_that_was_set_back_costs_a_date_and_no_key() {
    let stands = standing(&[(KEY, 1)]);
    let start = at(Duration::ZERO);
    // Leaders' clocks differ a little; that is no reason to write.
    let hour_ago = start.checked_sub(SignedDuration::from_hours(1)).unwrap();
    assert_eq!(plan(Some(&stands), &rules(), key(2), hour_ago), Plan::Wait(LOOK_AGAIN));

    let year_ago = start.checked_sub(SignedDuration::from_hours(365 * 24)).unwrap();
    for standing in [stands.clone(), Standing { since: None, ..stands.clone() }, Standing { asked: true, ..stands }] {
        let Plan::Write(next, Step::Dated) = plan(Some(&standing), &rules(), key(2), year_ago) else {
            panic!("not dated")
        };
        assert_eq!((next.since, &next.key.keys()[..]), (year_ago, &[&key(1)][..]));
        assert_eq!(next.asked, standing.asked);
    }
    // In the middle of a change, too; and the change goes on.
    let changing = Standing { since: None, ..standing(&[(KEY, 1), (NEXT, 2)]) };
    assert_eq!(step(plan(Some(&changing), &rules(), key(3), year_ago)), Some((Step::Dated, vec![1, 2])));
    let changing = Standing { seen_for: PAUSE, ..changing };
    assert_eq!(step(plan(Some(&changing), &rules(), key(3), year_ago)), Some((Step::Used, vec![2, 1])));
}
