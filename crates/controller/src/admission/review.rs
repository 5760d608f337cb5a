//! What is answered to an `AdmissionReview`. Pure, in two steps, because most reviews need no look at the cluster.

use landfall_config::{Resources, may_delete_bfd_profile};
use serde::Deserialize;
use serde_json::{Value, json};

use super::candidate::Candidate;
use crate::report::Kind;

/// What the API server asks. Source: admission.k8s.io/v1, AdmissionRequest; the fields that are of use here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    uid: String,
    operation: Operation,
    #[serde(default)]
    namespace: String,
    /// What is to be written; none for a deletion.
    object: Option<Value>,
    /// What is there; none for a creation.
    old_object: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What is said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    uid: String,
    refusal: Option<String>,
    warnings: Vec<String>,
}

/// What to do about a request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Say this.
    Answer(Answer),
    /// Look at what is in the cluster first.
    Compare(Comparison),
}

/// A request that depends on what is in the cluster.
#[derive(Clone, Debug)]
pub struct Comparison {
    answer: Answer,
    subject: Subject,
}

#[derive(Clone, Debug)]
enum Subject {
    Written(Box<Candidate>),
    DeletedBfdProfile(String),
}

/// Reads an `AdmissionReview`.
/// # Errors
/// The body is none that has a request: there is nobody to answer.
pub fn read(body: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    struct Review {
        request: Request,
    }
    let review: Result<Review, _> = serde_json::from_slice(body);
    review
        .map(|review| review.request)
        .map_err(|error| format!("this is no AdmissionReview of admission.k8s.io/v1 with a request: {error}"))
}

/// Begins with a request about an object of `kind`; `namespace` is the one that Landfall reads.
pub fn begin(kind: Kind, request: Request, namespace: &str) -> Step {
    let Request { uid, operation, namespace: of_object, object, old_object } = request;
    let mut answer = Answer { uid, refusal: None, warnings: vec![] };
    if of_object != namespace {
        // Nobody reads it there. One that is there already, from before the webhooks, may be changed and deleted.
        if operation == Operation::Create {
            answer.refusal = Some(format!("resource must be created in {namespace} namespace"));
        }
        return Step::Answer(answer);
    }
    let subject = match (operation, kind) {
        (Operation::Create | Operation::Update, _) => match Candidate::read(kind, object.unwrap_or_default()) {
            Ok(candidate) => {
                if operation == Operation::Create {
                    answer.warnings.extend(warning(&candidate));
                }
                Subject::Written(Box::new(candidate))
            }
            Err(sentence) => return Step::Answer(Answer { refusal: Some(sentence), ..answer }),
        },
        // Of a collection that is deleted, only the objects are named.
        (Operation::Delete, Kind::BfdProfile) => {
            let name = old_object.as_ref().and_then(|old| old.pointer("/metadata/name")).and_then(Value::as_str);
            Subject::DeletedBfdProfile(name.unwrap_or_default().to_owned())
        }
        (Operation::Delete | Operation::Connect, _) => return Step::Answer(answer),
    };
    Step::Compare(Comparison { answer, subject })
}

fn warning(candidate: &Candidate) -> Option<String> {
    match candidate {
        Candidate::BgpPeer(peer) if peer.spec.disable_mp => {
            Some("disable mp is deprecated and has no effect since it's the default behavior now".to_owned())
        }
        _ => None,
    }
}

impl Comparison {
    /// Ends with what is in the cluster, or why that is not known: then nothing is refused, because the controller looks again
    /// and says in the object's conditions what it finds.
    pub fn finish(self, current: Result<&Resources, &str>) -> Answer {
        let Self { mut answer, subject } = self;
        match (current, subject) {
            (Err(why), _) => answer.warnings.push(format!(
                "not checked against the other objects, see the object's condition Accepted in a moment: {why}"
            )),
            (Ok(current), Subject::Written(candidate)) => {
                let problems = candidate.problems(current);
                let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
                answer.refusal = (!sentences.is_empty()).then(|| sentences.join("\n"));
            }
            (Ok(current), Subject::DeletedBfdProfile(name)) => {
                answer.refusal = may_delete_bfd_profile(&name, &current.bgp_peers).err().map(|error| error.to_string());
            }
        }
        answer
    }
}

impl Answer {
    /// Why the request is refused, if it is.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The `AdmissionReview` to send back. A refusal has MetalLB's code, which kubectl shows as `Forbidden`.
    pub fn into_review(self) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": self.refusal.is_none()});
        if let Some(sentence) = self.refusal {
            response["status"] = json!({"code": 403, "reason": "Forbidden", "message": sentence});
        }
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

#[cfg(test)]
mod tests;
