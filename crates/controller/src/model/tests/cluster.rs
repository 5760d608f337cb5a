//! The cluster that the model lives in: what it writes comes back through the watches.

use super::super::*;
use landfall_sequences::view::View;
use serde_json::json;

pub(super) struct Cluster {
    pub(super) model: Model,
    /// The Services as the API server has them.
    pub(super) services: BTreeMap<String, Value>,
    /// The IPAddressPools, likewise.
    pub(super) pools: BTreeMap<String, Value>,
    advertisements: BTreeMap<String, Value>,
    namespaces: BTreeMap<String, Labels>,
    nodes: BTreeMap<String, Node>,
    pub(super) said: Vec<String>,
    pub(super) now: Instant,
    uids: u32,
    versions: u32,
    /// Every write fails.
    pub(super) down: bool,
}

impl Cluster {
    /// Before any list is complete.
    pub(super) fn new() -> Self {
        Self {
            model: Model::default(),
            services: BTreeMap::new(),
            pools: BTreeMap::new(),
            advertisements: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            nodes: BTreeMap::new(),
            said: vec![],
            now: Instant::now(),
            uids: 0,
            versions: 0,
            down: false,
        }
    }

    /// With these pools.
    pub(super) fn with(pools: &[(&str, Value)]) -> Self {
        Self::new().started(pools)
    }

    /// All first lists are complete: the Services that were created so far, and these pools.
    pub(super) fn started(mut self, pools: &[(&str, Value)]) -> Self {
        for (name, spec) in pools {
            self.pool(name, spec.clone());
        }
        self.restart();
        self.settle();
        self
    }

    /// Another process takes over, and lists everything.
    pub(super) fn restart(&mut self) {
        self.model = Model::default();
        self.lists();
    }

    /// Every kind is listed, as after the watches were lost.
    pub(super) fn lists(&mut self) {
        let pools: Vec<_> = self.pools.values().map(named).collect();
        let advertisements: Vec<_> = self.advertisements.values().map(named).collect();
        let services: Vec<_> = self.services.values().map(read).collect();
        let namespaces: Vec<_> =
            self.namespaces.iter().map(|(name, labels)| (name.clone(), Some(labels.clone()))).collect();
        let nodes: Vec<_> = self.nodes.iter().map(|(name, node)| (name.clone(), Some(node.clone()))).collect();
        // Services first: nothing may depend on the order of the lists.
        self.list(services, Event::Service);
        self.list(pools, Event::Pool);
        self.list(advertisements, Event::L2Advertisement);
        self.list(namespaces, Event::Namespace);
        self.list(nodes, Event::Node);
        self.list(vec![], Event::Networks);
        self.list(vec![], Event::BgpPeer);
        self.list(vec![], Event::BgpAdvertisement);
        self.list(vec![], Event::BfdProfile);
        self.list(vec![], Event::Community);
    }

    fn list<T>(&mut self, listed: Vec<T>, wrap: impl Fn(Change<T>) -> Event) {
        self.event(wrap(Change::Restarted));
        for one in listed {
            self.event(wrap(Change::Listed(one)));
        }
        self.event(wrap(Change::ListDone));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.model.apply(event, self.now);
    }

    pub(super) fn pool(&mut self, name: &str, spec: Value) -> &mut Self {
        self.pool_object(name, json!({"metadata": {}, "spec": spec}))
    }

    /// A pool with labels or annotations.
    pub(super) fn pool_object(&mut self, name: &str, change: Value) -> &mut Self {
        let pool = self
            .pools
            .entry(name.into())
            .or_insert_with(|| json!({"metadata": {"name": name, "uid": name, "generation": 1}}));
        merge(pool, &change);
        pool["spec"] = change["spec"].clone(); // the whole of it is replaced
        let pool = named(&pool.clone());
        self.event(Event::Pool(Change::Applied(pool)));
        self
    }

    pub(super) fn delete_pool(&mut self, name: &str) -> &mut Self {
        let pool = self.pools.remove(name).expect("it is there");
        self.event(Event::Pool(Change::Deleted(named(&pool))));
        self
    }

    pub(super) fn advertise(&mut self, name: &str, spec: Value) -> &mut Self {
        let object = json!({"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec});
        self.advertisements.insert(name.into(), object.clone());
        self.event(Event::L2Advertisement(Change::Applied(named(&object))));
        self
    }

    pub(super) fn node(&mut self, name: &str, labels: &[(&str, &str)]) -> &mut Self {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let node = Node { labels, network_unavailable: false };
        self.nodes.insert(name.into(), node.clone());
        self.event(Event::Node(Change::Applied((name.into(), Some(node)))));
        self
    }

    /// The cluster as anybody sees it through the API.
    pub(super) fn view(&self) -> View {
        let key = |service: &Value| {
            let part = |field: &str| service["metadata"][field].as_str().expect("text").to_owned();
            format!("{}/{}", part("namespace"), part("name"))
        };
        let namespace = |(name, labels): (&String, &Labels)| (name.clone(), json!({"metadata": {"labels": labels}}));
        View {
            services: self.services.values().map(|service| (key(service), service.clone())).collect(),
            pools: self.pools.clone(),
            namespaces: self.namespaces.iter().map(namespace).collect(),
            nodes: self.nodes.keys().cloned().collect(),
        }
    }

    pub(super) fn delete_node(&mut self, name: &str) -> &mut Self {
        self.nodes.remove(name);
        self.event(Event::Node(Change::Deleted((name.into(), None))));
        self
    }

    pub(super) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) -> &mut Self {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.namespaces.insert(name.into(), labels.clone());
        self.event(Event::Namespace(Change::Applied((name.into(), Some(labels)))));
        self
    }

    /// Creates or changes a Service: `change` is merged into it. A name with a slash says its namespace.
    pub(super) fn apply(&mut self, name: &str, change: Value) -> &mut Self {
        if !self.services.contains_key(name) {
            self.uids += 1;
            let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
            let fresh = json!({
                "metadata": {"name": short, "namespace": namespace, "uid": format!("u{}", self.uids)},
                "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "protocol": "TCP"}]}});
            self.services.insert(name.into(), fresh);
        }
        let version = self.version();
        let service = self.services.get_mut(name).expect("it is there");
        merge(service, &change);
        service["metadata"]["resourceVersion"] = json!(version);
        let read = read(service);
        self.event(Event::Service(Change::Applied(read)));
        self
    }

    /// Another one for each write.
    fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    pub(super) fn delete(&mut self, name: &str) -> &mut Self {
        let service = self.services.remove(name).expect("it is there");
        self.event(Event::Service(Change::Deleted(read(&service))));
        self
    }

    /// Somebody else writes the status.
    pub(super) fn overwrite(&mut self, name: &str, ip: &str) -> &mut Self {
        let fields = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
        self.apply(
            name,
            json!({
            "metadata": {"managedFields": [{"manager": "other-balancer", "fieldsV1": fields}]},
            "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}),
        )
    }

    /// Lets the model write until it has nothing to say; returns how many writes there were.
    pub(super) fn settle(&mut self) -> usize {
        let mut writes = 0;
        loop {
            let Some(write) = self.next() else {
                match self.model.next_due() {
                    // What is tried again in minutes is another story.
                    Some(due) if !self.down && due < self.now + Duration::from_secs(60) => self.now = self.now.max(due),
                    _ => return writes,
                }
                continue;
            };
            writes += 1;
            assert!(writes < 1_000, "it never settles: {:?}", write.target);
            self.finish(&write);
        }
    }

    /// Takes the next write that the model wants to make, without making it.
    pub(super) fn next(&mut self) -> Option<Write> {
        let keys = self.services.values().map(|service| read(service).0);
        let before = keys.map(|key| (key.clone(), self.model.ipam.held(&key).to_vec())).collect();
        let write = self.model.next(Now { instant: self.now, wall: Timestamp::UNIX_EPOCH });
        write.inspect(|write| self.nobody_else_is_seen_with_what_is_given(write, &before))
    }

    /// The API server does or refuses a write, and the model hears of it.
    pub(super) fn finish(&mut self, write: &Write) {
        let now = Now { instant: self.now, wall: Timestamp::UNIX_EPOCH };
        if self.down {
            return self.model.written(write, &Written::Failed, now);
        }
        let known = match &write.target {
            Target::Service(key) => self.services.get(&short(key)),
            Target::Object(Kind::Pool, name) => self.pools.get(name),
            Target::Object(Kind::L2Advertisement, name) => self.advertisements.get(name),
            Target::Object(..) => None,
        };
        let uid = &write.patch["metadata"]["uid"];
        let version = &write.patch["metadata"]["resourceVersion"];
        let refused = known.is_none_or(|object| {
            let metadata = &object["metadata"];
            metadata["uid"] != *uid || !version.is_null() && metadata["resourceVersion"] != *version
        });
        if refused && !matches!(write.target, Target::Object(Kind::BgpPeer, _)) {
            return self.model.written(write, &Written::Gone, now);
        }
        self.said.extend(write.events.iter().map(|event| format!("{} {}", event.reason, event.message)));
        let version = self.version();
        self.model.written(write, &Written::Done(version.clone()), now);
        match &write.target {
            Target::Service(key) => self.take(key, &write.patch, &version),
            Target::Object(Kind::Pool, name) => {
                let pool = self.pools.get_mut(name).expect("it is known");
                merge(pool, &write.patch);
                let pool = named(&pool.clone());
                self.event(Event::Pool(Change::Applied(pool)));
            }
            Target::Object(Kind::L2Advertisement, name) => {
                let object = self.advertisements.get_mut(name).expect("it is known");
                merge(object, &write.patch);
                let object = named(&object.clone());
                self.event(Event::L2Advertisement(Change::Applied(object)));
            }
            Target::Object(..) => {}
        }
    }

    /// What the API server makes of a patch of a Service's status.
    fn take(&mut self, key: &ServiceKey, patch: &Value, version: &str) {
        let service = self.services.get_mut(&short(key)).expect("it is known");
        merge(service, patch);
        service["metadata"]["resourceVersion"] = json!(version);
        if patch["status"]["loadBalancer"]["ingress"].is_array() {
            for ingress in service["status"]["loadBalancer"]["ingress"].as_array_mut().expect("a list") {
                ingress["ipMode"] = json!("VIP"); // the API server's default
            }
            service["metadata"]["managedFields"] = json!([]);
        }
        let read = read(service);
        self.event(Event::Service(Change::Applied(read)));
    }

    /// Who is seen with an address when it comes to be another's in the books holds it too.
    fn nobody_else_is_seen_with_what_is_given(&self, write: &Write, before: &BTreeMap<ServiceKey, Vec<IpAddr>>) {
        let Target::Service(key) = &write.target else { return };
        let had = self.services.get(&short(key)).map_or(vec![], |service| {
            let status = read(service).1.map_or(vec![], |service| service.ingress_ips());
            [&status[..], &before[key]].concat()
        });
        for ip in self.model.ipam.held(key).iter().filter(|ip| !had.contains(ip)) {
            for (other, _) in before.iter().filter(|(other, _)| *other != key) {
                let seen = self.addresses(&short(other)).contains(&ip.to_string().as_str());
                let ours = self.services[&short(other)]["spec"]["type"] == "LoadBalancer";
                let holds = self.model.ipam.held(other).contains(ip);
                assert!(holds || !seen || !ours, "{key} is given {ip}, and {other} is still seen with it");
            }
        }
    }

    pub(super) fn settled(&mut self) -> &mut Self {
        self.settle();
        self
    }

    /// The addresses in a Service's status.
    pub(super) fn addresses(&self, name: &str) -> Vec<&str> {
        let ingress = self.services[name]["status"]["loadBalancer"]["ingress"].as_array();
        ingress.into_iter().flatten().filter_map(|ingress| ingress["ip"].as_str()).collect()
    }

    /// The addresses of a Service, or the reason why it has none.
    pub(super) fn shows(&self, name: &str) -> String {
        match &self.addresses(name)[..] {
            [] => self.condition(name, "reason"),
            ips => ips.join(" "),
        }
    }

    /// A field of our condition.
    pub(super) fn condition(&self, name: &str, field: &str) -> String {
        self.condition_of(name, landfall_api::conditions::ADDRESS_ALLOCATED, field)
    }

    /// A field of the condition of this type.
    pub(super) fn condition_of(&self, name: &str, type_: &str, field: &str) -> String {
        let all = self.services[name]["status"]["conditions"].as_array();
        let condition = all.into_iter().flatten().find(|condition| condition["type"] == type_);
        condition.and_then(|condition| condition[field].as_str()).unwrap_or("nothing").to_owned()
    }

    /// A speaker says who answers.
    pub(super) fn announce(&mut self, name: &str, message: &str) -> &mut Self {
        let condition = json!({"type": landfall_api::conditions::ANNOUNCED, "status": "True", "reason": "Announced",
            "message": message, "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let fields = json!({"f:status": {"f:conditions": {"k:{\"type\":\"landfall.io/Announced\"}": {}}}});
        let managed = json!([{"manager": "landfall-speaker", "fieldsV1": fields}]);
        self.apply(name, json!({"metadata": {"managedFields": managed}, "status": {"conditions": [condition]}}))
    }

    /// The node that a Service is placed on.
    pub(super) fn placed(&self, name: &str) -> Option<&str> {
        self.services[name]["metadata"]["annotations"]["landfall.io/node"].as_str()
    }
}

/// How the tests call a Service.
pub(super) fn short(key: &ServiceKey) -> String {
    if &*key.namespace == "default" { key.name.to_string() } else { key.to_string() }
}

/// A merge as the API server does it, strategic for the list of conditions.
fn merge(into: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            if let Some(object) = into.as_object_mut() {
                object.remove(name);
            }
        } else if name == "conditions" {
            let mut all = into[name].as_array().cloned().unwrap_or_default();
            for condition in value.as_array().expect("a list") {
                all.retain(|standing| standing["type"] != condition["type"]);
                all.extend(condition.get("$patch").is_none().then(|| condition.clone()));
            }
            into[name] = json!(all);
        } else {
            merge(&mut into[name], value);
        }
    }
}

pub(super) fn read(service: &Value) -> (ServiceKey, Option<Box<Service>>) {
    let service = serde_json::from_value(service.clone()).expect("a Service");
    Service::read(service, None)
}

fn named<T: serde::de::DeserializeOwned>(object: &Value) -> (String, Option<T>) {
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    (name, Some(serde_json::from_value(object.clone()).expect("a configuration object")))
}

pub(super) fn addresses(list: &[&str]) -> Value {
    json!({ "addresses": list })
}

pub(super) fn annotation(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// A Service of both families.
pub(super) fn dual(policy: &str) -> Value {
    json!({"spec": {"clusterIPs": ["10.96.0.9", "fd96::9"], "ipFamilyPolicy": policy}})
}

/// A Service that may share its address with those of the same key.
pub(super) fn shared(key: &str, port: u16) -> Value {
    json!({"metadata": {"annotations": {"metallb.io/allow-shared-ip": key}}, "spec": {"ports": [{"port": port, "protocol": "TCP"}]}})
}
