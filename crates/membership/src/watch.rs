//! Watching one member: its beats, and its kernel when the beats stay away.
//!
//! Time here is *awake time*: it stands still while our own process does, so a frozen observer suspects nobody.

use std::time::Duration;

use crate::message::Stance;

/// How many times in a row a kernel must leave a question unanswered.
const SILENT_ASKS: u32 = 3;
/// How many times a word against a member is repeated each beat interval; afterwards it is repeated once in this time, which
/// is a third of the time that a word counts, whatever the interval.
const QUICK_REPEATS: u32 = 10;
const SLOW_REPEAT: Duration = Duration::from_secs(1);

/// The times that apply to the member that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two of its beats.
    pub(crate) beat: Duration,
    /// The silence that makes it a suspect.
    pub(crate) window: Duration,
    /// Between two questions to its kernel, and between two repetitions: our own beat interval.
    pub(crate) ask: Duration,
    /// How late a beat may be.
    pub(crate) slack: Duration,
}

/// What we know of a kernel since the beats stay away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Unknown,
    Answers,
    Silent,
}

/// What we observe of one member.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) stance: Stance,
    heard: Duration,
    kernel: Kernel,
    unanswered: u32,
    asked: Option<Duration>,
    /// We have asked its kernel ourselves, in vain, and have heard nothing of it since.
    pub(crate) asked_in_vain: bool,
    /// How often the present stance was said, and when to say it again.
    said: u32,
    say_at: Duration,
    /// We have acted on what we observe, with a majority.
    pub(crate) verdict: bool,
    /// How many more times our word goes to all members.
    pub(crate) flood: u8,
}

/// What comes of a look at a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Ask its kernel.
    pub(crate) probe: bool,
    /// Tell the other observers, and the member itself, what we observe.
    pub(crate) say: bool,
}

impl Watch {
    /// Begins to watch: the member has a whole window to be heard in.
    pub(crate) fn new(awake: Duration) -> Self {
        Self {
            stance: Stance::Hears,
            heard: awake,
            kernel: Kernel::Unknown,
            unanswered: 0,
            asked: None,
            asked_in_vain: false,
            said: 0,
            say_at: awake,
            verdict: false,
            flood: 0,
        }
    }

    /// A datagram of the member has come.
    pub(crate) fn heard(&mut self, awake: Duration) {
        self.heard = awake;
        self.kernel = Kernel::Unknown;
        (self.unanswered, self.asked, self.asked_in_vain) = (0, None, false);
    }

    /// Its kernel has answered.
    pub(crate) fn answered(&mut self) {
        self.kernel = Kernel::Answers;
        (self.unanswered, self.asked_in_vain) = (0, false);
    }

    /// We were not awake ourselves: whatever we missed, it has a whole window anew.
    pub(crate) fn give_time(&mut self, awake: Duration) {
        self.heard = awake;
        (self.unanswered, self.asked, self.asked_in_vain) = (0, None, false);
    }

    /// Looks at the member. `gone` says that its speaker is known to be gone, `expired` that it was covered for as long as
    /// may be.
    pub(crate) fn look(&mut self, pace: &Pace, awake: Duration, gone: bool, expired: bool) -> Look {
        let silence = awake.saturating_sub(self.heard);
        let mut look = Look::default();
        // The first beat that stays away is reason enough to ask: so the answer is there when the third does.
        if gone || silence >= pace.beat + pace.slack {
            let patience = pace.ask / 2;
            if self.unanswered >= SILENT_ASKS && self.asked.is_some_and(|asked| awake >= asked + patience) {
                (self.kernel, self.asked_in_vain) = (Kernel::Silent, true);
            }
            if self.kernel != Kernel::Silent && self.asked.is_none_or(|asked| awake >= asked + pace.ask) {
                self.asked = Some(awake);
                self.unanswered += 1;
                look.probe = true;
            }
        }
        let stance = match self.kernel {
            _ if !gone && silence < pace.window => Stance::Hears,
            _ if expired => Stance::Gone,
            Kernel::Unknown if gone => Stance::SpeakerGone,
            Kernel::Unknown => Stance::Silent,
            Kernel::Answers => Stance::SpeakerGone,
            Kernel::Silent => Stance::Gone,
        };
        if stance != self.stance {
            // Who has been told that a member is out is told that it is not, too.
            self.flood = if stance == Stance::Hears && self.verdict { 3 } else { self.flood };
            (self.stance, self.said, self.say_at) = (stance, 0, awake);
            look.say = stance == Stance::Hears;
        }
        if stance != Stance::Hears && awake >= self.say_at {
            self.said += 1;
            self.say_at = awake + if self.said < QUICK_REPEATS { pace.ask } else { SLOW_REPEAT };
            look.say = true;
        }
        look
    }

    /// Whether our word is to go to all members, once more. Once all know that we hear it, our verdict is over.
    pub(crate) fn take_flood(&mut self) -> bool {
        let left = self.flood.checked_sub(1);
        self.flood = left.unwrap_or(0);
        self.verdict &= self.flood > 0 || self.stance != Stance::Hears;
        left.is_some()
    }

    /// The majority says that it is gone: so do we, until it is heard.
    pub(crate) fn follow_majority(&mut self) {
        (self.stance, self.kernel, self.verdict) = (Stance::Gone, Kernel::Silent, true);
    }

    /// When to look again, where nothing is heard until then.
    pub(crate) fn due(&self, pace: &Pace, gone: bool) -> Duration {
        let missed = self.heard + pace.beat + pace.slack;
        let suspect = self.heard + pace.window;
        let ask = match (self.kernel, self.asked) {
            (Kernel::Silent, _) => Duration::MAX,
            (_, None) if gone => self.heard,
            (_, None) => missed,
            (_, Some(asked)) if self.unanswered >= SILENT_ASKS => asked + pace.ask / 2,
            (_, Some(asked)) => asked + pace.ask,
        };
        ask.min(if self.stance == Stance::Hears { suspect } else { self.say_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        beat: Duration::from_millis(100),
        window: Duration::from_millis(325),
        ask: Duration::from_millis(100),
        slack: Duration::from_millis(25),
    };

    /// Looks every 25 ms from the last beat on and notes what changes; the kernel answers the questions asked until then.
    fn silence(gone: bool, answers_until: u64, end: u64) -> (Vec<u64>, Vec<(u64, Stance)>) {
        let mut watch = Watch::new(Duration::ZERO);
        let (mut probes, mut stances) = (Vec::new(), Vec::new());
        for ms in (25..=end).step_by(25) {
            let before = watch.stance;
            if watch.look(&PACE, Duration::from_millis(ms), gone, false).probe {
                probes.push(ms);
                if ms < answers_until {
                    watch.answered();
                }
            }
            if watch.stance != before {
                stances.push((ms, watch.stance));
            }
        }
        (probes, stances)
    }

    #[test]
    fn a_dead_node_is_gone_half_an_interval_after_the_third_missing_beat() {
        let expected = vec![(325, Stance::Silent), (375, Stance::Gone)];
        assert_eq!(silence(false, 0, 1_000), (vec![125, 225, 325], expected));
    }

    #[test]
    fn a_dead_speaker_is_asked_for_until_its_kernel_falls_silent_three_times() {
        let (probes, stances) = silence(false, 700, 1_100);
        assert_eq!(probes, [125, 225, 325, 425, 525, 625, 725, 825, 925]);
        assert_eq!(stances, [(325, Stance::SpeakerGone), (975, Stance::Gone)]);
    }

    #[test]
    fn a_speaker_that_took_its_leave_is_gone_at_once_and_its_kernel_is_asked() {
        let (probes, stances) = silence(true, 0, 500);
        assert_eq!(
            (probes[..2].to_vec(), stances),
            (vec![25, 125], vec![(25, Stance::SpeakerGone), (275, Stance::Gone)])
        );
    }

    #[test]
    fn two_missing_beats_are_no_silence() {
        let mut watch = Watch::new(Duration::ZERO);
        for ms in (25..2_000).step_by(25) {
            watch.look(&PACE, Duration::from_millis(ms), false, false);
            assert_eq!(watch.stance, Stance::Hears, "after {ms} ms");
            if ms % 300 == 0 {
                watch.heard(Duration::from_millis(ms));
            }
        }
    }
}
