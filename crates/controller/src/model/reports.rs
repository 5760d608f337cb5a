//! The model's reports on configuration objects: one at a time, after a pause, and only where something differs.

use jiff::Timestamp;
use landfall_runtime::table::Table;
use landfall_runtime::watch::Change;
use serde_json::Value;

use super::{Model, Target, Write};
use crate::report::{self, Kind, Reported, Standing};
use crate::status_event;

impl Model {
    /// The first object whose status does not say what it should.
    pub(super) fn next_report(&self, now: Timestamp) -> Option<Write> {
        let pools = self.pools.entries().iter().map(|(name, pool)| {
            let standing = report::standing(pool);
            let config = self.loader.config();
            let counted = config
                .and_then(|config| config.pools.get(name))
                .map(|pool| report::counters(pool, &self.ipam))
                .unwrap_or_default();
            self.report(Kind::Pool, name, &standing, |accepted| {
                report::patch(&standing, accepted, Some((pool.status.as_ref(), counted)), now)
            })
        });
        let written = pools.flatten().next();
        written
            .or_else(|| self.next_of(Kind::L2Advertisement, &self.advertisements, now))
            .or_else(|| self.next_of(Kind::BgpPeer, &self.bgp_peers, now))
            .or_else(|| self.next_of(Kind::BgpAdvertisement, &self.bgp_advertisements, now))
            .or_else(|| self.next_of(Kind::BfdProfile, &self.bfd_profiles, now))
            .or_else(|| self.next_of(Kind::Community, &self.communities, now))
    }

    fn next_of<K: Reported>(&self, kind: Kind, table: &Table<String, K>, now: Timestamp) -> Option<Write> {
        table.entries().iter().find_map(|(name, object)| {
            let standing = report::standing(object);
            self.report(kind, name, &standing, |accepted| report::patch(&standing, accepted, None, now))
        })
    }

    fn report(
        &self,
        kind: Kind,
        name: &str,
        standing: &Standing,
        patch: impl FnOnce(&report::Accepted) -> Option<Value>,
    ) -> Option<Write> {
        let accepted = report::accepted(kind, name, &self.loader);
        let patch = patch(&accepted)?;
        // Counters alone are no news.
        let said = patch["status"].get("conditions").is_some() && !accepted.status;
        Some(Write {
            target: Target::Object(kind, name.to_owned()),
            events: if said { vec![status_event::of_object(kind, name, &standing.uid, &accepted)] } else { vec![] },
            patch,
            outcome: None,
        })
    }

    /// Remembers what was written until the watch says the same, so that it is not written twice.
    pub(super) fn take_report(&mut self, kind: Kind, name: &str, patch: &Value) {
        match kind {
            Kind::Pool => {
                let Some(mut pool) = self.pools.get(name).cloned() else { return };
                let status = pool.status.get_or_insert_default();
                for (count, field) in [
                    (&mut status.assigned_ipv4, "assignedIPv4"),
                    (&mut status.assigned_ipv6, "assignedIPv6"),
                    (&mut status.available_ipv4, "availableIPv4"),
                    (&mut status.available_ipv6, "availableIPv6"),
                ] {
                    *count = patch["status"][field].as_i64().unwrap_or(*count);
                }
                self.pools.apply(Change::Applied((name.to_owned(), Some(pool))));
                take_conditions(&mut self.pools, name, patch);
            }
            Kind::L2Advertisement => take_conditions(&mut self.advertisements, name, patch),
            Kind::BgpPeer => take_conditions(&mut self.bgp_peers, name, patch),
            Kind::BgpAdvertisement => take_conditions(&mut self.bgp_advertisements, name, patch),
            Kind::BfdProfile => take_conditions(&mut self.bfd_profiles, name, patch),
            Kind::Community => take_conditions(&mut self.communities, name, patch),
        }
    }
}

fn take_conditions<K: Reported>(table: &mut Table<String, K>, name: &str, patch: &Value) {
    let Ok(conditions) = serde_json::from_value(patch["status"]["conditions"].clone()) else { return };
    let Some(mut object) = table.get(name).cloned() else { return };
    *object.conditions_mut() = conditions;
    table.apply(Change::Applied((name.to_owned(), Some(object))));
}
