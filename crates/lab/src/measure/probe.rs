//! A client that asks all the time: one datagram every 5 ms, and when each answer came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::lab::Lab;

/// Between two datagrams; also the finest silence that can be told.
pub(super) const INTERVAL: Duration = Duration::from_millis(5);
/// After the last datagram was sent, answers may still come for so long.
const LATE: Duration = Duration::from_secs(1);
/// How long the receiver waits before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What a client saw. Times count from the start of the probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Trace {
    /// When each datagram was sent.
    sent: Vec<Duration>,
    /// Which datagram was answered, and when the answer came; in the order of arrival.
    answers: Vec<(usize, Duration)>,
}

/// How bad it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    /// The longest time without any answer.
    pub(super) gap: Duration,
    /// Datagrams that never were answered.
    pub(super) lost: usize,
    /// The longest time in which the probe itself sent nothing: no silence shorter than this can be blamed on the cluster.
    pub(super) blind: Duration,
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
    start: Instant,
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(usize, Duration)>>>,
    sender: Option<JoinHandle<Vec<Duration>>>,
    receiver: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts to ask the echo server behind `server`, from the network of the lab's client. One port the whole time, as a
    /// connection would have.
    pub(super) fn start(lab: &Lab, server: SocketAddr) -> Result<Probe> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = lab.in_netns("client", || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(server)?;
            Ok(socket)
        })?;
        let socket = socket.with_context(|| format!("socket to {server}"))?;
        let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let answers: Arc<Mutex<Vec<(usize, Duration)>>> = Arc::default();
        let from = socket.try_clone()?;
        from.set_read_timeout(Some(LOOK))?;
        let (stopped, into) = (stop.clone(), answers.clone());
        let receiver = thread::spawn(move || receive(&from, start, &stopped, &into));
        let stopped = stop.clone();
        let sender = thread::spawn(move || send(&socket, start, &stopped));
        Ok(Probe { start, stop, answers, sender: Some(sender), receiver: Some(receiver) })
    }

    /// The probe's own time at a moment.
    pub(super) fn time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// Whether answers have been coming for `span`, with no pause of more than `pause`.
    pub(super) fn is_steady(&self, span: Duration, pause: Duration) -> bool {
        let now = self.time(Instant::now());
        let Some(from) = now.checked_sub(span) else { return false };
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let times: Vec<Duration> = answers.iter().map(|(_, at)| *at).collect();
        drop(answers);
        longest_pause(&times, from, now) <= pause
    }

    /// Stops asking, waits a second for answers that are on their way, and returns what was seen.
    pub(super) fn finish(mut self) -> Result<Trace> {
        self.stop.store(true, Ordering::Relaxed);
        let died = |_| anyhow!("the probe's thread panicked");
        let sent = self.sender.take().context("finished already")?.join().map_err(died)?;
        self.receiver.take().context("finished already")?.join().map_err(died)?;
        let answers = std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Trace { sent, answers })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(socket: &UdpSocket, start: Instant, stop: &AtomicBool) -> Vec<Duration> {
    let (mut sent, mut next) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        // A network that is down refuses some; they count as lost.
        let _ = socket.send(sent.len().to_string().as_bytes());
        sent.push(start.elapsed());
        // What was missed while the computer was busy is not made up for.
        next = (next + INTERVAL).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(socket: &UdpSocket, start: Instant, stop: &AtomicBool, into: &Mutex<Vec<(usize, Duration)>>) {
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
    fn an_answer_names_its_datagram_after_the_servers_own_line() {
        assert_eq!(index(b"{\"pod\":\"echo\"}\n4711"), Some(4711));
        for other in [&b""[..], b"4711", b"{}\n", b"{}\nx", b"{}\n1\xff"] {
            assert_eq!(index(other), None);
        }
    }
}
