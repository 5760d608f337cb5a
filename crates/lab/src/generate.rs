//! The files that are made from others: the CRDs from the Rust types, the plain manifests from the chart.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

const CRD_DIR: &str = "charts/landfall/crds";
const MANIFESTS: &str = "deploy/landfall.yaml";
/// The namespace that the plain manifests and the documents use.
const NAMESPACE: &str = "landfall-system";
/// A helm that is asked for a template without a cluster has to be told a version; the oldest that the chart admits.
const KUBE_VERSION: &str = "1.30.0";

/// Writes the generated files below `repo`, the checkout, with the program `helm`. If `check` is set, nothing is written:
/// the files must be what they would become.
/// # Errors
/// If a file cannot be made, read or written; with `check`, if any differs, naming each and the command that mends it.
pub fn generate(repo: &Path, helm: &Path, check: bool) -> Result<()> {
    // The chart is rendered with the CRDs of its folder, so these come first.
    let crds: Vec<(String, String)> = landfall_api::crds::files()
        .context("make the CRDs")?
        .into_iter()
        .map(|(name, text)| (format!("{CRD_DIR}/{name}"), text))
        .collect();
    let mut wrong = settle(repo, &crds, check)?;
    wrong.extend(remove_strangers(repo, &crds, check)?);
    let manifests = manifests(repo, helm, &crds)?;
    wrong.extend(settle(repo, &[(MANIFESTS.to_owned(), manifests)], check)?);
    if !wrong.is_empty() {
        bail!("generated files are not up to date; run `cargo lab generate`:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Writes each file, or, if `check` is set, returns the paths of those that differ.
fn settle(repo: &Path, files: &[(String, String)], check: bool) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (path, text) in files {
        let file = repo.join(path);
        match fs::read_to_string(&file) {
            Ok(present) if present == *text => continue,
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("read {}", file.display()));
            }
            Ok(_) | Err(_) if check => wrong.push(path.clone()),
            Ok(_) | Err(_) => {
                if let Some(dir) = file.parent() {
                    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
                }
                fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
                println!("wrote {path}");
            }
        }
    }
    Ok(wrong)
}

/// Deletes the files of the CRD folder that are not generated any more, or returns their paths if `check` is set.
fn remove_strangers(repo: &Path, crds: &[(String, String)], check: bool) -> Result<Vec<String>> {
    let dir = repo.join(CRD_DIR);
    let mut wrong = Vec::new();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(wrong),
        entries => entries.with_context(|| format!("list {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        let path = format!("{CRD_DIR}/{}", entry.file_name().to_string_lossy());
        if crds.iter().any(|(known, _)| *known == path) {
            continue;
        }
        if check {
            wrong.push(path);
        } else {
            fs::remove_file(entry.path()).with_context(|| format!("delete {path}"))?;
            println!("deleted {path}");
        }
    }
    Ok(wrong)
}

/// The namespace, the CRDs and the chart's objects with its default values, as one text for `kubectl apply`.
fn manifests(repo: &Path, helm: &Path, crds: &[(String, String)]) -> Result<String> {
    let mut template = Command::new(helm);
    template.args(["template", "landfall"]).arg(repo.join("charts/landfall"));
    // Hooks are for helm. The CRDs are added below: with --check the ones in the folder may be out of date.
    template.args(["--namespace", NAMESPACE, "--kube-version", KUBE_VERSION, "--no-hooks", "--skip-crds"]);
    let objects = command::output(&mut template).context("render the chart")?;
    let mut text = format!(
        "# Generated from charts/landfall by `cargo lab generate`; do not edit.\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  \
           name: {NAMESPACE}\n  \
           labels:\n    \
             # Speakers use the host's network and CAP_NET_RAW.\n    \
             pod-security.kubernetes.io/enforce: privileged\n    \
             pod-security.kubernetes.io/audit: privileged\n    \
             pod-security.kubernetes.io/warn: privileged\n"
    );
    for (_, crd) in crds {
        text.push_str("---\n");
        text.push_str(crd);
    }
    for line in objects.lines().filter(|line| !is_about_helm(line)) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// Whether a line of a rendered chart only says something about helm, which has no part in the plain manifests.
fn is_about_helm(line: &str) -> bool {
    let about = ["app.kubernetes.io/managed-by:", "helm.sh/chart:", "# Source:"];
    about.iter().any(|start| line.trim_start().starts_with(start))
}
