//! The `ConfigurationState` object of this process: whether it could use the configuration, and if not, why.
//!
//! One task keeps it: the object is made when it is missing, brought back when somebody changes it, and written only when
//! it says something else than what is true. What is to be written is pure ([`plan`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use landfall_api::{ConfigurationResult, ConfigurationState, ConfigurationStateStatus, annotations, labels};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};

use crate::client::within;
use crate::table::Table;
use crate::tasks::Tasks;
use crate::watch::Change;

/// Between two writes, so that two who do not agree on the object write it once a second and no faster.
const REST: Duration = Duration::from_secs(1);
/// Before a failed write is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Longer than a healthy API server ever takes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A condition's message takes 32,768 characters. Whoever has more mistakes than this starts at the top.
const LONGEST_MESSAGE: usize = 30_000;

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// The controller that leads.
    Controller,
    /// The speaker of the Node of this name.
    Speaker(String),
}

impl Component {
    /// metadata.name of the object.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Controller => "controller".into(),
            Self::Speaker(node) => format!("speaker-{node}"),
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        match self {
            Self::Controller => [pair(labels::COMPONENT_TYPE, "controller")].into(),
            Self::Speaker(node) => [pair(labels::COMPONENT_TYPE, "speaker"), pair(labels::NODE_NAME, node)].into(),
        }
    }

    /// The type of our condition. Both are MetalLB's.
    fn condition(&self) -> &'static str {
        match self {
            Self::Controller => "poolReconcilerValid",
            Self::Speaker(_) => "configReconcilerValid",
        }
    }

    /// Under this name the API server notes who wrote the condition. MetalLB's, so that the one that took over its objects
    /// replaces its conditions.
    fn field_manager(&self) -> &'static str {
        match self {
            Self::Controller => "poolReconciler",
            Self::Speaker(_) => "configReconciler",
        }
    }
}

/// A Pod, as the owner of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// metadata.name
    pub name: String,
    /// metadata.uid
    pub uid: String,
}

/// What the object is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Our own Pod, with which the object is to go; `None` when we are not one.
    pub pod: Option<Pod>,
    /// The mistakes in the configuration, each as a sentence that names the object.
    pub problems: Vec<String>,
    /// The value of the annotation `landfall.io/networks`; `None` leaves it alone.
    pub networks: Option<String>,
}

/// Keeps the object of `component` in `namespace` until the result is dropped. Nothing is written while `state` is `None`.
///
/// Failures are logged and tried again. A write that was sent when it ends may still arrive: it said what was true.
pub fn keep(client: &Client, namespace: &str, component: Component, state: watch::Receiver<Option<State>>) -> Tasks {
    let api: Api<ConfigurationState> = Api::namespaced(client.clone(), namespace);
    let (to_keeper, changes) = mpsc::channel(1);
    let only_ours = watcher::Config::default().fields(&format!("metadata.name={}", component.object()));
    let read = |object: ConfigurationState| (object.metadata.name.clone().unwrap_or_default(), Some(object));
    let watch = crate::watch::spawn(api.clone(), only_ours, read, to_keeper, std::convert::identity);
    Tasks::from(vec![watch, tokio::spawn(run(api, component, state, changes))])
}

async fn run(
    api: Api<ConfigurationState>,
    component: Component,
    mut state: watch::Receiver<Option<State>>,
    mut changes: mpsc::Receiver<Change<(String, Option<ConfigurationState>)>>,
) {
    let mut objects: Table<String, ConfigurationState> = Table::default();
    let mut not_before = Instant::now();
    loop {
        let wanted = state.borrow_and_update().clone();
        let standing = objects.get(&component.object());
        let write = match (&wanted, objects.is_complete()) {
            (Some(wanted), true) => plan(&component, wanted, standing, Timestamp::now()),
            _ => None,
        };
        let rests = Instant::now() < not_before;
        if let Some(write) = write.as_ref().filter(|_| !rests) {
            match send(&api, &component, write).await {
                Ok(object) => {
                    not_before = Instant::now() + REST;
                    objects.apply(Change::Applied((component.object(), Some(object))));
                }
                Err(why) => {
                    warn!(object = component.object(), error = why, "ConfigurationState not written, trying again");
                    not_before = Instant::now() + AFTER_FAILURE;
                }
            }
            // The status of a new object follows at once.
            if matches!(write, Write::Object(_)) && not_before <= Instant::now() + REST {
                not_before = Instant::now();
            }
            continue;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            change = changes.recv() => match change {
                Some(change) => drop(objects.apply(change)),
                None => return,
            },
            () = tokio::time::sleep_until(not_before.into()), if write.is_some() => {}
        }
    }
}

/// Something to be applied (server-side apply).
#[derive(Clone, Debug, PartialEq)]
enum Write {
    /// The object without its status; makes it if need be.
    Object(Value),
    /// Its status.
    Status(Value),
}

/// The object as it is after the write, or why it could not be written.
async fn send(
    api: &Api<ConfigurationState>,
    component: &Component,
    write: &Write,
) -> Result<ConfigurationState, String> {
    let name = component.object();
    debug!(object = name, ?write, "writing the ConfigurationState");
    let params = PatchParams::apply(component.field_manager()).force();
    let sent = async {
        match write {
            Write::Object(patch) => api.patch(&name, &params, &Patch::Apply(patch)).await,
            Write::Status(patch) => api.patch_status(&name, &params, &Patch::Apply(patch)).await,
        }
    };
    within(WRITE_TIMEOUT, sent).await
}

/// The next write that makes the object say what is `wanted`; `None` when it does.
fn plan(component: &Component, wanted: &State, standing: Option<&ConfigurationState>, now: Timestamp) -> Option<Write> {
    let skeleton = |metadata: Value| json!({"apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState", "metadata": metadata});
    let Some(object) = standing.filter(|object| carries(object, component, wanted)) else {
        let mut metadata = json!({"name": component.object(), "labels": component.labels()});
        if let Some(Pod { name, uid }) = &wanted.pod {
            metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]);
        }
        if let Some(networks) = &wanted.networks {
            metadata["annotations"] = json!({ annotations::NETWORKS: networks });
        }
        return Some(Write::Object(skeleton(metadata)));
    };
    let status = status(component, wanted, object.status.as_ref(), now)?;
    let mut patch = skeleton(json!({"name": component.object()}));
    patch["status"] = json!(status);
    Some(Write::Status(patch))
}

/// Whether the metadata is as wanted. What others have added stays.
fn carries(object: &ConfigurationState, component: &Component, wanted: &State) -> bool {
    let meta = &object.metadata;
    let labels = meta.labels.clone().unwrap_or_default();
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let networks = meta.annotations.as_ref().and_then(|all| all.get(annotations::NETWORKS));
    component.labels().iter().all(|(key, value)| labels.get(key) == Some(value))
        && wanted.pod.as_ref().is_none_or(|pod| owners.iter().any(|owner| owner.uid == pod.uid))
        && (wanted.networks.is_none() || wanted.networks.as_ref() == networks)
}

/// What we say in the status, or `None` when it is said already.
fn status(
    component: &Component,
    wanted: &State,
    standing: Option<&ConfigurationStateStatus>,
    now: Timestamp,
) -> Option<ConfigurationStateStatus> {
    let conditions = standing.map_or(&[][..], |status| &status.conditions);
    let before = conditions.iter().find(|condition| condition.type_ == component.condition());
    let valid = wanted.problems.is_empty();
    let mut ours = Condition {
        type_: component.condition().into(),
        status: if valid { "True" } else { "False" }.into(),
        reason: if valid { "Reconciled" } else { "ConfigurationError" }.into(),
        message: message(&wanted.problems),
        last_transition_time: Time(now),
        observed_generation: None,
    };
    if let Some(before) = before.filter(|before| before.status == ours.status) {
        ours.last_transition_time = before.last_transition_time.clone();
    }
    let others = conditions.iter().filter(|condition| condition.type_ != component.condition());
    let said: Vec<&str> = others
        .chain([&ours])
        .filter(|condition| condition.status == "False" && condition.reason == "ConfigurationError")
        .map(|condition| condition.message.as_str())
        .collect();
    let result = if said.is_empty() { ConfigurationResult::Valid } else { ConfigurationResult::Invalid };
    let error_summary = said.join("\n");
    let stands = before == Some(&ours)
        && standing.is_some_and(|status| status.result == Some(result) && status.error_summary == error_summary);
    (!stands).then(|| ConfigurationStateStatus { result: Some(result), error_summary, conditions: vec![ours] })
}

/// What is wrong, in as many words as fit.
fn message(problems: &[String]) -> String {
    let Some((first, more)) = problems.split_first() else { return String::new() };
    let mut text = format!("configuration error: {first}");
    for (told, problem) in more.iter().enumerate() {
        if text.len() + problem.len() > LONGEST_MESSAGE {
            text += &format!("; and {} more", more.len() - told);
            break;
        }
        text = format!("{text}; {problem}");
    }
    if text.len() > LONGEST_MESSAGE + 100 {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text += "…";
    }
    text
}

#[cfg(test)]
mod tests;
