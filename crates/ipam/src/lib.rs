//! Who gets which address? Pure: pools, requests and held addresses in, a decision with its reason out.
//!
//! [`Ipam`] knows who holds which address and nothing else: the pools come in with every call, so an edit of a pool
//! needs no bookkeeping here. Memory follows the addresses that are held, not the size of the pools; finding a free
//! address takes logarithmic time, in a /64 as in a /28.

mod error;
mod holders;
mod request;

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_config::{Config, Pool};

pub use error::{AllocateError, PoolRefusal};
pub use request::{Families, Family, Port, Protocol, Request, ServiceKey, Sharing};

use holders::Holders;

/// The addresses that a Service was given, all from one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The pool that contains them.
    pub pool: String,
    /// One address, or two: IPv4 first.
    pub ips: Vec<IpAddr>,
}

/// How many addresses of a pool are held and how many are free; a shared address counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Held addresses.
    pub assigned: u128,
    /// Addresses that can still be handed out.
    pub available: u128,
}

/// Who holds which address.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    holders: Holders,
}

impl Ipam {
    /// Takes exactly `ips` for the Service, in place of what it held. This is how a Service keeps what its status says,
    /// and how it gets addresses that it asks for by name.
    /// # Errors
    /// The reason why it may not have them; what it held before, it still holds.
    pub fn assign(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        ips: &[IpAddr],
    ) -> Result<Assignment, AllocateError> {
        if !matches!(ips, [_]) && !matches!(ips, [a, b] if a.is_ipv4() != b.is_ipv4()) {
            return Err(AllocateError::NotOnePerFamily { ips: ips.to_vec() });
        }
        let pool = config.pool_of(ips).ok_or_else(|| AllocateError::NotInAnyPool { ips: ips.to_vec() })?;
        if !accepts(pool, request) {
            return Err(AllocateError::PoolNotForService {
                pool: pool.name.clone(),
                namespace: request.service.namespace.to_string(),
            });
        }
        for ip in ips {
            self.holders.check(*ip, request)?;
        }
        Ok(self.take(pool, request, ips.to_vec()))
    }

    /// Finds addresses for a Service that holds none: those it asks for, or the first free ones of the pool it asks for,
    /// or of the first pool that fits.
    /// # Errors
    /// Why there is none, naming every pool that was considered.
    pub fn allocate(&mut self, config: &Config, request: &Request<'_>) -> Result<Assignment, AllocateError> {
        if config.pools.is_empty() {
            return Err(AllocateError::NoPools);
        }
        if !request.ips.is_empty() {
            return self.allocate_requested(config, request);
        }
        if let Some(name) = request.pool {
            let pool = config.pools.get(name).ok_or_else(|| AllocateError::UnknownPool {
                pool: name.to_owned(),
                known: config.pools.keys().cloned().collect(),
            })?;
            return match self.find(pool, request) {
                Ok(ips) => Ok(self.take(pool, request, ips)),
                Err(why) => Err(AllocateError::NoneInPool { pool: name.to_owned(), why }),
            };
        }
        self.allocate_from_any(config, request)
    }

    /// Adds an address of the other family from the same pool to the one that a `PreferDualStack` Service holds.
    /// # Errors
    /// Why the pool has none; the Service keeps what it holds.
    pub fn add_family(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        held: IpAddr,
    ) -> Result<Assignment, AllocateError> {
        let pool = config.pool_of(&[held]).ok_or(AllocateError::NotInAnyPool { ips: vec![held] })?;
        let family = Family::of(held).other();
        let found = self.find_family(pool, request, family, None);
        match found.and_then(|ip| self.within_quota(pool, request, &[held, ip]).map(|()| ip)) {
            Ok(ip) => Ok(self.take(pool, request, vec![held, ip])),
            Err(why) => Err(AllocateError::NoneInPool { pool: pool.name.clone(), why }),
        }
    }

    /// Gives back what the Service holds; the addresses that nobody else holds are free at once.
    pub fn release(&mut self, service: &ServiceKey) -> Vec<IpAddr> {
        self.holders.release(service)
    }

    /// The Service has given back exactly these, and its status still shows them: nobody else is given them before that has
    /// ended, which the next call says. What another Service holds is not touched.
    pub fn set_leaving(&mut self, service: &ServiceKey, ips: &[IpAddr]) {
        self.holders.set_leaving(service, ips);
    }

    /// What the Service holds, IPv4 first; empty when nothing.
    pub fn held(&self, service: &ServiceKey) -> &[IpAddr] {
        self.holders.held(service)
    }

    /// A number that grows whenever a Service gives up an address or comes to hold it on other terms: whoever waits may
    /// find something then.
    pub fn given_up(&self) -> u64 {
        self.holders.given_up()
    }

    /// How many Services hold an address.
    pub fn services(&self) -> usize {
        self.holders.services()
    }

    /// The Services that hold `ip`.
    pub fn holders_of(&self, ip: IpAddr) -> impl Iterator<Item = &ServiceKey> {
        self.holders.of(ip)
    }

    /// How full the pool is in one family.
    pub fn usage(&self, pool: &Pool, family: Family) -> Usage {
        let ranges = pool.ranges.iter().filter(|range| range.is_ipv4() == (family == Family::V4));
        let assigned = ranges.map(|range| self.holders.count(range, pool)).sum();
        Usage { assigned, available: pool.capacity(family == Family::V4).saturating_sub(assigned) }
    }

    fn allocate_requested(&mut self, config: &Config, request: &Request<'_>) -> Result<Assignment, AllocateError> {
        if !request.families.are_of(request.ips) {
            return Err(AllocateError::RequestedFamily { ips: request.ips.to_vec(), families: request.families });
        }
        if let (Some(asked), Some(owner)) = (request.pool, config.pool_of(request.ips))
            && owner.name != asked
        {
            return Err(AllocateError::RequestedPool {
                ips: request.ips.to_vec(),
                asked: asked.to_owned(),
                owner: owner.name.clone(),
            });
        }
        let mut ips = request.ips.to_vec();
        ips.sort_unstable();
        if let Some(pool) = config.pool_of(&ips)
            && let Err(why) = self.within_quota(pool, request, &ips)
        {
            return Err(AllocateError::QuotaExceeded { pool: pool.name.clone(), why });
        }
        self.assign(config, request, &ips)
    }

    /// Pools that are pinned to the Service come first, by priority, then the others; equal ones in name order.
    fn allocate_from_any(&mut self, config: &Config, request: &Request<'_>) -> Result<Assignment, AllocateError> {
        let mut pools: Vec<&Pool> = config.pools.values().collect();
        pools.sort_by_key(|pool| (pool.allocation.is_none(), pool.priority()));
        let mut refused = Vec::new();
        let passes = pools.chunk_by(|a, b| a.allocation.is_none() == b.allocation.is_none());
        for pass in passes {
            let mut fallback: Option<(&Pool, IpAddr)> = None;
            for pool in pass {
                if !pool.auto_assign {
                    refused.push((pool.name.clone(), PoolRefusal::NotAutomatic));
                    continue;
                }
                match self.find(pool, request) {
                    Ok(ips) => return Ok(self.take(pool, request, ips)),
                    Err(why) => refused.push((pool.name.clone(), why)),
                }
                // A Service that only prefers two families takes one where no pool has both: its primary family from
                // the first pool that has it, else the other.
                if let Families::Dual { primary, required: false } = request.families
                    && accepts(pool, request)
                    && fallback.is_none_or(|(_, ip)| Family::of(ip) != primary)
                {
                    let families: &[Family] = if fallback.is_none() { &[primary, primary.other()] } else { &[primary] };
                    let found = families.iter().find_map(|family| self.find_one(pool, request, *family).ok());
                    fallback = found.map(|ip| (*pool, ip)).or(fallback);
                }
            }
            if let Some((pool, ip)) = fallback {
                return Ok(self.take(pool, request, vec![ip]));
            }
        }
        Err(AllocateError::NoneInAnyPool { refused })
    }

    /// The first free address of each family that the Service wants.
    fn find(&self, pool: &Pool, request: &Request<'_>) -> Result<Vec<IpAddr>, PoolRefusal> {
        if !accepts(pool, request) {
            return Err(PoolRefusal::NotForService);
        }
        let families: &[Family] = match request.families {
            Families::Single(Family::V4) => &[Family::V4],
            Families::Single(Family::V6) => &[Family::V6],
            Families::Dual { .. } => &[Family::V4, Family::V6],
        };
        let find = |only: Option<&BTreeSet<IpAddr>>| -> Result<Vec<IpAddr>, PoolRefusal> {
            families.iter().map(|family| self.find_family(pool, request, *family, only)).collect()
        };
        let ips = find(None)?;
        let Err(refusal) = self.within_quota(pool, request, &ips) else { return Ok(ips) };
        // What the namespace holds already may be shared without holding more.
        let shared = find(Some(&self.holders.held_in_namespace(pool, request.service)));
        shared.ok().filter(|ips| self.within_quota(pool, request, ips).is_ok()).ok_or(refusal)
    }

    /// The first free address of one family, within the namespace's quota.
    fn find_one(&self, pool: &Pool, request: &Request<'_>, family: Family) -> Result<IpAddr, PoolRefusal> {
        let ip = self.find_family(pool, request, family, None)?;
        self.within_quota(pool, request, &[ip]).map(|()| ip)
    }

    /// Whether the Services of the namespace may hold `ips` together with what the others of them hold. Only asked
    /// before something is given: a quota that is lowered takes nothing away.
    fn within_quota(&self, pool: &Pool, request: &Request<'_>, ips: &[IpAddr]) -> Result<(), PoolRefusal> {
        let Some(max) = pool.max_per_namespace else { return Ok(()) };
        let mut held = self.holders.held_in_namespace(pool, request.service);
        let before = held.len() as u64;
        held.extend(ips);
        if held.len() as u64 <= max || held.len() as u64 == before {
            return Ok(());
        }
        let namespace = request.service.namespace.to_string();
        Err(PoolRefusal::QuotaExceeded { namespace, max, held: before })
    }

    fn find_family(
        &self,
        pool: &Pool,
        request: &Request<'_>,
        family: Family,
        only: Option<&BTreeSet<IpAddr>>,
    ) -> Result<IpAddr, PoolRefusal> {
        if !pool.has_family(family == Family::V4) {
            return Err(PoolRefusal::NoFamily(family));
        }
        let mut ranges = pool.ranges.iter().filter(|range| range.is_ipv4() == (family == Family::V4));
        ranges.find_map(|range| self.holders.first_for(range, pool, request, only)).ok_or(PoolRefusal::Full(family))
    }

    fn take(&mut self, pool: &Pool, request: &Request<'_>, mut ips: Vec<IpAddr>) -> Assignment {
        ips.sort_unstable();
        self.holders.take(request, &ips);
        Assignment { pool: pool.name.clone(), ips }
    }
}

fn accepts(pool: &Pool, request: &Request<'_>) -> bool {
    pool.accepts(&request.service.namespace, request.namespace_labels, request.labels)
}

#[cfg(test)]
mod tests;
