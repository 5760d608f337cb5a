//! The addresses that are held, indexed for every question the allocator asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_config::{AddressRange, Pool, address, bits, is_buggy};
use rangemap::RangeInclusiveSet;

use crate::error::AllocateError;
use crate::request::{Port, Request, ServiceKey, Sharing};

#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    /// What each Service holds, IPv4 first: by namespace and name.
    by_service: HashMap<Arc<str>, HashMap<Arc<str>, Vec<IpAddr>>>,
    /// Who holds each address, and on what terms.
    by_ip: HashMap<IpAddr, Claims>,
    /// The addresses that are shared under one condition.
    by_sharing: BTreeMap<Sharing, BTreeSet<IpAddr>>,
    /// The same addresses as numbers, run-length encoded: its gaps are the free addresses.
    used_v4: RangeInclusiveSet<u128>,
    used_v6: RangeInclusiveSet<u128>,
    /// What Services have given up and their statuses still show.
    leaving: HashMap<ServiceKey, Vec<IpAddr>>,
    /// How often somebody gave up an address, or came to hold it on other terms.
    given_up: u64,
}

#[derive(Clone, Debug)]
struct Claim {
    sharing: Option<Sharing>,
    ports: BTreeSet<Port>,
    /// Given up, and still seen: nobody comes to hold the address who is not seen with it too.
    leaving: bool,
}

/// Those who hold one address, in the order of their names. Nearly always it is one: a map takes a kilobyte for that.
#[derive(Clone, Debug, Default)]
struct Claims(Vec<(ServiceKey, Claim)>);

impl Claims {
    fn find(&self, service: &ServiceKey) -> Result<usize, usize> {
        self.0.binary_search_by(|(key, _)| key.cmp(service))
    }

    fn get(&self, service: &ServiceKey) -> Option<&Claim> {
        self.find(service).ok().map(|at| &self.0[at].1)
    }

    /// Adds the claim of a Service that has none.
    fn add(&mut self, service: &ServiceKey, claim: Claim) {
        let at = self.find(service).unwrap_or_else(|at| at);
        self.0.reserve_exact(1);
        self.0.insert(at, (service.clone(), claim));
    }

    fn remove(&mut self, service: &ServiceKey) -> Option<Claim> {
        self.find(service).ok().map(|at| self.0.remove(at).1)
    }

    /// Those beside whom the Service would hold the address.
    fn others<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a (ServiceKey, Claim)> {
        let seen = self.find(service).is_ok();
        self.0.iter().filter(move |(key, claim)| key != service && !(seen && claim.leaving))
    }

    fn holders(&self) -> impl Iterator<Item = &ServiceKey> {
        self.0.iter().filter(|(_, claim)| !claim.leaving).map(|(key, _)| key)
    }
}

impl Holders {
    pub(crate) fn held(&self, service: &ServiceKey) -> &[IpAddr] {
        let of_namespace = self.by_service.get(&service.namespace);
        of_namespace.and_then(|names| names.get(&service.name)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn services(&self) -> usize {
        self.by_service.values().map(HashMap::len).sum()
    }

    pub(crate) fn of(&self, ip: IpAddr) -> impl Iterator<Item = &ServiceKey> {
        self.by_ip.get(&ip).into_iter().flat_map(Claims::holders)
    }

    /// How many addresses of the range are held from the pool.
    pub(crate) fn count(&self, range: &AddressRange, pool: &Pool) -> u128 {
        let outer = bits(range.first())..=bits(range.last());
        let runs = self.used_of(range.is_ipv4()).overlapping(&outer);
        let held = runs.map(|run| range.between(*run.start(), *run.end()));
        held.map(|held| held.size() - if pool.avoid_buggy_ips { held.buggy() } else { 0 }).sum()
    }

    /// The addresses of the pool that the other Services of this Service's namespace hold.
    pub(crate) fn held_in_namespace(&self, pool: &Pool, service: &ServiceKey) -> BTreeSet<IpAddr> {
        let neighbours = self.by_service.get(&service.namespace).into_iter().flatten();
        let others = neighbours.filter(|(name, _)| **name != service.name);
        others.flat_map(|(_, ips)| ips).copied().filter(|ip| pool.covers(*ip)).collect()
    }

    /// Whether the Service may have the address beside those who hold it already.
    pub(crate) fn check(&self, ip: IpAddr, request: &Request<'_>) -> Result<(), AllocateError> {
        let Some(claims) = self.by_ip.get(&ip) else { return Ok(()) };
        let others = || claims.others(request.service);
        if others().any(|(_, claim)| request.sharing.is_none() || claim.sharing.as_ref() != request.sharing) {
            return Err(AllocateError::NotShared {
                service: request.service.to_string(),
                ip,
                holders: others().map(|(key, _)| key.to_string()).collect(),
            });
        }
        for (holder, claim) in others() {
            if let Some(port) = claim.ports.intersection(request.ports).next() {
                return Err(AllocateError::PortInUse { ip, port: *port, holder: holder.clone() });
            }
        }
        Ok(())
    }

    /// The first address of the range that the Service may have: a free one, or one that it can share, whichever comes
    /// first. `only` leaves no others than these.
    pub(crate) fn first_for(
        &self,
        range: &AddressRange,
        pool: &Pool,
        request: &Request<'_>,
        only: Option<&BTreeSet<IpAddr>>,
    ) -> Option<IpAddr> {
        if let Some(only) = only {
            let mut inside = only.range(range.first()..=range.last()).copied();
            return inside.find(|ip| pool.contains(*ip) && self.check(*ip, request).is_ok());
        }
        let free = self.first_free(range, pool.avoid_buggy_ips);
        let shared = request.sharing.and_then(|sharing| self.by_sharing.get(sharing)).and_then(|ips| {
            ips.range(range.first()..=range.last())
                .find(|ip| pool.contains(**ip) && self.check(**ip, request).is_ok())
                .copied()
        });
        [free, shared].into_iter().flatten().min()
    }

    fn first_free(&self, range: &AddressRange, avoid_buggy: bool) -> Option<IpAddr> {
        let ipv4 = range.is_ipv4();
        let used = self.used_of(ipv4);
        let outer = bits(range.first())..=bits(range.last());
        used.gaps(&outer).find_map(|gap| {
            // At most two neighbours (.255 and .0) are skipped, so three looks are enough.
            (*gap.start()..=*gap.end()).take(3).map(|n| address(n, ipv4)).find(|ip| !(avoid_buggy && is_buggy(*ip)))
        })
    }

    /// The Service holds exactly `ips` from now on. The caller has asked [`check`](Self::check) for each.
    pub(crate) fn take(&mut self, request: &Request<'_>, ips: &[IpAddr]) {
        if self.holds(request, ips) {
            return;
        }
        self.release(request.service);
        let leaves = self.leaving.get(request.service).map_or(&[][..], Vec::as_slice);
        let stays_away: Vec<IpAddr> = leaves.iter().filter(|ip| !ips.contains(ip)).copied().collect();
        self.set_leaving(request.service, &stays_away);
        for ip in ips {
            let claim = Claim { sharing: request.sharing.cloned(), ports: request.ports.clone(), leaving: false };
            self.by_ip.entry(*ip).or_default().add(request.service, claim);
            if let Some(sharing) = request.sharing {
                self.by_sharing.entry(sharing.clone()).or_default().insert(*ip);
            }
            self.used(*ip).insert(bits(*ip)..=bits(*ip));
        }
        if !ips.is_empty() {
            let ServiceKey { namespace, name } = request.service.clone();
            self.by_service.entry(namespace).or_default().insert(name, ips.to_vec());
        }
    }

    /// Whether the Service holds exactly this on exactly these terms.
    fn holds(&self, request: &Request<'_>, ips: &[IpAddr]) -> bool {
        self.held(request.service) == ips
            && ips.iter().all(|ip| {
                let claim = self.by_ip.get(ip).and_then(|claims| claims.get(request.service));
                claim.is_some_and(|claim| claim.sharing.as_ref() == request.sharing && claim.ports == *request.ports)
            })
    }

    /// The Service has given up exactly these and is still seen with them.
    pub(crate) fn set_leaving(&mut self, service: &ServiceKey, ips: &[IpAddr]) {
        let before = self.leaving.remove(service).unwrap_or_default();
        for ip in before.iter().filter(|ip| !ips.contains(ip)) {
            self.drop_claim(*ip, service);
            self.given_up += 1;
        }
        for ip in ips.iter().filter(|ip| !before.contains(ip)) {
            let claim = Claim { sharing: None, ports: BTreeSet::new(), leaving: true };
            self.by_ip.entry(*ip).or_default().add(service, claim);
            self.used(*ip).insert(bits(*ip)..=bits(*ip));
        }
        if !ips.is_empty() {
            self.leaving.insert(service.clone(), ips.to_vec());
        }
    }

    /// Removes what the Service has of the address; where it was the last, the address is free.
    fn drop_claim(&mut self, ip: IpAddr, service: &ServiceKey) {
        let Some(claims) = self.by_ip.get_mut(&ip) else { return };
        let sharing = claims.remove(service).and_then(|claim| claim.sharing);
        let (free, held) = (claims.0.is_empty(), claims.holders().next().is_some());
        if free {
            self.by_ip.remove(&ip);
            self.used(ip).remove(bits(ip)..=bits(ip));
        }
        // Sharers have one condition in common, so it lives as long as one of them.
        if let Some(sharing) = sharing
            && !held
            && let Some(shared) = self.by_sharing.get_mut(&sharing)
        {
            shared.remove(&ip);
            if shared.is_empty() {
                self.by_sharing.remove(&sharing);
            }
        }
    }

    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

    pub(crate) fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        let Some(names) = self.by_service.get_mut(&service.namespace) else { return vec![] };
        let ips = names.remove(&service.name).unwrap_or_default();
        if names.is_empty() {
            self.by_service.remove(&service.namespace);
        }
        self.given_up += u64::from(!ips.is_empty());
        for ip in &ips {
            self.drop_claim(*ip, service);
        }
        ips
    }

    fn used_of(&self, ipv4: bool) -> &RangeInclusiveSet<u128> {
        if ipv4 { &self.used_v4 } else { &self.used_v6 }
    }

    fn used(&mut self, ip: IpAddr) -> &mut RangeInclusiveSet<u128> {
        if ip.is_ipv4() { &mut self.used_v4 } else { &mut self.used_v6 }
    }
}
