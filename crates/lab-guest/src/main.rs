//! The lab's own static binary, three things in one so that an image needs one file:
//! `init` (process 1 of a machine of the lab), `pause` (holds a Pod's namespaces), `echo` (tells who asked, and where).
//! It is a crate of its own so that building it statically compiles `nix` and nothing else.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

mod echo;
mod init;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["init", _label, lib, log, tools] => init::run(lib, log, tools),
        ["pause"] => wait_for_stop(),
        ["echo", ports @ ..] => echo::run(ports),
        _ => Err("usage: landfall-lab-guest init LABEL LIB LOG TOOLS | pause | echo [PORT...]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("landfall-lab-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns when SIGTERM or SIGINT arrives. The kernel drops signals that process 1 of a PID namespace does not ask for,
/// so without this every Pod would wait out its grace period. Call it before any thread is started: they inherit the mask.
fn block_stop_signals() -> nix::Result<SigSet> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block()?;
    Ok(stop)
}

fn wait_for_stop() -> Result<(), Box<dyn std::error::Error>> {
    block_stop_signals()?.wait()?;
    Ok(())
}
