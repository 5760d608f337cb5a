//! Installing, upgrading, removing.

use anyhow::{Context, Result, ensure};
use landfall_cluster_tests::manifests::{advertisement, pods, pool, service};
use landfall_cluster_tests::scene::{with_landfall, without_landfall};
use landfall_cluster_tests::wire::who_has;
use landfall_cluster_tests::{eventually, install};
use serde_json::{Value, json};

#[test]
fn pools_can_be_applied_right_after_helm_install_twenty_times_of_twenty() -> Result<()> {
    without_landfall("twenty", |scene| {
        let objects = [pool("twenty", &["172.30.0.200/32"]), advertisement("twenty", json!({}))];
        scene.start(&[pods(1, &["8080"], None), service("first", json!({}))])?;
        for round in 1..=20 {
            // As on a cluster that has never seen Landfall or MetalLB.
            let crds = install::crds(&scene.lab)?;
            if !crds.is_empty() {
                let names: Vec<&str> = crds.iter().map(String::as_str).collect();
                // A kind that is deleted before anybody has listed it makes the API server's finalizer fail and wait, up to
                // a quarter of an hour in the end ("storage is (re)initializing").
                eventually("list of every kind", || {
                    scene.lab.kubectl(&["get", &names.join(","), "--all-namespaces"]).map(Some)
                })?;
                scene.lab.kubectl(&[&["delete", "crds"], &names[..]].concat())?;
            }
            install::helm_install(&scene.lab, &[]).with_context(|| format!("round {round}"))?;
            scene.apply(&objects).with_context(|| format!("round {round}: helm install, kubectl apply"))?;
            if round == 20 {
                let ip = scene.service("first").wait_for_address()?;
                scene.ask(ip, 80)?;
            }
            install::uninstall(&scene.lab).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

#[test]
fn helm_upgrade_brings_crds_up_to_date_and_keeps_pools_and_addresses() -> Result<()> {
    with_landfall("upgrade", |scene| {
        scene.start(&[
            pool("upgrade", &["172.30.0.201-172.30.0.203"]),
            advertisement("upgrade", json!({})),
            pods(1, &["8080"], None),
            service("kept", json!({})),
        ])?;
        let kept = scene.service("kept");
        let ip = kept.wait_for_address()?;
        scene.ask(ip, 80)?;
        scene.accepted("ipaddresspool", "upgrade", "Valid")?;
        // A CRD of an older version: helm itself never touches it again.
        let columns = r#"[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]"#;
        scene.lab.kubectl(&["patch", "crd", "ipaddresspools.metallb.io", "--type=json", "--patch", columns])?;
        let crd = || scene.lab.get(&["crd", "ipaddresspools.metallb.io"]);
        let pools = || -> Result<Vec<Value>> {
            let of = |kind| -> Result<Value> {
                let object = scene.landfall_object(kind, "upgrade")?;
                Ok(json!([object["metadata"]["uid"], object["spec"]]))
            };
            ["ipaddresspool", "l2advertisement"].into_iter().map(of).collect()
        };
        let (crd_before, pools_before, version) = (crd()?, pools()?, kept.version()?);

        install::helm_upgrade(&scene.lab, &["--set", "controller.logLevel=debug,speaker.logLevel=debug"])?;
        let crd_after = crd()?;
        assert_eq!(crd_after["metadata"]["uid"], crd_before["metadata"]["uid"], "the CRD was deleted");
        let shown = &crd_after["spec"]["versions"][0]["additionalPrinterColumns"];
        assert!(shown.as_array().is_some_and(|columns| !columns.is_empty()), "the CRD is still the old one: {shown}");
        assert_eq!(pools()?, pools_before);
        assert_eq!(kept.addresses()?, [ip]);
        let args = scene.landfall_object("deployment", "landfall-controller")?["spec"]["template"]["spec"].take();
        assert!(args["containers"][0]["args"].to_string().contains("--log-level=debug"), "{args}");
        scene.ask(ip, 80)?;
        assert_eq!(kept.version()?, version, "the upgrade wrote to a Service");
        // Not for the tests to come.
        install::uninstall(&scene.lab)
    })
}

#[test]
fn helm_uninstall_leaves_what_is_the_users_and_nothing_of_ours() -> Result<()> {
    with_landfall("uninstall", |scene| {
        scene.start(&[
            pool("uninstall", &["172.30.0.204-172.30.0.206"]),
            advertisement("uninstall", json!({})),
            pods(1, &["8080"], None),
            service("left", json!({})),
        ])?;
        let left = scene.service("left");
        let ip = left.wait_for_address()?;
        scene.ask(ip, 80)?;
        let crds = install::crds(&scene.lab)?;

        install::uninstall(&scene.lab)?;
        assert_eq!(install::crds(&scene.lab)?, crds);
        for kind in ["ipaddresspool", "l2advertisement"] {
            scene.landfall_object(kind, "uninstall")?;
        }
        assert_eq!(left.addresses()?, [ip], "the Service's status");
        let ours = "deployments,daemonsets,replicasets,pods,jobs,services,serviceaccounts,roles,rolebindings,secrets,configmaps,\
                    poddisruptionbudgets";
        let everywhere = "clusterroles,clusterrolebindings,validatingwebhookconfigurations";
        for (what, args) in [
            ("in the namespace", &["get", ours, "--namespace", "landfall-system", "--output", "name"][..]),
            ("in the cluster", &["get", everywhere, "--output", "name"]),
        ] {
            // The Secret with the certificate goes with its owner, a moment later.
            eventually(&format!("end of what is ours {what}"), || {
                let names = scene.lab.kubectl(args)?;
                let found: Vec<&str> = names.lines().filter(|name| name.contains("landfall")).collect();
                ensure!(found.is_empty(), "left behind: {found:?}");
                Ok(Some(()))
            })?;
        }
        for node in scene.lab.nodes()? {
            assert!(scene.lab.pid_of(&node, "speaker").is_err(), "a speaker runs on {node}");
        }
        let heard = who_has(&scene.lab, "eth0", ip)?;
        assert!(heard.is_silence(), "{ip} is still answered for: {heard:?}");
        eventually("end of the ServiceL2Statuses", || {
            ensure!(left.announcers()?.is_empty(), "they go with the Pods that own them");
            Ok(Some(()))
        })?;

        install::ensure_installed(&scene.lab)?;
        scene.ask(ip, 80)?;
        assert_eq!(left.addresses()?, [ip], "after the next installation");
        Ok(())
    })
}

#[test]
fn one_helm_install_can_make_the_first_pool() -> Result<()> {
    without_landfall("values", |scene| {
        scene.start(&[pods(1, &["8080"], None), service("first", json!({}))])?;
        let pools = r#"pools=[{"name": "values", "addresses": ["172.30.0.207-172.30.0.208"]}]"#;
        install::helm_install(&scene.lab, &["--set-json", pools])?;
        let ip = scene.service("first").wait_for_address()?;
        assert_eq!(ip.to_string(), "172.30.0.207");
        scene.ask(ip, 80)?;
        install::uninstall(&scene.lab)?;
        scene.landfall_object("ipaddresspool", "values")?; // Services have addresses of it
        Ok(())
    })
}
