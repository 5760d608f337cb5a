//! The map that a watch fills, for owner tasks that keep one: a list in progress never withdraws anything.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crate::watch::Change;

/// The last complete view of one kind: small values by key.
///
/// During a relist the old values stay in force and those listed are merged in as they arrive; only when the list is
/// complete does what was not listed disappear. Until the first list is complete, [`Table::is_complete`] is false.
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    entries: BTreeMap<K, V>,
    /// Keys seen since the current list began; `None` when no list is in progress.
    listed: Option<BTreeSet<K>>,
    complete: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), listed: None, complete: false }
    }
}

impl<K: Ord + Clone, V: PartialEq> Table<K, V> {
    /// Takes one change; returns each key whose value is another one now, with the value it had before.
    /// An equal value changes nothing. The value is `None` for an object that exists but is none of our business: it
    /// is forgotten like one that was deleted.
    pub fn apply(&mut self, change: Change<(K, Option<V>)>) -> Vec<(K, Option<V>)> {
        match change {
            Change::Restarted => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Change::Listed((key, value)) => {
                if let (Some(listed), true) = (&mut self.listed, value.is_some()) {
                    listed.insert(key.clone());
                }
                self.put(key, value)
            }
            Change::ListDone => {
                self.complete = true;
                let Some(listed) = self.listed.take() else { return Vec::new() };
                self.entries
                    .extract_if(.., |key, _| !listed.contains(key))
                    .map(|(key, value)| (key, Some(value)))
                    .collect()
            }
            Change::Applied((key, value)) => self.put(key, value),
            Change::Deleted((key, _)) => self.put(key, None),
        }
    }

    fn put(&mut self, key: K, value: Option<V>) -> Vec<(K, Option<V>)> {
        if self.entries.get(&key) == value.as_ref() {
            return Vec::new();
        }
        let before = match value {
            Some(value) => self.entries.insert(key.clone(), value),
            None => self.entries.remove(&key),
        };
        vec![(key, before)]
    }

    /// Whether a complete list was ever received: before that, an absent key means nothing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The value of `key`, if it is known.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// All entries in the order of their keys.
    pub fn entries(&self) -> &BTreeMap<K, V> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Applied, Deleted, ListDone, Listed, Restarted};

    fn view(table: &Table<&'static str, u8>) -> Vec<(&'static str, u8)> {
        table.entries().iter().map(|(k, v)| (*k, *v)).collect()
    }

    #[test]
    fn a_relist_withdraws_nothing_before_it_is_done() {
        let mut table = Table::default();
        for (change, replaced, complete, expected) in [
            (Restarted, vec![], false, vec![]),
            (Listed(("a", Some(1))), vec![("a", None)], false, vec![("a", 1)]),
            (Listed(("b", Some(1))), vec![("b", None)], false, vec![("a", 1), ("b", 1)]),
            (ListDone, vec![], true, vec![("a", 1), ("b", 1)]),
            (Applied(("c", Some(1))), vec![("c", None)], true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Applied(("c", Some(1))), vec![], true, vec![("a", 1), ("b", 1), ("c", 1)]),
            // a second list: a was changed, b and c went away while we did not look; the list fails once half way
            (Restarted, vec![], true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Listed(("b", Some(1))), vec![], true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Restarted, vec![], true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Listed(("a", Some(2))), vec![("a", Some(1))], true, vec![("a", 2), ("b", 1), ("c", 1)]),
            (ListDone, vec![("b", Some(1)), ("c", Some(1))], true, vec![("a", 2)]),
            (Deleted(("a", Some(2))), vec![("a", Some(2))], true, vec![]),
            (Deleted(("a", Some(2))), vec![], true, vec![]),
        ] {
            let said = format!("{change:?}");
            assert_eq!((table.apply(change), table.is_complete()), (replaced, complete), "{said}");
            assert_eq!(view(&table), expected, "{said}");
        }
    }

    #[test]
    fn an_object_that_is_not_ours_any_more_is_forgotten() {
        let mut table = Table::default();
        table.apply(Applied(("a", Some(1))));
        assert_eq!(table.apply(Applied(("a", None))), [("a", Some(1))]);
        assert_eq!(view(&table), []);
        table.apply(Applied(("b", Some(1))));
        table.apply(Restarted);
        assert_eq!(table.apply(Listed(("b", None))), [("b", Some(1))], "listed, but another type now");
        assert_eq!(table.apply(ListDone), []);
        assert_eq!(view(&table), []);
    }
}
