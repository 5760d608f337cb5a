//! The cluster client: in the cluster or from a kubeconfig, with time limits, and patient while the API is away.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use tracing::{info, warn};

/// The first pause between two tries to reach the API server; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long each part of a request may take.
struct Limits {
    connect: Duration,
    read: Duration,
    write: Duration,
}

/// For watches and everything that may wait.
const PATIENT: Limits = Limits {
    // A TCP and TLS handshake on the same site takes milliseconds; a lost SYN is repeated after 1 and 3 s.
    connect: Duration::from_secs(5),
    // Longer than the 50 s that the server keeps a watch open, so that it ends a dead connection and no living one.
    // It also ends a request whose answer never comes, which kube's own idle limit of watches does not cover.
    read: Duration::from_secs(60),
    write: Duration::from_secs(10),
};

/// A client for the cluster. It is returned at once, also while the API server is away (a node boots before it):
/// watches try again by themselves, and probes can be answered meanwhile. A task of its own says whether and when the
/// server answers: once per reason.
///
/// The client never retries by itself (kube's default holds a request back for up to minutes): watches have their own
/// backoff, and whoever writes decides what a refusal means.
///
/// # Errors
/// No usable configuration: neither a kubeconfig nor a service account. Waiting would not mend that.
pub async fn connect() -> anyhow::Result<Client> {
    let (client, server) = make(PATIENT).await?;
    tokio::spawn(say_when_reachable(client.clone(), server));
    Ok(client)
}

/// A client with connections of its own for requests that are worth nothing when they take longer than `limit`: those of a
/// [`lease`](crate::lease). Neither a burst of other requests nor a connection that died silently holds them back for
/// longer. It does not retry.
///
/// # Errors
/// As [`connect`].
pub async fn hasty(limit: Duration) -> anyhow::Result<Client> {
    Ok(make(Limits { connect: limit, read: limit, write: limit }).await?.0)
}

/// A client, and the server that it is for.
async fn make(limits: Limits) -> anyhow::Result<(Client, String)> {
    let config = configure(limits).await?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).with_context(|| format!("cannot make a client for API server {server}"))?;
    Ok((client, server))
}

/// Asks for the server's version until it answers.
async fn say_when_reachable(client: Client, server: String) {
    let mut last_failure = None;
    let mut pause = MIN_PAUSE;
    loop {
        match client.apiserver_version().await {
            Ok(version) => return info!(server, version = version.git_version, "API server answers"),
            Err(error) => {
                let failure = chain(&error);
                if last_failure.as_ref() != Some(&failure) {
                    warn!(server, error = failure, "API server cannot be reached, trying again");
                    last_failure = Some(failure);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The configuration with our time limits, after the TLS provider is installed.
async fn configure(limits: Limits) -> anyhow::Result<Config> {
    // An error only means that one is installed already, by a test for example.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer().await.context(
        "no way to reach a cluster: run as a Pod with a service account, or set KUBECONFIG to a kubeconfig file",
    )?;
    config.connect_timeout = Some(limits.connect);
    config.read_timeout = Some(limits.read);
    config.write_timeout = Some(limits.write);
    // Else the time a pooled connection sat idle counts against the next answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Ok(config)
}

/// An error with its causes, outermost first, without saying the same words twice.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);
    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_ref().map(|inner| &**inner as _)
        }
    }

    #[test]
    fn the_chain_names_each_cause_once() {
        let refused = Layer("connection refused", None);
        let connect = Layer("tcp connect: connection refused", Some(Box::new(refused)));
        let error = Layer("request failed", Some(Box::new(connect)));
        assert_eq!(chain(&error), "request failed: tcp connect: connection refused");
    }
}
