//! Keys, certificates, tokens and kubeconfigs of a lab.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::lab::{Lab, node_name};
use crate::network::API_SERVER;

/// Names and addresses under which the API server is reached.
const API_SERVER_NAMES: [&str; 9] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    API_SERVER,
    "10.96.0.1",
    "fd00:96::1",
];

/// Writes everything that the control plane and the nodes need into their folders:
/// `cp`: ca.crt/key, api.crt/key, kubelet-client.crt/key, sa.key/pub, tokens.csv, kcm.kubeconfig, sched.kubeconfig;
/// each node: ca.crt, kubelet.kubeconfig, proxy.kubeconfig; and the administrator's kubeconfig.
pub fn create(lab: &Lab, nodes: usize) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = named("landfall-lab-ca", None);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let cp = lab.machine("cp")?.config_dir();
    write_pair(&cp, "ca", &ca_pem, &ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let mut api = CertificateParams::new(API_SERVER_NAMES.map(str::to_owned))?;
    api.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    api.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(&cp, "api", api, &issuer)?;
    // What the API server shows to kubelets: without it `kubectl exec` and `logs` fail.
    let mut client = named("apiserver-kubelet-client", Some("system:masters"));
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(&cp, "kubelet-client", client, &issuer)?;

    let service_accounts = KeyPair::generate()?;
    fs::write(cp.join("sa.key"), service_accounts.serialize_pem())?;
    fs::write(cp.join("sa.pub"), service_accounts.public_key_pem())?;

    let mut tokens = String::from("admin-token,admin,admin,system:masters\n");
    tokens += "kcm-token,system:kube-controller-manager,kcm,system:masters\n";
    tokens += "sched-token,system:kube-scheduler,sched,\nproxy-token,system:kube-proxy,proxy,\n";
    for node in (1..=nodes).map(node_name) {
        tokens += &format!("{node}-token,system:node:{node},{node},system:nodes\n");
        let dir = lab.machine(&node)?.config_dir();
        fs::write(dir.join("ca.crt"), &ca_pem)?;
        fs::write(dir.join("kubelet.kubeconfig"), kubeconfig(&ca_pem, &format!("{node}-token"))?)?;
        fs::write(dir.join("proxy.kubeconfig"), kubeconfig(&ca_pem, "proxy-token")?)?;
    }
    fs::write(cp.join("tokens.csv"), tokens)?;
    fs::write(cp.join("kcm.kubeconfig"), kubeconfig(&ca_pem, "kcm-token")?)?;
    fs::write(cp.join("sched.kubeconfig"), kubeconfig(&ca_pem, "sched-token")?)?;
    fs::write(lab.kubeconfig_path(), kubeconfig(&ca_pem, "admin-token")?)?;
    Ok(())
}

fn named(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

fn issue(dir: &Path, file: &str, params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    write_pair(dir, file, &certificate.pem(), &key)
}

fn write_pair(dir: &Path, file: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    fs::write(dir.join(format!("{file}.crt")), certificate)?;
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
    Ok(())
}

/// JSON, which every reader of YAML takes.
fn kubeconfig(ca_pem: &str, token: &str) -> Result<String> {
    let cluster = serde_json::json!({
        "server": format!("https://{API_SERVER}:6443"),
        "certificate-authority-data": base64(ca_pem.as_bytes()),
    });
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

/// Source: RFC 4648, section 4.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (octets, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(octets.as_bytes()), text);
        }
    }
}
