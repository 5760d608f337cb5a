//! An HTTPS server for callers that nobody vouches for: everything that one of them can make us hold has a limit.
//!
//! One task accepts connections; each is a task of its own from then on, handshake included, so that a client that says
//! nothing keeps nobody waiting. HTTP/1.1 only.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::certificate::{Identity, provider};
use crate::probes;

/// A pause after the kernel refuses a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What callers may take of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Without a request on an open connection, and for the headers of one.
    pub idle: Duration,
    /// From the end of a request's headers to its answer.
    pub request: Duration,
    /// Octets of a request's body.
    pub body: usize,
}

impl Default for Limits {
    /// For webhooks, whose client is the API server. It keeps up to 25 idle connections per server process and closes one after
    /// 90 s; were we first, a request could meet a connection that is just being closed. It waits for an answer for 30 s
    /// at most. An object has 1.5 MiB at most; a list of objects to convert can be longer.
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(120),
            request: Duration::from_secs(30),
            body: 8 << 20,
        }
    }
}

/// The certificate that a server shows now. Clones are the same one. Until the first [`set`](Self::set) every handshake
/// fails.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<RwLock<Option<Identity>>>);

impl Shown {
    /// From the next handshake on this one is shown. Connections that are open stay as they are.
    pub fn set(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(identity);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(Identity::key)
    }
}

/// Takes the port. `[::]` takes IPv4 as well; where the kernel has no IPv6 it means `0.0.0.0`.
/// # Errors
/// Those of the kernel.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    probes::bind(address).await
}

/// Starts the server as a task, which never ends by itself and may be aborted at any time.
/// # Errors
/// TLS 1.3 is not to be had; it always is.
pub fn serve(listener: TcpListener, router: Router, shown: Shown, limits: Limits) -> anyhow::Result<JoinHandle<()>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .context("no TLS 1.3")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = router.layer(DefaultBodyLimit::max(limits.body));
    Ok(tokio::spawn(accept(listener, acceptor, router, limits)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, router: Router, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Fails only when the semaphore is closed, which nobody does.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, acceptor, router, limits).await {
                        debug!(%peer, error = format!("{error:#}"), "connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from the handshake to its end.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor, router: Router, limits: Limits) -> anyhow::Result<()> {
    let stream = timeout(limits.handshake, acceptor.accept(stream)).await.context("TLS handshake not done in time")?;
    let stream = stream.context("TLS handshake")?;
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        async move { Ok::<_, Infallible>(in_time(timeout(limits.request, answer).await)) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .serve_connection(TokioIo::new(stream), answer)
        .await
        .context("HTTP")
}

fn in_time(answer: Result<Result<Response, Infallible>, tokio::time::error::Elapsed>) -> Response {
    match answer {
        Ok(Ok(response)) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use axum::routing::post;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    const NAME: &str = "lb.example";

    struct Server {
        address: SocketAddr,
        shown: Shown,
    }

    /// A server that says how long the body was; `/never` never answers.
    async fn server(limits: Limits) -> Server {
        let router = Router::new()
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/never", post(std::future::pending::<String>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shown) = (listener.local_addr().unwrap(), Shown::default());
        serve(listener, router, shown.clone(), limits).unwrap();
        Server { address, shown }
    }

    /// A certificate that is its own authority, as a server and as a client that trusts nothing else.
    fn identity() -> (Identity, TlsConnector) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let identity = Identity::read(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        (identity, TlsConnector::from(Arc::new(client)))
    }

    impl Server {
        async fn connect(&self, client: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
            let stream = TcpStream::connect(self.address).await?;
            client.connect(ServerName::try_from(NAME).unwrap(), stream).await
        }

        /// The first and the last line of the answer.
        async fn post(&self, client: &TlsConnector, path: &str, length: usize) -> (String, String) {
            let mut stream = self.connect(client).await.unwrap();
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            // The server may answer, and close, before it has read all of a body that is too long.
            let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            (answer.lines().next().unwrap_or_default().into(), answer.lines().last().unwrap_or_default().into())
        }
    }

    #[tokio::test]
    async fn the_certificate_can_be_changed_while_the_server_runs() {
        let server = server(Limits::default()).await;
        let ((first, trusts_first), (second, trusts_second)) = (identity(), identity());
        assert!(server.connect(&trusts_first).await.is_err(), "there is no certificate yet");
        server.shown.set(first);
        let open = server.connect(&trusts_first).await.unwrap();
        assert!(server.connect(&trusts_second).await.is_err());
        server.shown.set(second);
        assert!(server.connect(&trusts_first).await.is_err());
        assert_eq!(server.post(&trusts_second, "/length", 5).await, ("HTTP/1.1 200 OK".into(), "5".into()));
        drop(open);
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_keeps_nobody_waiting() {
        let server = server(Limits { handshake: Duration::from_secs(3600), ..Limits::default() }).await;
        let (identity, client) = identity();
        server.shown.set(identity);
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = timeout(Duration::from_secs(10), server.post(&client, "/length", 1)).await.unwrap();
        assert_eq!(answer.1, "1");
    }

    #[tokio::test]
    async fn a_connection_that_is_not_used_is_closed_and_makes_room() {
        let short = Duration::from_millis(200);
        let limits = Limits { connections: 1, handshake: short, idle: short, ..Limits::default() };
        let server = server(limits).await;
        let (identity, client) = identity();
        server.shown.set(identity);
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(server.post(&client, "/length", 2).await.1, "2", "after the handshake's time");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        let mut idle = server.connect(&client).await.unwrap();
        assert_eq!(server.post(&client, "/length", 3).await.1, "3", "after the idle time");
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_and_an_answer_that_takes_too_long_are_refused() {
        let limits = Limits { body: 1000, request: Duration::from_millis(200), ..Limits::default() };
        let server = server(limits).await;
        let (identity, client) = identity();
        server.shown.set(identity);
        assert_eq!(server.post(&client, "/length", 1000).await.1, "1000");
        assert_eq!(server.post(&client, "/length", 1001).await.0, "HTTP/1.1 413 Payload Too Large");
        assert_eq!(server.post(&client, "/never", 0).await.0, "HTTP/1.1 503 Service Unavailable");
    }
}
