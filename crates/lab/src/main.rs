//! `cargo lab`.

use std::process::ExitCode;

fn main() -> ExitCode {
    landfall_lab::cli::run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
