//! A network segment in network namespaces: a bridge, and hosts on it. Nothing leaves the machine: no namespace has an
//! uplink.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use landfall_speaker::desired::{Announced, Answers, Desired, Interfaces, Wanted};
use landfall_speaker::links::InterfaceFilter;
use landfall_speaker::wire_metrics::WireMetrics;
use landfall_speaker::wire_thread::{self, WireSettings, WireThread};
use landfall_wire::{ArpFrame, Frame, MacAddr, NdpFrame, NdpMessage, Operation};
use nix::sched::{CloneFlags, setns};
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// Longer than anything here takes on a busy machine. Only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The Node that each speaker here takes itself to be on.
const SPEAKER: &str = "n1";

/// Runs a command and returns what it printed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{command}: {error}"));
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    assert!(output.status.success(), "{command}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Repeats `look` until it returns something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `body` on a thread in the namespace.
pub(crate) fn inside<T: Send + 'static>(namespace: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
        body()
    });
    thread.join().expect("the thread in the namespace")
}

/// A bridge in a namespace of its own. Dropping it removes it with all its hosts.
pub(crate) struct Segment {
    name: String,
    hosts: Vec<String>,
}

impl Segment {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run the tests with sudo");
        let name = format!("lfw{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&format!("ip netns add {name}"));
        let segment = Self { name, hosts: Vec::new() };
        run(&format!("ip -n {} link add br0 type bridge", segment.name));
        run(&format!("ip -n {} link set br0 up", segment.name));
        segment
    }

    /// A host with one interface, eth0, on the bridge. Its addresses are usable at once.
    pub(crate) fn host(&mut self, name: &str, mac_last: u8, addresses: &[&str]) -> Host {
        let namespace = format!("{}-{name}", self.name);
        run(&format!("ip netns add {namespace}"));
        self.hosts.push(namespace.clone());
        let host = Host { name: name.to_owned(), namespace };
        host.ip("link set lo up");
        self.plug(&host, "eth0", mac_last, addresses);
        host
    }

    /// One more interface for a host.
    pub(crate) fn plug(&self, host: &Host, interface: &str, mac_last: u8, addresses: &[&str]) {
        let port = format!("{}-{interface}", host.name);
        let mac = mac(mac_last);
        run(&format!(
            "ip -n {} link add {port} type veth peer name {interface} address {mac} netns {}",
            self.name, host.namespace
        ));
        run(&format!("ip -n {} link set {port} master br0 up", self.name));
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            host.ip(&format!("address add {address} dev {interface} {nodad}"));
        }
        host.ip(&format!("link set {interface} up"));
        eventually("carrier", || host.ip(&format!("link show {interface}")).contains("state UP").then_some(()));
    }

    /// Pulls the cable of a host's interface, or plugs it in again.
    pub(crate) fn cable(&self, host: &Host, interface: &str, state: &str) {
        run(&format!("ip -n {} link set {}-{interface} {state}", self.name, host.name));
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for namespace in self.hosts.iter().chain([&self.name]) {
            // On the way out of a failed test nothing more is to be said.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// 02:00:00:00:00:`last`.
pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr::new(2, 0, 0, 0, 0, last)
}

/// A machine of the segment.
#[derive(Clone)]
pub(crate) struct Host {
    name: String,
    pub(crate) namespace: String,
}

impl Host {
    /// `ip` inside the host.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.namespace))
    }

    /// A command inside the host.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!("nsenter --net=/run/netns/{} {command}", self.namespace))
    }

    /// How many packet sockets there are in the host.
    pub(crate) fn packet_sockets(&self) -> usize {
        let table = self.run("cat /proc/net/packet");
        table.lines().count() - 1 // the heading
    }

    /// Makes the host's kernel look for `ip` on the segment.
    pub(crate) fn send_datagram(&self, ip: &str) {
        let ip: IpAddr = ip.parse().expect("an address");
        inside(&self.namespace, move || {
            let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).expect("a socket");
            socket.send_to(b"hello", (ip, 9)).expect("sent");
        });
    }

    /// The wire half of a speaker in this host, ready, with nothing to answer for yet.
    pub(crate) fn speaker(&self, filter: InterfaceFilter) -> Speaker {
        let (desired, desired_receiver) = watch::channel(Arc::new(Desired::default()));
        let (announced_sender, announced) = watch::channel(Arc::new(Announced::default()));
        let metrics = WireMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let settings = WireSettings { node: SPEAKER.into(), interfaces: filter, ..WireSettings::default() };
        let thread = inside(&self.namespace, move || {
            wire_thread::spawn(settings, desired_receiver, announced_sender, metrics).expect("the wire thread")
        });
        wait(thread.ready().wait_for(|ready| *ready)).expect("ready");
        Speaker { desired, announced, metrics: registry, thread: Some(thread) }
    }

    /// A raw socket on eth0, as a neighbour with this MAC and these addresses.
    pub(crate) fn neighbour(&self, mac_last: u8, v4: &str, v6: &str) -> Neighbour {
        let (sender, receiver) = inside(&self.namespace, || {
            let config =
                Config { read_timeout: Some(Duration::from_millis(5)), promiscuous: false, ..Config::default() };
            let interface = datalink::interfaces().into_iter().find(|found| found.name == "eth0").expect("eth0");
            match datalink::channel(&interface, config).expect("a raw socket") {
                Channel::Ethernet(sender, receiver) => (sender, receiver),
                _ => panic!("not an Ethernet interface"),
            }
        });
        let (v4, v6) = (v4.parse().expect("IPv4"), v6.parse().expect("IPv6"));
        Neighbour { mac: mac(mac_last), v4, v6, sender, receiver }
    }
}

/// Blocks on a future.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("in time")
}

/// A running wire half.
pub(crate) struct Speaker {
    desired: watch::Sender<Arc<Desired>>,
    announced: watch::Receiver<Arc<Announced>>,
    metrics: Registry,
    thread: Option<WireThread>,
}

impl Speaker {
    /// Replaces what it answers for, on all interfaces that fit; waits until that is in force.
    pub(crate) fn own(&mut self, addresses: &[&str]) {
        self.own_on(&addresses.iter().map(|ip| (*ip, Interfaces::All)).collect::<Vec<_>>());
    }

    /// The same, with a choice of interfaces for each address.
    pub(crate) fn own_on(&mut self, addresses: &[(&str, Interfaces)]) {
        let keys = self.want_on(addresses);
        let in_force =
            |announced: &Arc<Announced>| announced.addresses.keys().copied().collect::<BTreeSet<_>>() == keys;
        wait(self.announced.wait_for(in_force)).expect("the wire thread lives");
    }

    /// As [`own`](Self::own), and waits for nothing.
    pub(crate) fn want(&mut self, addresses: &[&str]) {
        self.want_on(&addresses.iter().map(|ip| (*ip, Interfaces::All)).collect::<Vec<_>>());
    }

    /// It owns nothing any more; these addresses are for other nodes to answer for.
    pub(crate) fn leave_to_others(&mut self, addresses: &[&str]) {
        let others = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        self.desired.send_replace(Arc::new(Desired { others, ..Desired::default() }));
        wait(self.announced.wait_for(|announced| announced.addresses.is_empty())).expect("the wire thread lives");
    }

    fn want_on(&mut self, addresses: &[(&str, Interfaces)]) -> BTreeSet<IpAddr> {
        let wanted =
            |interfaces: &Interfaces| Wanted { interfaces: interfaces.clone(), ranking: [SPEAKER.into()].into() };
        let addresses = addresses.iter().map(|(ip, on)| (ip.parse().expect("an address"), wanted(on)));
        let desired = Desired { addresses: addresses.collect(), others: BTreeSet::new() };
        let keys: BTreeSet<IpAddr> = desired.addresses.keys().copied().collect();
        self.desired.send_replace(Arc::new(desired));
        keys
    }

    /// Waits until strangers are known to have exactly these addresses, and returns what is said then.
    pub(crate) fn conflicts(&mut self, strangers: &[(&str, MacAddr)]) -> Arc<Announced> {
        let strangers = strangers.iter().map(|(ip, mac)| (ip.parse().expect("an address"), *mac)).collect();
        let found = wait(self.announced.wait_for(|announced| announced.conflicts == strangers));
        Arc::clone(&found.expect("the wire thread lives"))
    }

    /// What `/metrics` would show.
    pub(crate) fn metrics(&self) -> String {
        landfall_runtime::metrics::text(&self.metrics)
    }

    /// Waits until `/metrics` shows this line. A frame can be heard before it is counted.
    pub(crate) fn shows(&self, line: &str) {
        eventually(line, || self.metrics().lines().any(|found| found == line).then_some(()));
    }

    /// Waits until this address is answered on exactly these interfaces.
    pub(crate) fn announced_on(&mut self, ip: &str, interfaces: &[&str]) {
        self.announced_on_within(ip, interfaces, PATIENCE);
    }

    /// The same, with a patience of its own.
    pub(crate) fn announced_on_within(&mut self, ip: &str, interfaces: &[&str], patience: Duration) {
        let ip: IpAddr = ip.parse().expect("an address");
        let wanted: BTreeSet<String> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        let last = self.announced.clone();
        let found =
            self.announced.wait_for(|announced| announced.addresses.get(&ip).and_then(Answers::here) == Some(&wanted));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let result = runtime.block_on(async { tokio::time::timeout(patience, found).await });
        assert!(result.is_ok(), "{ip} is not announced on {wanted:?}: {:?}", last.borrow());
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let (closed, _) = watch::channel(Arc::new(Desired::default()));
        self.desired = closed;
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            wait(thread.finished()).expect("the wire thread ends well");
        }
    }
}

/// Asks and listens on the wire, below its host's own kernel.
pub(crate) struct Neighbour {
    pub(crate) mac: MacAddr,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
}

impl Neighbour {
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.sender.send_to(frame, None).expect("there is a buffer").expect("sent");
    }

    /// The next ARP or neighbour message from another machine; `None` when none comes within a moment.
    fn next(&mut self) -> Option<Frame> {
        let octets = self.receiver.next().ok()?;
        let frame = Frame::parse(octets).ok()?;
        let source = match &frame {
            Frame::Arp(frame) => frame.source,
            Frame::Ndp(frame) => frame.source_mac,
        };
        (source != self.mac).then_some(frame)
    }

    /// Waits for a frame that `wanted` takes, and returns it with all that came before it.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> (Frame, Vec<Frame>) {
        let mut before = Vec::new();
        let found = eventually(what, || {
            let frame = self.next()?;
            let hit = wanted(&frame).then_some(frame);
            if hit.is_none() {
                before.push(frame);
            }
            hit
        });
        (found, before)
    }

    pub(crate) fn arp_request(&self, ip: Ipv4Addr) -> ArpFrame {
        ArpFrame::request(ip, (self.mac, self.v4))
    }

    pub(crate) fn solicitation(&self, ip: Ipv6Addr) -> NdpFrame {
        NdpFrame::solicitation(ip, (self.mac, self.v6))
    }

    fn ask(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                let request = self.arp_request(ip);
                self.send(&request.to_octets());
            }
            IpAddr::V6(ip) => {
                let solicitation = self.solicitation(ip);
                self.send(&solicitation.to_octets());
            }
        }
    }

    /// Who answers for `ip`, asked by broadcast or multicast.
    pub(crate) fn who_has(&mut self, ip: &str) -> MacAddr {
        let ip = ip.parse().expect("an address");
        self.ask(ip);
        let (answer, _) = self.until(&format!("an answer for {ip}"), |frame| answered_ip(frame) == Some(ip));
        match answer {
            Frame::Arp(frame) => frame.arp.sender.0,
            Frame::Ndp(frame) => frame.source_mac,
        }
    }

    /// Asks for `silent`, then for `answered`: the answers come in the order of the questions, so nobody answers for
    /// `silent` when the answer for `answered` comes first.
    pub(crate) fn nobody_has(&mut self, silent: &str, answered: &str) {
        let [silent, answered]: [IpAddr; 2] = [silent, answered].map(|ip| ip.parse().expect("an address"));
        self.ask(silent);
        self.ask(answered);
        let (_, before) =
            self.until(&format!("an answer for {answered}"), |frame| answered_ip(frame) == Some(answered));
        let wrong: Vec<_> = before.iter().filter(|frame| answered_ip(frame) == Some(silent)).collect();
        assert!(wrong.is_empty(), "{silent} is answered: {wrong:?}");
    }
}

/// The address that a frame answers for; `None` for questions and announcements.
fn answered_ip(frame: &Frame) -> Option<IpAddr> {
    match frame {
        Frame::Arp(frame) => {
            let arp = &frame.arp;
            let answers = arp.operation == Operation::Reply && !frame.destination.is_broadcast();
            answers.then_some(IpAddr::V4(arp.sender.1))
        }
        Frame::Ndp(NdpFrame { message: NdpMessage::Advertisement(na), .. }) => {
            na.solicited.then_some(IpAddr::V6(na.target))
        }
        Frame::Ndp(_) => None,
    }
}
