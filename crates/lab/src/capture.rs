//! Listening on the wire with tcpdump.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Lab;

/// A running capture; it ends when it is dropped.
pub struct Capture {
    child: Child,
    heard: Arc<Heard>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Lab {
    /// Starts to listen on an interface of `place`, and returns when frames are being heard. `filter` is tcpdump's:
    /// `arp`, `icmp6 and ip6[40] == 136`. Each frame becomes one line: seconds since 1970, both MAC addresses, content.
    /// # Errors
    /// tcpdump does not start, or does not understand the filter: what it said.
    pub fn capture(&self, place: &str, interface: &str, filter: &str) -> Result<Capture> {
        let mut tcpdump = self.netns_command(place, "tcpdump");
        tcpdump.args(["-i", interface, "-n", "-e", "-tt", "-l", "--immediate-mode", filter]);
        let mut child =
            tcpdump.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("tcpdump")?;
        let (out, errors) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
        let heard = Arc::new(Heard::default());
        let into = heard.clone();
        let reader = thread::spawn(move || collect(out, &into));
        let mut capture = Capture { child, heard, reader: Some(reader) };
        wait_until_listening(errors).inspect_err(|_| capture.end())?;
        Ok(capture)
    }
}

impl Capture {
    /// The frames so far.
    pub fn lines(&self) -> Vec<String> {
        self.heard.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a frame that matches, among those heard already or yet to come.
    /// # Errors
    /// None within `limit`: lists what was heard instead.
    pub fn wait_for(&self, what: &str, limit: Duration, matches: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut lines = self.heard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines.iter().find(|line| matches(line)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no {what} within {limit:?}; heard:\n  {}", lines.join("\n  "));
            lines = self.heard.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the capture and returns every frame that it heard.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        self.lines()
    }

    fn end(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        // SIGINT, not SIGKILL: tcpdump first writes what it has read.
        if let Ok(pid) = self.child.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.child.wait();
        let _ = reader.join();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

fn collect(out: ChildStdout, heard: &Heard) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        heard.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        heard.more.notify_all();
    }
}

/// tcpdump says "listening on eth0" once its filter is in the kernel. What it says later is read and dropped, or it would
/// block on a full pipe.
fn wait_until_listening(errors: ChildStderr) -> Result<()> {
    let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let listening = lines.any(|line| {
        said.push(line);
        said.last().is_some_and(|line| line.contains("listening on"))
    });
    ensure!(listening, "tcpdump: {}", said.join("; "));
    thread::spawn(move || lines.for_each(drop));
    Ok(())
}
