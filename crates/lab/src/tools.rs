//! The programs that a cluster is made of: Kubernetes, etcd, containerd and helm, at the versions that tests/tools pins.
//!
//! They are built from Go modules once, into a cache outside the checkout. A program of the same version that is already
//! on the computer is taken instead: any of KUBEBUILDER_ASSETS, or one on PATH that reports the pinned version.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Note, step};
use crate::{command, image, repository};

const KUBERNETES: &str = "v1.36.3";
const ETCD: &str = "3.6.8";
const CONTAINERD: &str = "2.3.7";
const HELM: &str = "v3.22.0";

/// Programs that one `go build` makes.
struct Build {
    /// Folder below tests/tools with the go.mod.
    module: &'static str,
    tags: &'static str,
    ldflags: String,
    /// Go packages and the programs they become.
    programs: &'static [(&'static str, &'static str)],
    /// What the version command of such a program says, and that command.
    version: &'static str,
    version_arguments: &'static [&'static str],
}

/// Every program reports v0.0.0, and refuses to work with the others, unless it is told its version.
fn builds() -> Vec<Build> {
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let of = |package: &str| {
        format!(" -X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor=1 -X {package}.gitMinor=36")
    };
    let kubernetes_version = packages.map(of).concat();
    vec![
        Build {
            module: "kubernetes",
            tags: "",
            ldflags: format!("-s -w {kubernetes_version}"),
            programs: &[
                ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
                ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
                ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
                ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
                ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
                ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
            ],
            version: KUBERNETES,
            version_arguments: &["--version"],
        },
        Build {
            module: "kubernetes",
            tags: "",
            ldflags: "-s -w".to_owned(),
            programs: &[("go.etcd.io/etcd/server/v3", "etcd")],
            version: ETCD,
            version_arguments: &["--version"],
        },
        Build {
            module: "containerd",
            tags: "no_btrfs no_devmapper no_zfs",
            ldflags: "-s -w".to_owned(),
            programs: &[
                ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
                ("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
                ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
            ],
            version: CONTAINERD,
            version_arguments: &["--version"],
        },
        Build {
            module: "helm",
            tags: "",
            ldflags: format!("-s -w -X helm.sh/helm/v3/internal/version.version={HELM}"),
            programs: &[("helm.sh/helm/v3/cmd/helm", "helm")],
            version: HELM,
            version_arguments: &["version", "--short"],
        },
    ]
}

impl Build {
    fn directory(&self) -> Result<PathBuf> {
        Ok(repository::root()?.join("tests/tools").join(self.module))
    }

    fn go(&self, verb: &str, flags: &[&str]) -> Result<Command> {
        let mut go = Command::new("go");
        go.arg(verb).current_dir(self.directory()?).env("CGO_ENABLED", "0");
        if !self.tags.is_empty() {
            go.args(["-tags", self.tags]);
        }
        go.args(flags);
        Ok(go)
    }
}

/// Makes sure that every program is there, and returns the folder that holds them all.
/// # Errors
/// Go is missing (says which version is needed and where to get it), or a build fails.
pub fn ensure_built() -> Result<PathBuf> {
    ensure_modules(|_| true)
}

/// Makes sure that helm is there, and returns its path: all that is needed to render the chart.
/// # Errors
/// As [`ensure_built`].
pub fn ensure_helm() -> Result<PathBuf> {
    Ok(ensure_modules(|build| build.module == "helm")?.join("helm"))
}

fn ensure_modules(wanted: impl Fn(&Build) -> bool) -> Result<PathBuf> {
    let cache = cache_dir()?.join(key()?);
    let bin = cache.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("wait for another lab that builds the tools")?;
    let is_missing = |program: &str| !bin.join(program).exists();
    let mut builds = builds();
    builds.retain(|build| wanted(build) && build.programs.iter().any(|(_, program)| is_missing(program)));
    if !builds.is_empty() {
        println!("programs of the cluster, once: about 9 minutes on two cores; they go to {}", bin.display());
    }
    for build in &builds {
        let mut to_build = Vec::new();
        for (package, program) in build.programs.iter().filter(|(_, program)| is_missing(program)) {
            match provided(build, program)? {
                Some(file) => {
                    install(&file, &bin.join(program))?;
                    println!("  {program:<16}           taken from {}", file.display());
                }
                None => to_build.push((*package, *program)),
            }
        }
        if let Some((_, first)) = to_build.first() {
            ensure_go()?;
            step(first, |note| go_build(build, &to_build, &bin, note))?;
        }
    }
    Ok(bin)
}

fn go_build(build: &Build, programs: &[(&str, &str)], bin: &Path, note: &Note) -> Result<()> {
    note.set(format!("reading the module list of tests/tools/{}", build.module));
    let packages: Vec<&str> = programs.iter().map(|(package, _)| *package).collect();
    let listing = command::output(build.go("list", &["-deps"])?.args(&packages)).context("go list")?;
    let total = listing.lines().count();
    note.set("linking"); // until Go names the first package that it has to compile

    let scratch = bin.with_file_name(format!("building-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    // One program may be called differently from its package's folder (etcd); several go into a folder under their own names.
    let out = match programs {
        [(_, only)] => scratch.join(only),
        _ => scratch.clone(),
    };
    let mut go = build.go("build", &["-v", "-trimpath", "-ldflags", &build.ldflags, "-o"])?;
    let mut child =
        go.arg(&out).args(&packages).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // -v names each package as it is compiled; what Go has cached is not named. Everything else is an error message.
    let (mut compiled, mut said) = (0, String::new());
    for line in BufReader::new(child.stderr.take().context("no standard error")?).lines() {
        let line = line?;
        if line.contains(' ') || line.starts_with('#') {
            said += &line;
            said.push('\n');
        } else {
            compiled += 1;
            note.set(format!("compiled {compiled} of at most {total} packages"));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let _ = fs::remove_dir_all(&scratch);
        bail!("go build in tests/tools/{}: {status}\n{}", build.module, command::last_lines(&said, 20));
    }
    for (_, program) in programs {
        fs::rename(scratch.join(program), bin.join(program)).with_context(|| format!("go build made no {program}"))?;
    }
    fs::remove_dir_all(&scratch)?;
    note.set(programs.iter().map(|(_, program)| *program).collect::<Vec<_>>().join(" "));
    Ok(())
}

/// A program that is there already: from KUBEBUILDER_ASSETS whatever its version (whoever sets it means it), from PATH only
/// at the pinned version.
fn provided(build: &Build, program: &str) -> Result<Option<PathBuf>> {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
        let file = assets.join(program);
        if command::is_executable(&file) {
            return Ok(Some(file));
        }
    }
    let Some(file) = command::find_on_path(program) else { return Ok(None) };
    let mut arguments = build.version_arguments;
    if program == "kubectl" {
        arguments = &["version", "--client"];
    } else if program == "containerd-shim-runc-v2" {
        arguments = &["-v"];
    }
    let said = command::output(Command::new(&file).args(arguments)).unwrap_or_default();
    Ok(said.contains(build.version).then_some(file))
}

fn install(source: &Path, target: &Path) -> Result<()> {
    let partial = target.with_extension("partial");
    fs::copy(source, &partial).with_context(|| format!("copy {}", source.display()))?;
    fs::rename(&partial, target)?;
    Ok(())
}

fn ensure_go() -> Result<()> {
    let file = repository::root()?.join("tests/tools/containerd/go.mod");
    let needed = fs::read_to_string(&file)?.lines().find_map(|line| line.strip_prefix("go ").map(str::to_owned));
    let needed = needed.with_context(|| format!("{} names no Go version", file.display()))?;
    ensure!(
        command::find_on_path("go").is_some(),
        "Go {needed} or newer is needed to build Kubernetes, and there is no `go` on PATH; get it from https://go.dev/dl/"
    );
    Ok(()) // an older Go says itself which version the go.mod wants, and fetches that one
}

fn cache_dir() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let base = variable("LANDFALL_LAB_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("landfall")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/landfall")));
    Ok(base.context("set LANDFALL_LAB_CACHE or HOME: the built tools need a place")?.join("tools"))
}

/// Names the cache's folder: other modules, flags or assets, another folder.
fn key() -> Result<String> {
    let mut inputs = std::env::consts::ARCH.to_owned();
    for build in builds() {
        for file in ["go.mod", "go.sum"] {
            let path = build.directory()?.join(file);
            inputs += &fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        }
        inputs += &format!("{} {} {:?}", build.tags, build.ldflags, build.programs);
    }
    inputs += &std::env::var("KUBEBUILDER_ASSETS").unwrap_or_default();
    Ok(image::sha256(inputs.as_bytes())[..16].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_that_the_modules_pin() {
        for (module, pin) in [
            ("kubernetes", format!("k8s.io/kubernetes {KUBERNETES} ")),
            ("kubernetes", format!("go.etcd.io/etcd/server/v3 v{ETCD} ")),
            ("containerd", format!("github.com/containerd/containerd/v2 v{CONTAINERD} ")),
            ("helm", format!("helm.sh/helm/v3 {HELM} ")),
        ] {
            let file = repository::root().unwrap().join("tests/tools").join(module).join("go.mod");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(&pin), "{} does not pin {pin}", file.display());
        }
    }
}
