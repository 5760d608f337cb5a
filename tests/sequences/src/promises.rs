//! The rules of allocation once more, in the simplest way that can be thought of, over what the API shows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::view::{Objects, Standing, View, addresses, annotation, entries};

/// Where addresses that a Service asks for stand.
const REQUESTED: &str = "metallb.io/loadBalancerIPs";
/// Where the pool that a Service asks for stands.
const REQUESTED_POOL: &str = "metallb.io/address-pool";

/// Everything that is wrong with a cluster in which nothing is left to do; empty: every promise holds. `before` is who had
/// which addresses when nothing was left to do for the last time; of the `excused` none is held to have kept them.
pub fn violations(view: &View, before: &Standing, excused: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = held_without_right(view);
    wrong.extend(held_twice(view));
    wrong.extend(changed(view, before, excused));
    wrong.extend(waiting_for_what_is_free(view));
    wrong.extend(misplaced(view));
    wrong.extend(miscounted(view));
    wrong
}

/// Whether a Service may have these addresses, other Services aside.
pub fn may_have(service: &Value, ips: &[IpAddr], pools: &Objects, namespaces: &Objects) -> bool {
    let requested_pool = annotation(service, REQUESTED_POOL);
    let pool = pools.iter().find(|(_, pool)| ips.iter().all(|ip| entries(pool).any(|entry| entry == *ip)));
    service["spec"]["type"] == "LoadBalancer"
        && has_families_for(service, ips)
        && match requested(service) {
            None | Some(Err(_)) => true, // what cannot be read costs nothing
            Some(Ok(asked)) => asked == ips.iter().copied().collect(),
        }
        && pool.is_some_and(|(name, pool)| {
            requested_pool.is_none_or(|asked| asked == name) && accepts(pool, service, namespaces)
        })
}

/// Whether two Services may hold one address.
pub fn may_share(one: &Value, other: &Value) -> bool {
    let terms = |service: &Value| {
        let local = service["spec"]["externalTrafficPolicy"] == "Local";
        let backend = local.then(|| service["spec"]["selector"].clone());
        annotation(service, "metallb.io/allow-shared-ip").map(|key| (key.to_owned(), backend))
    };
    let ports = |service: &Value| -> BTreeSet<(String, u64)> {
        let ports = service["spec"]["ports"].as_array();
        let read = |port: &Value| Some((port["protocol"].as_str()?.to_owned(), port["port"].as_u64()?));
        ports.into_iter().flatten().filter_map(read).collect()
    };
    terms(one).is_some() && terms(one) == terms(other) && ports(one).is_disjoint(&ports(other))
}

/// An IPv4 Service has one IPv4 address; one of both families has one of each, or, if it only prefers both, one.
fn has_families_for(service: &Value, ips: &[IpAddr]) -> bool {
    let is_six = |ip: &Value| ip.as_str().is_some_and(|ip| ip.contains(':'));
    match (service["spec"]["clusterIPs"].as_array().map(Vec::as_slice), ips) {
        (Some([own]), [ip]) => ip.is_ipv6() == is_six(own),
        (Some([_, _]), [_]) => service["spec"]["ipFamilyPolicy"] == "PreferDualStack",
        (Some([_, _]), [one, other]) => one.is_ipv4() != other.is_ipv4(),
        _ => false,
    }
}

/// The addresses that a Service asks for; an error: they cannot be read.
fn requested(service: &Value) -> Option<Result<BTreeSet<IpAddr>, std::net::AddrParseError>> {
    annotation(service, REQUESTED).map(|text| text.split(',').map(str::parse).collect())
}

/// Whether a pool is for a Service.
fn accepts(pool: &Value, service: &Value, namespaces: &Objects) -> bool {
    let rule = &pool["spec"]["serviceAllocation"];
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let labels = namespaces.get(namespace).map_or(&Value::Null, |namespace| &namespace["metadata"]["labels"]);
    let (by_name, by_label) = (rule["namespaces"].as_array(), rule["namespaceSelectors"].as_array());
    let of_service = rule["serviceSelectors"].as_array();
    let namespace_fits = by_name.is_none() && by_label.is_none()
        || by_name.is_some_and(|names| names.iter().any(|name| name == namespace))
        || by_label.is_some_and(|selectors| selectors.iter().any(|selector| selects(selector, labels)));
    let labels = &service["metadata"]["labels"];
    namespace_fits && of_service.is_none_or(|selectors| selectors.iter().any(|selector| selects(selector, labels)))
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector["matchLabels"].as_object().is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}

fn held_without_right(view: &View) -> Vec<String> {
    let mut wrong = vec![];
    for (key, service) in &view.services {
        let ips = addresses(service);
        if !ips.is_empty() && !may_have(service, &ips, &view.pools, &view.namespaces) {
            wrong.push(format!("{key} has {ips:?}, which it may not have"));
        }
    }
    wrong
}

fn held_twice(view: &View) -> Vec<String> {
    let mut wrong = vec![];
    for (key, service) in &view.services {
        for (other, with) in view.services.range(key.clone()..).filter(|(other, _)| *other != key) {
            let theirs = addresses(with);
            let both: Vec<IpAddr> = addresses(service).into_iter().filter(|ip| theirs.contains(ip)).collect();
            if !both.is_empty() && !may_share(service, with) {
                wrong.push(format!("{key} and {other} both hold {both:?}, which they may not share"));
            }
            if !both.is_empty() && placed(service) != placed(with) {
                wrong.push(format!("{key} and {other} share {both:?}, but are not placed together"));
            }
        }
    }
    wrong
}

fn changed(view: &View, before: &Standing, excused: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = vec![];
    for (key, had) in before.iter().filter(|(key, _)| !excused.contains(*key)) {
        let Some(service) = view.services.get(key).filter(|service| service["metadata"]["uid"] == had.uid) else {
            continue; // deleted
        };
        let disputed = before.iter().filter(|(other, theirs)| {
            *other != key
                && theirs.ips.iter().any(|ip| had.ips.contains(ip))
                && view
                    .services
                    .get(*other)
                    .is_some_and(|other| other["metadata"]["uid"] == theirs.uid && !may_share(service, other))
        });
        let now = addresses(service);
        if !had.ips.is_empty()
            && may_have(service, &had.ips, &view.pools, &view.namespaces)
            && disputed.count() == 0
            && !had.ips.iter().all(|ip| now.contains(ip))
        {
            wrong.push(format!("{key} had {:?}, which it may have, and has {now:?}", had.ips));
        }
    }
    wrong
}

fn waiting_for_what_is_free(view: &View) -> Vec<String> {
    let mut holders: BTreeMap<IpAddr, Vec<&Value>> = BTreeMap::new();
    for service in view.services.values() {
        addresses(service).into_iter().for_each(|ip| holders.entry(ip).or_default().push(service));
    }
    let mut wrong = vec![];
    for (key, service) in view.services.iter().filter(|(_, service)| addresses(service).is_empty()) {
        let is_free =
            |ip: &IpAddr| holders.get(ip).is_none_or(|holders| holders.iter().all(|holder| may_share(service, holder)));
        let named = annotation(service, REQUESTED_POOL);
        let choices: Vec<Vec<IpAddr>> = match requested(service) {
            Some(Err(_)) => continue,
            Some(Ok(ips)) => vec![ips.into_iter().collect()],
            None => {
                let open = |pool: &&Value| named.is_some() || pool["spec"]["autoAssign"] == true;
                let pools = view.pools.values().filter(open);
                pools.flat_map(|pool| choices_in(entries(pool).filter(is_free).collect())).collect()
            }
        };
        // Who asks for addresses or for a pool asks for all families, also where one would do.
        let asks = named.is_some() || annotation(service, REQUESTED).is_some();
        let families = service["spec"]["clusterIPs"].as_array().map_or(0, Vec::len);
        let good = choices.iter().find(|ips| {
            (!asks || ips.len() == families)
                && ips.iter().all(is_free)
                && may_have(service, ips, &view.pools, &view.namespaces)
        });
        if let Some(ips) = good {
            wrong.push(format!("{key} waits, but {ips:?} is free for it"));
        }
    }
    wrong
}

/// One of a family, and one of each: which one does not matter.
fn choices_in(free: Vec<IpAddr>) -> Vec<Vec<IpAddr>> {
    let of = |six: bool| free.iter().copied().find(|ip| ip.is_ipv6() == six);
    let singles = [of(false), of(true)].into_iter().flatten();
    let pair = of(false).zip(of(true)).map(|(four, six)| vec![four, six]);
    singles.map(|ip| vec![ip]).chain(pair).collect()
}

fn placed(service: &Value) -> Option<&str> {
    annotation(service, "landfall.io/node")
}

/// Every node may answer for every address: whoever has one is placed on one of them.
fn misplaced(view: &View) -> Vec<String> {
    let mut wrong = vec![];
    for (key, service) in &view.services {
        let (ips, node) = (addresses(service), placed(service));
        let wants_one = !ips.is_empty() && !view.nodes.is_empty();
        if node.is_some() != wants_one || node.is_some_and(|node| !view.nodes.contains(node)) {
            wrong.push(format!("{key} has {ips:?} and is placed on {node:?}; there are {:?}", view.nodes));
        }
    }
    wrong
}

/// What leaks shows in the counters: nobody has it, and yet it is counted.
fn miscounted(view: &View) -> Vec<String> {
    let held: BTreeSet<IpAddr> = view.services.values().flat_map(addresses).collect();
    let mut wrong = vec![];
    for (name, pool) in &view.pools {
        for (family, six) in [("IPv4", false), ("IPv6", true)] {
            let own: Vec<IpAddr> = entries(pool).filter(|ip| ip.is_ipv6() == six).collect();
            let assigned = own.iter().filter(|ip| held.contains(ip)).count();
            let counted = ["assigned", "available"].map(|what| pool["status"][format!("{what}{family}")].as_u64());
            if counted != [assigned, own.len() - assigned].map(|count| u64::try_from(count).ok()) {
                wrong.push(format!(
                    "pool {name} counts {counted:?} of {family}, assigned and available; {assigned} of {} are held",
                    own.len()
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests;
