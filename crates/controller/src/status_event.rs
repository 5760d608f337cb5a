//! Decisions as Kubernetes Events.

use landfall_ipam::ServiceKey;
use landfall_runtime::events::{Event, Kind, Subject};

use crate::report;

/// What is said about a Service. The occasion is filled in when the write is done.
pub(crate) fn of_service(key: &ServiceKey, uid: &str, (kind, reason, message): &(Kind, &'static str, String)) -> Event {
    Event {
        about: Subject {
            api_version: "v1",
            kind: "Service",
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
            uid: uid.to_owned(),
        },
        kind: *kind,
        reason,
        message: message.clone(),
        occasion: String::new(),
    }
}

/// What is said about a configuration object that is not in force. Its namespace is filled in when the write is done.
pub(crate) fn of_object(kind: report::Kind, name: &str, uid: &str, accepted: &report::Accepted) -> Event {
    Event {
        about: Subject {
            api_version: if kind == report::Kind::BgpPeer { "metallb.io/v1beta2" } else { "metallb.io/v1beta1" },
            kind: kind.as_str(),
            namespace: None,
            name: name.to_owned(),
            uid: uid.to_owned(),
        },
        kind: Kind::Warning,
        reason: accepted.reason,
        message: accepted.message.clone(),
        occasion: String::new(),
    }
}
