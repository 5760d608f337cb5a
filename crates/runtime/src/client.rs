//! The cluster client: in the cluster or from a kubeconfig, with time limits, and patient while the API is away.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Uri;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};
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
    // Longer than the 55 s after which a watch is given up by itself, so that it ends a dead request and no living one;
    // and shorter than the minute within which a list that is never answered has to be asked for again.
    read: Duration::from_secs(57),
    write: Duration::from_secs(10),
};

/// Of a connection that carries nothing for this long the kernel asks whether the other end still has it. The questions
/// are answered by the kernel there and cost the API server nothing.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// And again until it is answered.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// A connection is dead when what was sent on it, such a question or a request, has had no answer from the other kernel for
/// this long: within 16 s every connection that died is gone, also those that wait for their next request. Time enough
/// for three questions in a row or four retransmissions; and a network that was away for so long has cost one handshake.
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// A connection that waits this long for its next request is closed. Shorter than a watch's 55 s: one that is given up
/// because its connection died does not go on over another that died with it.
const MAX_IDLE: Duration = Duration::from_secs(30);

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
    let config = configuration().await?;
    let server = config.cluster_url.to_string();
    let client = patient(config, sockets())?;
    tokio::spawn(say_when_reachable(client.clone(), server));
    Ok(client)
}

/// The client that [`connect`] returns, for this configuration, over connections that `connector` makes.
///
/// # Errors
/// The configuration asks for what we do not have.
pub fn patient<C>(config: Config, connector: C) -> anyhow::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    make(&config, PATIENT, connector)
}

/// A client with connections of its own for requests that are worth nothing when they take longer than `limit`: those of a
/// [`lease`](crate::lease). Neither a burst of other requests nor a connection that died silently holds them back for
/// longer. It does not retry.
///
/// # Errors
/// As [`connect`].
pub async fn hasty(limit: Duration) -> anyhow::Result<Client> {
    make(&configuration().await?, Limits { connect: limit, read: limit, write: limit }, sockets())
}

/// How to reach the cluster.
async fn configuration() -> anyhow::Result<Config> {
    Config::infer().await.context(
        "no way to reach a cluster: run as a Pod with a service account, or set KUBECONFIG to a kubeconfig file",
    )
}

/// TCP connections that the kernel ends when the other end is gone without a word. Without that, one that waits for its next
/// request looks alive, and swallows the request.
/// Source: tcp(7), TCP_USER_TIMEOUT, which also says when unanswered keepalives end a connection.
fn sockets() -> HttpConnector {
    let mut sockets = HttpConnector::new();
    sockets.enforce_http(false); // TLS comes on top
    sockets.set_keepalive(Some(ASK_AFTER));
    sockets.set_keepalive_interval(Some(ASK_EVERY));
    sockets.set_tcp_user_timeout(Some(DEAD_AFTER));
    sockets
}

/// kube's stack of layers, with our connections under it and without its retries.
fn make<C>(config: &Config, limits: Limits, connector: C) -> anyhow::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    if let Some(proxy) = &config.proxy_url {
        bail!(
            "Landfall goes to the API server without a proxy, but {proxy} is named: remove proxy-url from the kubeconfig, or \
             the environment variable HTTPS_PROXY"
        );
    }
    // An error only means that one is installed already, by a test for example.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cannot = || format!("cannot make a client for API server {}", config.cluster_url);
    let tls = config.rustls_https_connector_with_connector(connector).with_context(cannot)?;
    let mut limited = TimeoutConnector::new(tls);
    limited.set_connect_timeout(Some(limits.connect));
    limited.set_read_timeout(Some(limits.read));
    limited.set_write_timeout(Some(limits.write));
    // Else the time a pooled connection sat idle counts against the next answer.
    limited.set_reset_reader_on_write(true);
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(MAX_IDLE)
        .build(limited);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().with_context(cannot)?)
        .layer(config.extra_headers_layer().with_context(cannot)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
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

/// The answer to a request that may take this long.
/// # Errors
/// Why there is none, in words.
pub async fn within<T>(limit: Duration, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
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

    #[tokio::test]
    async fn the_kernel_is_told_to_end_a_connection_whose_other_end_is_silent() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}", server.local_addr().unwrap()).parse().unwrap();
        let connection = sockets().call(uri).await.unwrap();
        let socket = socket2::SockRef::from(connection.inner());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), ASK_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASK_EVERY);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DEAD_AFTER));
    }

    #[test]
    fn a_proxy_is_refused_and_not_gone_around() {
        let mut config = Config::new(Uri::from_static("https://192.0.2.1:6443"));
        config.proxy_url = Some(Uri::from_static("http://192.0.2.9:3128"));
        let error = patient(config, sockets()).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Landfall goes to the API server without a proxy, but http://192.0.2.9:3128/ is named: remove proxy-url from the \
             kubeconfig, or the environment variable HTTPS_PROXY"
        );
    }

    #[test]
    fn the_chain_names_each_cause_once() {
        let refused = Layer("connection refused", None);
        let connect = Layer("tcp connect: connection refused", Some(Box::new(refused)));
        let error = Layer("request failed", Some(Box::new(connect)));
        assert_eq!(chain(&error), "request failed: tcp connect: connection refused");
    }
}
