//! Whoever asks for the impossible is told so in the condition, in words that lead out.

use anyhow::{Context, Result};
use landfall_cluster_tests::manifests::{annotated, families, pool, service};
use landfall_cluster_tests::scene::with_landfall;
use serde_json::{Value, json};

const KEY: &str = "metallb.io/allow-shared-ip";
const IPS: &str = "metallb.io/loadBalancerIPs";
const POOL: &str = "metallb.io/address-pool";
const QUOTA: &str = "landfall.io/max-addresses-per-namespace";

/// A request that cannot be met.
struct Impossible {
    name: &'static str,
    service: Value,
    reason: &'static str,
    /// What the message names: the object, the value, the way out. NAMESPACE stands for the test's.
    words: &'static [&'static str],
    /// What a person who has read that would change in the Service; `None`: something is to be done about the pools.
    way_out: Option<Value>,
}

/// A merge patch of annotations.
fn annotations(annotations: Value) -> Option<Value> {
    Some(json!({"metadata": {"annotations": annotations}}))
}

fn impossible() -> Vec<Impossible> {
    let plain = |name| service(name, json!({}));
    let port = |port: u16| json!({"ports": [{"port": port}]});
    let sharer = |name, key, number| annotated(annotated(service(name, port(number)), KEY, key), IPS, "198.51.100.0");
    vec![
        Impossible {
            name: "exhausted",
            service: plain("exhausted"),
            reason: "NoAddressAvailable",
            words: &["pool small: all its IPv4 addresses are in use", "add addresses to a pool or create another"],
            way_out: None,
        },
        Impossible {
            name: "family",
            service: service("family", families(&["IPv6"])),
            reason: "NoAddressOfFamily",
            words: &["pool small: it has no IPv6 addresses", "add addresses to a pool or create another"],
            way_out: None,
        },
        Impossible {
            name: "unknown",
            service: annotated(plain("unknown"), POOL, "smal"),
            reason: "UnknownPool",
            words: &[
                r#"unknown pool "smal""#,
                "the pools are guarded, quota, small",
                "correct the annotation metallb.io/address-pool",
            ],
            way_out: annotations(json!({POOL: "small"})),
        },
        Impossible {
            name: "outside",
            service: annotated(plain("outside"), IPS, "203.0.113.7"),
            reason: "AddressNotInAnyPool",
            words: &[
                r#"["203.0.113.7"] is not allowed in config"#,
                "no IPAddressPool contains it",
                "add it to spec.addresses of a pool or ask for another address",
            ],
            way_out: annotations(json!({IPS: "198.51.100.7"})),
        },
        Impossible {
            name: "key",
            service: sharer("key", "theirs", 81),
            reason: "AddressInUse",
            words: &[
                r#""NAMESPACE/key""#,
                "address 198.51.100.0 also in use by NAMESPACE/holder",
                "both must carry the same annotation metallb.io/allow-shared-ip",
            ],
            way_out: annotations(json!({KEY: "ours"})),
        },
        Impossible {
            name: "port",
            service: sharer("port", "ours", 80),
            reason: "PortInUse",
            words: &[
                r#"port TCP/80 is already in use on "198.51.100.0" by NAMESPACE/holder"#,
                "give one of the two another port or another address",
            ],
            way_out: Some(json!({"spec": port(82)})),
        },
        Impossible {
            name: "guarded",
            service: annotated(plain("guarded"), POOL, "guarded"),
            reason: "PoolNotForService",
            words: &[
                "pool guarded: spec.serviceAllocation does not accept the Service",
                "change it or ask for another pool",
            ],
            way_out: annotations(json!({POOL: "small"})),
        },
        Impossible {
            name: "guarded-address",
            service: annotated(plain("guarded-address"), IPS, "198.51.100.16"),
            reason: "PoolNotForService",
            words: &[
                "pool guarded not compatible for ip assignment",
                r#"spec.serviceAllocation does not accept this Service in namespace "NAMESPACE""#,
                "change it or ask for an address of another pool",
            ],
            way_out: annotations(json!({IPS: null})),
        },
        Impossible {
            name: "quota",
            service: annotated(plain("quota"), POOL, "quota"),
            reason: "QuotaExceeded",
            words: &[
                r#"pool quota: Services of namespace "NAMESPACE" hold 0 of its addresses, and may hold 0"#,
                "raise the pool's annotation landfall.io/max-addresses-per-namespace",
            ],
            way_out: None,
        },
        Impossible {
            name: "both",
            service: annotated(service("both", json!({"loadBalancerIP": "198.51.100.4"})), IPS, "198.51.100.5"),
            reason: "InvalidRequest",
            words: &["service can not have both metallb.io/loadBalancerIPs and", "remove spec.loadBalancerIP"],
            way_out: Some(json!({"spec": {"loadBalancerIP": null}})),
        },
        Impossible {
            name: "text",
            service: annotated(plain("text"), IPS, "198.51.100.O"),
            reason: "InvalidRequest",
            words: &[
                r#"invalid metallb.io/loadBalancerIPs: "198.51.100.O""#,
                "write one address, or one of each family separated by a comma",
            ],
            way_out: annotations(json!({IPS: "198.51.100.6"})),
        },
    ]
}

#[test]
fn whoever_asks_for_the_impossible_is_told_why_and_what_to_do_and_doing_it_helps() -> Result<()> {
    with_landfall("impossible", |scene| {
        let mut guarded = pool("guarded", &["198.51.100.16/30"]);
        guarded["spec"]["serviceAllocation"] = json!({"namespaces": ["elsewhere"]});
        let mut quota = annotated(pool("quota", &["198.51.100.32/30"]), QUOTA, "0");
        quota["spec"]["autoAssign"] = json!(false);
        let holder = annotated(service("holder", json!({})), KEY, "ours");
        scene.apply(&[pool("small", &["198.51.100.0/32"]), guarded, quota.clone(), holder])?;
        scene.service("holder").wait_for_address()?;

        let table = impossible();
        scene.apply(&table.iter().map(|row| row.service.clone()).collect::<Vec<_>>())?;
        for Impossible { name, reason, words, .. } in &table {
            let message = scene.service(name).wait_for_refusal(reason)?;
            for part in words.iter().map(|part| part.replace("NAMESPACE", &scene.namespace)) {
                assert!(message.contains(&part), "Service {name}: {part:?} is not in: {message}");
            }
        }

        // Who reads it and does what it says is served.
        for Impossible { name, way_out, .. } in &table {
            if let Some(change) = way_out {
                scene.service(name).patch(change)?;
            }
        }
        quota["metadata"]["annotations"][QUOTA] = json!("1");
        scene.apply(&[pool("small", &["198.51.100.0/28", "2001:db8::/126"]), quota])?;
        for Impossible { name, .. } in &table {
            scene.service(name).wait_for_address().with_context(|| format!("Service {name} after the way out"))?;
            let condition = scene.service(name).wait_for_allocated("True")?;
            assert_eq!(condition["reason"], "Allocated", "Service {name}: {condition}");
        }
        Ok(())
    })
}

#[test]
fn a_mistake_in_a_request_costs_nothing_that_is_held_and_is_said_all_the_same() -> Result<()> {
    with_landfall("mistaken", |scene| {
        scene.apply(&[pool("mistaken", &["198.51.100.0/30"]), service("holder", json!({}))])?;
        let holder = scene.service("holder");
        let ip = holder.wait_for_address()?;
        for (change, words) in [
            (json!({"metadata": {"annotations": {IPS: "198.51.100.O"}}}), r#""198.51.100.O"; write one address"#),
            (
                json!({"metadata": {"annotations": {IPS: "198.51.100.1"}}, "spec": {"loadBalancerIP": "198.51.100.2"}}),
                "remove spec.loadBalancerIP",
            ),
        ] {
            holder.patch(&change)?;
            landfall_cluster_tests::eventually(&format!("message with {words:?}"), || {
                let condition = holder.condition()?;
                let says = condition["message"].as_str().is_some_and(|message| message.contains(words));
                anyhow::ensure!(says && condition["reason"] == "InvalidRequest", "the condition is {condition}");
                assert_eq!(condition["status"], "True", "it has an address: {condition}");
                Ok(Some(()))
            })?;
            assert_eq!(holder.addresses()?, [ip], "{change}");
        }
        Ok(())
    })
}
