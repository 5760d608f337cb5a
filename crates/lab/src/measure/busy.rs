//! A computer whose processors have no time to spare, and what /proc says of that.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// Turns of a loop before it looks whether it is to stop: well below a millisecond.
const TURNS: u32 = 10_000;

/// One loop for each processor that takes all the time it is given. They are threads of this process, and so of none of the
/// lab's cgroups: they end when this is dropped, and with the process, however that ends.
pub(super) struct BusyLoops {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyLoops {
    /// Starts them, at the priority of the calling thread.
    /// # Errors
    /// The kernel gives no more threads, or does not say how many processors there are.
    pub(super) fn start() -> Result<BusyLoops> {
        let count = thread::available_parallelism().context("number of processors")?.get();
        let mut loops = BusyLoops { stop: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let stop = loops.stop.clone();
            let started = thread::Builder::new().name("busy-loop".into()).spawn(move || spin(&stop));
            loops.threads.push(started.context("start a busy loop")?);
        }
        Ok(loops)
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Not `spin_loop`, which tells the processor that nothing is to be done.
fn spin(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for turn in 0..TURNS {
            black_box(turn);
        }
    }
}

/// Time that all processors have spent together since the computer started, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessorTime {
    /// With nothing to do, or waiting for a disk.
    idle: u64,
    all: u64,
}

impl ProcessorTime {
    /// Until now.
    /// # Errors
    /// /proc/stat cannot be read.
    pub(super) fn now() -> Result<ProcessorTime> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        ProcessorTime::parse(&stat).with_context(|| format!("/proc/stat: {:?}", stat.lines().next()))
    }

    /// Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; a guest's time, which follows, is in the
    /// first two already.
    fn parse(stat: &str) -> Option<ProcessorTime> {
        let mut fields = stat.lines().next()?.split_whitespace();
        (fields.next()? == "cpu").then_some(())?;
        let ticks: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let [_, _, _, idle, iowait, ..] = ticks[..] else { return None };
        Some(ProcessorTime { idle: idle + iowait, all: ticks.iter().sum() })
    }

    /// How much of the time since `before` they had nothing to do, in percent.
    pub(super) fn idle_percent_since(self, before: ProcessorTime) -> f64 {
        let (idle, all) = (self.idle.saturating_sub(before.idle), self.all.saturating_sub(before.all));
        100.0 * idle as f64 / all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The states of this process's threads of that name: `R` is running or able to.
    fn states() -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        let state = |stat: String| stat.split_once("(busy-loop) ").map(|(_, rest)| rest[..1].to_owned());
        stats.filter_map(state).collect()
    }

    #[test]
    fn each_processor_has_a_loop_that_never_rests_until_they_are_dropped() {
        let loops = BusyLoops::start().unwrap();
        assert_eq!(loops.count(), thread::available_parallelism().unwrap().get());
        // A thread has its name when it first runs, and is listed for a moment after it was joined.
        let soon = |count: usize| {
            (0..1000).any(|_| {
                thread::sleep(Duration::from_millis(10));
                states().len() == count
            })
        };
        assert!(soon(loops.count()), "{:?}", states());
        assert_eq!(states(), vec!["R"; loops.count()]);
        drop(loops);
        assert!(soon(0), "{:?}", states());
    }

    #[test]
    fn idle_time_is_what_no_processor_could_use() {
        let before = ProcessorTime::parse("cpu  100 10 50 800 40 0 5 5 99 0\ncpu0 1 1 1 1\n").unwrap();
        assert_eq!(before, ProcessorTime { idle: 840, all: 1010 });
        let after = ProcessorTime { idle: 850, all: 1050 };
        assert_eq!(after.idle_percent_since(before), 25.0);
        assert_eq!(before.idle_percent_since(before), 0.0);
        for strange in ["", "cpu0 1 2 3 4 5", "cpu 1 2 3 4", "cpu 1 2 x 4 5"] {
            assert_eq!(ProcessorTime::parse(strange), None, "{strange:?}");
        }
        assert!(ProcessorTime::now().unwrap().all > 0);
    }
}
