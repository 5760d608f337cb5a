//! The speaker's tasks. None is ever aborted: they end when the process does, and a task that panics ends it.
//!
//! - **watches** (one per kind, [`crate::watch`]): cluster in, into a bounded channel to the owner.
//! - **owner** (this function): owns the [`Model`]; each change makes new verdicts, which go out as two values that are
//!   replaced whole: [`Desired`] to the wire and [`Claims`] to the status task.
//! - **wire thread** ([`crate::wire_thread`]): a thread of its own, so that ten thousand Services being read never delay an answer.
//! - **status** ([`crate::status`]): `ServiceL2Status` objects and events, from the claims and from what the wire confirms.
//! - **conditions** ([`crate::announced_condition::writer`]): the condition `landfall.io/Announced` of Services, when the status
//!   task has nothing to write.
//! - **IPVS** ([`crate::ipvs`]): whether the kernel answers for addresses of Services by itself.
//! - of [`landfall_runtime`]: the keeper of this node's ConfigurationState, the event sender, the probe server, the signal handler.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ipnet::IpNet;
use jiff::Timestamp;
use kube::Client;
use landfall_config::Problem;
use landfall_runtime::configuration_state::{self, Component, Pod, State};
use landfall_runtime::events::Recorder;
use landfall_runtime::watch::CHANNEL_BOUND;
use landfall_runtime::{client, metrics, probes, publish, shutdown, timer};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info};

use crate::announced_condition::agenda::{Agenda, Wish};
use crate::announced_condition::{statement, writer};
use crate::announced_metric::AnnouncedMetric;
use crate::claims::{Claims, claims};
use crate::desired::{Announced, Desired};
use crate::elect::{Verdict, desired};
use crate::ipvs::{self, IpvsMetric, Trap};
use crate::keys;
use crate::links::InterfaceFilter;
use crate::liveness::{LivenessInputs, Members, Stance};
use crate::membership_settings::MembershipSettings;
use crate::model::{Decided, Model, ServiceKey};
use crate::passing_on::NodeAddresses;
use crate::refresh::Refresh;
use crate::silence;
use crate::standing::Watched;
use crate::status::{self, Answered, Inputs, ObjectClient};
use crate::wire_metrics::WireMetrics;
use crate::wire_thread::{self, WireSettings};

/// What the speaker is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Node it runs on.
    pub node_name: String,
    /// Its own Pod, if it is one: the owner of the status objects it writes.
    pub pod_name: Option<String>,
    /// Where pools, advertisements, speaker Pods and status objects are.
    pub namespace: String,
    /// The `spec.loadBalancerClass` to serve; `None` for Services without one.
    pub lb_class: Option<String>,
    /// Where probes and metrics are served.
    pub probe_address: SocketAddr,
    /// Regular expressions: interfaces to leave out.
    pub exclude_interfaces: Vec<String>,
    /// Regular expressions: the only interfaces to use; empty for all.
    pub include_interfaces: Vec<String>,
    /// Nodes that are labelled to be left out by load balancers take part all the same.
    pub ignore_exclude_label: bool,
    /// How often neighbours are told again what is answered here.
    pub refresh_interval: Duration,
    /// How the speakers watch each other.
    pub membership: MembershipSettings,
    /// Tell the controller, by the API, which nodes are silent.
    pub report_silent_nodes: bool,
    /// Let established connections live on when an address moves from a node that lives.
    pub keep_connections: bool,
}

/// Runs the speaker until the process is asked to end.
///
/// # Errors
/// What makes it impossible to start, with the way out; or the wire thread's failure: a speaker that cannot answer
/// must not look alive.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    settings.membership.check()?;
    let refresh = Refresh::every(settings.refresh_interval)?;
    let mut shutdown = shutdown::install()?;
    let interfaces = InterfaceFilter::new(&settings.include_interfaces, &settings.exclude_interfaces)?;
    let health = probes::Health::default();
    let beat = health.task("the owner of the model");
    let listed = health.step("the first list of every kind");
    let wire_ready = health.step("the packet sockets");

    let mut registry = metrics::registry();
    let client = client::connect().await?;
    let events = Recorder::start(client.clone(), "landfall-speaker", settings.node_name.clone(), &mut registry);
    let (desired_out, desired_in) = watch::channel(Arc::new(Desired::default()));
    let (announced_out, announced_in) = watch::channel(Arc::new(Announced::default()));
    let wire_metrics = WireMetrics::default();
    wire_metrics.register(&mut registry);
    let (members_out, members) = watch::channel(None);
    let (stance_out, stance) = watch::channel(Stance::Serve);
    let liveness = match &settings.membership.secret {
        None => None,
        Some(secret) => {
            let MembershipSettings { settings: tunables, address, port, .. } = settings.membership.clone();
            let address = address.context("--speaker-key-secret is given and --node-address is not: give both")?;
            let keys = keys::follow(&client, &settings.namespace, secret);
            let observed = settings.report_silent_nodes.then(|| silence::report(&client, &settings));
            Some(LivenessInputs { settings: tunables, address, port, members, keys, stance, observed })
        }
    };
    let watched = if liveness.is_some() { Watched::BySpeakers } else { Watched::ByApi };
    let (nodes_out, nodes) = watch::channel(Arc::default());
    let keep_connections = settings.keep_connections.then_some(nodes);
    let node = settings.node_name.as_str().into();
    let wire_settings = WireSettings { node, interfaces, liveness, refresh, keep_connections };
    let wire = wire_thread::spawn(wire_settings, desired_in, announced_out, wire_metrics)?;
    let (trap_out, trap) = watch::channel(None);
    registry.register_collector(Box::new(IpvsMetric(trap.clone())));
    tokio::spawn(ipvs::watch(wire.held_by_ipvs(), trap_out));
    let (claims_out, claims_in) = watch::channel(None);
    let (state_out, state) = watch::channel(None);
    let _object =
        configuration_state::keep(&client, &settings.namespace, Component::Speaker(settings.node_name.clone()), state);
    let (wishes_out, wishes) = watch::channel(Arc::default());
    let busy = start_status(&client, &settings, events, claims_in, announced_in.clone(), &mut registry);
    tokio::spawn(writer::run(client.clone(), wishes, busy));
    probes::serve(settings.probe_address, health, Arc::new(registry), shutdown.clone()).await?;

    let (to_owner, mut from_watches) = mpsc::channel(CHANNEL_BOUND);
    crate::watch::start(&client, &settings.namespace, settings.lb_class.clone(), &to_owner);
    let model = Model::new(settings.node_name.clone(), settings.ignore_exclude_label, watched);
    let mut owner = Owner {
        model,
        settings,
        said: BTreeSet::new(),
        unpublished: BTreeSet::new(),
        rests_until: Instant::now(),
        desired: desired_out,
        members: members_out,
        nodes: nodes_out,
        stance: stance_out,
        announced: announced_in,
        claims: claims_out,
        agenda: Agenda::default(),
        wishes: wishes_out,
        networks: wire.networks(),
        trap,
        state: state_out,
    };

    let mut wire_up = wire.ready();
    let mut wire_finished = std::pin::pin!(wire.finished());
    let mut tick = tokio::time::interval(probes::TICK);
    let mut again_at: Option<Instant> = None;
    loop {
        let (again, look) = (timer::sleep_until(again_at), timer::sleep_until(owner.agenda.look_at()));
        tokio::select! {
            () = shutdown.requested() => break,
            end = &mut wire_finished => return end.context("the wire thread has ended"),
            Some(event) = from_watches.recv() => {
                owner.model.apply(event);
                // What is queued already is decided together: a list, or a burst of changes.
                while let Ok(event) = from_watches.try_recv() {
                    owner.model.apply(event);
                }
            }
            Ok(()) = owner.networks.changed() => {}
            Ok(()) = owner.trap.changed() => {}
            Ok(()) = owner.announced.changed() => {
                owner.publish_claims();
                owner.agenda.touched(Instant::now());
                continue;
            }
            () = look => {
                owner.wish_conditions(Instant::now());
                continue;
            }
            Ok(()) = wire_up.changed() => {
                if *wire_up.borrow_and_update() {
                    wire_ready.done();
                }
                continue;
            }
            () = again => {}
            _ = tick.tick() => {
                beat.tick();
                continue;
            }
        }
        if let Some(decided) = owner.model.decide(Instant::now()) {
            listed.done();
            again_at = [decided.again_at, owner.publish(decided)].into_iter().flatten().min();
            owner.publish_state();
            owner.agenda.touched(Instant::now());
        }
    }
    // The others are told, so that they answer in our name until we are back; nobody waits for them.
    owner.stance.send_replace(Stance::Restart);
    if watched == Watched::BySpeakers {
        let said = tokio::time::timeout(LEAVE_LIMIT, wire_finished).await;
        return said.context("the other speakers could not be told that this one ends")?;
    }
    Ok(())
}

/// Telling the others takes a datagram to each.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Starts the status task with its own watch of the `ServiceL2Status` objects. Returns whether it is writing.
fn start_status(
    client: &Client,
    settings: &Settings,
    events: Recorder,
    claims: watch::Receiver<Option<Arc<Claims>>>,
    announced: watch::Receiver<Arc<Announced>>,
    registry: &mut Registry,
) -> watch::Receiver<bool> {
    let (to_status, objects) = mpsc::channel(CHANNEL_BOUND);
    let client = ObjectClient::new(client, &settings.namespace, settings.node_name.clone());
    client.watch(to_status);
    let (answered_out, answered) = watch::channel(Answered::default());
    registry.register_collector(Box::new(AnnouncedMetric::new(settings.node_name.clone(), answered)));
    let (busy_out, busy) = watch::channel(false);
    tokio::spawn(status::run(client, events, Inputs { claims, announced, objects }, answered_out, busy_out));
    busy
}

/// Of a processor, publishing takes no more than one part in this many and one. With a thousand Services the pause is a
/// few milliseconds.
const REST: u32 = 4;

/// The model and where its verdicts go.
struct Owner {
    model: Model,
    settings: Settings,
    /// Services that were said to be announced here.
    said: BTreeSet<ServiceKey>,
    /// Services whose verdict is another one since it was published.
    unpublished: BTreeSet<ServiceKey>,
    /// Nothing is published before.
    rests_until: Instant,
    desired: watch::Sender<Arc<Desired>>,
    members: watch::Sender<Option<Arc<Members>>>,
    nodes: watch::Sender<Arc<NodeAddresses>>,
    stance: watch::Sender<Stance>,
    announced: watch::Receiver<Arc<Announced>>,
    claims: watch::Sender<Option<Arc<Claims>>>,
    agenda: Agenda,
    wishes: watch::Sender<Arc<Vec<Wish>>>,
    networks: watch::Receiver<BTreeSet<IpNet>>,
    trap: watch::Receiver<Option<Trap>>,
    state: watch::Sender<Option<State>>,
}

impl Owner {
    /// Sends what was decided to the wire first, then to the status task and the log. What is sent is the whole, so the
    /// cost grows with the number of Services; in a burst of changes it is sent again only after [`REST`] times as long
    /// as it took. Returns when to come again for what is left.
    fn publish(&mut self, decided: Decided) -> Option<Instant> {
        if decided.problems_changed {
            self.log_problems();
        }
        let draining = if self.model.is_draining() { Stance::Drain } else { Stance::Serve };
        publish::if_changed(&self.stance, draining);
        if self.settings.keep_connections {
            publish::if_changed(&self.nodes, Arc::new(self.model.node_addresses()));
        }
        self.unpublished.extend(decided.changed);
        let start = Instant::now();
        let members = self.model.members();
        let members_changed = self.members.borrow().as_deref() != Some(&members);
        if start < self.rests_until {
            let something_left = !self.unpublished.is_empty() || members_changed || self.claims.borrow().is_none();
            return something_left.then_some(self.rests_until);
        }
        let changed = std::mem::take(&mut self.unpublished);
        if !changed.is_empty() {
            let desired = desired(self.model.verdicts(), |key| self.model.service(key));
            publish::if_changed(&self.desired, Arc::new(desired));
            for service in &changed {
                self.log_verdict(service);
            }
        }
        // After what may have to be answered for: who is a member may own it.
        if members_changed {
            self.members.send_replace(Some(Arc::new(members)));
        }
        if !changed.is_empty() || self.claims.borrow().is_none() {
            self.publish_claims();
        }
        self.rests_until = start + start.elapsed() * (REST + 1);
        None
    }

    /// Nothing is claimed before our own Pod is known to be ready: until then the others may count on another node, and
    /// a speaker that has just restarted would take back what it said before and say it again.
    fn publish_claims(&mut self) {
        let pod = match &self.settings.pod_name {
            None => None,
            Some(name) => match self.model.speaker_pod(name) {
                Some(pod) if pod.ready || self.claims.borrow().is_some() => Some((name.clone(), pod.uid.clone())),
                _ => return,
            },
        };
        let announced = self.announced.borrow_and_update().clone();
        let claims = claims(self.model.verdicts(), &announced, |key| self.model.service(key));
        self.log_answers(&announced);
        publish::if_changed(&self.claims, Some(Arc::new(Claims { pod, services: claims })));
    }

    /// Sends the conditions of Services that are to be written. As with claims, nothing is said before our own Pod is known to be
    /// ready.
    fn wish_conditions(&mut self, now: Instant) {
        let said = self.claims.borrow().is_some();
        let announced = self.announced.borrow().clone();
        let spokesman = self.model.is_spokesman();
        let statements = self.model.verdicts().iter().filter(|_| said).filter_map(|(key, verdict)| {
            let statement = statement(&self.settings.node_name, verdict, &announced, spokesman)?;
            Some((key, self.model.service(key)?, statement))
        });
        let wishes = self.agenda.wishes(statements, now, Timestamp::now());
        self.agenda.rest(now.elapsed(), Instant::now());
        self.wishes.send_if_modified(|wished| {
            let any = !wishes.is_empty() || !wished.is_empty();
            *wished = Arc::new(wishes);
            any
        });
    }

    /// Says in our ConfigurationState whether the configuration could be used, that of kube-proxy included, and in which networks
    /// this node is. Not before our own Pod is known, to whom the object is to belong.
    fn publish_state(&self) {
        let pod = self.settings.pod_name.as_ref().map(|name| (name, self.model.speaker_pod(name)));
        let pod = match pod {
            None => None,
            Some((_, None)) => return,
            Some((name, Some(pod))) => Some(Pod { name: name.clone(), uid: pod.uid.clone() }),
        };
        let networks: Vec<String> = self.networks.borrow().iter().map(ToString::to_string).collect();
        let trap = self.trap.borrow().as_ref().map(ToString::to_string);
        let state = State {
            pod,
            problems: self.model.problems().iter().map(ToString::to_string).chain(trap).collect(),
            networks: Some(networks.join(",")),
        };
        publish::if_changed(&self.state, Some(state));
    }

    /// Says which Services this node has begun to answer for, or has ceased to.
    fn log_answers(&mut self, announced: &Announced) {
        for (service, verdict) in self.model.verdicts() {
            let Verdict::Serve { ips, .. } = verdict else { continue };
            let answers = || ips.iter().filter_map(|ip| announced.addresses.get(ip));
            let here = answers().any(|answers| answers.here().is_some());
            if here && self.said.insert(service.clone()) {
                info!(%service, ?ips, "announcing the Service");
            } else if !here && answers().count() == ips.len() && self.said.remove(service) {
                info!(%service, reason = "notOwner", owner = ?answers().next(), "no longer announcing the Service");
            }
        }
    }

    fn log_verdict(&mut self, service: &ServiceKey) {
        match self.model.verdicts().get(service) {
            Some(Verdict::Serve { ips, interfaces, ranking }) => {
                debug!(%service, ?ips, ?interfaces, ?ranking, "this node may answer for the Service");
            }
            Some(Verdict::Withhold(reason)) if self.said.remove(service) => {
                info!(%service, reason = reason.as_str(), why = %reason, "no longer announcing the Service");
            }
            Some(Verdict::Withhold(reason)) => {
                debug!(%service, reason = reason.as_str(), why = %reason, "not announcing the Service");
            }
            None if self.said.remove(service) => {
                info!(%service, reason = "serviceDeleted", "no longer announcing the Service");
            }
            None => {}
        }
    }

    fn log_problems(&self) {
        for problem in self.model.problems() {
            let Problem { kind, name, field, value, what, .. } = problem;
            error!(kind, name, field, value, what, "mistake in the configuration, the last good one stays in force");
        }
        if self.model.problems().is_empty() {
            info!("the configuration has no mistakes any more");
        }
    }
}

#[cfg(test)]
mod tests;
