//! One candidate, told by hand what the API answers. Times are milliseconds after its start.

use super::*;

struct Candidate {
    election: Election,
    start: Instant,
}

impl Candidate {
    fn new() -> Self {
        Self { election: Election::new("me".into(), 1), start: Instant::now() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    fn next(&mut self, millis: u64) -> Next {
        let wall = Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap();
        self.election.next(Now { instant: self.at(millis), wall })
    }

    /// What it asks for, which must be something.
    fn asks(&mut self, millis: u64) -> Ask {
        match self.next(millis) {
            Next::Ask(request) => request.ask,
            other => panic!("asks for nothing at {millis} ms: {other:?}"),
        }
    }

    /// Until when it waits; parts of a millisecond count as one.
    fn waits(&mut self, millis: u64) -> u64 {
        match self.next(millis) {
            Next::Wait(until) => u64::try_from((until - self.start).as_micros().div_ceil(1000)).unwrap(),
            other => panic!("does not wait at {millis} ms: {other:?}"),
        }
    }

    /// Answers what it asks for at `asked`.
    fn answer(&mut self, asked: u64, answer: Answer, now: u64) -> Ask {
        let ask = self.asks(asked);
        let (asked, now) = (self.at(asked), self.at(now));
        self.election.answered(&ask, answer, asked, now);
        ask
    }

    fn finds(&mut self, millis: u64, lease: Option<Stored>) {
        assert_eq!(self.answer(millis, Answer::Found(lease), millis), Ask::Read);
    }

    /// Accepts what it writes at `asked`.
    fn writes(&mut self, asked: u64, version: &str, now: u64) -> Record {
        let (Ask::Create(record) | Ask::Replace { record, .. }) = self.asks(asked) else { panic!("no write") };
        self.answer(asked, Answer::Written(lease(&record, version)), now);
        record
    }

    /// The term and the end of its right, if it leads.
    fn leads(&self, millis: u64) -> Option<(u64, u64)> {
        match self.election.leadership(self.at(millis)) {
            Leadership::Leader { term, until } => Some((term, (until - self.start).as_millis() as u64)),
            Leadership::Standby { .. } => None,
        }
    }

    /// Became leader of a new Lease at 0 ms.
    fn leading() -> Self {
        let mut me = Self::new();
        me.finds(0, None);
        me.writes(0, "1", 0);
        assert_eq!(me.leads(0), Some((1, 2000)));
        me
    }
}

/// A record of `holder`, renewed at `renewed` on its wall clock.
fn record(holder: &str, renewed: i64) -> Record {
    let time = |millis| Some(Timestamp::from_millisecond(millis).unwrap());
    Record { holder: holder.into(), duration: DURATION, acquired: time(0), renewed: time(renewed), transitions: 4 }
}

fn lease(record: &Record, version: &str) -> Stored {
    Stored { record: record.clone(), version: version.into() }
}

#[test]
fn a_lease_that_does_not_exist_is_created_at_once() {
    let mut me = Candidate::new();
    me.finds(5, None);
    let Ask::Create(record) = me.asks(5) else { panic!("no Lease created") };
    let wall = Timestamp::from_millisecond(5).ok();
    assert_eq!(
        record,
        Record { holder: "me".into(), duration: DURATION, acquired: wall, renewed: wall, transitions: 0 }
    );
    assert_eq!(me.leads(5), None, "asking is not having");
}

#[test]
fn the_right_counts_from_the_start_of_the_request_and_is_gone_when_it_runs_out() {
    let mut me = Candidate::new();
    me.finds(0, None);
    me.writes(10, "1", 900);
    assert_eq!((me.leads(900), me.leads(2009), me.leads(2010)), (Some((1, 2010)), Some((1, 2010)), None));
}

#[test]
fn an_answer_that_comes_after_the_right_it_gives_has_ended_gives_nothing() {
    let mut me = Candidate::new();
    me.finds(0, None);
    me.writes(10, "1", 2010);
    assert_eq!(me.leads(2010), None);
}

#[test]
fn a_leader_renews_on_the_version_it_knows_and_keeps_its_term() {
    let mut me = Candidate::leading();
    assert_eq!(me.waits(0), 600);
    let Ask::Replace { version, record } = me.asks(600) else { panic!("no renewal") };
    assert_eq!((version.as_str(), record.transitions), ("1", 0));
    assert_eq!((record.acquired, record.renewed), (Some(Timestamp::UNIX_EPOCH), Timestamp::from_millisecond(600).ok()));
    me.writes(600, "2", 650);
    assert_eq!((me.leads(650), me.waits(650)), (Some((1, 2600)), 1200));
}

#[test]
fn a_renewal_that_is_answered_after_the_right_before_it_has_ended_begins_another_term() {
    let mut me = Candidate::leading();
    // As of a process that was stopped meanwhile: for a moment it had no right.
    me.writes(600, "2", 2100);
    assert_eq!(me.leads(2100), Some((2, 2600)));
}

#[test]
fn a_lease_that_says_another_name_than_was_written_gives_no_right() {
    let mut me = Candidate::new();
    me.finds(0, None);
    me.answer(0, Answer::Written(lease(&record("other", 0), "1")), 10);
    assert_eq!(me.leads(10), None);
}

#[test]
fn a_lost_renewal_is_tried_again_within_the_right_and_then_the_leader_steps_down() {
    let mut me = Candidate::leading();
    me.answer(600, Answer::Failed, 1600);
    assert_eq!((me.leads(1600), me.waits(1600)), (Some((1, 2000)), 1700));
    let Next::Ask(request) = me.next(1700) else { panic!("no second try") };
    assert_eq!((request.ask, request.limit), (Ask::Read, Duration::from_millis(300)), "it ends with the right");
    me.answer(1700, Answer::Failed, 2000);
    assert_eq!((me.leads(1999), me.leads(2000)), (Some((1, 2000)), None));
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_and_renewed_upon() {
    let mut me = Candidate::leading();
    let Ask::Replace { record, .. } = me.answer(600, Answer::Failed, 1600) else { panic!("no renewal") };
    me.finds(1700, Some(lease(&record, "2")));
    assert_eq!(me.leads(1700), Some((1, 2000)), "reading is not renewing");
    assert!(matches!(me.asks(1700), Ask::Replace { version, .. } if version == "2"));
    me.writes(1700, "3", 1710);
    assert_eq!(me.leads(1710), Some((1, 3700)));
}

#[test]
fn a_conflict_is_not_leadership() {
    let mut me = Candidate::new();
    me.finds(0, None);
    me.answer(0, Answer::Refused, 10);
    assert_eq!(me.leads(10), None);
    me.finds(10, Some(lease(&record("other", 0), "1")));
    let standby = Leadership::Standby { leader: Some("other".into()) };
    assert_eq!(me.election.leadership(me.at(10)), standby);
}

#[test]
fn a_leader_that_reads_another_name_leads_no_longer() {
    let mut me = Candidate::leading();
    me.answer(600, Answer::Refused, 610);
    assert_eq!(me.leads(610), Some((1, 2000)), "the Lease may only have been labelled");
    me.finds(610, Some(lease(&record("other", 0), "9")));
    assert_eq!(me.leads(610), None);
}

#[test]
fn another_leader_is_waited_for_from_its_last_change_on_our_clock() {
    let mut me = Candidate::new();
    // The time in the Lease is an hour ago or to come: it does not matter.
    me.finds(0, Some(lease(&record("other", -3_600_000), "1")));
    let poll = me.waits(0);
    assert!((450..=550).contains(&poll), "polls at {poll} ms");
    me.finds(poll, Some(lease(&record("other", 7_200_000), "2")));
    let changed = poll;
    let mut now = poll;
    loop {
        now = me.waits(now);
        match me.asks(now) {
            Ask::Read => me.finds(now, Some(lease(&record("other", 7_200_000), "2"))),
            Ask::Replace { version, record } => {
                assert_eq!((version.as_str(), record.transitions), ("2", 5));
                assert_eq!(now, changed + 3000, "at the very instant");
                return;
            }
            Ask::Create(_) => panic!("there is a Lease"),
        }
    }
}

#[test]
fn a_label_on_the_lease_is_no_sign_of_life_but_the_claim_is_on_the_labelled_version() {
    let mut me = Candidate::new();
    let silent = record("other", 0);
    me.finds(0, Some(lease(&silent, "1")));
    me.finds(600, Some(lease(&silent, "2")));
    assert!(matches!(me.asks(3000), Ask::Replace { version, .. } if version == "2"));
}

#[test]
fn the_leases_own_duration_is_waited_for() {
    let mut me = Candidate::new();
    let patient = Record { duration: Duration::from_secs(15), ..record("other", 0) };
    me.finds(0, Some(lease(&patient, "1")));
    assert_eq!(me.asks(14_999), Ask::Read);
    assert!(matches!(me.asks(15_000), Ask::Replace { .. }));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut me = Candidate::new();
    me.finds(0, Some(lease(&record("other", 0), "1")));
    me.finds(550, Some(lease(&record("", 0), "2")));
    assert!(matches!(me.asks(550), Ask::Replace { version, .. } if version == "2"));
}

#[test]
fn a_deleted_lease_is_created_again_only_when_its_holders_time_is_over() {
    let mut me = Candidate::new();
    me.finds(0, Some(lease(&record("other", 0), "1")));
    me.finds(600, None);
    assert_eq!(me.asks(2999), Ask::Read);
    assert!(matches!(me.asks(3000), Ask::Create(_)));
}

#[test]
fn who_cannot_read_does_not_claim() {
    let mut me = Candidate::new();
    me.finds(0, Some(lease(&record("other", 0), "1")));
    me.answer(600, Answer::Failed, 1600);
    assert_eq!(me.asks(9000), Ask::Read);
}

#[test]
fn a_process_that_was_stopped_past_its_right_reads_before_it_writes_and_gets_another_term() {
    let mut me = Candidate::leading();
    assert_eq!(me.leads(9000), None);
    assert_eq!(me.asks(9000), Ask::Read);
    me.finds(9000, Some(lease(&Record { holder: "me".into(), ..record("", 0) }, "1")));
    me.writes(9000, "2", 9010);
    assert_eq!(me.leads(9010), Some((2, 11_000)));
}

#[test]
fn who_resigns_leads_no_longer_and_empties_the_lease() {
    let mut me = Candidate::leading();
    me.election.resign();
    assert_eq!(me.leads(100), None);
    let written = me.writes(100, "2", 110);
    assert_eq!((written.holder.as_str(), written.duration), ("", Duration::from_secs(1)));
    assert_eq!((me.leads(110), me.next(110)), (None, Next::Done));
}

#[test]
fn who_resigns_looks_first_when_a_claim_may_have_taken_effect() {
    let mut me = Candidate::new();
    me.finds(0, None);
    let Ask::Create(claimed) = me.answer(0, Answer::Failed, 1000) else { panic!("no claim") };
    me.election.resign();
    me.finds(1000, Some(lease(&claimed, "1")));
    assert!(matches!(me.asks(1000), Ask::Replace { record, .. } if record.holder.is_empty()));
}

#[test]
fn who_resigns_leaves_anothers_lease_alone_and_does_not_try_for_ever() {
    let mut me = Candidate::new();
    me.finds(0, Some(lease(&record("other", 0), "1")));
    me.election.resign();
    assert_eq!(me.next(10), Next::Done);

    let mut me = Candidate::leading();
    me.election.resign();
    me.answer(10, Answer::Failed, 1010);
    assert_eq!(me.next(1010), Next::Done);
}
