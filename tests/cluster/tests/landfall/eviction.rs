//! `failover.evictEndpoints`: Pods of a dead node are taken out of service, those of a living one never.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::eventually;
use landfall_cluster_tests::install::{self, wait_until_ready};
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_lab::landfall::NAMESPACE;
use landfall_lab::{Fault, command};
use serde_json::{Value, json};

const REASON: &str = "LandfallNodeSilent";
const SPEAKERS: &str = "app.kubernetes.io/component=speaker";
/// Longer than the controller listens before it judges for the first time.
const GRACE: Duration = Duration::from_secs(8);

/// The condition `Ready` of the test's one Pod.
fn ready(scene: &Scene) -> Result<Value> {
    let pods: Value = serde_json::from_str(&scene.kubectl(&["get", "pods", "--output", "json"])?)?;
    let [pod] = &pods["items"].as_array().context("items")?[..] else { anyhow::bail!("not one Pod: {pods}") };
    let conditions = pod["status"]["conditions"].as_array().context("conditions")?;
    Ok(conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition Ready")?.clone())
}

/// The Pod is in service, and has been all the time since.
fn stayed_ready(scene: &Scene, before: &Value) -> Result<()> {
    let now = ready(scene)?;
    ensure!(
        now["status"] == "True" && now["lastTransitionTime"] == before["lastTransitionTime"],
        "{before}, and now {now}"
    );
    Ok(())
}

/// Messages of the events on a Node.
fn events(scene: &Scene, node: &str, reason: &str) -> Result<Vec<String>> {
    let selector = format!("involvedObject.kind=Node,involvedObject.name={node},reason={reason}");
    let args = ["get", "events", "--namespace", "default", "--field-selector", &selector];
    let found = scene
        .lab
        .kubectl(&[&args[..], &["--output", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]].concat())?;
    Ok(found.lines().map(str::to_owned).collect())
}

/// Whether the controller may list Pods, and patch their status.
fn rights(scene: &Scene) -> Result<[bool; 2]> {
    let who = format!("--as=system:serviceaccount:{NAMESPACE}:landfall-controller");
    let may = |what: &[&str]| -> Result<bool> {
        let mut kubectl = scene.lab.kubectl_command()?;
        let said = kubectl.args(["auth", "can-i", "--all-namespaces", &who]).args(what).output()?;
        Ok(String::from_utf8_lossy(&said.stdout).trim() == "yes")
    };
    Ok([may(&["list", "pods"])?, may(&["patch", "pods", "--subresource", "status"])?])
}

fn set(scene: &Scene, mode: &str) -> Result<()> {
    install::helm_upgrade(&scene.lab, &["--set-string", &format!("failover.evictEndpoints={mode}")])?;
    wait_until_ready(&scene.lab)
}

/// Runs a test with the feature in this mode, and switches it off afterwards.
fn with_mode(scene: &Scene, mode: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
    set(scene, mode)?;
    let outcome = test();
    set(scene, "off")?;
    outcome
}

/// A Service whose one Pod is on n2.
fn one_pod(scene: &Scene, name: &str, range: &str) -> Result<()> {
    scene.start(&[
        pool(name, &[range]),
        advertisement(name, json!({})),
        pods(1, &["8080"], Some("n2")),
        service(name, json!({})),
    ])?;
    scene.service(name).wait_for_address()?;
    eventually("Pod in service", || Ok((ready(scene)?["status"] == "True").then_some(())))
}

fn words(scene: &Scene) -> Result<String> {
    let annotation = r"jsonpath={range .items[*]}{.metadata.annotations.landfall\.io/silent-nodes}{end}";
    scene.lab.kubectl(&["get", "configurationstates", "--namespace", NAMESPACE, "--output", annotation])
}

#[test]
fn off_means_that_nothing_is_said_done_or_allowed() -> Result<()> {
    with_landfall("evict-off", |scene| {
        assert_eq!(rights(scene)?, [false, false]);
        one_pod(scene, "evict-off", "172.30.0.187/32")?;
        // What was said while it was on stays until the object goes with the speaker.
        let (before, said) = (ready(scene)?, words(scene)?);
        let partition = scene.lab.partition(&["n2"])?;
        std::thread::sleep(Duration::from_secs(3));
        partition.end()?;
        assert_eq!(words(scene)?, said);
        stayed_ready(scene, &before)
    })
}

#[test]
fn pods_of_a_dead_node_leave_service_at_once_and_those_of_a_living_one_never() -> Result<()> {
    with_landfall("evict", |scene| {
        with_mode(scene, "on", || {
            assert_eq!(rights(scene)?, [true, true]);
            one_pod(scene, "evict", "172.30.0.188/32")?;
            let before = ready(scene)?;
            std::thread::sleep(GRACE);

            // A node that the others cannot reach, and the API server can.
            let partition = scene.lab.partition(&["n2"])?;
            eventually("word that n2 is left in service", || {
                let said = events(scene, "n2", "EndpointsKept")?;
                Ok(said
                    .iter()
                    .any(|message| message.contains("its own speaker is heard by the API server"))
                    .then_some(()))
            })?;
            std::thread::sleep(Duration::from_secs(3));
            stayed_ready(scene, &before).context("cut off from the other nodes")?;
            partition.end()?;

            // All speakers at once.
            let delete =
                ["delete", "pods", "--namespace", NAMESPACE, "--selector", SPEAKERS, "--grace-period=0", "--force"];
            scene.lab.kubectl(&delete)?;
            wait_until_ready(&scene.lab)?;
            std::thread::sleep(Duration::from_secs(3));
            stayed_ready(scene, &before).context("all speakers killed")?;

            // Speakers speak for their own node only.
            forged(scene)?;
            std::thread::sleep(Duration::from_secs(3));
            stayed_ready(scene, &before).context("forged words")?;

            // The node dies.
            scene.lab.fault("n2", Fault::PowerOff)?;
            let died = Instant::now();
            let gone = eventually("Pod out of service", || {
                let now = ready(scene)?;
                Ok((now["status"] == "False").then_some(now))
            });
            let took = died.elapsed();
            scene.lab.heal("n2").context("boot n2 again")?;
            let gone = gone?;
            println!("out of service after {:.1} s: {gone}", took.as_secs_f64());
            assert_eq!(gone["reason"], REASON, "{gone}");
            ensure!(took < Duration::from_secs(15), "after {took:?}, and Kubernetes itself takes 45 s");
            ensure!(!events(scene, "n2", "EndpointsEvicted")?.is_empty(), "no event on the Node");

            // And comes back.
            eventually("Pod back in service", || {
                let now = ready(scene)?;
                Ok((now["status"] == "True" && now["reason"].is_null()).then_some(()))
            })?;
            wait_until_ready(&scene.lab)
        })
    })
}

/// Words about n2 by a stranger, and by the speaker on n1 in the name of n3's: both are refused.
fn forged(scene: &Scene) -> Result<()> {
    let word = json!({"at": "2026-01-31T12:00:00Z", "silent": ["n2"]}).to_string();
    // Applied on the server: everything else begins with a read, which a speaker may not do.
    let apply = ["apply", "--server-side", "--force-conflicts", "--validate=false", "--filename", "-"];
    let refused = |who: &str, object: &str| -> Result<String> {
        let said = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
            "metadata": {"name": object, "namespace": NAMESPACE, "annotations": {"landfall.io/silent-nodes": word}},
        });
        let mut kubectl = scene.lab.kubectl_command()?;
        match command::output_with_input(kubectl.args(apply).arg(who), &said.to_string()) {
            Ok(_) => anyhow::bail!("{object} was written by {who}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    };
    let text = refused("--as=system:serviceaccount:default:default", "speaker-n1")?;
    ensure!(text.contains("forbidden"), "{text}");
    let of_n1 =
        ["get", "pods", "--namespace", NAMESPACE, "--selector", SPEAKERS, "--field-selector", "spec.nodeName=n1"];
    let pod = scene.lab.kubectl(&[&of_n1[..], &["--output", "jsonpath={.items[0].metadata.name}"]].concat())?;
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod.trim()];
    let create = ["create", "token", "landfall-speaker", "--namespace", NAMESPACE];
    let token = scene.lab.kubectl(&[&create[..], &bound[..]].concat())?;
    let text = refused(&format!("--token={}", token.trim()), "speaker-n3")?;
    ensure!(text.contains("its own node only, and this one runs on n1"), "{text}");
    Ok(())
}

#[test]
fn a_dry_run_only_says_what_would_be_done() -> Result<()> {
    with_landfall("evict-dry", |scene| {
        with_mode(scene, "dry-run", || {
            assert_eq!(rights(scene)?, [true, false]);
            one_pod(scene, "evict-dry", "172.30.0.189/32")?;
            std::thread::sleep(GRACE);
            scene.lab.fault("n2", Fault::PowerOff)?;
            let said = eventually("word of what would be done", || {
                let said = events(scene, "n2", "EndpointsWouldBeEvicted")?;
                Ok(said
                    .into_iter()
                    .find(|message| message.starts_with("1 Pod of LoadBalancer Services on node n2 would")))
            });
            let pod = ready(scene);
            scene.lab.heal("n2").context("boot n2 again")?;
            said?;
            ensure!(pod?["reason"] != REASON, "the Pod was taken out of service");
            wait_until_ready(&scene.lab)
        })
    })
}
