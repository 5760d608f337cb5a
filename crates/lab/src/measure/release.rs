//! The Helm release of the implementation: upgraded for a measurement, rolled back afterwards.

use anyhow::{Context, Result, ensure};

use super::bench::Bench;
use super::damage::Wound;
use crate::lab::Lab;
use crate::landfall;

/// Upgrades Landfall's release with the chart of this checkout, its own values and these, and waits until it is ready. The
/// end of the measurement rolls it back to what it was before the first upgrade.
/// # Errors
/// What is installed is not Landfall, or not by Helm.
pub(super) async fn upgrade(bench: &Bench, values: &[String]) -> Result<()> {
    let (namespace, name) = (bench.installed.namespace.clone(), bench.installed.name.clone());
    ensure!(
        name == landfall::RELEASE,
        "{} is not Landfall: there is no chart to upgrade it with",
        bench.installed.place()
    );
    let revision = {
        let (lab, namespace) = (bench.lab.clone(), namespace.clone());
        super::damage::blocking(move || revision(&lab, &namespace)).await?
    };
    let chart = landfall::chart()?.to_str().context("the checkout's path is not UTF-8")?.to_owned();
    let mut args: Vec<String> =
        ["upgrade", &name, &chart, "--namespace", &namespace, "--reuse-values", "--wait", "--timeout", "3m"]
            .map(str::to_owned)
            .into();
    // Helm forgets all but the last ten revisions; the one to go back to is older after as many runs.
    args.extend(["--history-max", "0"].map(str::to_owned));
    args.extend(values.iter().flat_map(|value| ["--set".to_owned(), value.clone()]));
    let wound = Wound::Release { namespace, name, revision };
    let act = move |lab: &Lab| lab.helm(&args.iter().map(String::as_str).collect::<Vec<_>>()).map(drop);
    bench.setup.cause_once(wound, act).await?;
    bench.installed.ready().await
}

/// The revision that is installed now.
fn revision(lab: &Lab, namespace: &str) -> Result<u64> {
    let said =
        lab.helm(&["list", "--namespace", namespace, "--filter", &format!("^{}$", landfall::RELEASE), "-o", "json"])?;
    let releases: serde_json::Value = serde_json::from_str(&said).context("helm list")?;
    let revision = releases[0]["revision"].as_str().and_then(|revision| revision.parse().ok());
    revision
        .with_context(|| format!("Helm knows no release {} in {namespace}; install with the chart", landfall::RELEASE))
}
