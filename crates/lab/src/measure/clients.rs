//! Clients that hold TCP connections through a change, and clients that come anew all the time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::probe::go_first;
use super::visits::{Answered, Failure, Visit};
use crate::echo::EchoAnswer;
use crate::lab::Lab;

/// An established connection sends a request this long after each answer.
const THINK: Duration = Duration::from_millis(100);
/// An established connection is broken when an answer takes longer: TCP itself bridges shorter silences.
const PATIENCE: Duration = Duration::from_secs(30);
/// A new connection has failed when it is not established, asked and answered by then: before TCP sends its second SYN, so
/// that a single lost packet shows.
const HURRY: Duration = Duration::from_millis(900);
/// Between the beginnings of two new connections, where a measurement has no other wish.
pub(super) const NEW_EVERY: Duration = Duration::from_millis(20);
/// The ports of clients, each of which is used once before the first comes again, more than ten minutes later. The system would
/// choose one that a connection had some seconds before; and where that one's first packet went to a dead Pod, the node's
/// kernel sends the next from that port after it, for two minutes, whatever kube-proxy has learnt since.
const PORTS: std::ops::Range<u16> = 1_100..65_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(PORTS.start);
/// Opening the connections that are to last, while nothing is wrong.
const OPEN: Duration = Duration::from_secs(10);

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Connections that are opened at the start and stay.
    pub(super) established: usize,
    /// A new connection with one request each time this has passed.
    pub(super) new_every: Option<Duration>,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Why established connections broke, one line for each that did.
    pub(super) broken: Vec<String>,
    /// New connections that were tried and have come to their end, in the order in which they did.
    pub(super) visits: Vec<Visit>,
}

impl Seen {
    /// The new connections that failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.visits.iter().filter_map(|visit| visit.result.as_ref().err())
    }
}

/// Clients at work; they end when this is dropped.
pub(super) struct Clients {
    stop: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Clients {
    /// Starts them in the network of `place`; returns when every lasting connection is established and was answered.
    pub(super) async fn start(lab: &Lab, place: &str, server: SocketAddr, load: Load) -> Result<Clients> {
        let (stop, stopped) = watch::channel(false);
        let (open, mut opened) = watch::channel(0);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let into = seen.clone();
        // A thread that is started inside the namespace stays in it, and so do its sockets.
        let thread = lab.in_netns(place, || {
            std::thread::spawn(move || -> Result<()> {
                go_first();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(work(server, load, stopped, &open, &into));
                Ok(())
            })
        })?;
        let clients = Clients { stop, seen, thread: Some(thread) };
        let all = async { opened.wait_for(|count| *count == load.established).await.is_ok() };
        ensure!(
            timeout(OPEN, all).await == Ok(true),
            "only {} of {} connections to {server} could be opened: {}",
            *opened.borrow(),
            load.established,
            clients.so_far().broken.join("; ")
        );
        Ok(clients)
    }

    /// What was seen until now.
    pub(super) fn so_far(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every request that is under way come to its end, and returns what was seen.
    pub(super) async fn finish(mut self) -> Result<Seen> {
        let _ = self.stop.send(true);
        let thread = self.thread.take().context("finished already")?;
        let ended = super::damage::blocking(move || thread.join().map_err(|_| anyhow!("the clients' thread panicked")));
        ended.await??;
        Ok(self.so_far())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

async fn work(
    server: SocketAddr,
    load: Load,
    stopped: watch::Receiver<bool>,
    open: &watch::Sender<usize>,
    seen: &Arc<Mutex<Seen>>,
) {
    let mut lasting = JoinSet::new();
    for _ in 0..load.established {
        let (open, stopped) = (open.clone(), stopped.clone());
        lasting.spawn(async move { stay(server, &open, stopped).await });
    }
    let comers = come(server, load.new_every, stopped, seen);
    let stayers = async {
        while let Some(ended) = lasting.join_next().await {
            if let Err(error) = ended.map_err(anyhow::Error::from).flatten() {
                seen.lock().unwrap_or_else(PoisonError::into_inner).broken.push(format!("{error:#}"));
            }
        }
    };
    tokio::join!(comers, stayers);
}

/// One connection that lasts: a request, its answer, a pause, until it is told to stop.
async fn stay(server: SocketAddr, open: &watch::Sender<usize>, mut stopped: watch::Receiver<bool>) -> Result<()> {
    let mut connection = timeout(OPEN, Connection::open(server)).await.context("no connection in time")??;
    for answered in 0_usize.. {
        timeout(PATIENCE, connection.ask()).await.with_context(|| format!("no answer for {PATIENCE:?}"))??;
        if answered == 0 {
            open.send_modify(|count| *count += 1);
        }
        tokio::select! {
            () = sleep(THINK) => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    Ok(())
}

/// New connections, one after another whatever becomes of them, until it is told to stop.
async fn come(
    server: SocketAddr,
    every: Option<Duration>,
    mut stopped: watch::Receiver<bool>,
    seen: &Arc<Mutex<Seen>>,
) {
    let Some(every) = every else { return };
    let (mut tick, mut under_way) = (interval(every), JoinSet::new());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        let seen = seen.clone();
        under_way.spawn(async move {
            let (began, mut established) = (Instant::now(), None);
            let visit = async {
                let mut connection = Connection::open(server).await?;
                established = Some(Instant::now());
                let body = connection.ask().await?;
                let answer: EchoAnswer = serde_json::from_slice(&body).context("this is not the lab's echo server")?;
                Ok(Answered { at: Instant::now(), node: answer.node })
            };
            let result = timeout(HURRY, visit).await.unwrap_or_else(|_| bail!("not done after {HURRY:?}"));
            let result = result.map_err(|error: anyhow::Error| Failure {
                established,
                why: format!("{error:#}, {} ms after it began", began.elapsed().as_millis()),
            });
            seen.lock().unwrap_or_else(PoisonError::into_inner).visits.push(Visit { began, result });
        });
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// A socket with a port that was not used for long.
fn from_new_port(server: SocketAddr) -> Result<TcpSocket> {
    let any = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    loop {
        let turn = |port: u16| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
        let port = NEXT_PORT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, turn).unwrap_or(PORTS.start);
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        match socket.bind((any, port).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|()| socket).context("bind"),
        }
    }
}

/// A connection to the echo server that is kept open between requests.
struct Connection {
    stream: BufReader<TcpStream>,
    server: SocketAddr,
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Connection> {
        let stream = from_new_port(server)?.connect(server).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), server })
    }

    /// A request, and its whole answer, of which it returns the body.
    async fn ask(&mut self) -> Result<Vec<u8>> {
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        self.stream.write_all(request.as_bytes()).await.context("send")?;
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            let octets = self.stream.read_line(&mut line).await.context("receive")?;
            ensure!(octets > 0, "closed by the server");
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse()?,
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.context("receive")?;
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// An echo server's answer.
    const BODY: &str =
        r#"{"pod":"web-1","node":"n2","client":"192.0.2.9:40000","local":"192.0.2.1:80","protocol":"http"}"#;

    /// A server on this computer that answers `answers` requests on each connection and then closes it.
    fn server(answers: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut request = [0; 1024];
                    for _ in 0..answers {
                        if stream.read(&mut request).is_ok_and(|length| length > 0) {
                            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
                        }
                    }
                });
            }
        });
        address
    }

    async fn seen(address: SocketAddr, load: Load) -> Seen {
        let (stop, stopped) = watch::channel(false);
        let (open, _) = watch::channel(0);
        let seen = Arc::default();
        let end = async {
            sleep(Duration::from_millis(350)).await;
            stop.send_replace(true); // all of them may have ended by themselves
        };
        tokio::join!(work(address, load, stopped, &open, &seen), end);
        assert_eq!(*open.borrow(), load.established);
        Arc::into_inner(seen).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn connections_that_hold_are_not_broken_and_new_ones_are_counted() {
        let load = Load { established: 3, new_every: Some(Duration::from_millis(20)) };
        let seen = seen(server(100), load).await;
        assert_eq!((seen.broken.len(), seen.failures().count()), (0, 0), "{seen:?}");
        assert!((5..=20).contains(&seen.visits.len()), "{seen:?}");
        let by_n2 = |visit: &Visit| {
            let answered = visit.result.as_ref().unwrap();
            answered.node == "n2" && answered.at > visit.began
        };
        assert!(seen.visits.iter().all(by_n2), "{seen:?}");
    }

    #[tokio::test]
    async fn a_connection_that_the_server_ends_is_broken() {
        let seen = seen(server(2), Load { established: 3, new_every: None }).await;
        assert_eq!(seen.broken.len(), 3, "{seen:?}");
    }

    #[tokio::test]
    async fn a_new_connection_that_nobody_answers_has_failed() {
        let before = Instant::now();
        let load = Load { established: 0, new_every: Some(Duration::from_millis(50)) };
        let closed = seen(server(0), load).await;
        let tried = closed.visits.len();
        assert!(tried > 0 && closed.failures().count() == tried, "{closed:?}");
        let was = |by| closed.failures().filter(|failure| failure.was_established(by)).count();
        assert_eq!((was(before), was(Instant::now())), (0, tried), "it was established, and then closed");
        // Nobody listens there any more.
        let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = seen(nowhere, load).await;
        assert!(refused.failures().all(|failure| !failure.was_established(Instant::now())), "{refused:?}");
    }
}
