//! What was typed ([`Args`]) becomes what is used ([`Job`]), said once in the log.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use landfall_config::duration::{self, DurationError};
use landfall_controller::{admission, eviction, speaker_key};
use landfall_runtime::{configuration_state, logs};
use landfall_speaker::MembershipSettings;
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
    #[command(flatten)]
    speaker_key: SpeakerKeyArgs,
    #[command(flatten)]
    eviction: EvictionArgs,
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

#[derive(Debug, clap::Args)]
struct SpeakerKeyArgs {
    /// Secret in the controller's namespace with the key that speakers seal their datagrams with. It is made and changed by itself;
    /// delete it to have a new one at once [default: none is made]
    #[arg(long, env = "LANDFALL_SPEAKER_KEY_SECRET", value_name = "NAME")]
    speaker_key_secret: Option<String>,
    /// The speakers' DaemonSet in the same namespace: the Secret that is made belongs to it and goes with it [default: it stays]
    #[arg(long, value_name = "NAME")]
    speaker_daemonset: Option<String>,
    /// Change the key when it is this old; 0 for never
    #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(0..=3650))]
    speaker_key_rotation_days: u16,
    /// Between the steps of a change, for every speaker to read the Secret
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = go_duration)]
    speaker_key_pause: Duration,
}

#[derive(Debug, clap::Args)]
struct EvictionArgs {
    /// Take the Pods behind LoadBalancer Services on a node that the speakers find dead out of service at once, as Kubernetes does 45 s
    /// later: off, dry-run (only say what would be done) or on
    #[arg(long, value_enum, default_value_t = EvictEndpoints::Off, value_name = "MODE")]
    evict_endpoints: EvictEndpoints,
    /// Nothing is done while more than this share of the nodes seem dead at once; one node is always allowed: 1 to 50
    #[arg(long, default_value_t = 30, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=50))]
    evict_at_most: u8,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum EvictEndpoints {
    Off,
    DryRun,
    On,
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
    /// How often neighbours are told again which addresses are here, and owners of others' addresses asked for: 10s to 10m
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = go_duration)]
    refresh_interval: Duration,
    #[command(flatten)]
    membership: MembershipArgs,
    /// Tell the controller, by the API, which nodes this speaker finds silent: for its --evict-endpoints
    #[arg(long)]
    report_silent_nodes: bool,
    /// Let established connections live on when an address moves from a node that lives; needs CAP_NET_ADMIN
    #[arg(long)]
    keep_connections: bool,
}

/// How speakers watch each other.
#[derive(Debug, clap::Args)]
struct MembershipArgs {
    /// The Node's own address, from which beats are sent and at which they arrive
    #[arg(long, env = "LANDFALL_NODE_ADDRESS", value_name = "IP")]
    node_address: Option<String>,
    /// UDP port of the beats, the same on every node
    #[arg(long, default_value_t = 7946, value_name = "PORT")]
    beat_port: u16,
    /// How often a speaker says that it lives: 10ms to 1s
    #[arg(long, default_value = "100ms", value_name = "DURATION", value_parser = go_duration)]
    beat_interval: Duration,
    /// How many beats in a row must be missing before its node is suspected: 2 to 10
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    misses: u32,
    /// How long another answers in the name of a node whose speaker is silent while its kernel forwards: 5s to 10m
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = go_duration)]
    cover_for: Duration,
    /// How long a node that was out must be healthy before it owns addresses again: 1s to 10m; doubles for one that flaps
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = go_duration)]
    hold_down: Duration,
    /// Secret with the speakers' key, in the namespace of the configuration objects [default: speakers do not watch each other]
    #[arg(long, env = "LANDFALL_SPEAKER_KEY_SECRET", value_name = "NAME")]
    speaker_key_secret: Option<String>,
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
                speaker_key: args.speaker_key.into_settings(),
                eviction: args.eviction.into_settings(),
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
                refresh_interval: args.refresh_interval,
                membership: args.membership.into_settings()?,
                report_silent_nodes: args.report_silent_nodes,
                keep_connections: args.keep_connections,
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

impl EvictionArgs {
    fn into_settings(self) -> Option<eviction::Settings> {
        let dry_run = match self.evict_endpoints {
            EvictEndpoints::Off => return None,
            EvictEndpoints::DryRun => true,
            EvictEndpoints::On => false,
        };
        Some(eviction::Settings { dry_run, at_most_percent: self.evict_at_most })
    }
}

impl SpeakerKeyArgs {
    fn into_settings(self) -> Option<speaker_key::Settings> {
        let days = u64::from(self.speaker_key_rotation_days);
        Some(speaker_key::Settings {
            secret: not_empty(self.speaker_key_secret)?,
            owner: not_empty(self.speaker_daemonset),
            rotate_after: (days > 0).then(|| Duration::from_secs(days * 24 * 3600)),
            pause: self.speaker_key_pause,
        })
    }
}

impl MembershipArgs {
    fn into_settings(self) -> anyhow::Result<MembershipSettings> {
        let address = not_empty(self.node_address).map(|text| {
            text.parse::<IpAddr>().with_context(|| {
                format!("--node-address is {text:?}; give one IP address without a port (in a Pod status.hostIP)")
            })
        });
        Ok(MembershipSettings {
            settings: landfall_membership::Settings {
                beat_interval: self.beat_interval,
                misses: self.misses,
                cover_for: self.cover_for,
                hold_down: self.hold_down,
                ..landfall_membership::Settings::default()
            },
            address: address.transpose()?,
            port: self.beat_port,
            secret: not_empty(self.speaker_key_secret),
        })
    }
}

/// For clap: a duration as Go writes it, which is how it stands in the chart.
fn go_duration(text: &str) -> Result<Duration, DurationError> {
    duration::parse(text)
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
    fn the_charts_membership_becomes_settings_and_the_defaults_are_membership_s_own() {
        let Ok(Job::Speaker(speaker)) = job("speaker --node-name n1") else { panic!("not a speaker") };
        let defaults = landfall_membership::Settings::default();
        let expected = MembershipSettings { settings: defaults.clone(), address: None, port: 7946, secret: None };
        assert_eq!(speaker.membership, expected);
        let line = "speaker --node-name n1 --node-address 2001:db8::1 --beat-port 7000 --beat-interval 30ms --misses 4 \
                    --cover-for 1m30s --hold-down 10s --speaker-key-secret k";
        let Ok(Job::Speaker(speaker)) = job(line) else { panic!("not a speaker") };
        let settings = landfall_membership::Settings {
            beat_interval: Duration::from_millis(30),
            misses: 4,
            cover_for: Duration::from_secs(90),
            hold_down: Duration::from_secs(10),
            ..defaults
        };
        let address = Some("2001:db8::1".parse().unwrap());
        assert_eq!(speaker.membership, MembershipSettings { settings, address, port: 7000, secret: Some("k".into()) });
        for (line, text) in [
            (
                "speaker --node-name n1 --node-address 10.0.0.1:80",
                "--node-address is \"10.0.0.1:80\"; give one IP address",
            ),
            (
                "speaker --node-name n1 --beat-interval 100",
                "'--beat-interval <DURATION>': not a duration; write numbers",
            ),
        ] {
            let error = job(line).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_key_is_kept_for_the_speakers_where_its_secret_is_named() {
        let of = |line: &str| match job(line) {
            Ok(Job::Controller(settings)) => settings.speaker_key,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(of("controller"), None);
        assert_eq!(of("controller --speaker-key-secret="), None);
        let (day, minute) = (Duration::from_secs(24 * 3600), Duration::from_secs(60));
        let expected = speaker_key::Settings {
            secret: "k".into(),
            owner: Some("d".into()),
            rotate_after: Some(30 * day),
            pause: 5 * minute,
        };
        assert_eq!(of("controller --speaker-key-secret k --speaker-daemonset d"), Some(expected.clone()));
        let line = "controller --speaker-key-secret k --speaker-daemonset d --speaker-key-rotation-days 0 --speaker-key-pause 1m";
        assert_eq!(of(line), Some(speaker_key::Settings { rotate_after: None, pause: minute, ..expected }));
        let error = job("controller --speaker-key-rotation-days 3651").unwrap_err().to_string();
        assert!(error.contains("3651 is not in 0..=3650"), "{error}");
    }

    #[test]
    fn an_unknown_log_format_is_refused_with_those_that_exist() {
        let error = job("controller --log-format yaml").unwrap_err().to_string();
        assert!(error.contains("use json or text"), "{error}");
    }
}
