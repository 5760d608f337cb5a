//! Which conditions are to be written, and when? Pure: what is to be said and the time come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Statement;
use crate::model::{Service, ServiceKey};

/// What is touched together is looked at together.
const SOON: Duration = Duration::from_millis(100);
/// So long must a thing be amiss before it is said, and another node answer before that is said. A rollout, a flapping link or
/// the moment between an edit of a pool and the controller's next write are nobody's concern, and a write then would only be in
/// the controller's way.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);
/// Of a processor, looking takes no more than one part in this many and one.
const REST: u32 = 9;

/// A condition to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    /// The Service.
    pub(crate) service: ServiceKey,
    /// metadata.uid of it: one that is made again under the same name is another.
    pub(crate) uid: String,
    /// Tells this wish from another one for the same Service.
    pub(crate) digest: u64,
    /// The whole condition.
    pub(crate) condition: Condition,
}

/// When to look, and what is to be said when it has lasted.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    unsettled: BTreeMap<ServiceKey, (u64, Instant)>,
    look_at: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Agenda {
    /// Something has changed.
    pub(crate) fn touched(&mut self, now: Instant) {
        let soon = self.rests_until.map_or(now + SOON, |rested| rested.max(now + SOON));
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// When to look for wishes; `None` when nothing has changed since the last time.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// What is to be written, of all that is to be said: nothing where it is said already. That all is well for the first time,
    /// or again, is said at once; everything else when it has been so for [`SETTLED`].
    pub(crate) fn wishes<'a>(
        &mut self,
        statements: impl Iterator<Item = (&'a ServiceKey, &'a Service, Statement)>,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Wish> {
        self.look_at = None;
        let before = std::mem::take(&mut self.unsettled);
        let mut wishes = Vec::new();
        for (key, service, statement) in statements {
            let digest = statement.digest(service.generation);
            if service.stated.as_ref().is_some_and(|stated| stated.digest == digest) {
                continue;
            }
            let was_announced = service.stated.as_ref().is_some_and(|stated| stated.announced == Some(true));
            if !statement.announced || was_announced {
                let since = before.get(key).filter(|(what, _)| *what == digest).map_or(now, |(_, since)| *since);
                self.unsettled.insert(key.clone(), (digest, since));
                let due = since + SETTLED;
                if now < due {
                    self.look_at = Some(self.look_at.map_or(due, |at| at.min(due)));
                    continue;
                }
            }
            let condition = statement.condition(service.stated.as_ref(), service.generation, wall);
            wishes.push(Wish { service: key.clone(), uid: service.uid.clone(), digest, condition });
        }
        wishes
    }

    /// Looking took so long: not again before some multiple of that.
    pub(crate) fn rest(&mut self, took: Duration, now: Instant) {
        self.rests_until = Some(now + took * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stated;
    use super::*;
    use landfall_config::Labels;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { namespace: "shop".into(), name: name.into() }
    }

    fn service(generation: Option<i64>, stated: Option<Condition>) -> Service {
        Service {
            uid: "u".into(),
            labels: Labels::new(),
            ingress_ips: Ok(vec![]),
            local: false,
            may_share: false,
            placed: None,
            generation,
            stated: stated.as_ref().map(Stated::read),
        }
    }

    fn says(announced: bool, message: &str) -> Statement {
        Statement { announced, reason: "Why", message: message.into() }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).expect("a time")
    }

    /// What one look makes of one statement about one Service.
    fn look(
        agenda: &mut Agenda,
        service: &Service,
        statement: Statement,
        now: Instant,
        wall: i64,
    ) -> Option<Condition> {
        let key = key("web");
        let wishes = agenda.wishes([(&key, service, statement)].into_iter(), now, at(wall));
        assert!(wishes.len() <= 1);
        wishes.into_iter().next().map(|wish| wish.condition)
    }

    #[test]
    fn what_stands_is_not_said_again_and_the_time_of_transition_changes_with_the_status_only() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        let mut service = service(Some(3), None);
        let first = look(&mut agenda, &service, says(true, "node n1 answers"), now, 10).expect("news");
        assert_eq!((first.type_.as_str(), first.status.as_str()), ("landfall.io/Announced", "True"));
        assert_eq!((first.observed_generation, first.last_transition_time.0), (Some(3), at(10)));
        service.stated = Some(Stated::read(&first));
        assert_eq!(look(&mut agenda, &service, says(true, "node n1 answers"), now, 20), None);
        assert_eq!(agenda.look_at(), None, "nothing to come back for");

        let n2 = || says(true, "node n2 answers");
        assert_eq!(look(&mut agenda, &service, n2(), now, 20), None, "it may answer for a moment only");
        let moved = look(&mut agenda, &service, n2(), now + SETTLED, 20).expect("another node");
        assert_eq!((moved.status.as_str(), moved.last_transition_time.0), ("True", at(10)));
        service.stated = Some(Stated::read(&Condition { status: "Unknown".into(), ..moved.clone() }));
        let again = look(&mut agenda, &service, says(true, "node n2 answers"), now, 30).expect("edited by hand");
        assert_eq!(again.last_transition_time.0, at(30));
        service.stated = Some(Stated::read(&moved));
        service.generation = Some(4);
        assert_eq!(look(&mut agenda, &service, n2(), now, 40), None);
        let edited = look(&mut agenda, &service, n2(), now + SETTLED, 40).expect("another generation");
        assert_eq!((edited.observed_generation, edited.last_transition_time.0), (Some(4), at(10)));
    }

    #[test]
    fn what_is_amiss_is_said_when_it_has_been_so_for_a_while_and_what_is_well_at_once() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        let mut service = service(None, None);
        for (ms, statement, said, again_at) in [
            (0, says(false, "no endpoint"), None, Some(2_000)),
            (1_999, says(false, "no endpoint"), None, Some(2_000)),
            (1_999, says(false, "no pool"), None, Some(3_999)), // something else now
            (3_999, says(false, "no pool"), Some("False"), None),
            (4_500, says(false, "no pool"), Some("False"), None), // not written yet: still wished for
            (4_600, says(true, "node n1 answers"), Some("True"), None),
            (4_700, says(false, "no endpoint"), None, Some(6_700)), // anew
        ] {
            let now = start + Duration::from_millis(ms);
            let wish = look(&mut agenda, &service, statement.clone(), now, 9);
            assert_eq!(wish.as_ref().map(|wish| wish.status.as_str()), said, "{statement:?} after {ms} ms");
            assert_eq!(agenda.look_at(), again_at.map(|ms| start + Duration::from_millis(ms)), "{statement:?}");
        }
        let now = start + Duration::from_millis(6_700);
        let condition = look(&mut agenda, &service, says(false, "no endpoint"), now, 9).expect("it is due");
        service.stated = Some(Stated::read(&condition));
        assert_eq!(look(&mut agenda, &service, says(false, "no endpoint"), now, 9), None);
    }

    #[test]
    fn many_changes_are_looked_at_together_and_looking_is_rested_from() {
        let (mut agenda, start) = (Agenda::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        agenda.touched(start);
        agenda.touched(after(60));
        assert_eq!(agenda.look_at(), Some(after(100)));
        agenda.wishes(std::iter::empty(), after(100), at(0));
        agenda.rest(Duration::from_millis(50), after(150));
        assert_eq!(agenda.look_at(), None);
        agenda.touched(after(160));
        assert_eq!(agenda.look_at(), Some(after(600)));
        agenda.touched(after(590));
        assert_eq!(agenda.look_at(), Some(after(600)));
        agenda.wishes(std::iter::empty(), after(600), at(0));
        agenda.touched(after(900));
        assert_eq!(agenda.look_at(), Some(after(1_000)));
    }
}
