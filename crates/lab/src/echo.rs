//! Asking the echo server, from a place in the lab.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::lab::Lab;

/// Who answered, and who it says asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EchoAnswer {
    /// The Pod's name; empty when its manifest does not set POD.
    pub pod: String,
    /// The name of the node that the Pod is on; empty when its manifest does not set NODE.
    pub node: String,
    /// The client's address as the Pod saw it.
    pub client: SocketAddr,
    /// The Pod's own address and port; for UDP the port only, `:8080`.
    pub local: String,
    /// `http` or `udp`.
    pub protocol: String,
}

impl Lab {
    /// One HTTP request on a new connection, from the network of `place` (`client`).
    /// # Errors
    /// No connection or no complete answer within `timeout` each, or an answer that is not the echo server's.
    pub fn http_get(&self, place: &str, address: IpAddr, port: u16, timeout: Duration) -> Result<EchoAnswer> {
        self.in_netns(place, || http_get(SocketAddr::new(address, port), timeout))?
    }

    /// One datagram and its answer, from the network of `place`.
    /// # Errors
    /// No answer within `timeout`.
    pub fn udp_ask(&self, place: &str, address: IpAddr, port: u16, timeout: Duration) -> Result<EchoAnswer> {
        self.in_netns(place, || udp_ask(SocketAddr::new(address, port), timeout))?
    }
}

/// As [`Lab::http_get`], from the network that the calling thread is in.
pub fn http_get(server: SocketAddr, timeout: Duration) -> Result<EchoAnswer> {
    let mut stream = TcpStream::connect_timeout(&server, timeout).with_context(|| format!("connect to {server}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read the answer of {server}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{server} sent no HTTP answer"))?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.starts_with("HTTP/1.1 200 "), "{server} answers {status:?}");
    serde_json::from_str(body).with_context(|| format!("{server} is not the lab's echo server: {body:?}"))
}

/// As [`Lab::udp_ask`], from the network that the calling thread is in.
pub fn udp_ask(server: SocketAddr, timeout: Duration) -> Result<EchoAnswer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(timeout))?;
    socket.connect(server)?;
    socket.send(b"landfall")?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer).with_context(|| format!("wait for the answer of {server}"))?;
    // What was sent follows after the object, on a line of its own.
    let object = answer[..length].split(|octet| *octet == b'\n').next().unwrap_or_default();
    serde_json::from_slice(object).with_context(|| format!("{server} is not the lab's echo server"))
}
