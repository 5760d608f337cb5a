//! Telling other tasks a value, on change only.

use tokio::sync::watch;

/// Replaces the value, and wakes who waits for another one if it is another. Says whether it is.
pub fn if_changed<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|standing| {
        let changed = *standing != value;
        if changed {
            *standing = value;
        }
        changed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_by_another_value_only() {
        let (sender, mut receiver) = watch::channel(1);
        for (value, changed) in [(1, false), (2, true), (2, false)] {
            assert_eq!(if_changed(&sender, value), changed);
            assert_eq!((receiver.has_changed().unwrap(), *receiver.borrow_and_update()), (changed, value));
        }
    }
}
