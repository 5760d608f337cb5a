//! A client that asks all the time: datagrams to one address or to many, and when each answer came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto, setsockopt, sockopt};
use nix::unistd::gettid;

use crate::lab::Lab;

/// Between two datagrams to the same address, as long as there are few addresses; also the finest silence that can be told.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);
/// With many addresses each is asked less often, so that client and cluster, which share a computer, are busy with other
/// things too: 5,000 datagrams a second at most.
const PACE: Duration = Duration::from_micros(200);
/// Room for what arrives while the receiving thread has to wait for a processor, and for what the kernel keeps while it asks
/// where silent addresses are: with less, hundreds of those would hold up the datagrams to all others.
const BUFFER: usize = 8 << 20;
/// After the last datagram was sent, answers may still come for so long.
const LATE: Duration = Duration::from_secs(1);
/// How long the receiver waits before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Between two datagrams to the same of `count` addresses: a whole number of ticks of [`INTERVAL`].
pub(super) fn period(count: usize) -> Duration {
    let ticks = (PACE * u32::try_from(count).unwrap_or(u32::MAX)).as_micros().div_ceil(INTERVAL.as_micros());
    INTERVAL * u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}

/// How many of `count` addresses are asked in each tick.
fn share(count: usize) -> usize {
    let ticks = period(count).as_micros() / INTERVAL.as_micros();
    count.div_ceil(usize::try_from(ticks).unwrap_or(usize::MAX).max(1))
}

/// Which datagram was answered, and when the answer came. Datagram `n` went to address `n % addresses`.
type Answer = (usize, Duration);

/// What a client saw of one address. Times count from the start of the probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trace {
    /// When each datagram was sent.
    sent: Vec<Duration>,
    /// Which datagram was answered, and when the answer came; in the order of arrival.
    answers: Vec<Answer>,
}

/// How bad it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outage {
    /// The longest time without any answer.
    pub(super) gap: Duration,
    /// Datagrams that never were answered.
    pub(super) lost: usize,
    /// The longest time in which the probe itself sent nothing: no silence shorter than this can be blamed on the cluster.
    pub(super) blind: Duration,
}

impl Outage {
    /// Of each the worst; the lost add up.
    pub(super) fn and(self, other: Outage) -> Outage {
        Outage { gap: self.gap.max(other.gap), lost: self.lost + other.lost, blind: self.blind.max(other.blind) }
    }
}

/// Deals out what one socket sent and received: one trace for each of `count` addresses.
fn by_address(sent: &[Duration], answers: &[Answer], count: usize) -> Vec<Trace> {
    let mut traces = vec![Trace::default(); count];
    for (index, at) in sent.iter().enumerate() {
        traces[index % count].sent.push(*at);
    }
    for (index, at) in answers {
        traces[index % count].answers.push((index / count, *at));
    }
    traces
}

/// Whether every one of `count` addresses has answered from `from` to `until` without a pause of more than `pause`.
fn all_steady(answers: &[Answer], count: usize, from: Duration, until: Duration, pause: Duration) -> bool {
    let mut times = vec![Vec::new(); count];
    let recent = answers.iter().rev().take_while(|(_, at)| *at >= from);
    recent.for_each(|(index, at)| times[index % count].push(*at));
    times.iter_mut().all(|times| {
        times.reverse();
        longest_pause(times, from, until) <= pause
    })
}

impl Trace {
    /// What happened between `from` and `until`. A silence that began before, or that has not ended, counts whole as far
    /// as it was seen.
    pub(super) fn outage(&self, from: Duration, until: Duration) -> Outage {
        let answers: Vec<Duration> = self.answers.iter().map(|(_, at)| *at).collect();
        let mut answered = vec![false; self.sent.len()];
        for (index, _) in &self.answers {
            if let Some(answered) = answered.get_mut(*index) {
                *answered = true;
            }
        }
        let sent_then = self.sent.iter().zip(&answered).filter(|(at, _)| (from..until).contains(*at));
        let lost = sent_then.filter(|(_, answered)| !**answered).count();
        Outage { gap: longest_pause(&answers, from, until), lost, blind: longest_pause(&self.sent, from, until) }
    }
}

/// The longest pause between neighbours of `times` (ascending) that has a part between `from` and `until`; after the last
/// of them it goes on until `until`.
fn longest_pause(times: &[Duration], from: Duration, until: Duration) -> Duration {
    let last_before = times.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
    let (mut longest, mut previous) = (Duration::ZERO, last_before);
    for at in times.iter().filter(|at| (from..until).contains(*at)).chain([&until]) {
        longest = longest.max(at.saturating_sub(previous));
        previous = *at;
    }
    longest
}

/// A probe at work; it stops when this is dropped.
pub(super) struct Probe {
    servers: Vec<SocketAddr>,
    start: Instant,
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    sender: Option<JoinHandle<Vec<Duration>>>,
    receiver: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts to ask the echo servers behind `servers`, all of one family, from the network of `place`, in turn. One port
    /// the whole time, as a connection would have; the kernel of `place` finds the way as for any client.
    pub(super) fn start(lab: &Lab, place: &str, servers: &[SocketAddr]) -> Result<Probe> {
        let first = servers.first().context("nothing to ask")?;
        let any: IpAddr = if first.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = lab.in_netns(place, || UdpSocket::bind((any, 0)))?.context("socket of the probe")?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("receive buffer of the probe")?;
        setsockopt(&socket, sockopt::SndBufForce, &BUFFER).context("send buffer of the probe")?;
        let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let from = socket.try_clone()?;
        from.set_read_timeout(Some(LOOK))?;
        let (stopped, into) = (stop.clone(), answers.clone());
        let receiver = thread::spawn(move || receive(&from, start, &stopped, &into));
        let (stopped, to) = (stop.clone(), servers.to_vec());
        let sender = thread::spawn(move || send(&socket, &to, start, &stopped));
        let servers = servers.to_vec();
        Ok(Probe { servers, start, stop, answers, sender: Some(sender), receiver: Some(receiver) })
    }

    /// The probe's own time at a moment.
    pub(super) fn time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// Whether every address has been answering for `span`, with no pause of more than `pause`.
    pub(super) fn is_steady(&self, span: Duration, pause: Duration) -> bool {
        let now = self.time(Instant::now());
        let Some(from) = now.checked_sub(span) else { return false };
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        all_steady(&answers, self.servers.len(), from, now, pause)
    }

    /// Stops asking; answers that are on their way are heard for a second more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops asking, waits for answers that are on their way, and returns what was seen of each address, in the order in
    /// which they were given.
    pub(super) fn finish(mut self) -> Result<Vec<Trace>> {
        self.stop();
        let died = |_| anyhow!("the probe's thread panicked");
        let sent = self.sender.take().context("finished already")?.join().map_err(died)?;
        self.receiver.take().context("finished already")?.join().map_err(died)?;
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(by_address(&sent, &answers, self.servers.len()))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets the calling thread go before those of the cluster, which shares the computer: a real client has its own. It must not
/// be the whole process, whose children are the cluster's programs. Without the right to do so the probe works as well, and
/// says for how long it was blind.
pub(super) fn go_first() {
    let mut renice = Command::new("renice");
    let _ =
        renice.args(["-n", "-10", "-p", &gettid().to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn send(socket: &UdpSocket, servers: &[SocketAddr], start: Instant, stop: &AtomicBool) -> Vec<Duration> {
    go_first();
    let (mut sent, mut next, share) = (Vec::new(), Instant::now(), share(servers.len()));
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..share {
            let server = SockaddrStorage::from(servers[sent.len() % servers.len()]);
            // A network that is down refuses some; they count as lost. It never waits: others are to be asked.
            let datagram = sent.len().to_string();
            let _ = sendto(socket.as_raw_fd(), datagram.as_bytes(), &server, MsgFlags::MSG_DONTWAIT);
            sent.push(start.elapsed());
        }
        // What was missed while the computer was busy is not made up for.
        next = (next + INTERVAL).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(socket: &UdpSocket, start: Instant, stop: &AtomicBool, into: &Mutex<Vec<Answer>>) {
    go_first();
    let mut datagram = [0; 2048];
    let mut stopped = None;
    while stopped.is_none_or(|since: Instant| since.elapsed() < LATE) {
        if stopped.is_none() && stop.load(Ordering::Relaxed) {
            stopped = Some(Instant::now());
        }
        match socket.recv(&mut datagram) {
            Ok(length) => {
                let at = start.elapsed();
                if let Some(index) = index(&datagram[..length]) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push((index, at));
                }
            }
            // Nothing for a while, or the network's word that a datagram was not delivered: the probe goes on.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The number of the datagram that this answers. The echo server repeats it after its own line.
fn index(answer: &[u8]) -> Option<usize> {
    let newline = answer.iter().position(|octet| *octet == b'\n')?;
    std::str::from_utf8(&answer[newline + 1..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    /// Sent every 5 ms for a second; each answered after 1 ms, except those sent from 300 to 699.
    fn interrupted() -> Trace {
        let sent: Vec<Duration> = (0..200).map(|n| ms(n * 5)).collect();
        let answered = sent.iter().enumerate().filter(|(_, at)| !(ms(300)..ms(700)).contains(*at));
        Trace { answers: answered.map(|(n, at)| (n, *at + ms(1))).collect(), sent: sent.clone() }
    }

    #[test]
    fn the_gap_is_the_longest_silence_and_the_unanswered_are_counted() {
        for (from, until, gap, lost) in [
            (ms(100), ms(1000), ms(405), 80), // the last answer was at 296, the next at 701
            (ms(400), ms(1000), ms(405), 60), // begun before, counted whole
            (ms(100), ms(500), ms(204), 40),  // not ended: as far as it was seen
            (ms(750), ms(1000), ms(5), 0),
        ] {
            let expected = Outage { gap, lost, blind: ms(5) };
            assert_eq!(interrupted().outage(from, until), expected, "{from:?} to {until:?}");
        }
    }

    #[test]
    fn no_answer_at_all_is_silence_from_beginning_to_end() {
        let trace = Trace { sent: vec![ms(0), ms(5)], answers: vec![] };
        assert_eq!(trace.outage(ms(0), ms(10)), Outage { gap: ms(10), lost: 2, blind: ms(5) });
    }

    #[test]
    fn a_probe_that_could_not_send_says_so() {
        let trace = Trace { sent: vec![ms(0), ms(5), ms(90)], answers: vec![(0, ms(1)), (1, ms(6)), (2, ms(91))] };
        assert_eq!(trace.outage(ms(0), ms(95)), Outage { gap: ms(85), lost: 0, blind: ms(85) });
    }

    #[test]
    fn many_addresses_share_the_ticks_and_few_do_not_wait() {
        for (count, every, at_once) in [(1, 10, 1), (50, 10, 50), (51, 20, 26), (1000, 200, 50)] {
            assert_eq!((period(count), share(count)), (ms(every), at_once), "{count}");
        }
    }

    #[test]
    fn each_address_has_its_own_silence() {
        // Three addresses in turn; the second never answers, the third only its first datagram.
        let sent: Vec<Duration> = (0..30).map(|n| ms(n * 10)).collect();
        let answered = (0..30).filter(|n| n % 3 == 0 || *n == 2);
        let answers: Vec<Answer> = answered.map(|n| (n, sent[n] + ms(1))).collect();
        let traces = by_address(&sent, &answers, 3);
        let outages: Vec<_> = traces.iter().map(|trace| trace.outage(ms(0), ms(300))).collect();
        let seen: Vec<_> = outages.iter().map(|outage| (outage.gap, outage.lost)).collect();
        assert_eq!(seen, [(ms(30), 0), (ms(300), 10), (ms(279), 9)]);
        let all = outages.into_iter().fold(Outage::default(), Outage::and);
        assert_eq!((all.gap, all.lost), (ms(300), 19));
        assert!(!all_steady(&answers, 3, ms(0), ms(100), ms(50)), "one is silent");
        assert!(all_steady(&[(0, ms(1)), (1, ms(2)), (2, ms(3))], 3, ms(0), ms(50), ms(50)));
    }

    #[test]
    fn an_answer_names_its_datagram_after_the_servers_own_line() {
        assert_eq!(index(b"{\"pod\":\"echo\"}\n4711"), Some(4711));
        for other in [&b""[..], b"4711", b"{}\n", b"{}\nx", b"{}\n1\xff"] {
            assert_eq!(index(other), None);
        }
    }
}
