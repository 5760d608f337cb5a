//! The model's reports on configuration objects: one at a time, after a pause, and only where something differs.

use jiff::Timestamp;
use landfall_runtime::watch::Change;
use serde_json::Value;

use super::{Model, Target, Write};
use crate::report::{self, Kind, Standing};
use crate::status_event;

impl Model {
    /// The first object whose status does not say what it should.
    pub(super) fn next_report(&self, now: Timestamp) -> Option<Write> {
        let pools = self.pools.entries().iter().map(|(name, pool)| {
            let (standing, counters) = report::standing_of_pool(pool);
            let config = self.loader.config();
            let counted = config
                .and_then(|config| config.pools.get(name))
                .map(|pool| report::counters(pool, &self.ipam))
                .unwrap_or_default();
            self.report(Kind::Pool, name, &standing, |accepted| {
                report::patch(&standing, accepted, Some((counters, counted)), now)
            })
        });
        let advertisements = self.advertisements.entries().iter().map(|(name, advertisement)| {
            let standing = Standing {
                uid: advertisement.metadata.uid.clone().unwrap_or_default(),
                generation: advertisement.metadata.generation,
                conditions: advertisement.status.clone().unwrap_or_default().conditions,
            };
            self.report(Kind::L2Advertisement, name, &standing, |accepted| {
                report::patch(&standing, accepted, None, now)
            })
        });
        let kept = self.kept.iter().flat_map(|(kind, table)| {
            table.entries().iter().map(|(name, standing)| {
                self.report(*kind, name, standing, |accepted| report::patch(standing, accepted, None, now))
            })
        });
        pools.chain(advertisements).chain(kept).flatten().next()
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
        let conditions = serde_json::from_value(patch["status"]["conditions"].clone()).ok();
        let key = name.to_owned();
        match kind {
            Kind::Pool => {
                let Some(mut pool) = self.pools.get(&key).cloned() else { return };
                let mut status = pool.status.take().unwrap_or_default();
                for (count, field) in [
                    (&mut status.assigned_ipv4, "assignedIPv4"),
                    (&mut status.assigned_ipv6, "assignedIPv6"),
                    (&mut status.available_ipv4, "availableIPv4"),
                    (&mut status.available_ipv6, "availableIPv6"),
                ] {
                    *count = patch["status"][field].as_i64().unwrap_or(*count);
                }
                status.conditions = conditions.unwrap_or(status.conditions);
                pool.status = Some(status);
                self.pools.apply(Change::Applied((key, Some(pool))));
            }
            Kind::L2Advertisement => {
                let Some(mut advertisement) = self.advertisements.get(&key).cloned() else { return };
                let status = advertisement.status.get_or_insert_default();
                status.conditions = conditions.unwrap_or_else(|| std::mem::take(&mut status.conditions));
                self.advertisements.apply(Change::Applied((key, Some(advertisement))));
            }
            Kind::BgpPeer | Kind::BgpAdvertisement | Kind::BfdProfile | Kind::Community => {
                let Some(table) = self.kept.get_mut(&kind) else { return };
                let Some(mut standing) = table.get(&key).cloned() else { return };
                standing.conditions = conditions.unwrap_or(standing.conditions);
                table.apply(Change::Applied((key, Some(standing))));
            }
        }
    }
}
