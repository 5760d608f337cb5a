//! New connections, one after another, and what they tell together: until when some failed, and who answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A new connection with one request that has come to its end.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// When its first packet was sent.
    pub(super) began: Instant,
    pub(super) result: Result<Answered, Failure>,
}

/// A new connection that was answered.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) at: Instant,
    /// The node that the Pod is on.
    pub(super) node: String,
}

/// A new connection that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// When it was established, if it came to that.
    pub(super) established: Option<Instant>,
    pub(super) why: String,
}

impl Failure {
    /// Whether it was established already by then.
    pub(super) fn was_established(&self, by: Instant) -> bool {
        self.established.is_some_and(|at| at <= by)
    }
}

/// How the connections fared that began after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) tried: usize,
    pub(super) failed: usize,
    /// From the fault to the beginning of the first that succeeded; of the last one when none did.
    pub(super) silent: Duration,
    /// From the fault to the beginning of the first after which none failed; of the last one when that failed itself.
    pub(super) outage: Duration,
    /// Whether the connections without failure went on for long enough.
    pub(super) is_over: bool,
    /// The longest time in which none began: the client itself stood still.
    pub(super) blind: Duration,
}

/// How those of `visits` fared that began at `fault` or later. It is over when all have succeeded that began in the last part
/// of them, `steady` long at least. One that is under way is not among them: `steady` has to be longer than the time in which a
/// connection fails.
pub(super) fn course(visits: &[Visit], fault: Instant, steady: Duration) -> Course {
    let mut since: Vec<&Visit> = visits.iter().filter(|visit| visit.began >= fault).collect();
    since.sort_by_key(|visit| visit.began);
    let begins: Vec<Duration> = since.iter().map(|visit| visit.began - fault).collect();
    let last = begins.last().copied().unwrap_or_default();
    let at = |index: usize| begins.get(index).copied().unwrap_or(last);

    let first = since.iter().position(|visit| visit.result.is_ok());
    let failed = since.iter().rposition(|visit| visit.result.is_err());
    let outage = at(failed.map_or(0, |index| index + 1));
    let pauses = begins.iter().scan(Duration::ZERO, |before, begin| {
        let pause = *begin - *before;
        *before = *begin;
        Some(pause)
    });
    Course {
        tried: since.len(),
        failed: since.iter().filter(|visit| visit.result.is_err()).count(),
        silent: first.map_or(last, at),
        outage,
        is_over: last - outage >= steady,
        blind: pauses.max().unwrap_or_default(),
    }
}

/// The last connections that failed of those that began at `fault` or later, at most `count` of them, in words: where to look when an
/// outage has a long tail.
pub(super) fn last_failures(visits: &[Visit], fault: Instant, count: usize) -> Vec<String> {
    let mut failed: Vec<(Instant, &Failure)> =
        visits.iter().filter_map(|visit| Some((visit.began, visit.result.as_ref().err()?))).collect();
    failed.retain(|(began, _)| *began >= fault);
    failed.sort_by_key(|(began, _)| *began);
    let last = failed.into_iter().rev().take(count).rev();
    let words = last.map(|(began, failure)| {
        let after = failure.established.map(|at| format!(", established {} ms later", (at - began).as_millis()));
        format!(
            "began {} ms after the fault{}: {}",
            (began - fault).as_millis(),
            after.unwrap_or_default(),
            failure.why
        )
    });
    words.collect()
}

/// Whether every connection that began at `since` or later has succeeded, and the Pod of each of these nodes was among those
/// that answered.
/// # Errors
/// Says what failed, or which Pod was not heard.
pub(super) fn all_serve(visits: &[Visit], since: Instant, nodes: &[String]) -> Result<()> {
    let mut answered = BTreeSet::new();
    for visit in visits.iter().filter(|visit| visit.began >= since) {
        match &visit.result {
            Ok(answer) => answered.insert(&answer.node),
            Err(failure) => bail!("a new connection failed: {}", failure.why),
        };
    }
    let silent = nodes.iter().find(|node| !answered.contains(node));
    silent.map_or(Ok(()), |node| bail!("the Pod of {node} was given no connection; those of {answered:?} were"))
}

/// When the Pod of this node answered first.
pub(super) fn first_answer(visits: &[Visit], node: &str) -> Option<Instant> {
    let answers = visits.iter().filter_map(|visit| visit.result.as_ref().ok());
    answers.filter(|answered| answered.node == node).map(|answered| answered.at).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEADY: Duration = ms(60);

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    /// One that begins so many ms after the start: answered 1 ms later by the Pod of this node, or not at all.
    fn visit(start: Instant, begins: u64, node: Option<&str>) -> Visit {
        let began = start + ms(begins);
        let answered = node.map(|node| Answered { at: began + ms(1), node: node.to_owned() });
        Visit { began, result: answered.ok_or(Failure { established: None, why: "nobody answered".into() }) }
    }

    #[test]
    fn the_last_failures_are_told_with_their_time() {
        let fault = Instant::now();
        let visits =
            [visit(fault, 30, None), visit(fault, 10, None), visit(fault, 20, Some("n1")), visit(fault, 0, None)];
        let told = |count| last_failures(&visits, fault + ms(1), count);
        assert_eq!(told(1), ["began 29 ms after the fault: nobody answered"]);
        assert_eq!(told(9).len(), 2);
    }

    #[test]
    fn the_outage_lasts_until_the_first_connection_after_the_last_that_failed() {
        // Each letter is a connection, 20 ms after the one before; the fault is 5 ms before the third.
        for (connections, silent, outage, is_over) in [
            ("ooOOOO", 5, 5, true),
            ("oxOOOO", 5, 5, true), // what failed before the fault has nothing to do with it
            ("ooXXOOOO", 45, 45, true),
            ("ooXXOXOOOO", 45, 85, true), // the address is back, and one Pod is not
            ("ooXXOXOOO", 45, 85, false), // it may go on
            ("ooXXOOOX", 45, 105, false), // no end: as far as it was seen
            ("ooXXX", 45, 45, false),     // not one answer
            ("ooOXOOOOO", 5, 45, true),
            ("oo", 0, 0, false), // nothing was seen
        ] {
            let start = Instant::now();
            let mut visits: Vec<Visit> = (0..)
                .zip(connections.chars())
                .map(|(index, letter)| visit(start, index * 20, letter.eq_ignore_ascii_case(&'o').then_some("n1")))
                .collect();
            visits.reverse(); // those that fail come to their end last
            let fault = start + ms(35);
            let course = course(&visits, fault, STEADY);
            let capitals = |letter| connections.matches(letter).count();
            let expected = Course {
                tried: capitals('O') + capitals('X'),
                failed: capitals('X'),
                silent: ms(silent),
                outage: ms(outage),
                is_over,
                blind: if connections == "oo" { ms(0) } else { ms(20) },
            };
            assert_eq!(course, expected, "{connections}");
        }
    }

    #[test]
    fn a_client_that_stood_still_says_so() {
        let start = Instant::now();
        let course = |begins: &[u64]| {
            let visits: Vec<Visit> = begins.iter().map(|at| visit(start, *at, Some("n1"))).collect();
            course(&visits, start + ms(10), STEADY).blind
        };
        assert_eq!(course(&[0, 20, 310, 330]), ms(290));
        assert_eq!(course(&[0, 500, 520]), ms(490), "from the fault on");
    }

    #[test]
    fn all_serve_when_nobody_failed_and_each_node_was_heard() {
        let start = Instant::now();
        let both = ["n1".to_owned(), "n2".to_owned()];
        let visits = [(0, None), (20, Some("n1")), (40, Some("n2")), (60, Some("n1"))];
        let visits = visits.map(|(begins, node)| visit(start, begins, node));
        let amiss = |since| all_serve(&visits, start + ms(since), &both).err().map(|error| error.to_string());
        let (failed, silent) = (
            "a new connection failed: nobody answered",
            "the Pod of n2 was given no connection; those of {\"n1\"} were",
        );
        let expected = [Some(failed), None, None, Some(silent)];
        assert_eq!([0, 20, 40, 41].map(amiss).each_ref().map(Option::as_deref), expected);
        assert!(all_serve(&[], start, &both).is_err(), "nothing was asked");
    }

    #[test]
    fn the_first_answer_of_a_node_is_told_whoever_else_answered_or_did_not() {
        let start = Instant::now();
        let visits = [(60, Some("n2")), (0, Some("n1")), (20, None), (40, Some("n2"))];
        let visits = visits.map(|(begins, node)| visit(start, begins, node));
        let first = ["n1", "n2", "n3"].map(|node| first_answer(&visits, node).map(|at| at - start));
        assert_eq!(first, [Some(ms(1)), Some(ms(41)), None]);
    }
}
