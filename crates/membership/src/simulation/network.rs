//! A network that loses, delays, doubles and reorders, and dice to make it do so.

use std::collections::BTreeSet;
use std::time::Duration;

/// SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number between these, both included.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.draw() % (to - from + 1)
    }

    /// A duration between these, in milliseconds.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1_000, to * 1_000))
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.between(0, len as u64 - 1) as usize
    }

    pub(super) fn per_mille(&mut self, chance: u64) -> bool {
        self.between(1, 1_000) <= chance
    }
}

/// Which way datagrams and probes go, and how well. Chances are per mille.
#[derive(Clone, Default)]
pub(super) struct Network {
    /// Nothing goes from the first to the second.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) loss: u64,
    pub(super) doubled: u64,
    /// That one takes up to 30 ms, so that later ones overtake it.
    pub(super) late: u64,
}

impl Network {
    /// When what is sent now arrives: not at all, once or twice.
    pub(super) fn pass(&self, from: usize, to: usize, dice: &mut Dice) -> Vec<Duration> {
        if self.cut.contains(&(from, to)) {
            return Vec::new();
        }
        let copies = if self.doubled > 0 && dice.per_mille(self.doubled) { 2 } else { 1 };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if self.loss == 0 || !dice.per_mille(self.loss) {
                let late = self.late > 0 && dice.per_mille(self.late);
                arrivals.push(Duration::from_micros(dice.between(100, if late { 30_000 } else { 1_000 })));
            }
        }
        arrivals
    }

    /// Cuts these off from all the others, both ways.
    pub(super) fn split(&mut self, part: &[usize], of: usize) {
        for inside in part {
            for outside in (0..of).filter(|node| !part.contains(node)) {
                self.cut.extend([(*inside, outside), (outside, *inside)]);
            }
        }
    }
}
