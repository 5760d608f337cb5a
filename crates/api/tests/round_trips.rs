//! Manifests as people write them keep every field on their way through our types.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use kube::Resource;
use landfall_api::{
    BFDProfile, BGPAdvertisement, Community, ConfigurationState, IPAddressPool, L2Advertisement, ServiceBGPStatus,
    ServiceL2Status, bgp_peer, yaml,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads `text` as a `K` and expects that, written again, it says the same, but for the fields of the spec that have a
/// default.
fn round_trip<K>(text: &str, added_by_defaults: &[(&str, Value)]) -> K
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    let mut expected: Value = yaml::from_str(text).unwrap();
    for (field, value) in added_by_defaults {
        expected["spec"][*field] = value.clone();
    }
    let read: K = yaml::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), expected);
    read
}

#[test]
fn address_pool_with_everything() {
    let pool: IPAddressPool = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: everything, namespace: metallb-system, labels: {zone: east}}
spec:
  addresses: [192.168.10.0/24, 192.168.9.1-192.168.9.5, "fc00:f853:0ccd:e799::/124"]
  autoAssign: false
  avoidBuggyIPs: true
  serviceAllocation:
    priority: 50
    namespaces: [shop, bank]
    namespaceSelectors:
    - matchLabels: {tier: front}
    serviceSelectors:
    - matchExpressions:
      - {key: app, operator: In, values: [web]}
status: {assignedIPv4: 2, assignedIPv6: 0, availableIPv4: 259, availableIPv6: 16}
"#,
        &[],
    );
    assert_eq!(pool.spec.addresses[1], "192.168.9.1-192.168.9.5");
    assert_eq!(pool.spec.service_allocation.unwrap().priority, Some(50));
    assert_eq!(pool.status.unwrap().available_ipv6, 16);
}

#[test]
fn address_pool_with_nothing_but_addresses() {
    let text = r#"
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first-pool, namespace: metallb-system}
spec:
  addresses: [192.168.1.240-192.168.1.250]
"#;
    let pool: IPAddressPool = round_trip(text, &[("autoAssign", true.into()), ("avoidBuggyIPs", false.into())]);
    assert!(pool.spec.auto_assign);
    assert_eq!(pool.spec.service_allocation, None);
}

#[test]
fn l2_advertisement_with_everything() {
    let advertisement: L2Advertisement = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: example, namespace: metallb-system}
spec:
  ipAddressPools: [first-pool]
  ipAddressPoolSelectors:
  - matchExpressions:
    - {key: zone, operator: In, values: [east, west]}
  nodeSelectors:
  - matchLabels: {kubernetes.io/hostname: NodeA}
  interfaces: [eth0, eth1]
  serviceSelectors:
  - matchLabels: {expose: "true"}
  preferredNodeSelectors:
  - weight: 10
    preference: {matchLabels: {rack: "1"}}
"#,
        &[],
    );
    assert_eq!(advertisement.spec.interfaces, ["eth0", "eth1"]);
    assert_eq!(advertisement.spec.preferred_node_selectors[0].weight, 10);
}

#[test]
fn bgp_advertisement_with_everything() {
    let advertisement: BGPAdvertisement = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: local, namespace: metallb-system}
spec:
  aggregationLength: 24
  aggregationLengthV6: 126
  localPref: 100
  communities: ["64512:1234", "large:64512:1:2", vpn-only]
  ipAddressPools: [first-pool]
  ipAddressPoolSelectors: [{matchLabels: {zone: east}}]
  nodeSelectors: [{matchLabels: {kubernetes.io/hostname: hostA}}]
  peers: [peer-a]
"#,
        &[],
    );
    assert_eq!((advertisement.spec.aggregation_length, advertisement.spec.local_pref), (24, Some(100)));
}

#[test]
fn bgp_advertisement_with_an_empty_spec_has_whole_addresses() {
    let text = "{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: all}, spec: {}}";
    let read: BGPAdvertisement =
        round_trip(text, &[("aggregationLength", 32.into()), ("aggregationLengthV6", 128.into())]);
    assert_eq!(read.spec, landfall_api::BGPAdvertisementSpec::default());
}

#[test]
fn peer_of_the_stored_version_with_everything() {
    let peer: bgp_peer::v1beta2::BGPPeer = round_trip(
        r#"
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: peer, namespace: metallb-system}
spec:
  myASN: 4200000000
  peerASN: 64501
  localASN: 64502
  peerAddress: 172.30.0.3
  sourceAddress: 172.30.0.9
  peerPort: 180
  holdTime: 180s
  keepaliveTime: 1m0s
  connectTime: 10s
  routerID: 10.10.10.10
  nodeSelectors:
  - matchExpressions: [{key: rack, operator: Exists}]
  passwordSecret: {name: bgp-password, namespace: metallb-system}
  bfdProfile: fast
  enableGracefulRestart: true
  ebgpMultiHop: true
  vrf: red
  disableMP: false
  dualStackAddressFamily: true
"#,
        &[],
    );
    assert_eq!((peer.spec.my_asn, peer.spec.peer_asn, peer.spec.peer_port), (4_200_000_000, Some(64501), 180));
    assert_eq!(peer.spec.hold_time.as_deref(), Some("180s"));
}

#[test]
fn unnumbered_peer_with_a_dynamic_as_number() {
    let text = r#"
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor}
spec: {myASN: 64512, dynamicASN: external, interface: eth0}
"#;
    let defaults = [("peerPort", 179.into()), ("disableMP", false.into()), ("dualStackAddressFamily", false.into())];
    let peer: bgp_peer::v1beta2::BGPPeer = round_trip(text, &defaults);
    assert_eq!(peer.spec.dynamic_asn, Some(bgp_peer::v1beta2::DynamicASN::External));
}

#[test]
fn peer_of_the_deprecated_version_can_be_read_as_the_stored_one() {
    let text = r#"
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: old}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 10.96.0.100
  peerPort: 179
  holdTime: 90s
  keepaliveTime: 30s
  routerID: 10.0.0.1
  sourceAddress: 10.0.0.1
  password: secret
  bfdProfile: fast
  ebgpMultiHop: false
  nodeSelectors:
  - matchLabels: {rack: a}
    matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [hostA, hostB]}]
"#;
    let old: bgp_peer::v1beta1::BGPPeer = round_trip(text, &[]);
    // Without a conversion webhook the server changes nothing but the version.
    let mut value = serde_json::to_value(&old).unwrap();
    value["apiVersion"] = "metallb.io/v1beta2".into();
    let new: bgp_peer::v1beta2::BGPPeer = serde_json::from_value(value).unwrap();
    assert_eq!((new.spec.peer_asn, new.spec.peer_address.as_str()), (Some(64513), "10.96.0.100"));
    assert_eq!(new.spec.node_selectors, old.spec.node_selectors);
}

#[test]
fn bfd_profile_with_everything() {
    let profile: BFDProfile = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: testbfdprofile, namespace: metallb-system}
spec:
  receiveInterval: 380
  transmitInterval: 270
  detectMultiplier: 3
  echoInterval: 50
  echoMode: true
  passiveMode: false
  minimumTtl: 254
"#,
        &[],
    );
    assert_eq!(profile.spec.minimum_ttl, Some(254));
}

#[test]
fn community_aliases() {
    let community: Community = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: communities, namespace: metallb-system}
spec:
  communities:
  - {name: vpn-only, value: "1234:1"}
  - {name: NO_ADVERTISE, value: "65535:65282"}
  - {name: big, value: "large:123:456:7890"}
"#,
        &[],
    );
    assert_eq!(community.spec.communities[2].value, "large:123:456:7890");
}

#[test]
fn status_objects() {
    let l2: ServiceL2Status = round_trip(
        r#"
apiVersion: metallb.io/v1beta1
kind: ServiceL2Status
metadata: {name: l2-4hb2n, namespace: metallb-system, labels: {metallb.io/node: worker}}
spec: {}
status: {node: worker, serviceName: web, serviceNamespace: shop, interfaces: [{name: eth0}]}
"#,
        &[],
    );
    assert_eq!(l2.status.unwrap().interfaces[0].name, "eth0");
    round_trip::<ServiceBGPStatus>(
        r#"
apiVersion: metallb.io/v1beta1
kind: ServiceBGPStatus
metadata: {name: bgp-k2mn4}
spec: {}
status: {node: worker, serviceName: web, serviceNamespace: shop, peers: [peer-a, peer-b]}
"#,
        &[],
    );
    round_trip::<ConfigurationState>(
        r#"
apiVersion: metallb.io/v1beta1
kind: ConfigurationState
metadata: {name: controller}
status:
  result: Invalid
  errorSummary: "configuration error: …"
  conditions:
  - type: poolReconcilerValid
    status: "False"
    reason: ConfigurationError
    message: "configuration error: …"
    lastTransitionTime: "2026-11-21T12:00:00Z"
"#,
        &[],
    );
}
