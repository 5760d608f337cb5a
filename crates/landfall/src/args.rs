//! What was typed ([`Args`]) becomes what is used ([`Job`]), said once in the log.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use landfall_controller::admission;
use landfall_runtime::{configuration_state, logs};
use tracing::{error, info};

/// Where a Pod finds the name of its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Where Landfall lives unless told otherwise.
const DEFAULT_NAMESPACE: &str = "landfall-system";

/// A load balancer for bare-metal Kubernetes: gives Services of type LoadBalancer their addresses and answers for them.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give each Service an address from a pool (of several replicas one is elected to, the others stand by)
    Controller(ControllerArgs),
    /// Answer ARP and NDP for the addresses that this node owns (one on each node)
    Speaker(SpeakerArgs),
    /// Install or upgrade the CustomResourceDefinitions and wait until the API server serves them
    Crds(LogArgs),
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// all, debug, info, warn, error, none, or targets such as info,landfall_speaker=debug
    #[arg(long, default_value = "info", env = "LANDFALL_LOG_LEVEL")]
    log_level: String,
    /// json or text
    #[arg(long, default_value = "json", env = "LANDFALL_LOG_FORMAT")]
    log_format: logs::Format,
}

#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Namespace of the configuration objects [default: the Pod's own, else landfall-system]
    #[arg(long, env = "LANDFALL_NAMESPACE")]
    namespace: Option<String>,
    /// Serve only Services whose spec.loadBalancerClass is this [default: only those without a class]
    #[arg(long, env = "LANDFALL_LB_CLASS")]
    lb_class: Option<String>,
    /// Port of /healthz, /readyz and /metrics (the speaker serves it on 127.0.0.1 only)
    #[arg(long, default_value_t = 17472, value_name = "PORT")]
    health_probe_port: u16,
    #[command(flatten)]
    logs: LogArgs,
}

#[derive(Debug, clap::Args)]
struct ControllerArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    webhooks: WebhookArgs,
    /// Elect one of the replicas, which alone writes. With false there must never be two, not even during an upgrade
    /// (strategy Recreate): two would give the same address to different Services
    #[arg(
        long, env = "LANDFALL_LEADER_ELECT", value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_value_t = true, default_missing_value = "true"
    )]
    leader_elect: bool,
    /// Name of the Lease on which they elect, in the namespace of the configuration objects; the same for all replicas.
    /// `kubectl get lease` shows who leads
    #[arg(long, env = "LANDFALL_LEASE_NAME", value_name = "NAME", default_value = "landfall-controller")]
    lease_name: String,
    /// Name of the controller's own Pod, which becomes the owner of the ConfigurationState it writes
    #[arg(long, env = "LANDFALL_POD_NAME", value_name = "NAME", requires = "pod_uid")]
    pod_name: Option<String>,
    /// metadata.uid of that Pod
    #[arg(long, env = "LANDFALL_POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
}

#[derive(Debug, clap::Args)]
struct WebhookArgs {
    /// Serve the webhooks by which the API server refuses, at kubectl apply, what does not fit the objects that are there:
    /// enabled or disabled. When disabled, such a mistake is said afterwards, in the object's condition Accepted
    #[arg(long, default_value = "enabled", env = "LANDFALL_WEBHOOK_MODE", value_name = "MODE")]
    webhook_mode: WebhookMode,
    /// Port of the webhooks on the Pod's address
    #[arg(long, default_value_t = 9443, value_name = "PORT")]
    webhook_port: u16,
    /// Service in front of that port, in the controller's namespace: the certificate is made for its name
    #[arg(long, default_value = "landfall-webhook-service", value_name = "NAME")]
    webhook_service: String,
    /// Secret in the controller's namespace where the certificate is kept. It is made and renewed by itself; delete it to
    /// have a new one at once
    #[arg(long, default_value = "landfall-webhook-cert", value_name = "NAME")]
    webhook_secret: String,
    /// ValidatingWebhookConfiguration whose webhooks are told to trust the certificate
    #[arg(long, default_value = "landfall-webhooks", value_name = "NAME")]
    webhook_configuration: String,
}

#[derive(Clone, Copy, Debug)]
enum WebhookMode {
    Enabled,
    Disabled,
}

impl FromStr for WebhookMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            "onlywebhook" => Err("a controller that serves nothing but webhooks does not exist here: with several \
                                  replicas each one serves them; use enabled or disabled"),
            _ => Err("use enabled or disabled"),
        }
    }
}

#[derive(Debug, clap::Args)]
struct SpeakerArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Name of the Node this speaker runs on
    #[arg(long, env = "LANDFALL_NODE_NAME")]
    node_name: Option<String>,
    /// Name of the speaker's own Pod, which becomes the owner of the objects it writes about its node
    #[arg(long, env = "LANDFALL_POD_NAME")]
    pod_name: Option<String>,
    /// Leave out interfaces whose name this regular expression matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    exclude_interface: Vec<String>,
    /// Use only interfaces whose name one of these regular expressions matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    include_interface: Vec<String>,
    /// Let nodes with the label node.kubernetes.io/exclude-from-external-load-balancers take part
    #[arg(long)]
    ignore_exclude_lb: bool,
}

/// What this process is to do.
#[derive(Debug)]
pub(crate) enum Job {
    Controller(landfall_controller::Settings),
    Speaker(landfall_speaker::Settings),
    Crds,
}

impl Args {
    /// Starts the logs and one single-threaded runtime, and runs the job in it. Its error is logged and returned.
    pub(crate) fn run<F>(self, job: impl FnOnce(Job) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let log = match &self.command {
            Command::Controller(args) => &args.common.logs,
            Command::Speaker(args) => &args.common.logs,
            Command::Crds(log) => log,
        };
        logs::init(&log.log_level, log.log_format)?;
        let settings = self.command.into_job()?;
        info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
        // One thread is enough for either process and keeps it small; blocking calls (files) are short and rare.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_keep_alive(Duration::from_secs(1))
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(job(settings)).inspect_err(|error| error!(error = format!("{error:#}"), "cannot go on"))
    }
}

impl Command {
    fn into_job(self) -> anyhow::Result<Job> {
        Ok(match self {
            Command::Controller(args) => Job::Controller(landfall_controller::Settings {
                probe_address: (Ipv6Addr::UNSPECIFIED, args.common.health_probe_port).into(),
                namespace: namespace(args.common.namespace),
                lb_class: not_empty(args.common.lb_class),
                admission: args.webhooks.into_settings(),
                pod: not_empty(args.pod_name)
                    .zip(not_empty(args.pod_uid))
                    .map(|(name, uid)| configuration_state::Pod { name, uid }),
                lease: args.leader_elect.then_some(args.lease_name),
            }),
            Command::Speaker(args) => Job::Speaker(landfall_speaker::Settings {
                node_name: not_empty(args.node_name).context(
                    "the speaker needs the name of its node: give --node-name or LANDFALL_NODE_NAME \
                     (in a Pod from spec.nodeName by the downward API)",
                )?,
                pod_name: not_empty(args.pod_name),
                exclude_interfaces: args.exclude_interface,
                include_interfaces: args.include_interface,
                ignore_exclude_label: args.ignore_exclude_lb,
                // The speaker is on the node's own network: what it says there is for kubelet only.
                probe_address: (Ipv4Addr::LOCALHOST, args.common.health_probe_port).into(),
                namespace: namespace(args.common.namespace),
                lb_class: not_empty(args.common.lb_class),
            }),
            Command::Crds(_) => Job::Crds,
        })
    }
}

impl WebhookArgs {
    fn into_settings(self) -> Option<admission::Settings> {
        match self.webhook_mode {
            WebhookMode::Enabled => Some(admission::Settings {
                address: (Ipv6Addr::UNSPECIFIED, self.webhook_port).into(),
                service: self.webhook_service,
                secret: self.webhook_secret,
                configuration: self.webhook_configuration,
            }),
            WebhookMode::Disabled => None,
        }
    }
}

/// A chart writes an unset value as an empty text.
fn not_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn namespace(given: Option<String>) -> String {
    let of_pod = || std::fs::read_to_string(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned());
    not_empty(given).or_else(|| not_empty(of_pod())).unwrap_or_else(|| DEFAULT_NAMESPACE.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str) -> anyhow::Result<Job> {
        let args = Args::try_parse_from(std::iter::once("landfall").chain(line.split(' ')))?;
        args.command.into_job()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn the_charts_arguments_become_settings() {
        let line = "speaker --node-name n1 --namespace metallb-system --lb-class= --exclude-interface ^veth.* \
                    --exclude-interface ^lo$ --ignore-exclude-lb --health-probe-port 9999";
        let Ok(Job::Speaker(settings)) = job(line) else { panic!("not a speaker") };
        assert_eq!((settings.node_name.as_str(), settings.namespace.as_str()), ("n1", "metallb-system"));
        assert_eq!(settings.lb_class, None);
        assert_eq!(settings.exclude_interfaces, ["^veth.*", "^lo$"]);
        assert!(settings.ignore_exclude_label);
        assert_eq!(settings.probe_address.to_string(), "127.0.0.1:9999");

        let Ok(Job::Controller(settings)) = job("controller --lb-class example.com/lb") else { panic!() };
        assert_eq!(settings.lb_class.as_deref(), Some("example.com/lb"));
        assert_eq!(settings.probe_address.to_string(), "[::]:17472");
    }

    #[test]
    fn the_webhooks_are_served_unless_they_are_switched_off() {
        let line = "controller --webhook-port 8443 --webhook-service s --webhook-secret c --webhook-configuration w";
        let Ok(Job::Controller(settings)) = job(line) else { panic!("not a controller") };
        let expected = admission::Settings {
            address: "[::]:8443".parse().unwrap(),
            service: "s".into(),
            secret: "c".into(),
            configuration: "w".into(),
        };
        assert_eq!(settings.admission, Some(expected));
        let Ok(Job::Controller(settings)) = job("controller --webhook-mode disabled") else { panic!() };
        assert_eq!(settings.admission, None);
        let error = job("controller --webhook-mode onlywebhook").unwrap_err().to_string();
        assert!(error.contains("with several replicas each one serves them; use enabled or disabled"), "{error}");
    }

    #[test]
    fn replicas_elect_on_a_lease_unless_told_not_to() {
        for (line, lease) in [
            ("controller", Some("landfall-controller")),
            ("controller --leader-elect", Some("landfall-controller")),
            ("controller --leader-elect=true --lease-name=second-controller", Some("second-controller")),
            ("controller --leader-elect=false --lease-name=second-controller", None),
        ] {
            let Ok(Job::Controller(settings)) = job(line) else { panic!("{line}: not a controller") };
            assert_eq!(settings.lease.as_deref(), lease, "{line}");
        }
    }

    #[test]
    fn a_speaker_without_a_node_says_how_to_name_it() {
        let error = job("speaker --node-name=").unwrap_err().to_string();
        assert!(error.contains("--node-name or LANDFALL_NODE_NAME"), "{error}");
    }

    #[test]
    fn an_unknown_log_format_is_refused_with_those_that_exist() {
        let error = job("controller --log-format yaml").unwrap_err().to_string();
        assert!(error.contains("use json or text"), "{error}");
    }
}
