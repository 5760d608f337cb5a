//! The computer's own programs that a lab needs, from Debian's packages.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::command;
use crate::steps::step;

/// A program, or a path, that must be there, and the package that brings it.
const NEEDED: [(&str, &str); 13] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("runc", "runc"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("arping", "arping"),
    ("ndisc6", "ndisc6"),
    ("tcpdump", "tcpdump"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
];

/// Installs what is missing.
/// # Errors
/// Not root, or no apt: says what is missing and how to get it.
pub fn ensure_installed() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes network namespaces and cgroups: run it as root (`sudo -E env PATH=\"$PATH\" cargo lab ...`)"
    );
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if command::find_on_path("apt-get").is_none() {
        bail!(
            "these packages are missing, under Debian's names: {list}; install them with this system's package manager"
        );
    }
    step("packages", |note| {
        note.set("apt-get update");
        command::output(&mut apt(&["update"]))?;
        note.set(format!("apt-get install {list}"));
        command::output(apt(&["install", "--yes", "--no-install-recommends"]).args(&missing))
    })?;
    let still = self::missing();
    ensure!(still.is_empty(), "still missing after apt-get install: {}", still.join(" "));
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let there = |thing: &str| {
        if thing.starts_with('/') { Path::new(thing).exists() } else { command::find_on_path(thing).is_some() }
    };
    let mut packages: Vec<_> = NEEDED.iter().filter(|(thing, _)| !there(thing)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command
}
