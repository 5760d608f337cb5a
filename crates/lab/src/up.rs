//! Bringing a lab up: network, control plane, nodes, until every node is Ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::last_lines;
use crate::image::{Image, write_archive};
use crate::lab::{Lab, LabState, node_name};
use crate::steps::{Note, step};
use crate::{cgroups, control_plane, down, limits, network, node, packages, pki, repository, tools};

/// The image of the echo server.
pub const ECHO_IMAGE: &str = "docker.io/lab/echo:1";
/// Three nodes are Ready 20 s after the start on two cores; a busy CI machine takes several times that.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// How often readiness is looked at.
const POLL: Duration = Duration::from_millis(500);

impl Lab {
    /// Brings the lab up with `nodes` nodes, or says that it is up already; nodes that are off are started, and a lab whose
    /// control plane is off is made anew. Without Landfall in it.
    /// # Errors
    /// What is missing on this computer, or which program of the cluster failed, with the end of its log. What was
    /// started stays, to be looked at; `down` clears it.
    pub fn up(&self, nodes: usize) -> Result<()> {
        ensure!(
            (1..=network::NODES_MAX).contains(&nodes),
            "--nodes {nodes}: a lab has 1 to {} nodes",
            network::NODES_MAX
        );
        packages::ensure_installed()?;
        if let Ok(state) = self.state() {
            if self.machine("cp")?.init_pid().is_some() {
                return self.already_up(&state, nodes);
            }
            println!("lab {}: its control plane is off (a restart of the computer?); starting anew", self.name());
            self.down()?;
        }
        let left = down::leftovers(self.name());
        ensure!(
            left.is_empty(),
            "an earlier lab of this name left things behind; run `cargo lab down --name {}` first:\n  {}",
            self.name(),
            left.join("\n  ")
        );

        limits::ensure_inotify_instances(nodes)?;

        let start = Instant::now();
        let tools = tools::ensure_built()?;
        println!("lab {}: {nodes} nodes", self.name());
        let images = step("images", build_images)?;
        fs::create_dir_all(self.state_dir())?;
        let guest = self.state_dir().join("guest");
        fs::copy(repository::build_static("landfall-lab-guest")?, &guest)?; // a rebuild must not change a running lab's
        self.write_state(&LabState { nodes, tools, guest })?;
        self.start_machines(nodes, &images).inspect_err(|_| self.show_what_failed())?;
        println!("lab {} is up after {:.0} s", self.name(), start.elapsed().as_secs_f64());
        Ok(())
    }

    fn already_up(&self, state: &LabState, nodes: usize) -> Result<()> {
        ensure!(
            state.nodes == nodes,
            "lab {} is up with {} nodes, not {nodes}; `cargo lab down --name {}` first",
            self.name(),
            state.nodes,
            self.name()
        );
        for node in self.nodes()? {
            if self.machine(&node)?.init_pid().is_none() {
                step(&node, |note| {
                    note.set("it is off; starting it");
                    self.heal(&node)?;
                    note.set("was off; is on");
                    Ok(())
                })?;
            }
        }
        self.wait_until_ready(&self.nodes()?, &Note::default(), Duration::from_secs(30)).with_context(|| {
            format!("lab {} was started before, but does not work; see `cargo lab status`", self.name())
        })?;
        println!("lab {} is up: {nodes} nodes are Ready", self.name());
        Ok(())
    }

    fn start_machines(&self, nodes: usize, images: &Path) -> Result<()> {
        step("network", |_| {
            for machine in (1..=nodes).map(node_name).chain(["cp".to_owned()]) {
                self.machine(&machine)?.create_dirs()?;
            }
            pki::create(self, nodes)?;
            network::create(self, nodes)
        })?;
        step("control plane", |note| {
            control_plane::start(self)?;
            self.wait_for_api_server(note)
        })?;
        step("nodes", |note| {
            note.set("containerd, kubelet, kube-proxy");
            cgroups::raise();
            self.each_node(nodes, |index| node::start(self, index))?;
            self.image_load(images)?;
            self.wait_until_ready(&self.nodes()?, note, READY_TIMEOUT)
        })
    }

    /// Does the same on every node at once.
    fn each_node(&self, nodes: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
        thread::scope(|scope| {
            let work = &work;
            let all: Vec<_> = (1..=nodes).map(|index| scope.spawn(move || work(index))).collect();
            all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Returns when the API server answers.
    pub(crate) fn wait_for_api_server(&self, note: &Note) -> Result<()> {
        let cp = self.machine("cp")?;
        let deadline = Instant::now() + READY_TIMEOUT;
        note.set("waiting for the API server");
        while self.kubectl(&["get", "--raw", "/readyz"]).is_err() {
            for program in ["etcd", "kube-apiserver"] {
                ensure!(cp.process(program).is_some(), "{program} has ended");
            }
            ensure!(Instant::now() < deadline, "the API server is not ready after {} s", READY_TIMEOUT.as_secs());
            thread::sleep(POLL);
        }
        note.set("API server answers");
        Ok(())
    }

    /// Returns when these nodes are Ready and the cluster can take Pods.
    pub(crate) fn wait_until_ready(&self, wanted: &[String], note: &Note, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let ready = self.ready_nodes().unwrap_or_default();
            let missing: Vec<&str> = wanted.iter().filter(|n| !ready.contains(n)).map(String::as_str).collect();
            // Pods are refused until the controller manager has made the namespace's service account.
            let pods_welcome = || self.kubectl(&["get", "serviceaccount", "default"]).is_ok();
            if missing.is_empty() && pods_welcome() {
                note.set(format!("{} Ready", wanted.join(" ")));
                return Ok(());
            }
            note.set(format!(
                "waiting for {}",
                if missing.is_empty() { "service accounts".into() } else { missing.join(" ") }
            ));
            if Instant::now() > deadline {
                bail!("not Ready after {} s: {}", limit.as_secs(), missing.join(" "));
            }
            for name in wanted {
                let machine = self.machine(name)?;
                for program in machine.programs() {
                    ensure!(machine.process(program).is_some(), "{program} of {name} has ended");
                }
            }
            thread::sleep(POLL);
        }
    }

    /// Names of the nodes whose condition Ready is True.
    pub fn ready_nodes(&self) -> Result<Vec<String>> {
        let template =
            r#"{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let listing = self.kubectl(&["get", "nodes", "-o", &format!("jsonpath={template}")])?;
        Ok(listing.lines().filter_map(|line| line.strip_suffix("=True")).map(str::to_owned).collect())
    }

    /// For each machine: which program is not running, and the end of its log.
    fn show_what_failed(&self) {
        let machines = self.nodes().unwrap_or_default();
        for name in machines.iter().map(String::as_str).chain(["cp"]) {
            let Ok(machine) = self.machine(name) else { continue };
            for program in machine.programs() {
                let log = machine.log_file(program);
                if let (None, Ok(text)) = (machine.process(program), fs::read_to_string(&log)) {
                    eprintln!(
                        "{program} of {name} is not running; the end of {}:\n{}",
                        log.display(),
                        last_lines(&text, 8)
                    );
                }
            }
        }
        eprintln!("all logs: `cargo lab logs --name {0}`; clear up with `cargo lab down --name {0}`", self.name());
    }
}

/// The pause and echo images, both the guest binary, in one archive.
fn build_images(note: &Note) -> Result<PathBuf> {
    note.set("building landfall-lab-guest");
    let guest = repository::build_static("landfall-lab-guest")?;
    let archive = repository::image_dir()?.join("guest.tar");
    let image = |name, entrypoint| Image { name, entrypoint, files: &[] };
    let files = [(guest.as_path(), "/guest")];
    let pause = Image { files: &files, ..image(node::PAUSE_IMAGE, &["/guest", "pause"]) };
    let echo = Image { files: &files, ..image(ECHO_IMAGE, &["/guest", "echo"]) };
    write_archive(&archive, &[pause, echo])?;
    note.set("pause and echo");
    Ok(archive)
}
