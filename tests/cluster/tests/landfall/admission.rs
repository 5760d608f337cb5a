//! What the API server asks Landfall before it takes an object.

use anyhow::{Context, Result, bail, ensure};
use landfall_cluster_tests::manifests::pool;
use landfall_cluster_tests::scene::{Scene, with_landfall};
use landfall_cluster_tests::{eventually, install};
use landfall_lab::landfall::NAMESPACE;
use serde_json::{Value, json};

const SECRET: &str = "landfall-webhook-cert";
const PEERS: &str = "bgppeers.metallb.io";

#[test]
fn a_pool_that_overlaps_another_is_refused_at_apply() -> Result<()> {
    with_landfall("refused", |scene| {
        scene.apply(&[pool("refused-1", &["172.30.0.180-172.30.0.183"])])?;
        let said = refusal(scene, &pool("refused-2", &["172.30.0.183/32", "172.30.0.184/32"]))?;
        for part in [
            "ipaddresspoolvalidationwebhook.metallb.io",
            r#"IPAddressPool "refused-2": spec.addresses is "172.30.0.183""#,
            r#"of pool "refused-1""#,
            "shrink one of the two",
        ] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        scene.apply(&[pool("refused-2", &["172.30.0.184/32"])])?;
        let grown = refusal(scene, &pool("refused-2", &["172.30.0.183-172.30.0.184"]));
        assert!(grown?.contains("overlaps with already defined CIDR"));
        Ok(())
    })
}

#[test]
fn an_object_outside_of_landfalls_namespace_is_refused() -> Result<()> {
    with_landfall("elsewhere", |scene| {
        let mut elsewhere = pool("elsewhere", &["172.30.0.185/32"]);
        elsewhere["metadata"]["namespace"] = json!(scene.namespace);
        let said =
            eventually("refusal of a pool in another namespace", || match scene.lab.apply(&elsewhere.to_string()) {
                Err(error) => Ok(Some(format!("{error:#}"))),
                Ok(_) => {
                    scene.kubectl(&["delete", "ipaddresspool", "elsewhere"])?;
                    bail!("it was accepted")
                }
            })?;
        assert!(said.contains(&format!("resource must be created in {NAMESPACE} namespace")), "{said}");
        Ok(())
    })
}

#[test]
fn a_bfd_profile_can_be_deleted_only_when_no_peer_names_it() -> Result<()> {
    with_landfall("profile", |scene| {
        let profile = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "BFDProfile", "metadata": {"name": "profile"}, "spec": {},
        });
        scene.apply(&[profile, peer("v1beta2", "profile", json!({"bfdProfile": "profile"}))])?;
        let delete = || scene.kubectl_landfall(&["delete", "bfdprofile", "profile"]);
        let said = format!("{:#}", delete().err().context("the profile was deleted")?);
        assert!(said.contains("failed to delete BFDProfile profile, used by BGPPeer profile"), "{said}");
        scene.landfall_object("bfdprofile", "profile")?;
        scene.kubectl_landfall(&["delete", "bgppeer", "profile"])?;
        delete()?;
        Ok(())
    })
}

#[test]
fn a_bgp_peer_is_read_and_written_in_both_versions_and_loses_nothing() -> Result<()> {
    with_landfall("versions", |scene| {
        conversion_is_ours(scene)?;
        let of = |version: &str, name: &str| scene.landfall_object(&format!("bgppeers.{version}.metallb.io"), name);

        let spec = json!({"holdTime": "90s", "nodeSelectors": [{"matchLabels": {"rack": "1"}}]});
        scene.apply(&[peer("v1beta1", "versions-old", spec.clone())])?;
        for version in ["v1beta1", "v1beta2"] {
            let read = of(version, "versions-old")?;
            assert_eq!(read["apiVersion"], format!("metallb.io/{version}"));
            for field in ["holdTime", "nodeSelectors"] {
                assert_eq!(read["spec"][field], spec[field], "{version}: {field}");
            }
            assert_eq!((&read["spec"]["myASN"], &read["spec"]["peerASN"]), (&json!(64500), &json!(64501)), "{version}");
        }

        // What the older version cannot say goes through it unharmed.
        let spec = json!({"dynamicASN": "external", "peerASN": null, "vrf": "red", "connectTime": "10s"});
        scene.apply(&[peer("v1beta2", "versions-new", spec)])?;
        let old = of("v1beta1", "versions-new")?;
        assert_eq!((&old["spec"]["peerASN"], &old["spec"]["vrf"]), (&json!(0), &Value::Null), "{old}");
        let kept = old["metadata"]["annotations"]["landfall.io/v1beta2-spec"].as_str().context("the annotation")?;
        assert!(kept.contains(r#""vrf":"red""#), "{kept}");
        let edit = ["patch", "bgppeers.v1beta1.metallb.io", "versions-new", "--type=merge", "--patch"];
        scene.kubectl_landfall(&[&edit[..], &[r#"{"spec": {"holdTime": "30s"}}"#]].concat())?;
        let new = of("v1beta2", "versions-new")?;
        for (field, value) in [("holdTime", "30s"), ("dynamicASN", "external"), ("vrf", "red"), ("connectTime", "10s")]
        {
            assert_eq!(new["spec"][field], value, "{field}");
        }
        assert_eq!(new["spec"].get("peerASN"), None);
        assert_eq!(new["metadata"]["annotations"].get("landfall.io/v1beta2-spec"), None);
        Ok(())
    })
}

#[test]
fn without_its_secret_landfall_makes_a_new_certificate_and_goes_on() -> Result<()> {
    with_landfall("secret", |scene| {
        scene.apply(&[pool("secret-1", &["172.30.0.186/32"])])?;
        let before = Trust::of(scene)?;
        scene.kubectl_landfall(&["delete", "secret", SECRET])?;
        eventually("another certificate, and trust in it", || {
            let now = Trust::of(scene)?;
            ensure!(now.certificate != before.certificate, "the certificate is still the old one");
            ensure!(now.is_consistent(), "not everybody trusts the new authority yet");
            Ok(Some(()))
        })?;
        assert!(refusal(scene, &pool("secret-2", &["172.30.0.186/32"]))?.contains("overlaps"));
        scene.apply(&[peer("v1beta1", "secret", json!({}))]).context("a conversion")?;
        Ok(())
    })
}

#[test]
fn an_upgrade_leaves_the_certificate_and_everybodys_trust_in_it() -> Result<()> {
    with_landfall("trust", |scene| {
        scene.apply(&[pool("trust-1", &["172.30.0.187/32"])])?;
        conversion_is_ours(scene)?;
        let before = Trust::of(scene)?;
        assert!(before.is_consistent(), "{:?}", before.bundles);
        install::helm_upgrade(&scene.lab, &["--set", "controller.logLevel=debug"])?;
        assert_eq!(Trust::of(scene)?, before);
        assert!(refusal(scene, &pool("trust-2", &["172.30.0.187/32"]))?.contains("overlaps"));
        // Not for the tests to come.
        install::uninstall(&scene.lab)
    })
}

/// The certificate in use, and whom the API server trusts.
#[derive(Debug, PartialEq)]
struct Trust {
    certificate: Value,
    authority: Value,
    /// `caBundle` of every webhook and of the conversion.
    bundles: Vec<Value>,
}

impl Trust {
    fn of(scene: &Scene) -> Result<Self> {
        let data = scene.landfall_object("secret", SECRET)?["data"].take();
        let configuration = scene.lab.get(&["validatingwebhookconfiguration", install::WEBHOOKS])?;
        let webhooks = configuration["webhooks"].as_array().context("webhooks")?;
        let mut bundles: Vec<Value> = webhooks.iter().map(|w| w["clientConfig"]["caBundle"].clone()).collect();
        let crd = scene.lab.get(&["crd", PEERS])?;
        bundles.push(crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"].clone());
        Ok(Self { certificate: data["tls.crt"].clone(), authority: data["ca.crt"].clone(), bundles })
    }

    fn is_consistent(&self) -> bool {
        self.authority.is_string() && self.bundles.iter().all(|bundle| *bundle == self.authority)
    }
}

/// Waits until the API server has BGPPeers converted by Landfall.
fn conversion_is_ours(scene: &Scene) -> Result<()> {
    eventually("conversion of BGPPeers by Landfall", || {
        let conversion = scene.lab.get(&["crd", PEERS])?["spec"]["conversion"].take();
        ensure!(conversion["strategy"] == "Webhook", "it is {conversion}");
        let service = &conversion["webhook"]["clientConfig"]["service"];
        ensure!(service["namespace"] == NAMESPACE && service["path"] == "/convert", "it is by {service}");
        Ok(Some(()))
    })
}

/// A BGPPeer; `more` is merged into its spec.
fn peer(version: &str, name: &str, more: Value) -> Value {
    let mut spec = json!({"myASN": 64500, "peerASN": 64501, "peerAddress": "172.30.0.1"});
    if let Value::Object(more) = more {
        more.into_iter().for_each(|(field, value)| spec[field] = value);
    }
    if name.ends_with("-new") {
        spec["peerAddress"] = json!("172.30.0.2");
    }
    json!({"apiVersion": format!("metallb.io/{version}"), "kind": "BGPPeer", "metadata": {"name": name}, "spec": spec})
}

/// What kubectl says when this is applied. An API server may learn a moment later than others that it has to ask: what it
/// took unasked is undone, and tried again.
fn refusal(scene: &Scene, object: &Value) -> Result<String> {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).context("a name and a kind");
    let (kind, name) = (text("/kind")?.to_lowercase(), text("/metadata/name")?);
    let before = scene.landfall_object(&kind, name).ok().map(|mut present| {
        let mut before = object.clone();
        before["spec"] = present["spec"].take();
        before
    });
    eventually(&format!("refusal of {kind} {name}"), || match scene.apply(std::slice::from_ref(object)) {
        Err(error) => Ok(Some(format!("{error:#}"))),
        Ok(_) => {
            match &before {
                Some(before) => scene.apply(std::slice::from_ref(before))?,
                None => scene.kubectl_landfall(&["delete", &kind, name])?,
            };
            bail!("it was accepted")
        }
    })
}
