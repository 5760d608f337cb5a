//! What the API server asks before it takes an object: the validating webhooks, and the conversion of `BGPPeer`.
//!
//! ```text
//! Secret ─▶ certificate ─▶ publish ─▶ the server's certificate, caBundle     at start, and when any of them changes
//! request ─▶ serve ─▶ review, conversion ─▶ answer
//! ```
//!
//! [`certificate`], [`review`], [`candidate`] (what a review is about) and [`conversion`] decide; `publish` and `serve` talk to
//! the cluster. Two tasks, either of which may be aborted at any time: the server and the publisher. Nothing here is needed
//! to give out addresses, and whatever passes unchecked is found by the controller again.

pub mod candidate;
pub mod certificate;
pub mod conversion;
mod publish;
pub mod review;
pub mod serve;

use std::net::SocketAddr;

use anyhow::Context as _;
use kube::Client;
use landfall_runtime::probes::Health;
use landfall_runtime::tls_server::{self, Limits, Shown};

use publish::Publisher;

/// Where the API server sends BGPPeers to be converted.
const CONVERT_PATH: &str = "/convert";

/// How the webhooks are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The Service, in our namespace, by which the API server reaches it on port 443; the certificate is for its name.
    pub service: String,
    /// The Secret, in our namespace, with the certificate; it is made when it is missing.
    pub secret: String,
    /// The `ValidatingWebhookConfiguration` that is told whom to trust.
    pub configuration: String,
}

/// Starts the server and what keeps its certificate. `namespace` is the one that Landfall runs in. The process is ready only
/// when the server shows a certificate that the API server has been told to trust.
/// # Errors
/// The address cannot be had; the error names the flag that changes it.
pub async fn start(settings: Settings, client: Client, namespace: String, health: &Health) -> anyhow::Result<()> {
    let ready = health.step("the certificate of the webhooks, see the log");
    let listener = tls_server::bind(settings.address).await.with_context(|| {
        format!("cannot serve the webhooks on {}: choose another port with --webhook-port", settings.address)
    })?;
    let shown = Shown::default();
    let router = serve::router(serve::Context { client: client.clone(), namespace: namespace.clone() });
    tls_server::serve(listener, router, shown.clone(), Limits::default())?;
    tokio::spawn(Publisher { client, namespace, settings, shown, ready }.run());
    Ok(())
}

#[cfg(test)]
mod tests;
