//! Addresses of ours for which others ask in vain. Pure. See [`crate::inspection`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_membership::{Finding, WireCheck};

use crate::inspection::LOOK_AGAIN;

/// A word that was not repeated for so long means nothing any more: who said it looks again after ten seconds.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(LOOK_AGAIN.as_secs() * 3);

/// Who asked in vain, by address.
#[derive(Debug, Default)]
pub(crate) struct Unheard(BTreeMap<IpAddr, Word>);

/// What is to be done about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Remedy {
    Nothing,
    /// Announce it anew.
    Announce,
    /// That, from new sockets: whatever may be wrong with the old ones.
    Reopen,
}

#[derive(Debug)]
struct Word {
    by: Arc<str>,
    /// How often in a row.
    times: u32,
    until: Instant,
}

impl Unheard {
    /// Somebody has asked for an address of ours. Says what to do about what was found.
    pub(crate) fn note(&mut self, by: Arc<str>, check: WireCheck, now: Instant) -> Remedy {
        match check.finding {
            Finding::Heard => {
                self.0.remove(&check.address);
                Remedy::Nothing
            }
            // Whoever that is, the announcement is what it has to hear. A machine that is no peer is the rivals' business.
            Finding::AnotherAnswers => Remedy::Announce,
            Finding::Silent => {
                let word = self.0.entry(check.address).or_insert(Word { by: Arc::clone(&by), times: 0, until: now });
                *word = Word { by, times: word.times + 1, until: now + FORGOTTEN_AFTER };
                if word.times == 1 { Remedy::Reopen } else { Remedy::Announce }
            }
        }
    }

    /// Those for which it was in vain although they had been announced anew, and who said so last; only of those that are `ours`.
    pub(crate) fn lasting(&mut self, ours: impl Fn(&IpAddr) -> bool, now: Instant) -> BTreeMap<IpAddr, Arc<str>> {
        self.0.retain(|ip, word| now < word.until && ours(ip));
        self.0.iter().filter(|(_, word)| word.times > 1).map(|(ip, word)| (*ip, Arc::clone(&word.by))).collect()
    }

    /// When a word will be forgotten that is not repeated.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|word| word.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_heard_is_announced_anew_and_spoken_of_when_that_was_in_vain() {
        let start = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut unheard = Unheard::default();
        let n3: Arc<str> = "n3".into();
        let lasting = BTreeMap::from([(address, Arc::clone(&n3))]);
        for (second, finding, remedy, is_lasting) in [
            (0, Finding::Silent, Remedy::Reopen, false),
            (10, Finding::Silent, Remedy::Announce, true),
            (20, Finding::AnotherAnswers, Remedy::Announce, true),
            (30, Finding::Heard, Remedy::Nothing, false),
            (90, Finding::Silent, Remedy::Reopen, false),
            (100, Finding::Heard, Remedy::Nothing, false),
            (110, Finding::Silent, Remedy::Reopen, false),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(unheard.note(Arc::clone(&n3), WireCheck { address, finding }, now), remedy, "{second}");
            let expected = if is_lasting { lasting.clone() } else { BTreeMap::new() };
            assert_eq!(unheard.lasting(|_| true, now), expected, "{second}");
        }
    }

    #[test]
    fn what_nobody_repeats_is_forgotten_and_so_is_what_is_not_ours_any_more() {
        let now = Instant::now();
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let check = WireCheck { address, finding: Finding::Silent };
        let mut unheard = Unheard::default();
        unheard.note("n3".into(), check, now);
        unheard.note("n3".into(), check, now);
        assert_eq!(unheard.lasting(|_| true, now).len(), 1);
        let until = unheard.next_due().expect("it will be forgotten");
        assert_eq!(until, now + FORGOTTEN_AFTER);
        assert_eq!((unheard.lasting(|_| true, until).len(), unheard.next_due()), (0, None));
        unheard.note("n3".into(), check, now);
        unheard.note("n3".into(), check, now);
        assert_eq!(unheard.lasting(|ip| *ip != address, now).len(), 0);
        assert_eq!(unheard.lasting(|_| true, now).len(), 0, "it has been given away meanwhile");
    }
}
