//! `landfall crds`: brings the CustomResourceDefinitions to this version. Helm installs those of a chart and never
//! upgrades them, so the chart runs this before each upgrade.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use landfall_runtime::client::{chain, connect};
use tokio::time::Instant;
use tracing::info;

/// The name under which the API server notes our fields.
const FIELD_MANAGER: &str = "landfall-crds";
/// An API server that is away for longer than this during an upgrade needs a person.
const PATIENCE: Duration = Duration::from_secs(60);
/// The server takes some tens of milliseconds to serve a new kind.
const PAUSE: Duration = Duration::from_millis(200);

/// Applies every CRD and waits until the API server serves it. Prints what happened to each.
///
/// # Errors
/// The first CRD that is refused or not served within a minute; the error says why. Those before it stay applied.
pub(crate) async fn apply() -> anyhow::Result<()> {
    let client = connect().await?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let deadline = Instant::now() + PATIENCE;
    for crd in landfall_api::crds::all()? {
        let name = crd.name_any();
        let happened = apply_one(&api, &name, &crd, deadline).await.with_context(|| format!("CRD {name}"))?;
        info!(crd = name, happened, "CRD applied");
        println!("customresourcedefinition.apiextensions.k8s.io/{name} {happened}");
    }
    Ok(())
}

/// Applies one; returns `created`, `upgraded` or `unchanged`. What the definition does not mention stays as it is: so does the
/// `spec.conversion` of BGPPeer, which is the controller's.
///
/// Needs the permissions to patch and to create, no other: what stood there before is learnt by a dry run, which answers with
/// the old resourceVersion (with none for a new object), and what the server makes of it by applying it again, which changes
/// nothing.
async fn apply_one(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    crd: &CustomResourceDefinition,
    deadline: Instant,
) -> anyhow::Result<&'static str> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let rehearsal = PatchParams { dry_run: true, ..params.clone() };
    let before = patiently(deadline, async || api.patch(name, &rehearsal, &Patch::Apply(crd)).await).await?;
    let mut now = patiently(deadline, async || api.patch(name, &params, &Patch::Apply(crd)).await).await?;
    let happened = match before.resource_version().filter(|version| !version.is_empty()) {
        None => "created",
        before if before == now.resource_version() => "unchanged",
        Some(_) => "upgraded",
    };
    while !is_established(&now) {
        if Instant::now() > deadline {
            let conditions = now.status.and_then(|status| status.conditions).unwrap_or_default();
            return Err(anyhow!("is not served after {} s: {conditions:?}", PATIENCE.as_secs()));
        }
        tokio::time::sleep(PAUSE).await;
        now = patiently(deadline, async || api.patch(name, &params, &Patch::Apply(crd)).await).await?;
    }
    Ok(happened)
}

/// Tries again until `deadline` what fails because the server is away or busy; a refusal is final.
async fn patiently<T>(deadline: Instant, call: impl AsyncFn() -> kube::Result<T>) -> anyhow::Result<T> {
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(kube::Error::Api(status)) if status.code < 500 && status.code != 429 => {
                return Err(anyhow!("the API server refuses it: {}", status.message));
            }
            Err(error) if Instant::now() > deadline => return Err(anyhow!(chain(&error))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crd_is_served_only_when_it_says_so() {
        let mut crd = landfall_api::crds::all().unwrap().remove(0);
        assert!(!is_established(&crd));
        for (type_, status, expected) in
            [("NamesAccepted", "True", false), ("Established", "False", false), ("Established", "True", true)]
        {
            let condition = format!(r#"{{"conditions":[{{"type":"{type_}","status":"{status}"}}]}}"#);
            crd.status = landfall_api::yaml::from_str(&condition).ok();
            assert_eq!(is_established(&crd), expected, "{type_}={status}");
        }
    }

    #[test]
    fn the_conversion_of_bgp_peers_is_left_to_the_controller() {
        // A server-side apply keeps what it does not mention; the controller writes the conversion when its webhook serves.
        for crd in landfall_api::crds::all().unwrap() {
            assert_eq!(crd.spec.conversion, None, "{}", crd.name_any());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_and_an_outage_is_waited_for() {
        let error = |code| kube::Error::Api(Box::new(kube::core::Status::failure("no", "Because").with_code(code)));
        let deadline = Instant::now() + PATIENCE;
        let refused = patiently(deadline, async || Err::<(), _>(error(403))).await.unwrap_err();
        assert_eq!(refused.to_string(), "the API server refuses it: no");
        let tries = std::cell::Cell::new(0);
        let answer = patiently(deadline, async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(error(503)) } else { Ok("served") }
        });
        assert_eq!((answer.await.unwrap(), tries.get()), ("served", 3));
        assert!(patiently(deadline, async || Err::<(), _>(error(503))).await.is_err());
        assert!(Instant::now() > deadline);
    }
}
