//! `cargo lab measure memory`: what an idle implementation holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;

use super::bench::Bench;
use super::damage::blocking;
use super::installed::Part;
use super::statistics::{Report, Summary};
use super::wait::wait_for;
use super::{latency, pods, say};

/// Start-up allocations are given back, and first lists forgotten, within seconds.
const IDLE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(2);
const TOLD: Duration = Duration::from_secs(60);

/// Resident memory of the controller and the speakers, idle, and the size of the image.
///
/// 20 s after everything is Ready, VmRSS of all processes in the Pods' containers is read a few times. Every sample of
/// every Pod is one value. MB is 1,000,000 octets.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo lab measure memory --existing 1000")]
pub(super) struct Memory {
    /// Services with addresses to hold meanwhile; they are made first, and removed afterwards.
    #[arg(long, default_value_t = 0)]
    existing: usize,
    /// How often each process is looked at, 2 s apart.
    #[arg(long, default_value_t = 5, value_parser = super::at_least_one)]
    samples: usize,
    /// The image as a file. Without it, the size is what the nodes' container runtime tells Kubernetes; where the parts
    /// have an image each, the sum.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

impl Memory {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Report> {
        if self.existing > 0 {
            bench.pool_of_many().await?;
            latency::make_existing(bench, self.existing).await?;
        }
        let (controllers, speakers) =
            (bench.installed.pods(Part::Controller).await?, bench.installed.pods(Part::Speaker).await?);
        let (image_mb, image_source) = match &self.image {
            Some(file) => {
                let octets = fs::metadata(file).with_context(|| format!("--image {}", file.display()))?.len();
                (octets as f64 / 1e6, format!("size of {}", file.display()))
            }
            None => {
                let all: Vec<&Pod> = controllers.iter().chain(&speakers).collect();
                // A kubelet tells its images with its node's status, some seconds after the first Pod runs.
                let images = wait_for("size of the image in a Node's status", TOLD, INTERVAL, async || {
                    image_sizes(bench, &all).await.map(Some)
                })
                .await?;
                let names: Vec<&str> = images.keys().map(String::as_str).collect();
                let octets: i64 = images.values().sum();
                (octets as f64 / 1e6, format!("as the container runtime tells Kubernetes, of {}", names.join(" and ")))
            }
        };
        let mut figures = resident(bench, &speakers, &controllers, self.samples).await?;
        figures.push(Summary::of("image_mb", "MB", &[image_mb])?);
        Ok(Report {
            title: format!("memory of {}, idle, {} Services made for it", bench.installed.place(), self.existing),
            figures,
            method: vec![
                format!(
                    "VmRSS of the processes in {} speaker and {} controller Pods, {} samples each, {} s after they were ready.",
                    speakers.len(),
                    controllers.len(),
                    self.samples,
                    IDLE.as_secs()
                ),
                format!("Image: {image_source}."),
            ],
        })
    }
}

/// What the speakers and controllers hold when they have been idle for a while.
pub(super) async fn resident(
    bench: &Bench,
    speakers: &[Pod],
    controllers: &[Pod],
    samples: usize,
) -> Result<Vec<Summary>> {
    say(&format!("idle for {} s, then {samples} samples {} s apart", IDLE.as_secs(), INTERVAL.as_secs()));
    tokio::time::sleep(IDLE).await;
    let (mut controller_mb, mut speaker_mb) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        if sample > 0 {
            tokio::time::sleep(INTERVAL).await;
        }
        controller_mb.extend(sizes(bench, controllers).await?);
        speaker_mb.extend(sizes(bench, speakers).await?);
    }
    Ok(vec![Summary::of("speaker_rss_mb", "MB", &speaker_mb)?, Summary::of("controller_rss_mb", "MB", &controller_mb)?])
}

/// One value for each Pod.
async fn sizes(bench: &Bench, pods: &[Pod]) -> Result<Vec<f64>> {
    let (lab, pods) = (bench.lab.clone(), pods.to_vec());
    blocking(move || pods.iter().map(|pod| pods::resident_mb(&pods::processes(&lab, pod)?)).collect()).await
}

/// The images that these Pods run, and their sizes in octets.
/// # Errors
/// No node tells the size.
async fn image_sizes(bench: &Bench, pods: &[&Pod]) -> Result<BTreeMap<String, i64>> {
    let nodes = Api::<Node>::all(bench.client.clone()).list(&ListParams::default()).await?.items;
    let statuses =
        pods.iter().flat_map(|pod| pod.status.iter()).flat_map(|status| status.container_statuses.iter().flatten());
    let mut sizes = BTreeMap::new();
    for status in statuses {
        let known = nodes.iter().flat_map(|node| node.status.iter()).flat_map(|status| status.images.iter().flatten());
        let size = known
            .filter(|image| image.names.iter().flatten().any(|name| *name == status.image || *name == status.image_id))
            .find_map(|image| image.size_bytes);
        let unknown = || format!("no node tells the size of image {}; give its file with --image", status.image);
        sizes.insert(status.image.clone(), size.with_context(unknown)?);
    }
    Ok(sizes)
}
