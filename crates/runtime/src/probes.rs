//! The HTTP server for kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`.
//!
//! Alive: every task that promised to tick did so lately. Ready: everything that was promised at start is done. Both
//! answer with words, so that `kubectl describe pod` says what is missing.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::shutdown::Shutdown;

/// A task that has not ticked for this long is stuck. Three of kubelet's probes (10 s apart) fail before it acts.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// How often a task should tick when it has nothing else to do.
pub const TICK: Duration = Duration::from_secs(5);

/// What the probes ask. Cheap to clone. All tasks and steps are named before the server starts.
#[derive(Clone, Debug)]
pub struct Health {
    started: Instant,
    parts: Arc<Mutex<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    beats: Vec<(&'static str, Arc<AtomicU64>)>,
    steps: Vec<(&'static str, Arc<AtomicBool>)>,
}

/// The pulse of one task.
#[derive(Clone, Debug)]
pub struct Beat {
    started: Instant,
    last_millis: Arc<AtomicU64>,
}

impl Beat {
    /// Says that the task is at work. At least each [`TICK`].
    pub fn tick(&self) {
        self.last_millis.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }
}

/// One thing that must happen before the process is ready.
#[derive(Clone, Debug)]
pub struct Step(Arc<AtomicBool>);

impl Step {
    /// It has happened. There is no way back: a process that loses the API keeps serving what it knows.
    pub fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), parts: Arc::default() }
    }
}

impl Health {
    /// Liveness: names a task that promises to tick.
    pub fn task(&self, name: &'static str) -> Beat {
        let beat = Beat { started: self.started, last_millis: Arc::default() };
        beat.tick();
        self.parts().beats.push((name, Arc::clone(&beat.last_millis)));
        beat
    }

    /// Readiness: names a step of the start that must be done.
    pub fn step(&self, name: &'static str) -> Step {
        let step = Step(Arc::default());
        self.parts().steps.push((name, Arc::clone(&step.0)));
        step
    }

    fn alive(&self, now: Duration) -> Result<(), String> {
        let stuck = |(name, last): &(&'static str, Arc<AtomicU64>)| {
            let silent = now.saturating_sub(Duration::from_millis(last.load(Ordering::Relaxed)));
            (silent > STUCK_AFTER).then(|| format!("{name} has not ticked for {} s", silent.as_secs()))
        };
        none_of(self.parts().beats.iter().filter_map(stuck).collect())
    }

    fn ready(&self) -> Result<(), String> {
        let waits = |(name, done): &(&'static str, Arc<AtomicBool>)| {
            (!done.load(Ordering::Relaxed)).then(|| format!("waiting for {name}"))
        };
        none_of(self.parts().steps.iter().filter_map(waits).collect())
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        // Nothing panics while it holds the lock; if it did, the lists would still be whole.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn none_of(complaints: Vec<String>) -> Result<(), String> {
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn answer(result: Result<(), String>) -> (StatusCode, String) {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

fn router(health: Health, metrics: Arc<Registry>) -> Router {
    let ready = health.clone();
    Router::new()
        .route("/healthz", get(move || async move { answer(health.alive(health.started.elapsed())) }))
        .route("/readyz", get(move || async move { answer(ready.ready()) }))
        .route(
            "/metrics",
            get(move || async move {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], crate::metrics::text(&metrics))
            }),
        )
}

/// `[::]` takes IPv4 as well; where the kernel has no IPv6 it means `0.0.0.0`.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// Starts the server as a task that ends with the process.
///
/// # Errors
/// The address cannot be bound; the error names the flag that changes it.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Arc<Registry>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let listener = bind(address).await.with_context(|| {
        format!(
            "cannot serve probes on {address}: if another process of this node uses the port (MetalLB uses the same \
             by default), stop it or choose another with --health-probe-port"
        )
    })?;
    let server = axum::serve(listener, router(health, metrics))
        .with_graceful_shutdown(async move { shutdown.requested().await });
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the probe server ended");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_step_and_names_those_missing() {
        let health = Health::default();
        let (lists, sockets) = (health.step("the first lists"), health.step("the packet sockets"));
        assert_eq!(health.ready(), Err("waiting for the first lists\nwaiting for the packet sockets".into()));
        lists.done();
        assert_eq!(health.ready(), Err("waiting for the packet sockets".into()));
        sockets.done();
        assert_eq!(health.ready(), Ok(()));
    }

    #[test]
    fn a_task_that_stops_ticking_is_named_and_one_that_ticks_is_not() {
        let health = Health::default();
        let stuck = health.task("owner");
        let well = health.task("wire");
        stuck.last_millis.store(1_000, Ordering::Relaxed);
        well.last_millis.store(20_000, Ordering::Relaxed);
        assert_eq!(health.alive(Duration::from_secs(21)), Ok(()));
        assert_eq!(health.alive(Duration::from_secs(25)), Err("owner has not ticked for 24 s".into()));
    }

    #[tokio::test]
    async fn the_server_answers_each_path_and_says_when_it_is_not_ready() {
        let health = Health::default();
        let step = health.step("the first lists");
        let router = router(health, Arc::new(crate::metrics::registry()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());

        let (status, body) = http_get(address, "/readyz").await;
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("HTTP/1.1 503 Service Unavailable", "waiting for the first lists\n")
        );
        step.done();
        assert_eq!(http_get(address, "/readyz").await.0, "HTTP/1.1 200 OK");
        assert_eq!(http_get(address, "/healthz").await, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
        assert!(http_get(address, "/metrics").await.1.contains("process_resident_memory_bytes "));
    }

    /// The status line and the body.
    async fn http_get(address: SocketAddr, path: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().into(), body.into())
    }
}
