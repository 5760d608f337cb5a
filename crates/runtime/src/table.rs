//! The map that a watch fills, for owner tasks that keep one: a list in progress never withdraws anything.

use std::collections::BTreeMap;

use crate::watch::Change;

/// The last complete view of one kind: small values by key.
///
/// During a relist the old values stay in force and those listed are merged in as they arrive; only when the list is
/// complete does what was not listed disappear. Until the first list is complete, [`Table::is_complete`] is false.
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    entries: BTreeMap<K, V>,
    /// Keys seen since the current list began; `None` when no list is in progress.
    listed: Option<std::collections::BTreeSet<K>>,
    complete: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), listed: None, complete: false }
    }
}

impl<K: Ord + Clone, V: PartialEq> Table<K, V> {
    /// Takes one change; says whether the view is now another one (an equal value changes nothing).
    /// The value is `None` for an object that exists but is none of our business: it is forgotten.
    pub fn apply(&mut self, change: Change<(K, Option<V>)>) -> bool {
        match change {
            Change::Restarted => {
                self.listed = Some(std::collections::BTreeSet::new());
                false
            }
            Change::Listed((key, value)) => {
                if let (Some(listed), true) = (&mut self.listed, value.is_some()) {
                    listed.insert(key.clone());
                }
                self.put(key, value)
            }
            Change::ListDone => {
                let before = (self.entries.len(), self.complete);
                if let Some(listed) = self.listed.take() {
                    self.entries.retain(|key, _| listed.contains(key));
                }
                self.complete = true;
                before != (self.entries.len(), self.complete)
            }
            Change::Applied((key, value)) => self.put(key, value),
            Change::Deleted((key, _)) => self.entries.remove(&key).is_some(),
        }
    }

    fn put(&mut self, key: K, value: Option<V>) -> bool {
        match value {
            Some(value) if self.entries.get(&key) == Some(&value) => false,
            Some(value) => {
                self.entries.insert(key, value);
                true
            }
            None => self.entries.remove(&key).is_some(),
        }
    }

    /// Whether a complete list was ever received: before that, an absent key means nothing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The value of `key`, if it is known.
    pub fn get(&self, key: &K) -> Option<&V> {
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
        for (change, changed, complete, expected) in [
            (Restarted, false, false, vec![]),
            (Listed(("a", Some(1))), true, false, vec![("a", 1)]),
            (Listed(("b", Some(1))), true, false, vec![("a", 1), ("b", 1)]),
            (ListDone, true, true, vec![("a", 1), ("b", 1)]),
            (Applied(("c", Some(1))), true, true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Applied(("c", Some(1))), false, true, vec![("a", 1), ("b", 1), ("c", 1)]),
            // a second list: a was changed, b and c went away while we did not look
            (Restarted, false, true, vec![("a", 1), ("b", 1), ("c", 1)]),
            (Listed(("a", Some(2))), true, true, vec![("a", 2), ("b", 1), ("c", 1)]),
            (Restarted, false, true, vec![("a", 2), ("b", 1), ("c", 1)]),
            (Listed(("a", Some(2))), false, true, vec![("a", 2), ("b", 1), ("c", 1)]),
            (ListDone, true, true, vec![("a", 2)]),
            (Deleted(("a", None)), true, true, vec![]),
            (Deleted(("a", None)), false, true, vec![]),
        ] {
            let said = format!("{change:?}");
            assert_eq!((table.apply(change), table.is_complete()), (changed, complete), "{said}");
            assert_eq!(view(&table), expected, "{said}");
        }
    }

    #[test]
    fn an_object_that_is_not_ours_any_more_is_forgotten() {
        let mut table = Table::default();
        table.apply(Applied(("a", Some(1))));
        assert!(table.apply(Applied(("a", None))));
        assert_eq!(view(&table), vec![]);
        table.apply(Applied(("b", Some(1))));
        table.apply(Restarted);
        assert!(table.apply(Listed(("b", None))), "listed, but another type now");
        table.apply(ListDone);
        assert_eq!(view(&table), vec![]);
    }

    #[test]
    fn an_empty_first_list_is_news() {
        let mut table: Table<&str, u8> = Table::default();
        table.apply(Restarted);
        assert!(table.apply(ListDone));
    }
}
