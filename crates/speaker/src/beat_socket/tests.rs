use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Runs `body` where a socket can be opened, and not for longer than a busy machine needs.
fn run<F: Future>(body: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), body).await.unwrap() })
}

async fn received(socket: &BeatSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0xa5; 2048];
    let (length, from) = socket.receive(&mut buffer).await.unwrap();
    (buffer[..length].to_vec(), from)
}

#[test]
fn datagram_goes_to_each_receiver_from_the_very_first_and_comes_from_the_nodes_address() {
    run(async {
        for address in LOOPBACK {
            let [one, other, third] = [(); 3].map(|()| BeatSocket::open(address, 0).unwrap());
            assert_eq!(one.send(b"a beat", &[other.local(), third.local()]), 0);
            for receiver in [other, third] {
                assert_eq!(received(&receiver).await, (b"a beat".to_vec(), one.local()));
            }
        }
    });
}

#[test]
fn receiver_that_cannot_be_reached_is_counted_and_the_others_get_theirs() {
    run(async {
        let [one, other] = [(); 2].map(|()| BeatSocket::open(LOOPBACK[0], 0).unwrap());
        let wrong_family = SocketAddr::new(LOOPBACK[1], 9);
        assert_eq!(one.send(b"a beat", &[wrong_family, other.local(), wrong_family]), 2);
        assert_eq!(received(&other).await.0, b"a beat");
    });
}

#[test]
fn member_whose_port_is_closed_is_no_error() {
    run(async {
        let [one, other, gone] = [(); 3].map(|()| BeatSocket::open(LOOPBACK[0], 0).unwrap());
        let closed = gone.local();
        drop(gone);
        for _ in 0..3 {
            // Loopback: the ICMP error is here before the next datagram leaves.
            assert_eq!(one.send(b"a beat", &[closed]), 0);
        }
        other.send(b"another's beat", &[one.local()]);
        assert_eq!(received(&one).await, (b"another's beat".to_vec(), other.local()));
    });
}

#[test]
fn a_beat_of_each_of_a_thousand_members_waits_until_it_is_read() {
    run(async {
        let [one, others] = [(); 2].map(|()| BeatSocket::open(LOOPBACK[0], 0).unwrap());
        let longest = [7; 1_191];
        for _ in 0..1_000 {
            assert_eq!(others.send(&longest, &[one.local()]), 0);
        }
        for beat in 0..1_000 {
            let mut buffer = [0; 2048];
            let read = tokio::time::timeout(Duration::from_secs(1), one.receive(&mut buffer)).await;
            let wait =
                "the buffer is too small: root with CAP_NET_ADMIN sets it, or `sysctl net.core.rmem_max=4194304`";
            assert_eq!(read.unwrap_or_else(|_| panic!("beat {beat} was dropped; {wait}")).unwrap().0, longest.len());
        }
    });
}

#[test]
fn beats_are_marked_as_network_control() {
    run(async {
        for address in LOOPBACK {
            let socket = BeatSocket::open(address, 0).unwrap();
            let raw = SockRef::from(&socket.socket);
            let class = if address.is_ipv4() { raw.tos_v4() } else { raw.tclass_v6() };
            assert_eq!((class.unwrap(), raw.priority().unwrap()), (0xc0, 6));
        }
    });
}

#[test]
fn port_that_is_taken_is_named_with_the_way_to_find_who_has_it() {
    run(async {
        let first = BeatSocket::open(LOOPBACK[0], 0).unwrap();
        let port = first.local().port();
        let error = BeatSocket::open(LOOPBACK[0], port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let wanted = format!(
            "cannot listen for beats on address 127.0.0.1, UDP port {port}: Address already in use (os error 98); another \
             program has the port: `ss --udp --listening --processes 'sport = :{port}'` names it. Stop it, or give all \
             speakers another port"
        );
        assert_eq!(error.to_string(), wanted);
    });
}

#[test]
fn address_that_is_not_the_nodes_is_named() {
    run(async {
        let error = BeatSocket::open(Ipv4Addr::new(192, 0, 2, 1).into(), 7946).unwrap_err();
        let wanted = "cannot listen for beats on address 192.0.2.1, UDP port 7946: Cannot assign requested address (os error \
                      99); no interface of this node has the address: it must be one of the Node's InternalIPs";
        assert_eq!(error.to_string(), wanted);
    });
}
