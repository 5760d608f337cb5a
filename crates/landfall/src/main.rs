//! The one binary of the image: `landfall controller`, `landfall speaker`, `landfall crds`.

mod args;
mod crds;

use std::process::ExitCode;

use args::{Args, Job};
use clap::Parser as _;

fn main() -> ExitCode {
    match Args::parse().run(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Before the logs are started, or when they are switched off, this is all there is to see.
            eprintln!("landfall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(job: Job) -> anyhow::Result<()> {
    match job {
        Job::Controller(settings) => landfall_controller::run(settings).await,
        Job::Speaker(settings) => landfall_speaker::run(settings).await,
        Job::Crds => crds::apply().await,
    }
}
