//! Which node answers for a Service, as the implementation itself says it: its ServiceL2Status objects.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use landfall_api::ServiceL2Status;
use tokio::task::JoinHandle;

use super::bench::NAMESPACE;

/// A watch on what is said of one Service; it ends when this is dropped.
pub(super) struct Said {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// The nodes that were named, in order.
#[derive(Default)]
struct Seen {
    known: BTreeSet<String>,
    nodes: Vec<String>,
}

impl Said {
    /// Opens the watch on everything that is said in the implementation's namespace.
    pub(super) fn watch(client: &Client, namespace: &str, service: &str) -> Said {
        let api: Api<ServiceL2Status> = Api::namespaced(client.clone(), namespace);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (into, service) = (seen.clone(), service.to_owned());
        let task = tokio::spawn(async move {
            let mut events = pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        into.lock().unwrap_or_else(PoisonError::into_inner).note(&object, &service);
                    }
                    Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                    Err(error) => eprintln!("watch of ServiceL2Status, trying again: {error}"),
                }
            }
        });
        Said { seen, task }
    }

    /// How often another node was named than before.
    pub(super) fn moves(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).nodes.len().saturating_sub(1)
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// An object never changes its node; one that is new (also under an old name) may name another.
    fn note(&mut self, object: &ServiceL2Status, service: &str) {
        let Some(status) = &object.status else { return };
        let ours = status.service_name == service && status.service_namespace == NAMESPACE;
        if ours && self.known.insert(object.uid().unwrap_or_default()) && self.nodes.last() != Some(&status.node) {
            self.nodes.push(status.node.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, service: &str, node: &str) -> ServiceL2Status {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "l2-1", "uid": uid}, "spec": {},
            "status": {"node": node, "serviceName": service, "serviceNamespace": NAMESPACE},
        }))
        .unwrap()
    }

    #[test]
    fn a_move_is_a_new_object_that_names_another_node() {
        let mut seen = Seen::default();
        for (uid, service, node) in [
            ("a", "web", "n1"),
            ("a", "web", "n1"), // changed in some other way
            ("b", "web", "n1"), // written anew by a speaker that restarted
            ("c", "db", "n3"),  // another Service's
            ("d", "web", "n2"),
            ("b", "web", "n1"), // the old one, on its way out
        ] {
            seen.note(&object(uid, service, node), "web");
        }
        assert_eq!(seen.nodes, ["n1", "n2"]);
    }
}
