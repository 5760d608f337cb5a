//! A server that tells who asked and who answered: HTTP and UDP on each port, one JSON object per answer:
//! `{"pod":"web-1","node":"n2","client":"172.30.0.100:40000","local":"10.244.2.5:8080","protocol":"http"}`.
//! `pod` and `node` come from the environment variables POD and NODE (the downward API).

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A connection may be kept open this long between two requests: tests hold idle connections across a failover.
const IDLE: Duration = Duration::from_secs(600);
/// Longest request line or header line that is read, octets.
const LINE_MAX: u64 = 8192;

struct Identity {
    pod: String,
    node: String,
}

/// Serves until SIGTERM. Without a port: 8080.
pub(crate) fn run(ports: &[&str]) -> Result<(), Box<dyn Error>> {
    let stop = crate::block_stop_signals()?;
    let variable = |name| std::env::var(name).unwrap_or_default();
    let identity = Arc::new(Identity { pod: variable("POD"), node: variable("NODE") });
    for port in if ports.is_empty() { &["8080"] } else { ports } {
        let port: u16 = port.parse().map_err(|e| format!("port {port:?}: {e}"))?;
        // Linux gives IPv4 to an IPv6 socket too, unless it was told otherwise.
        let (tcp, udp) =
            (TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?, UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?);
        let (for_tcp, for_udp) = (identity.clone(), identity.clone());
        thread::spawn(move || serve_tcp(&tcp, &for_tcp));
        thread::spawn(move || serve_udp(&udp, &for_udp));
    }
    stop.wait()?;
    Ok(())
}

fn serve_tcp(listener: &TcpListener, identity: &Arc<Identity>) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let identity = identity.clone();
                let small = thread::Builder::new().stack_size(64 * 1024);
                // No thread left: the connection closes, and the client sees it.
                if let Err(error) = small.spawn(move || answer_http(stream, &identity)) {
                    eprintln!("echo: {error}");
                }
            }
            Err(error) => {
                eprintln!("echo: accept: {error}");
                thread::sleep(Duration::from_millis(100)); // out of descriptors, most likely
            }
        }
    }
}

/// Answers requests on one connection until the client closes it or asks for that.
fn answer_http(stream: TcpStream, identity: &Identity) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let (client, local) = (stream.peer_addr()?, stream.local_addr()?);
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let body = identity.json(client, &unmapped(local).to_string(), "http");
        let connection = if request.close { "close" } else { "keep-alive" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        )?;
        if request.close {
            break;
        }
    }
    Ok(())
}

struct Request {
    close: bool,
}

/// Reads one request and drops its body; `None` when the client closed the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.take(LINE_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (mut close, mut length) = (!line.trim_end().ends_with("HTTP/1.1"), 0);
    loop {
        line.clear();
        if reader.take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break }; // the empty line after the headers
        match name.to_ascii_lowercase().as_str() {
            "connection" => close = value.trim().eq_ignore_ascii_case("close"),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Some(Request { close }))
}

fn serve_udp(socket: &UdpSocket, identity: &Identity) {
    let mut datagram = [0; 2048];
    loop {
        match socket.recv_from(&mut datagram) {
            // What was sent is repeated after the object, so that a prober knows which datagram was answered.
            Ok((length, client)) => {
                let port = socket.local_addr().map_or(0, |address| address.port());
                let mut answer = identity.json(client, &format!(":{port}"), "udp").into_bytes();
                answer.extend_from_slice(&datagram[..length]);
                if let Err(error) = socket.send_to(&answer, client) {
                    eprintln!("echo: answer to {client}: {error}");
                }
            }
            Err(error) => eprintln!("echo: receive: {error}"),
        }
    }
}

impl Identity {
    fn json(&self, client: SocketAddr, local: &str, protocol: &str) -> String {
        // Names of Pods and nodes are DNS labels: nothing in them needs escaping.
        let (pod, node, client) = (&self.pod, &self.node, unmapped(client));
        format!(
            "{{\"pod\":\"{pod}\",\"node\":\"{node}\",\"client\":\"{client}\",\"local\":\"{local}\",\"protocol\":\"{protocol}\"}}\n"
        )
    }
}

/// `::ffff:192.0.2.1` is an IPv4 client on an IPv6 socket: shown as 192.0.2.1.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
