//! Certificate, server and routes together, as the API server meets them.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::report::Kind;

const NAMESPACE: &str = "landfall-system";

struct Webhooks {
    address: SocketAddr,
    client: TlsConnector,
    dns_name: String,
}

/// A server without a cluster behind it, and a client that trusts its authority only.
async fn webhooks() -> Webhooks {
    let dns_name = certificate::dns_name("webhooks", NAMESPACE);
    let issued = certificate::issue(None, &dns_name, Timestamp::now()).unwrap();
    let usable = certificate::assess(&issued.data, &dns_name, Timestamp::now()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&usable.ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let context = serve::Context { client: Client::try_from(nobody).unwrap(), namespace: NAMESPACE.to_owned() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shown) = (listener.local_addr().unwrap(), Shown::default());
    shown.set(usable.identity);
    tls_server::serve(listener, serve::router(context), shown, Limits::default()).unwrap();
    Webhooks { address, client: TlsConnector::from(Arc::new(client)), dns_name }
}

impl Webhooks {
    /// The status line and the body.
    async fn post(&self, path: &str, body: &str) -> (String, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(self.dns_name.clone()).unwrap();
        let mut stream = self.client.connect(name, stream).await.unwrap();
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    async fn review(&self, path: &str, review: Value) -> Value {
        let (status, body) = self.post(path, &review.to_string()).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["response"].take()
    }
}

#[tokio::test]
async fn every_path_of_metallb_answers_over_tls() {
    let webhooks = webhooks().await;
    for kind in
        [Kind::Pool, Kind::L2Advertisement, Kind::BgpPeer, Kind::BgpAdvertisement, Kind::BfdProfile, Kind::Community]
    {
        let request = json!({"uid": "7", "operation": "CREATE", "namespace": "default", "object": {}});
        let response = webhooks.review(serve::path(kind), json!({"request": request})).await;
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("7"), &json!(false)), "{kind:?}");
        assert_eq!(response["status"]["message"], "resource must be created in landfall-system namespace");
    }
    let peer = json!({"apiVersion": "metallb.io/v1beta1", "kind": "BGPPeer", "metadata": {"name": "r"}, "spec": {}});
    let request = json!({"uid": "8", "desiredAPIVersion": "metallb.io/v1beta2", "objects": [peer]});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
    let response = webhooks.review(CONVERT_PATH, review).await;
    assert_eq!(response["convertedObjects"][0]["apiVersion"], "metallb.io/v1beta2");
    for path in [serve::path(Kind::Pool), CONVERT_PATH] {
        let (status, said) = webhooks.post(path, "{}").await;
        assert_eq!(status, "HTTP/1.1 400 Bad Request");
        assert!(said.starts_with("this is no "), "{said}");
    }
}

#[tokio::test]
async fn while_the_api_cannot_be_asked_objects_pass_with_a_warning() {
    let webhooks = webhooks().await;
    let pool = json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "p", "namespace": NAMESPACE},
        "spec": {"addresses": ["192.0.2.0/28"]},
    });
    let request = json!({"uid": "7", "operation": "CREATE", "namespace": NAMESPACE, "object": pool});
    let response = webhooks.review(serve::path(Kind::Pool), json!({"request": request})).await;
    assert_eq!(response["allowed"], true);
    assert!(
        response["warnings"][0].as_str().unwrap().starts_with("not checked against the other objects"),
        "{response}"
    );
}
