//! The files that are in the repository for users.

use std::fs;

use anyhow::{Context, Result};
use landfall_cluster_tests::install;
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::{with_landfall, without_landfall};
use landfall_lab::{command, repository};
use serde_json::json;

#[test]
fn the_api_server_accepts_every_crd() -> Result<()> {
    with_landfall("crds", |scene| {
        let folder = repository::root()?.join("charts/landfall/crds");
        let files = fs::read_dir(&folder)?.count();
        let folder = folder.to_str().context("the checkout's path is not UTF-8")?;
        let how = ["--server-side", "--force-conflicts", "--dry-run=server"];
        let said = scene.lab.kubectl(&[&["apply", "-f", folder][..], &how].concat())?;
        assert_eq!(said.lines().filter(|line| line.contains("serverside-applied")).count(), files, "{said}");
        assert_eq!(install::crds(&scene.lab)?.len(), files);
        // A schema that breaks the API's rules for schemas is accepted and only said to be so.
        let established = ["wait", "crds", "--for=condition=Established", "--timeout=10s"];
        let names = install::crds(&scene.lab)?;
        scene.lab.kubectl(&[&established[..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())?;
        for name in names {
            let crd = scene.lab.get(&["crd", &name])?;
            let conditions = crd["status"]["conditions"].as_array().context("conditions")?;
            let bad = conditions.iter().find(|c| c["type"] == "NonStructuralSchema" && c["status"] == "True");
            assert_eq!(bad, None, "{name}");
        }
        Ok(())
    })
}

#[test]
fn the_plain_manifests_work_without_helm() -> Result<()> {
    without_landfall("plain", |scene| {
        let file = repository::root()?.join("deploy/landfall.yaml");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let manifests = text.replace("image: landfall:0.1.0", "image: docker.io/library/landfall:dev");
        assert_ne!(manifests, text, "the image's name in {}", file.display());
        let kubectl = |args: &[&str]| command::output_with_input(scene.lab.kubectl_command()?.args(args), &manifests);
        kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"])?;
        scene.start(&[
            pool("plain", &["172.30.0.209/32"]),
            advertisement("plain", json!({})),
            pods(1, &["8080"], None),
            service("served", json!({})),
        ])?;
        let outcome = scene.service("served").wait_for_address().and_then(|ip| scene.ask(ip, 80));

        // What helm would stumble over. The namespace and the CRDs stay.
        let ours = "deployments,daemonsets,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,\
                    validatingwebhookconfigurations,poddisruptionbudgets";
        scene.kubectl_landfall(&["delete", ours, "--selector", install::PODS])?;
        install::uninstall(&scene.lab)?;
        outcome.map(|_| ())
    })
}
