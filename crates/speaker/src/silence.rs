//! Cluster out: which nodes this speaker finds silent, for the controller (`failover.evictEndpoints`).
//!
//! Said on our own ConfigurationState ([`SILENT_NODES`]) as soon as it changes, and again every two seconds while there is
//! anything to say, because the controller believes no old words. Who misses beats and holds nobody to be out says so, too: its
//! word is the sign that it lives, where the others cannot hear it any more.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use landfall_api::ConfigurationState;
use landfall_api::annotations::SILENT_NODES;
use landfall_runtime::client::within;
use landfall_runtime::configuration_state::Component;
use landfall_runtime::timer;
use serde_json::json;
use tokio::sync::watch;
use tracing::warn;

use crate::liveness::Observed;
use crate::run::Settings;
use crate::status::FIELD_MANAGER;

/// While there is something to say. Half of what the controller believes.
const REPEAT: Duration = Duration::from_secs(2);
/// Longer than a healthy API server ever takes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a write that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Starts to report what is sent.
pub(crate) fn report(client: &Client, settings: &Settings) -> watch::Sender<Observed> {
    let (sender, observed) = watch::channel(Observed::default());
    let api = Api::namespaced(client.clone(), &settings.namespace);
    tokio::spawn(run(api, Component::Speaker(settings.node_name.clone()).object(), observed));
    sender
}

async fn run(api: Api<PartialObjectMeta<ConfigurationState>>, object: String, mut observed: watch::Receiver<Observed>) {
    let mut words = Words::default();
    loop {
        let now = Instant::now();
        let seen = observed.borrow_and_update().clone();
        if words.due(&seen, now).is_some_and(|due| due <= now) {
            let silent: Vec<&str> = seen.silent.iter().map(|node| &**node).collect();
            let value = json!({"at": Timestamp::now().to_string(), "silent": silent}).to_string();
            let patch = Patch::Merge(json!({"metadata": {"annotations": {SILENT_NODES: value}}}));
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            match within(WRITE_TIMEOUT, api.patch_metadata(&object, &params, &patch)).await {
                Ok(_) => words.said(seen, Instant::now()),
                Err(why) => {
                    warn!(object, error = why, "cannot say which nodes are silent, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
            continue;
        }
        let due = words.due(&seen, now);
        tokio::select! {
            changed = observed.changed() => if changed.is_err() { return },
            () = timer::sleep_until(due) => {}
        }
    }
}

/// When something is to be said. Pure.
#[derive(Debug, Default)]
struct Words {
    /// Said last, and when.
    last: Option<(Observed, Instant)>,
}

impl Words {
    /// When to say what is observed; `None` while there is nothing to say.
    fn due(&self, seen: &Observed, now: Instant) -> Option<Instant> {
        let is_nothing = |observed: &Observed| observed.silent.is_empty() && !observed.misses_beats;
        let Some((last, at)) = &self.last else { return (!is_nothing(seen)).then_some(now) };
        if last.silent != seen.silent {
            return Some(*at); // at once
        }
        // Beats that stay away now and then are not worth a write each.
        if is_nothing(seen) && is_nothing(last) { None } else { Some(*at + REPEAT) }
    }

    fn said(&mut self, seen: Observed, now: Instant) {
        self.last = Some((seen, now));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn seen(silent: &[&str], misses_beats: bool) -> Observed {
        Observed { silent: silent.iter().map(|node| Arc::from(*node)).collect(), misses_beats }
    }

    #[test]
    fn what_changes_is_said_at_once_and_repeated_while_there_is_something_to_say() {
        let (mut words, start) = (Words::default(), Instant::now());
        let due = |words: &Words, silent: &[&str], misses_beats| words.due(&seen(silent, misses_beats), start);
        assert_eq!((due(&words, &[], false), due(&words, &[], true)), (None, Some(start)));
        words.said(seen(&[], true), start);
        assert_eq!(due(&words, &[], true), Some(start + REPEAT), "no write for each beat");
        assert_eq!(due(&words, &["n2"], true), Some(start), "at once");
        words.said(seen(&["n2"], true), start);
        assert_eq!(due(&words, &["n2"], true), Some(start + REPEAT));
        assert_eq!(due(&words, &["n2", "n3"], true), Some(start));
        assert_eq!(due(&words, &[], false), Some(start), "it is back: at once");
        words.said(seen(&[], false), start);
        assert_eq!(due(&words, &[], false), None);
        words.said(seen(&[], true), start);
        assert_eq!(due(&words, &[], false), Some(start + REPEAT), "once more, when all is well");
    }
}
