//! Which datagrams of a sender were here before.

/// The last 128 numbers of one session of a sender (as RFC 4303 section 3.4.3, with 128 for its 64: members send in bursts
/// when something happens).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// The highest number that was accepted.
    highest: Option<u32>,
    /// Bit n: the number `highest - n` was accepted.
    seen: u128,
}

impl Window {
    /// Whether this number is new; one so old that nobody remembers is not. Numbers are only marked once the seal is right, or anybody could use them up.
    pub(crate) fn is_new(&self, number: u32) -> bool {
        match self.highest.map(|highest| highest.checked_sub(number)) {
            None | Some(None) => true,
            Some(Some(back)) => back < u128::BITS && self.seen & (1 << back) == 0,
        }
    }

    /// Takes note of a number that [`is_new`](Self::is_new). Returns whether it is the highest so far.
    pub(crate) fn mark(&mut self, number: u32) -> bool {
        let Some(highest) = self.highest else {
            (self.highest, self.seen) = (Some(number), 1);
            return true;
        };
        if number > highest {
            self.seen = self.seen.checked_shl(number - highest).unwrap_or(0) | 1;
            self.highest = Some(number);
            return true;
        }
        self.seen |= 1_u128.checked_shl(highest - number).unwrap_or(0);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_older_than_the_window_is_refused() {
        let mut window = Window::default();
        window.mark(1_000);
        for (number, new) in [(1_000, false), (999, true), (873, true), (872, false), (0, false), (1_001, true)] {
            assert_eq!(window.is_new(number), new, "{number} after 1000");
        }
    }

    proptest! {
        #[test]
        fn no_number_is_new_twice(numbers in proptest::collection::vec(0u32..400, 0..600), base in prop_oneof![Just(0), Just(u32::MAX - 400)]) {
            let (mut window, mut seen) = (Window::default(), std::collections::BTreeSet::new());
            for number in numbers {
                let number = base + number;
                let highest = seen.last().copied();
                let remembered = highest.is_none_or(|highest: u32| number > highest || highest - number < 128);
                prop_assert_eq!(window.is_new(number), remembered && !seen.contains(&number));
                if window.is_new(number) {
                    prop_assert_eq!(window.mark(number), highest.is_none_or(|highest| number > highest));
                    seen.insert(number);
                }
            }
        }
    }
}
