//! Facts about the definitions that MetalLB's users and tools rely on.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::{Value, json};

fn crd(plural: &str) -> CustomResourceDefinition {
    landfall_api::crds::all().unwrap().into_iter().find(|crd| crd.spec.names.plural == plural).expect(plural)
}

fn version<'a>(crd: &'a CustomResourceDefinition, name: &str) -> &'a CustomResourceDefinitionVersion {
    crd.spec.versions.iter().find(|version| version.name == name).expect(name)
}

/// The schema of one version as JSON, to be asked by pointer.
fn schema(plural: &str, name: &str) -> Value {
    let crd = crd(plural);
    let schema = version(&crd, name).schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.expect("every version has a schema")).unwrap()
}

fn spec(plural: &str, name: &str) -> Value {
    schema(plural, name)["properties"]["spec"].clone()
}

#[test]
fn kinds_come_in_order_of_their_names() {
    let names: Vec<_> = landfall_api::crds::all().unwrap().into_iter().filter_map(|crd| crd.metadata.name).collect();
    assert_eq!(
        names,
        [
            "bfdprofiles.metallb.io",
            "bgpadvertisements.metallb.io",
            "bgppeers.metallb.io",
            "communities.metallb.io",
            "configurationstates.metallb.io",
            "ipaddresspools.metallb.io",
            "l2advertisements.metallb.io",
            "servicebgpstatuses.metallb.io",
            "servicel2statuses.metallb.io",
        ]
    );
}

#[test]
fn every_kind_is_namespaced_and_has_a_status_subresource() {
    for crd in landfall_api::crds::all().unwrap() {
        assert_eq!(crd.spec.scope, "Namespaced", "{:?}", crd.metadata.name);
        for version in &crd.spec.versions {
            let status = version.subresources.as_ref().and_then(|subresources| subresources.status.as_ref());
            assert!(status.is_some(), "{:?} {}", crd.metadata.name, version.name);
        }
    }
}

#[test]
fn every_definition_says_which_version_it_came_with() {
    for crd in landfall_api::crds::all().unwrap() {
        let annotations = crd.metadata.annotations.unwrap_or_default();
        assert_eq!(annotations.get("landfall.io/version").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn printer_columns_are_those_of_metallb() {
    let columns = |plural: &str, name: &str| -> Vec<(String, String, String, i32)> {
        let crd = crd(plural);
        let columns = version(&crd, name).additional_printer_columns.clone().unwrap_or_default();
        columns.into_iter().map(|c| (c.name, c.type_, c.json_path, c.priority.unwrap_or(0))).collect()
    };
    let peer = vec![
        ("Address", "string", ".spec.peerAddress", 0),
        ("ASN", "string", ".spec.peerASN", 0),
        ("BFD Profile", "string", ".spec.bfdProfile", 0),
        ("Multi Hops", "string", ".spec.ebgpMultiHop", 0),
    ];
    for (plural, name, expected) in [
        (
            "ipaddresspools",
            "v1beta1",
            vec![
                ("Auto Assign", "boolean", ".spec.autoAssign", 0),
                ("Avoid Buggy IPs", "boolean", ".spec.avoidBuggyIPs", 0),
                ("Addresses", "string", ".spec.addresses", 0),
            ],
        ),
        (
            "l2advertisements",
            "v1beta1",
            vec![
                ("IPAddressPools", "string", ".spec.ipAddressPools", 0),
                ("IPAddressPool Selectors", "string", ".spec.ipAddressPoolSelectors", 0),
                ("Interfaces", "string", ".spec.interfaces", 0),
                ("Node Selectors", "string", ".spec.nodeSelectors", 10),
            ],
        ),
        (
            "bgpadvertisements",
            "v1beta1",
            vec![
                ("IPAddressPools", "string", ".spec.ipAddressPools", 0),
                ("IPAddressPool Selectors", "string", ".spec.ipAddressPoolSelectors", 0),
                ("Peers", "string", ".spec.peers", 0),
                ("Node Selectors", "string", ".spec.nodeSelectors", 10),
            ],
        ),
        ("bgppeers", "v1beta1", peer.clone()),
        ("bgppeers", "v1beta2", peer),
        (
            "bfdprofiles",
            "v1beta1",
            vec![
                ("Passive Mode", "boolean", ".spec.passiveMode", 0),
                ("Transmit Interval", "integer", ".spec.transmitInterval", 0),
                ("Receive Interval", "integer", ".spec.receiveInterval", 0),
                ("Multiplier", "integer", ".spec.detectMultiplier", 0),
            ],
        ),
        ("communities", "v1beta1", vec![]),
        (
            "servicel2statuses",
            "v1beta1",
            vec![
                ("Allocated Node", "string", ".status.node", 0),
                ("Service Name", "string", ".status.serviceName", 0),
                ("Service Namespace", "string", ".status.serviceNamespace", 0),
            ],
        ),
        (
            "servicebgpstatuses",
            "v1beta1",
            vec![
                ("Node", "string", ".status.node", 0),
                ("Service Name", "string", ".status.serviceName", 0),
                ("Service Namespace", "string", ".status.serviceNamespace", 0),
            ],
        ),
        (
            "configurationstates",
            "v1beta1",
            vec![
                ("Result", "string", ".status.result", 0),
                ("ErrorSummary", "string", ".status.errorSummary", 0),
                ("Age", "date", ".metadata.creationTimestamp", 0),
            ],
        ),
    ] {
        let expected: Vec<_> =
            expected.iter().map(|(n, t, p, i)| ((*n).to_owned(), (*t).to_owned(), (*p).to_owned(), *i)).collect();
        assert_eq!(columns(plural, name), expected, "{plural} {name}");
    }
}

#[test]
fn defaults_are_those_of_metallb_and_there_are_no_others() {
    for (plural, name, expected) in [
        ("ipaddresspools", "v1beta1", json!({"autoAssign": true, "avoidBuggyIPs": false})),
        ("l2advertisements", "v1beta1", json!({})),
        ("bgpadvertisements", "v1beta1", json!({"aggregationLength": 32, "aggregationLengthV6": 128})),
        ("bgppeers", "v1beta1", json!({})),
        ("bgppeers", "v1beta2", json!({"peerPort": 179, "disableMP": false, "dualStackAddressFamily": false})),
        ("bfdprofiles", "v1beta1", json!({})),
        ("communities", "v1beta1", json!({})),
    ] {
        let spec = spec(plural, name);
        let defaults: serde_json::Map<_, _> = spec["properties"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(field, schema)| Some((field.clone(), schema.get("default")?.clone())))
            .collect();
        assert_eq!(Value::from(defaults), expected, "{plural} {name}");
    }
}

#[test]
fn fields_are_spelt_as_in_metallb() {
    for (plural, name, expected) in [
        ("ipaddresspools", "v1beta1", "addresses autoAssign avoidBuggyIPs serviceAllocation"),
        (
            "l2advertisements",
            "v1beta1",
            "interfaces ipAddressPoolSelectors ipAddressPools nodeSelectors preferredNodeSelectors serviceSelectors",
        ),
        (
            "bgpadvertisements",
            "v1beta1",
            "aggregationLength aggregationLengthV6 communities ipAddressPoolSelectors ipAddressPools localPref \
             nodeSelectors peers serviceSelectors",
        ),
        (
            "bgppeers",
            "v1beta1",
            "bfdProfile ebgpMultiHop holdTime keepaliveTime myASN nodeSelectors password peerASN peerAddress peerPort \
             routerID sourceAddress",
        ),
        (
            "bgppeers",
            "v1beta2",
            "bfdProfile connectTime disableMP dualStackAddressFamily dynamicASN ebgpMultiHop enableGracefulRestart \
             holdTime interface keepaliveTime localASN myASN nodeSelectors password passwordSecret peerASN peerAddress \
             peerPort routerID sourceAddress vrf",
        ),
        (
            "bfdprofiles",
            "v1beta1",
            "detectMultiplier echoInterval echoMode minimumTtl passiveMode receiveInterval transmitInterval",
        ),
        ("communities", "v1beta1", "communities"),
    ] {
        let spec = spec(plural, name);
        let fields: Vec<_> = spec["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, expected.split_whitespace().collect::<Vec<_>>(), "{plural} {name}");
    }
}

#[test]
fn only_what_metallb_requires_is_required() {
    for (plural, name, root, in_spec) in [
        ("ipaddresspools", "v1beta1", json!(["spec"]), json!(["addresses"])),
        ("l2advertisements", "v1beta1", Value::Null, Value::Null),
        ("bgpadvertisements", "v1beta1", Value::Null, Value::Null),
        ("bgppeers", "v1beta1", json!(["spec"]), json!(["myASN", "peerASN", "peerAddress"])),
        ("bgppeers", "v1beta2", json!(["spec"]), json!(["myASN"])),
        ("bfdprofiles", "v1beta1", Value::Null, Value::Null),
        ("communities", "v1beta1", Value::Null, Value::Null),
        ("servicel2statuses", "v1beta1", Value::Null, Value::Null),
        ("servicebgpstatuses", "v1beta1", Value::Null, Value::Null),
        ("configurationstates", "v1beta1", Value::Null, Value::Null),
    ] {
        let schema = schema(plural, name);
        assert_eq!(schema["required"], root, "{plural} {name}");
        assert_eq!(schema["properties"]["spec"]["required"], in_spec, "{plural} {name}");
    }
}

#[test]
fn a_spec_that_may_be_left_out_is_filled_in_by_the_server() {
    for plural in ["l2advertisements", "bgpadvertisements", "bfdprofiles", "communities", "servicel2statuses"] {
        assert_eq!(spec(plural, "v1beta1")["default"], json!({}), "{plural}");
    }
    assert_eq!(spec("ipaddresspools", "v1beta1").get("default"), None);
}

#[test]
fn limits_are_those_of_metallb() {
    for (plural, name, field, minimum, maximum) in [
        ("bgppeers", "v1beta2", "myASN", 0.0, 4_294_967_295.0),
        ("bgppeers", "v1beta2", "peerASN", 0.0, 4_294_967_295.0),
        ("bgppeers", "v1beta2", "localASN", 1.0, 4_294_967_295.0),
        ("bgppeers", "v1beta2", "peerPort", 1.0, 16384.0),
        ("bgppeers", "v1beta1", "peerPort", 0.0, 16384.0),
        ("bgpadvertisements", "v1beta1", "aggregationLength", 1.0, 32.0),
        ("bgpadvertisements", "v1beta1", "aggregationLengthV6", 0.0, 128.0),
        ("bfdprofiles", "v1beta1", "receiveInterval", 10.0, 60000.0),
        ("bfdprofiles", "v1beta1", "transmitInterval", 10.0, 60000.0),
        ("bfdprofiles", "v1beta1", "echoInterval", 10.0, 60000.0),
        ("bfdprofiles", "v1beta1", "detectMultiplier", 2.0, 255.0),
        ("bfdprofiles", "v1beta1", "minimumTtl", 1.0, 254.0),
    ] {
        let field_schema = &spec(plural, name)["properties"][field];
        assert_eq!(field_schema["minimum"], json!(minimum), "{plural} {name} {field}");
        assert_eq!(field_schema["maximum"], json!(maximum), "{plural} {name} {field}");
    }
    let weight = "/properties/preferredNodeSelectors/items/properties/weight";
    let spec = spec("l2advertisements", "v1beta1");
    assert_eq!(spec.pointer(weight).unwrap()["minimum"], json!(1.0));
    assert_eq!(spec.pointer(weight).unwrap()["maximum"], json!(100.0));
}

#[test]
fn every_number_has_a_format_that_the_server_knows() {
    fn walk(at: &str, schema: &Value) {
        if schema["type"] == "integer" {
            assert!(schema["format"] == "int32" || schema["format"] == "int64", "{at}: {schema}");
        }
        assert_eq!(schema.get("nullable"), None, "{at}");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{at}.{name}"), property);
        }
        if schema["items"].is_object() {
            walk(&format!("{at}[]"), &schema["items"]);
        }
    }
    for crd in landfall_api::crds::all().unwrap() {
        for version in &crd.spec.versions {
            walk(&crd.spec.names.plural, &schema(&crd.spec.names.plural, &version.name));
        }
    }
}

#[test]
fn conditions_are_a_list_keyed_by_type() {
    for plural in [
        "ipaddresspools",
        "l2advertisements",
        "bgppeers",
        "bgpadvertisements",
        "bfdprofiles",
        "communities",
        "configurationstates",
    ] {
        for version in &crd(plural).spec.versions {
            let schema = schema(plural, &version.name);
            let conditions = schema.pointer("/properties/status/properties/conditions").expect(plural);
            assert_eq!(conditions["x-kubernetes-list-type"], "map", "{plural}");
            assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{plural}");
        }
    }
}

#[test]
fn pool_counters_are_required_in_a_status() {
    let status = &schema("ipaddresspools", "v1beta1")["properties"]["status"];
    assert_eq!(status["required"], json!(["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"]));
}

#[test]
fn peers_are_stored_as_v1beta2_and_v1beta1_warns() {
    let crd = crd("bgppeers");
    let (old, new) = (version(&crd, "v1beta1"), version(&crd, "v1beta2"));
    assert_eq!((old.served, old.storage, old.deprecated), (true, false, Some(true)));
    assert_eq!(old.deprecation_warning.as_deref(), Some("v1beta1 is deprecated, please use v1beta2"));
    assert_eq!((new.served, new.storage, new.deprecated), (true, true, None));
}

#[test]
fn what_identifies_a_status_object_is_immutable() {
    for plural in ["servicel2statuses", "servicebgpstatuses"] {
        let schema = schema(plural, "v1beta1");
        for field in ["node", "serviceName", "serviceNamespace"] {
            let rules = &schema["properties"]["status"]["properties"][field]["x-kubernetes-validations"];
            assert_eq!(
                rules,
                &json!([{"rule": "self == oldSelf", "message": "Value is immutable"}]),
                "{plural} {field}"
            );
        }
    }
}

#[test]
fn file_names_are_stable_and_files_say_where_they_come_from() {
    let files = landfall_api::crds::files().unwrap();
    assert_eq!(files.len(), 9);
    assert_eq!(files[5].0, "metallb.io_ipaddresspools.yaml");
    for (name, text) in &files {
        assert!(text.starts_with("# Generated by `cargo lab generate`"), "{name}");
        let back: CustomResourceDefinition = landfall_api::yaml::from_str(text).unwrap();
        assert_eq!(
            Some(name.as_str()),
            back.metadata
                .name
                .map(|n| {
                    let (plural, group) = n.split_once('.').unwrap();
                    format!("{group}_{plural}.yaml")
                })
                .as_deref()
        );
    }
}
