//! The IPVS trap: with kube-proxy in IPVS mode every node has every Service's addresses on its interface `kube-ipvs0`, and unless
//! the kernel is told otherwise (`arp_ignore`, which kube-proxy sets with `strictARP: true`) it answers ARP requests for them
//! on all its interfaces. Then several machines answer for an address, whoever owns it, and nobody is to blame on the wire.
//!
//! [`Links::held_by_ipvs`](crate::links::Links) sees the addresses, [`trap`] decides, [`watch`] reads what the kernel is told
//! to do, which no news tells.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use landfall_runtime::{publish, timer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch::{Receiver, Sender};
use tracing::{info, warn};

/// kube-proxy's interface; its name is fixed.
pub(crate) const INTERFACE: &str = "kube-ipvs0";

/// How often the kernel's setting is read while kube-proxy holds an address of a Service.
const READ_EVERY: Duration = Duration::from_secs(30);

/// kube-proxy has put an IPv4 address of a Service on its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// One such address.
    pub(crate) ip: IpAddr,
    /// The interfaces on which this node may announce addresses.
    pub(crate) interfaces: BTreeSet<String>,
}

/// The kernel answers for the addresses of Services, whether this node owns them or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trap {
    ip: IpAddr,
    /// Where it answers; never empty.
    interfaces: BTreeSet<String>,
}

/// The sentence for people, with the way out.
impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
        write!(
            f,
            "kube-proxy has put addresses of Services, such as {}, on interface {INTERFACE}, and the kernel of this node answers ARP \
             requests for them on {} whichever node owns them, because arp_ignore is not 1 there: set ipvs.strictARP to true in the \
             configuration of kube-proxy and restart it",
            self.ip,
            interfaces.join(", ")
        )
    }
}

/// Whether there is a trap, given what `arp_ignore` says of an interface by name, or of `all`; `None` where that cannot be read.
///
/// IPv6 has none: the kernel answers a neighbour solicitation only on the interface that has the address.
pub(crate) fn trap(held: &Held, arp_ignore: impl Fn(&str) -> Option<u32>) -> Option<Trap> {
    let all = arp_ignore("all")?;
    let answers = |name: &&String| arp_ignore(name).is_some_and(|own| answers_for_other_interfaces(own.max(all)));
    let interfaces: BTreeSet<String> = held.interfaces.iter().filter(answers).cloned().collect();
    (!interfaces.is_empty()).then_some(Trap { ip: held.ip, interfaces })
}

/// The kernel takes the maximum of an interface's own value and that of `all`. Source: Linux, ip-sysctl.rst, arp_ignore; 3
/// leaves out only addresses of scope host, which kube-proxy's are not, and 4 to 7 mean nothing yet.
fn answers_for_other_interfaces(arp_ignore: u32) -> bool {
    matches!(arp_ignore, 0 | 3..=7)
}

/// What the kernel of the calling thread's network namespace is told, for an interface's name or `all`.
pub(crate) fn read_arp_ignore(name: &str) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore")).ok()?.trim().parse().ok()
}

/// Looks for the trap whenever what is held changes, and now and then while something is. Says it in the log once until it is
/// gone. Runs until the sender of `held` is gone, at the end of the process.
pub(crate) async fn watch(mut held: Receiver<Option<Held>>, found: Sender<Option<Trap>>) {
    loop {
        let now = held.borrow_and_update().clone();
        let after = now.as_ref().and_then(|held| trap(held, read_arp_ignore));
        say(found.borrow().as_ref(), after.as_ref());
        publish::if_changed(&found, after);
        let again = timer::sleep_until(now.is_some().then(|| Instant::now() + READ_EVERY));
        tokio::select! {
            changed = held.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

fn say(before: Option<&Trap>, after: Option<&Trap>) {
    match (before, after) {
        (None, Some(trap)) => warn!(why = %trap, "the kernel answers for addresses of Services"),
        (Some(_), None) => info!("the kernel does not answer for addresses of Services any more"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// The metric `landfall_ipvs_answers`: 1 for each interface on which the kernel answers.
#[derive(Debug)]
pub(crate) struct IpvsMetric(pub(crate) Receiver<Option<Trap>>);

impl Collector for IpvsMetric {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(trap) = &*self.0.borrow() else { return Ok(()) }; // a family without series has no header either
        let mut family = encoder.encode_descriptor(
            "landfall_ipvs_answers",
            "1 for each interface on which this node's kernel answers ARP requests for addresses that kube-proxy has on kube-ipvs0",
            None,
            MetricType::Gauge,
        )?;
        for interface in &trap.interfaces {
            ConstGauge::new(1i64).encode(family.encode_family(&[("interface", interface.clone())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn held() -> Held {
        Held { ip: "192.0.2.1".parse().unwrap(), interfaces: ["eth0", "eth1"].map(str::to_owned).into() }
    }

    #[test]
    fn the_kernel_answers_unless_the_greater_of_two_settings_forbids_it() {
        for (all, eth0, eth1, answers) in [
            (Some(0), Some(0), Some(0), &["eth0", "eth1"][..]),
            (Some(1), Some(0), Some(0), &[]), // strictARP
            (Some(0), Some(1), Some(0), &["eth1"]),
            (Some(0), Some(2), Some(8), &[]),
            (Some(1), Some(3), Some(1), &["eth0"]), // for any address but of scope host
            (Some(0), Some(0), None, &["eth0"]),    // gone meanwhile
            (None, Some(0), Some(0), &[]),
        ] {
            let found = trap(&held(), |name| match name {
                "all" => all,
                "eth0" => eth0,
                _ => eth1,
            });
            let interfaces: Vec<String> = found.into_iter().flat_map(|trap| trap.interfaces).collect();
            assert_eq!(interfaces, answers, "all {all:?}, eth0 {eth0:?}, eth1 {eth1:?}");
        }
    }

    #[test]
    fn the_trap_is_said_with_an_address_the_interfaces_and_the_way_out() {
        let said = trap(&held(), |_| Some(0)).expect("a trap").to_string();
        for part in ["192.0.2.1", "kube-ipvs0", "eth0, eth1", "set ipvs.strictARP to true"] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
    }

    #[test]
    fn each_interface_on_which_the_kernel_answers_is_one_series() {
        let (sender, receiver) = tokio::sync::watch::channel(None);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(IpvsMetric(receiver)));
        assert_eq!(landfall_runtime::metrics::text(&registry), "");
        sender.send_replace(trap(&held(), |name| Some(u32::from(name == "eth1"))));
        let text = landfall_runtime::metrics::text(&registry);
        assert!(text.contains(r#"landfall_ipvs_answers{interface="eth0"} 1"#) && !text.contains("eth1"), "{text}");
    }
}
