//! What is due when: values by key, and the keys by their times. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Each key is due at one time.
#[derive(Debug)]
pub(crate) struct Due<K, V> {
    values: BTreeMap<K, (Instant, V)>,
    queue: BTreeSet<(Instant, K)>,
}

impl<K, V> Default for Due<K, V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), queue: BTreeSet::new() }
    }
}

impl<K: Ord + Copy, V> Due<K, V> {
    /// The key is due then, and at no other time.
    pub(crate) fn set(&mut self, key: K, at: Instant, value: V) {
        self.remove(key);
        self.values.insert(key, (at, value));
        self.queue.insert((at, key));
    }

    /// Takes the key away.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let (at, value) = self.values.remove(&key)?;
        self.queue.remove(&(at, key));
        Some(value)
    }

    /// Takes away what is due first, if that is by now.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(K, Instant, V)> {
        let (at, key) = self.queue.first().copied().filter(|(at, _)| *at <= now)?;
        Some((key, at, self.remove(key)?))
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.values.get(&key).map(|(_, value)| value)
    }

    /// Takes away every key whose value is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(K, &V) -> bool) {
        let queue = &mut self.queue;
        self.values.retain(|key, (at, value)| keep(*key, value) || !queue.remove(&(*at, *key)));
    }
}

#[cfg(test)]
impl<K, V> Due<K, V> {
    /// When each is due.
    pub(crate) fn times(&self) -> impl Iterator<Item = Instant> {
        self.values.values().map(|(at, _)| *at)
    }

    /// How many values there are, and how many wait: as many.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        (self.values.len(), self.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_come_when_they_are_due_in_that_order_and_only_at_the_last_time_that_was_set() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut due = Due::default();
        for (key, secs) in [('a', 3), ('b', 2), ('c', 1), ('a', 4), ('d', 5)] {
            due.set(key, at(secs), secs);
        }
        assert_eq!((due.next(), due.pop(at(0))), (Some(at(1)), None));
        assert_eq!(due.pop(at(3)), Some(('c', at(1), 1)));
        assert_eq!((due.remove('b'), due.remove('b')), (Some(2), None));
        assert_eq!((due.pop(at(3)), due.get('a'), due.get('b')), (None, Some(&4), None));
        due.retain(|key, _| key != 'a');
        assert_eq!((due.next(), due.pop(at(9)), due.next()), (Some(at(5)), Some(('d', at(5), 5)), None));
    }
}
