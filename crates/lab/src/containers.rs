//! Keeping a node from starting containers, while those that run go on and Kubernetes sees nothing wrong with the node.
//!
//! `runc` is what starts them. In the machine's own mount namespace a script takes its place, which lets every request pass
//! except `create`: that one waits. kubelet and containerd wait with it (their limit is two minutes), as they do for a slow
//! disk, and go on the moment it is allowed. A crash loop would do as well, but kubelet then waits longer each time.

use anyhow::{Context, Result};

use crate::command;
use crate::machine::Machine;

/// As long as this exists, no container is created.
const GATE: &str = "/run/no-new-containers";

/// Arguments: the gate, runc's path. The true runc stays reachable below /run: whoever waits still needs it afterwards. It is a
/// copy, because a mount of the file would be covered as the file is: mounts that are shared with each other get what is
/// mounted on one of them. The gate comes last: if anything fails before, it is open.
const HOLD: &str = r#"set -e
true_runc=/run/runc-true
[ -x $true_runc ] || { cp "$2" $true_runc.part; mv $true_runc.part $true_runc; }
cat > /run/runc-waits <<END
#!/bin/sh
case " \$* " in *" create "*) while [ -e $1 ]; do sleep 0.05; done ;; esac
exec $true_runc "\$@"
END
chmod 755 /run/runc-waits
mount --bind /run/runc-waits "$2"
touch "$1""#;

/// Lazily, because those who wait still read the script.
const RELEASE: &str = r#"if [ -e "$1" ]; then rm "$1" && umount --lazy "$2"; fi"#;

/// Lets the node start no container from now on.
pub(crate) fn hold(machine: &Machine) -> Result<()> {
    release(machine)?;
    run(machine, HOLD)
}

/// Lets it start containers again; nothing happens when it may already.
pub(crate) fn release(machine: &Machine) -> Result<()> {
    run(machine, RELEASE)
}

fn run(machine: &Machine, script: &str) -> Result<()> {
    let runc = command::find_on_path("runc").context("there is no runc on this computer")?;
    let mut shell = machine.command("sh")?;
    shell.args(["-c", script, "sh", GATE]).arg(runc);
    command::output(&mut shell).with_context(|| format!("containers of {}", machine.name()))?;
    Ok(())
}
