//! The keeper against an API that the test answers for, on a clock that the test moves.

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use tower_test::mock;

use super::super::{RENEW_EVERY, RIGHT};
use super::*;

const ABSENT: StatusCode = StatusCode::NOT_FOUND;
const CONFLICT: StatusCode = StatusCode::CONFLICT;

/// The API server's side of the client.
struct Api {
    requests: mock::Handle<Request<Body>, Response<Body>>,
    /// Of the last write that was accepted.
    version: u32,
}

type Answering = mock::SendResponse<Response<Body>>;

impl Api {
    /// The next request: method, path, body.
    async fn next(&mut self) -> (Method, String, Value, Answering) {
        let (request, answer) = self.requests.next_request().await.unwrap();
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        (head.method, head.uri.path().to_owned(), body, answer)
    }

    /// The next request must have this method; returns its body.
    async fn expect(&mut self, expected: Method) -> (Value, Answering) {
        let (method, path, body, answer) = self.next().await;
        assert_eq!(method, expected, "{path} {body}");
        (body, answer)
    }

    async fn refuse(&mut self, method: Method, code: StatusCode) {
        let (_, answer) = self.expect(method).await;
        send_refusal(answer, code);
    }

    /// Accepts a write and returns its body.
    async fn accept(&mut self, method: Method) -> Value {
        let (mut body, answer) = self.expect(method).await;
        let written = body.clone();
        self.version += 1;
        body["metadata"]["resourceVersion"] = json!(self.version.to_string());
        send(answer, StatusCode::OK, &body);
        written
    }

    /// Answers a read with a Lease that another holds.
    async fn held_by(&mut self, holder: &str) {
        let (_, answer) = self.expect(Method::GET).await;
        send(answer, StatusCode::OK, &lease_of(holder));
    }
}

/// Version 7 of the Lease, which does not change.
fn lease_of(holder: &str) -> Value {
    json!({"metadata": {"resourceVersion": "7"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 3, "renewTime": "2026-01-01T00:00:00.000001Z"}})
}

fn send(answer: Answering, code: StatusCode, body: &Value) {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    answer.send_response(Response::builder().status(code).body(body).unwrap());
}

fn send_refusal(answer: Answering, code: StatusCode) {
    let reason = if code == ABSENT { "NotFound" } else { "Conflict" };
    send(answer, code, &json!({"kind": "Status", "code": code.as_u16(), "reason": reason, "message": "no"}));
}

fn begin() -> (Api, Candidacy) {
    let (service, requests) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let candidacy = stand(client, "landfall-system", "landfall-controller", "pod-1_a".into()).unwrap();
    (Api { requests, version: 0 }, candidacy)
}

/// A keeper that has just become leader by creating the Lease.
async fn leading() -> (Api, Candidacy) {
    let (mut api, candidacy) = begin();
    api.refuse(Method::GET, ABSENT).await;
    api.accept(Method::POST).await;
    candidacy.leadership().wait_for(|leadership| leadership.term(now().instant) == Some(1)).await.unwrap();
    (api, candidacy)
}

#[tokio::test(start_paused = true)]
async fn a_missing_lease_is_created_and_then_renewed_on_its_version() {
    let (mut api, candidacy) = begin();
    let (method, path, _, answer) = api.next().await;
    assert_eq!(
        (method, path.as_str()),
        (Method::GET, "/apis/coordination.k8s.io/v1/namespaces/landfall-system/leases/landfall-controller")
    );
    send_refusal(answer, ABSENT);
    let created = api.accept(Method::POST).await;
    assert_eq!(created["metadata"], json!({"name": "landfall-controller"}));
    let spec = &created["spec"];
    assert_eq!(
        (&spec["holderIdentity"], &spec["leaseDurationSeconds"], &spec["leaseTransitions"]),
        (&json!("pod-1_a"), &json!(3), &json!(0))
    );
    let mut leadership = candidacy.leadership();
    leadership.wait_for(|leadership| leadership.term(now().instant) == Some(1)).await.unwrap();

    let before = now().instant;
    let renewal = api.accept(Method::PATCH).await;
    assert_eq!(now().instant - before, RENEW_EVERY);
    assert_eq!(renewal["metadata"], json!({"resourceVersion": "1"}), "a renewal of what nobody changed");
    assert_eq!(renewal["spec"]["acquireTime"], spec["acquireTime"]);
    assert_ne!(renewal["spec"]["renewTime"], spec["renewTime"]);
    assert_eq!(api.accept(Method::PATCH).await["metadata"]["resourceVersion"], "2");
    assert_eq!(leadership.borrow_and_update().term(now().instant), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_not_leadership() {
    let (mut api, candidacy) = begin();
    api.refuse(Method::GET, ABSENT).await;
    api.refuse(Method::POST, CONFLICT).await;
    let refused = now().instant;
    api.held_by("pod-2_b").await;
    assert_eq!(now().instant, refused, "it looks at once who has it");
    let mut leadership = candidacy.leadership();
    let standby = Leadership::Standby { leader: Some("pod-2_b".into()) };
    leadership.wait_for(|now| *now == standby).await.unwrap();
    // It says the same for three seconds: then it is claimed, and lost to a third.
    let seen = now().instant;
    loop {
        let (method, _, body, answer) = api.next().await;
        if method == Method::GET {
            send(answer, StatusCode::OK, &lease_of("pod-2_b"));
            continue;
        }
        assert_eq!((method, &body["metadata"]["resourceVersion"]), (Method::PATCH, &json!("7")));
        assert_eq!(now().instant - seen, DURATION);
        send_refusal(answer, CONFLICT);
        break;
    }
    api.held_by("pod-3_c").await;
    let standby = Leadership::Standby { leader: Some("pod-3_c".into()) };
    leadership.wait_for(|now| *now == standby).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_api_that_answers_no_more_ends_the_leadership_in_time() {
    let (mut api, candidacy) = leading().await;
    let began = now().instant;
    let mut leadership = candidacy.leadership();
    let lost = tokio::spawn(async move {
        leadership.wait_for(|leadership| matches!(leadership, Leadership::Standby { .. })).await.unwrap();
        now().instant
    });
    let (_, unanswered) = api.expect(Method::PATCH).await;
    let (_, unanswered_too) = api.expect(Method::GET).await;
    assert_eq!(lost.await.unwrap() - began, RIGHT);
    drop((unanswered, unanswered_too));
    // It comes back as a candidate that looks first.
    api.held_by("pod-2_b").await;
}

#[tokio::test(start_paused = true)]
async fn a_release_ends_the_leadership_and_empties_the_lease() {
    let (mut api, candidacy) = leading().await;
    let leadership = candidacy.leadership();
    let release = tokio::spawn(candidacy.release());
    let (body, answer) = api.expect(Method::PATCH).await;
    assert_eq!((&body["spec"]["holderIdentity"], &body["spec"]["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    assert_eq!(leadership.borrow().term(now().instant), None, "it leads no longer when others may know");
    send(answer, StatusCode::OK, &json!({"metadata": {"resourceVersion": "2"}, "spec": {"leaseDurationSeconds": 1}}));
    release.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_wait_for_an_api_that_is_away() {
    let (mut api, candidacy) = leading().await;
    let began = now().instant;
    let release = tokio::spawn(candidacy.release());
    let (_, unanswered) = api.expect(Method::PATCH).await;
    release.await.unwrap();
    assert!(now().instant - began <= RELEASE_LIMIT);
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn a_release_ends_in_time_even_if_a_renewal_is_under_way_and_the_api_is_slow() {
    let (mut api, candidacy) = leading().await;
    let (_, unanswered) = api.expect(Method::PATCH).await;
    let began = now().instant;
    let release = tokio::spawn(candidacy.release());
    let (_, answer) = api.expect(Method::GET).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    send(answer, StatusCode::OK, &lease_of("pod-1_a"));
    let (emptied, unanswered_too) = api.expect(Method::PATCH).await;
    assert_eq!(emptied["spec"]["holderIdentity"], "");
    release.await.unwrap();
    assert_eq!(now().instant - began, RELEASE_LIMIT);
    drop((unanswered, unanswered_too));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_deleted_looks_and_makes_it_again_at_once() {
    let (mut api, candidacy) = leading().await;
    api.refuse(Method::PATCH, ABSENT).await;
    let refused = now().instant;
    api.refuse(Method::GET, ABSENT).await;
    api.accept(Method::POST).await;
    candidacy.leadership().wait_for(|leadership| leadership.term(now().instant) == Some(2)).await.unwrap();
    assert_eq!(now().instant, refused, "in another term, for it had no Lease");
}

#[tokio::test(start_paused = true)]
async fn a_candidacy_that_is_dropped_asks_for_nothing_more() {
    let (mut api, candidacy) = leading().await;
    drop(candidacy);
    assert!(api.requests.next_request().await.is_none());
}

#[test]
fn a_lease_that_says_no_duration_is_waited_for_as_one_of_ours() {
    for (seconds, expected) in [(json!(15), 15), (json!(0), 3), (json!(-1), 3), (Value::Null, 3)] {
        let lease = json!({"metadata": {"resourceVersion": "7"}, "spec": {"leaseDurationSeconds": seconds}});
        let record = stored(serde_json::from_value(lease).unwrap()).record;
        assert_eq!(record.duration, Duration::from_secs(expected), "{seconds}");
    }
}

#[tokio::test]
async fn a_lease_that_may_not_be_read_says_what_to_allow() {
    let client = Client::new(mock::pair::<Request<Body>, Response<Body>>().0, "default");
    let leases = Leases { api: kube::Api::all(client), namespace: "here".into(), name: "landfall-controller".into() };
    let refusal = kube::core::Status { code: 403, message: "leases is forbidden".into(), ..Default::default() };
    assert_eq!(
        leases.explain(&kube::Error::Api(Box::new(refusal))),
        "leases is forbidden; allow the ServiceAccount get and patch on Lease landfall-controller and create on leases \
         (coordination.k8s.io) in namespace here, as the chart's Role does, or run one replica with --leader-elect=false"
    );
}

#[test]
fn each_process_of_a_pod_is_another_candidate() {
    let (one, two) = (identity("pod-1").unwrap(), identity("pod-1").unwrap());
    assert!(one.starts_with("pod-1_") && one != two, "{one} {two}");
}

#[test]
fn a_single_replica_leads_from_the_start() {
    let candidacy = unopposed();
    assert_eq!(candidacy.leadership().borrow().term(Instant::now()), Some(1));
}
