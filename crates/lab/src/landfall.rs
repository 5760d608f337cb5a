//! Landfall itself in a lab: its image, built without a container engine, and its chart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::{self, Image, write_archive};
use crate::lab::Lab;
use crate::repository;
use crate::steps::step;

/// The namespace that Landfall is installed into.
pub const NAMESPACE: &str = "landfall-system";
/// The chart's release.
pub const RELEASE: &str = "landfall";
/// The Lease by which the controller's replicas elect their leader.
pub(crate) const LEASE: &str = "landfall-controller";
const IMAGE: &str = "docker.io/library/landfall:dev";
const REPOSITORY: &str = "docker.io/library/landfall";
const TAG: &str = "dev";

/// Builds Landfall's static binary and packs it as `deploy/Dockerfile` does; returns the archive, `target/lab/landfall.tar`.
pub fn build_image() -> Result<PathBuf> {
    let binary = repository::build_static("landfall")?;
    let archive = repository::image_dir()?.join("landfall.tar");
    write_archive(&archive, &[Image { name: IMAGE, entrypoint: &["/landfall"], files: &[(&binary, "/landfall")] }])?;
    Ok(archive)
}

/// The chart in this checkout.
pub fn chart() -> Result<PathBuf> {
    Ok(repository::root()?.join("charts/landfall"))
}

impl Lab {
    /// Builds Landfall's image and loads it into every node.
    pub fn load_landfall(&self) -> Result<()> {
        let archive = step("build Landfall", |note| {
            let archive = build_image()?;
            let octets = fs::metadata(&archive)?.len();
            note.set(format!("image of {:.1} MB", octets as f64 / 1e6));
            Ok(archive)
        })?;
        let (digest, loaded) = (file_digest(&archive)?, self.state_dir().join("landfall.sha256"));
        if fs::read_to_string(&loaded).is_ok_and(|before| before == digest) {
            return Ok(()); // every node has it already
        }
        step("load image", |note| {
            note.set(self.nodes()?.join(" "));
            self.image_load(&archive)
        })?;
        Ok(fs::write(loaded, digest)?)
    }

    /// `helm upgrade --install` of this checkout's chart with the image that [`Lab::load_landfall`] loaded; waits until
    /// everything is ready. `more` are further arguments for helm. Pods are replaced when the image has changed.
    pub fn install_landfall(&self, more: &[&str]) -> Result<String> {
        let digest = file_digest(&repository::image_dir()?.join("landfall.tar"))?;
        let chart = chart()?;
        let (repository, tag) = (format!("image.repository={REPOSITORY}"), format!("image.tag={TAG}"));
        // The tag is always `dev`: an annotation tells Kubernetes that there is something new behind it.
        let marks = ["controller", "speaker"].map(|part| format!("{part}.podAnnotations.lab-image=sha256-{digest}"));
        let mut args =
            vec!["upgrade", "--install", RELEASE, chart.to_str().context("the checkout's path is not UTF-8")?];
        args.extend(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"]);
        args.extend(["--set", &repository, "--set", &tag]);
        args.extend(marks.iter().flat_map(|mark| ["--set-string", mark]));
        args.extend(more);
        self.helm(&args)
    }
}

fn file_digest(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(image::sha256(&content))
}
