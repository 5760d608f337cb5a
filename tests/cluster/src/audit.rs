//! What Landfall wrote to the API, as the API server's audit log has it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use landfall_lab::landfall::NAMESPACE;
use landfall_lab::{Lab, control_plane};
use serde_json::Value;

/// The audit log from some moment on.
pub struct Audit {
    file: PathBuf,
    from: u64,
}

impl Audit {
    /// Requests that end from now on.
    /// # Errors
    /// There is no audit log.
    pub fn from_now(lab: &Lab) -> Result<Self> {
        let file = control_plane::audit_log(lab)?;
        let from = file.metadata().with_context(|| format!("audit log {}", file.display()))?.len();
        Ok(Self { file, from })
    }

    /// Requests since the cluster is up.
    /// # Errors
    /// There is no audit log.
    pub fn from_the_start(lab: &Lab) -> Result<Self> {
        Ok(Self { from: 0, ..Self::from_now(lab)? })
    }

    /// What matches, so far. The log has writes only.
    /// # Errors
    /// The log cannot be read.
    pub fn entries(&self, matches: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let mut log = File::open(&self.file)?;
        log.seek(SeekFrom::Start(self.from))?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        // The last line may still be in the writing: it does not parse then.
        let entries = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        Ok(entries.filter(matches).collect())
    }

    /// Landfall's own writes, one line each: who, verb, what. Without the Lease: its renewals say that the leader is
    /// alive, and go on whatever happens.
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn writes_of_landfall(&self) -> Result<Vec<String>> {
        let accounts = format!("system:serviceaccount:{NAMESPACE}:landfall-");
        let ours = |entry: &Value| {
            let by_us = entry["user"]["username"].as_str().is_some_and(|name| name.starts_with(&accounts));
            by_us && entry["objectRef"]["resource"] != "leases"
        };
        let line = |entry: Value| format!("{} {} {}", entry["user"]["username"], entry["verb"], entry["requestURI"]);
        Ok(self.entries(ours)?.into_iter().map(line).collect())
    }
}
