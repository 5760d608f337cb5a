//! Where the sources are, and building static binaries from them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;

/// The checkout that this program was built from.
pub fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize()
        .with_context(|| format!("the checkout {} has moved; build again with `cargo lab`", root.display()))
}

/// Builds one package's binary in release mode without any shared library, and returns its path. Quick when nothing changed.
pub fn build_static(package: &str) -> Result<PathBuf> {
    let root = root()?;
    let target = host_target()?;
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--locked", "--package", package, "--target", &target]);
    // With an explicit --target these flags reach the binary only, not the compiler's own plug-ins, which must stay dynamic.
    command.env("RUSTFLAGS", "-Ctarget-feature=+crt-static").current_dir(&root);
    command::passthrough(&mut command).with_context(|| format!("build {package}"))?;
    let target_dir = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let binary = root.join(target_dir).join(target).join("release").join(package);
    ensure!(command::is_executable(&binary), "{} was built, but is not there", binary.display());
    Ok(binary)
}

/// The cargo that started this program. What that one told us about our own package is not passed on.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_ENCODED_RUSTFLAGS" {
            command.env_remove(&variable);
        }
    }
    command
}

/// The compiler's name for this computer, `x86_64-unknown-linux-gnu`.
fn host_target() -> Result<String> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// Where the lab leaves images: `target/lab` of the checkout.
pub fn image_dir() -> Result<PathBuf> {
    let dir = root()?.join("target/lab");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}
