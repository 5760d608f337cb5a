//! `BGPPeer` in its two versions. Pure: objects in, objects or a sentence out.
//!
//! What both versions have is spelt the same and copied. What only v1beta2 has goes into an annotation on the way down, and
//! comes from there on the way up: someone who reads a peer as v1beta1, edits and writes it loses nothing.

use kube::core::conversion::{ConversionRequest, ConversionResponse, ConversionReview};
use kube::core::{Status, response::StatusSummary};
use serde_json::{Map, Value, json};

/// On a v1beta1 `BGPPeer`: the fields of its spec that v1beta1 has no place for, as JSON.
pub const KEPT: &str = "landfall.io/v1beta2-spec";

const V1BETA1: &str = "metallb.io/v1beta1";
const V1BETA2: &str = "metallb.io/v1beta2";

/// Every field of a v1beta1 spec. v1beta2 has them all, in the same form.
const SHARED: [&str; 12] = [
    "myASN",
    "peerASN",
    "peerAddress",
    "sourceAddress",
    "peerPort",
    "holdTime",
    "keepaliveTime",
    "routerID",
    "nodeSelectors",
    "password",
    "bfdProfile",
    "ebgpMultiHop",
];

/// Of each pair a peer can have one: the left is v1beta1's, the right is not. Whoever sets the left in v1beta1 means it.
const INSTEAD_OF: [(&str, &str); 3] =
    [("peerASN", "dynamicASN"), ("peerAddress", "interface"), ("password", "passwordSecret")];

/// Switches that v1beta2 fills in: the value that means the same as none.
const FILLED_IN: [(&str, Value); 2] =
    [("disableMP", Value::Bool(false)), ("dualStackAddressFamily", Value::Bool(false))];

/// Answers a `ConversionReview` with another. Either all of its objects are converted or none, and the answer says which one
/// cannot be, and why.
/// # Errors
/// The body is no `ConversionReview` with a request: there is nobody to answer.
pub fn review(body: &[u8]) -> Result<ConversionReview, String> {
    let review: ConversionReview = serde_json::from_slice(body)
        .map_err(|error| format!("this is no ConversionReview of apiextensions.k8s.io/v1: {error}"))?;
    let mut request =
        ConversionRequest::from_review(review).map_err(|_| "this ConversionReview has no request".to_owned())?;
    let objects = std::mem::take(&mut request.objects);
    let desired = request.desired_api_version.clone();
    let response = ConversionResponse::for_request(request);
    let converted: Result<Vec<Value>, String> = objects.into_iter().map(|object| convert(object, &desired)).collect();
    let response = match converted {
        Ok(objects) => response.success(objects),
        Err(sentence) => response.failure(Status {
            status: Some(StatusSummary::Failure),
            message: sentence,
            ..Status::failure("", "BadRequest")
        }),
    };
    Ok(response.into_review())
}

/// One object in the version `desired`, such as `metallb.io/v1beta2`. Of the metadata only the annotation [`KEPT`] changes.
/// # Errors
/// The object is no `BGPPeer`, either version is not known, or the annotation cannot be read.
pub fn convert(mut object: Value, desired: &str) -> Result<Value, String> {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, current) = (text("/kind"), text("/apiVersion"));
    let who = format!("{kind} {:?} in namespace {:?}", text("/metadata/name"), text("/metadata/namespace"));
    if kind != "BGPPeer" {
        return Err(format!("{who} cannot be converted: only BGPPeer has two versions"));
    }
    let result = match (current.as_str(), desired) {
        (V1BETA1, V1BETA2) => up(&mut object),
        (V1BETA2, V1BETA1) => down(&mut object),
        (V1BETA1, V1BETA1) | (V1BETA2, V1BETA2) => Ok(()),
        _ => Err(format!("no way from {current} to {desired}: its versions are {V1BETA1} and {V1BETA2}")),
    };
    result.map_err(|why| format!("{who} cannot be converted: {why}"))?;
    object["apiVersion"] = json!(desired);
    Ok(object)
}

fn up(object: &mut Value) -> Result<(), String> {
    let kept = match take_annotation(object) {
        None => Map::new(),
        Some(text) => match serde_json::from_value(parse(&text)?) {
            Ok(kept) => kept,
            Err(_) => return Err(unreadable(&text, "it is no object")),
        },
    };
    let Some(spec) = spec_of(object)? else { return Ok(()) };
    // v1beta1 has to name these; as nothing, they say nothing.
    for (field, nothing) in [("peerASN", json!(0)), ("peerAddress", json!("")), ("peerPort", json!(0))] {
        if spec.get(field) == Some(&nothing) {
            spec.remove(field);
        }
    }
    for (field, value) in kept {
        let replaced = INSTEAD_OF.iter().any(|(by, of)| *of == field && is_set(spec, by));
        if !SHARED.contains(&field.as_str()) && !replaced {
            spec.entry(field).or_insert(value);
        }
    }
    Ok(())
}

fn down(object: &mut Value) -> Result<(), String> {
    // What stands there, if anything, is of an earlier time.
    take_annotation(object);
    let Some(spec) = spec_of(object)? else { return Ok(()) };
    let (shared, kept): (Map<_, _>, Map<_, _>) =
        std::mem::take(spec).into_iter().partition(|(field, _)| SHARED.contains(&field.as_str()));
    *spec = shared;
    // Its schema requires them.
    spec.entry("peerASN").or_insert(json!(0));
    spec.entry("peerAddress").or_insert(json!(""));
    let says_something = |(field, value): &(String, Value)| {
        !value.is_null() && !FILLED_IN.iter().any(|(name, nothing)| name == field && nothing == value)
    };
    let kept: Map<String, Value> = kept.into_iter().filter(says_something).collect();
    if !kept.is_empty() {
        object["metadata"]["annotations"][KEPT] = json!(Value::Object(kept).to_string());
    }
    Ok(())
}

fn is_set(spec: &Map<String, Value>, field: &str) -> bool {
    spec.get(field).is_some_and(|value| !value.is_null() && value != "")
}

fn spec_of(object: &mut Value) -> Result<Option<&mut Map<String, Value>>, String> {
    match object.get_mut("spec") {
        None => Ok(None),
        Some(Value::Object(spec)) => Ok(Some(spec)),
        Some(other) => Err(format!("its spec is no object: {other}")),
    }
}

/// Removes the annotation and what held nothing else.
fn take_annotation(object: &mut Value) -> Option<String> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(KEPT)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    text.as_str().map(str::to_owned)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| unreadable(text, &error.to_string()))
}

fn unreadable(text: &str, why: &str) -> String {
    format!("the annotation {KEPT} is {text:?}: {why}; remove it, or write the object as {V1BETA2}")
}

#[cfg(test)]
mod tests;
