//! What a person sees of long work: one line per step with how long it took, and a sign of life in between.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A step that takes longer says every so often what it is doing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What a step is doing right now; the work updates it, the sign of life prints it.
#[derive(Clone, Default)]
pub struct Note(Arc<Mutex<String>>);

impl Note {
    /// Replaces the note.
    pub fn set(&self, text: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs `work` as the step `name` and prints one line when it is done: how long it took, and its note.
/// # Errors
/// Those of `work`, with the step's name before them.
pub fn step<T: Send>(name: &str, work: impl FnOnce(&Note) -> Result<T> + Send) -> Result<T> {
    let (start, note) = (Instant::now(), Note::default());
    let (done, alive) = mpsc::channel::<()>();
    let result = thread::scope(|scope| {
        let shown = note.clone();
        scope.spawn(move || {
            while alive.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                println!("{}", line(name, start.elapsed(), &format!("… {}", shown.get())));
            }
        });
        let result = work(&note);
        drop(done);
        result
    });
    if result.is_ok() {
        println!("{}", line(name, start.elapsed(), &note.get()));
    }
    result.with_context(|| name.to_owned())
}

fn line(name: &str, elapsed: Duration, note: &str) -> String {
    format!("  {name:<16} {:>6.1} s  {note}", elapsed.as_secs_f64()).trim_end().to_owned()
}

/// Tries until `attempt` gives a value. Between tries it waits `pause`; `attempt` may leave in the note what is missing.
/// # Errors
/// After `limit`: says what was waited for, and the last error or note.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let result = attempt();
        match result {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() > deadline => anyhow::bail!("no {what} after {} s", limit.as_secs()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("no {what} after {} s", limit.as_secs())));
            }
            Ok(None) | Err(_) => thread::sleep(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned() {
        assert_eq!(line("network", Duration::from_millis(420), ""), "  network             0.4 s");
        assert_eq!(line("nodes", Duration::from_secs(104), "n1 n2"), "  nodes             104.0 s  n1 n2");
    }

    #[test]
    fn waiting_ends_with_what_was_missing() {
        let error = wait_for::<()>("answer", Duration::ZERO, Duration::ZERO, || anyhow::bail!("refused")).unwrap_err();
        assert_eq!(format!("{error:#}"), "no answer after 0 s: refused");
    }
}
