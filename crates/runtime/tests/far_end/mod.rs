//! The far end of a client's connections: enough of an API server to list and watch Services, which does what a test
//! tells it, call by call. Between it and the client are socket pairs of the kernel; the client is the real one, from
//! `landfall_runtime::client` down to HTTP/1.1, without TLS.
//!
//! Tests run with tokio's paused clock: time goes on only when nobody can do anything, so that a minute costs nothing
//! and "nothing more happens" is a fact.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use landfall_runtime::client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A client, and the server that it talks to.
pub(crate) fn connect() -> (Client, Server) {
    let (to_server, calls) = mpsc::unbounded_channel();
    let age = Arc::new(AtomicU32::new(0));
    let now = Arc::clone(&age);
    let connector = tower::service_fn(move |_| {
        let (calls, born) = (to_server.clone(), now.load(Ordering::Relaxed));
        async move {
            let (near, far) = UnixStream::pair()?;
            tokio::spawn(Connection { stream: far, calls, born }.next_call());
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    let config = Config::new(Uri::from_static("http://api.test"));
    let client = client::patient(config, connector).expect("a client");
    (client, Server { calls, age, dead: Vec::new() })
}

pub(crate) struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    age: Arc<AtomicU32>,
    /// Calls that nobody will answer on connections that nobody will close.
    dead: Vec<Call>,
}

impl Server {
    /// The client's next call, on a connection that is alive.
    pub(crate) async fn call(&mut self) -> Call {
        loop {
            let call = self.calls.recv().await.expect("the client is there");
            if call.connection.born == self.age.load(Ordering::Relaxed) {
                return call;
            }
            self.dead.push(call);
        }
    }

    /// From now on no call on a connection that exists now is answered, and none of them is closed.
    pub(crate) fn go_silent(&mut self) {
        self.age.fetch_add(1, Ordering::Relaxed);
    }
}

struct Connection {
    stream: UnixStream,
    calls: mpsc::UnboundedSender<Call>,
    /// How many times the server had gone silent when it was made.
    born: u32,
}

impl Connection {
    /// Reads the head of a request: these have no body. Ends when the client closes the connection.
    async fn next_call(mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(octet) => head.push(octet),
                Err(_closed) => return,
            }
        }
        let head = String::from_utf8(head).expect("a head in UTF-8");
        let target = head.split(' ').nth(1).expect("a request line").to_owned();
        let calls = self.calls.clone();
        let _ = calls.send(Call { target, connection: self }); // the test may be over
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the client reads");
    }
}

/// A request that waits for its answer. Dropped: the connection is closed instead.
pub(crate) struct Call {
    target: String,
    connection: Connection,
}

impl Call {
    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.parameter("watch") == Some("true")
    }

    /// Answers with JSON, and waits for the next call on this connection.
    pub(crate) async fn answer(mut self, status: u16, body: Value) {
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
        self.connection.write(&format!("{head}\r\n\r\n{body}")).await;
        tokio::spawn(self.connection.next_call());
    }

    /// Answers a list with one page, read at `version`; `next`: what to ask for the page that follows.
    pub(crate) async fn list(self, objects: &[Value], version: u64, next: &str) {
        assert!(!self.is_watch(), "{} is not a list", self.target);
        let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
        let list = json!({"apiVersion": "v1", "kind": "ServiceList", "metadata": metadata, "items": objects});
        self.answer(200, list).await;
    }

    /// Answers a watch from this version on.
    pub(crate) async fn watch(mut self, from: u64) -> Watch {
        assert!(self.is_watch(), "{} is not a watch", self.target);
        assert_eq!(self.parameter("resourceVersion"), Some(from.to_string().as_str()));
        self.connection
            .write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        Watch { connection: self.connection }
    }
}

/// A watch that is open. Dropped: its connection is closed in the middle.
pub(crate) struct Watch {
    connection: Connection,
}

impl Watch {
    /// Sends one event; `sent` counts the octets that the server got rid of.
    pub(crate) async fn event(&mut self, kind: &str, object: &Value, sent: &AtomicUsize) {
        let event = format!("{}\n", json!({"type": kind, "object": object}));
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        let mut rest = chunk.as_bytes();
        while !rest.is_empty() {
            let written = self.connection.stream.write(rest).await.expect("the client reads");
            sent.fetch_add(written, Ordering::Relaxed);
            rest = &rest[written..];
        }
    }

    /// Sends the first half of an event, and closes the connection.
    pub(crate) async fn break_off(mut self, kind: &str, object: &Value) {
        let event = format!("{}\n", json!({"type": kind, "object": object}));
        self.connection.write(&format!("{:x}\r\n{}", event.len(), &event[..event.len() / 2])).await;
    }

    /// Ends it in order, as the API server does when its time is over.
    pub(crate) async fn end(mut self) {
        self.connection.write("0\r\n\r\n").await;
        tokio::spawn(self.connection.next_call());
    }
}

/// A Service as the API has it: `padding` octets more than it needs.
pub(crate) fn service(name: &str, version: u64, padding: usize) -> Value {
    let annotations = json!({"padding": "x".repeat(padding)});
    let metadata = json!({"name": name, "resourceVersion": version.to_string(), "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})
}

/// What the API server says of a place that it has forgotten.
pub(crate) fn gone() -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
           "message": "too old resource version"})
}
