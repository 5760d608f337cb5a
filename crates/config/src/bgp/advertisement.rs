//! BGP advertisements: which pools are advertised, to whom, and with which attributes.

use std::collections::{BTreeMap, BTreeSet};

use landfall_api::BGPAdvertisement as Object;

use super::ADVERTISEMENT;
use super::community::{Community, CommunityError};
use crate::pool::Pool;
use crate::problem::{Problem, Problems};
use crate::scope::Scope;
use crate::selector::read_names;

/// What a `BGPAdvertisement` means.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpAdvertisement {
    /// The object's name.
    pub name: String,
    /// Pools, nodes and Services that it is about.
    pub scope: Scope,
    /// Names of the peers to advertise to; empty: all.
    pub peers: BTreeSet<String>,
    /// Length of the IPv4 prefixes.
    pub aggregation_length: u8,
    /// Length of the IPv6 prefixes.
    pub aggregation_length_v6: u8,
    /// The LOCAL_PREF attribute.
    pub local_pref: u32,
    /// The communities to attach.
    pub communities: BTreeSet<Community>,
}

impl BgpAdvertisement {
    /// Whether the peer of this name hears of it.
    pub fn selects_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(name)
    }

    /// Length of the prefixes of the family.
    pub fn length(&self, ipv4: bool) -> u8 {
        if ipv4 { self.aggregation_length } else { self.aggregation_length_v6 }
    }

    /// Whether one node can advertise one Service of `pool` by both: the same prefix must not go to one peer with two
    /// local preferences. With `serviceSelectors` this depends on the Service, so it is for whoever advertises it to ask.
    pub fn agrees_with(&self, other: &Self, pool: &Pool) -> bool {
        let common_peers = self.peers.is_empty() || other.peers.is_empty() || !self.peers.is_disjoint(&other.peers);
        let common_prefixes =
            [true, false].into_iter().any(|ipv4| pool.has_family(ipv4) && self.length(ipv4) == other.length(ipv4));
        self.local_pref == other.local_pref || !common_peers || !common_prefixes
    }

    /// Reads the object; `None` if it has a problem. A community that is no alias yet is a transient problem and is left
    /// out. Nothing else about other objects is looked at.
    pub(super) fn read(
        object: &Object,
        aliases: &BTreeMap<String, Community>,
        found: &mut Vec<Problem>,
    ) -> Option<Self> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of(ADVERTISEMENT, &name, found);
        let spec = &object.spec;
        let read = Self {
            scope: Scope::read(
                &spec.ip_address_pools,
                &spec.ip_address_pool_selectors,
                &spec.node_selectors,
                &spec.service_selectors,
                &mut problems,
            ),
            peers: read_names("spec.peers", &spec.peers, &mut problems),
            aggregation_length: length(object, Length::V4, &mut problems),
            aggregation_length_v6: length(object, Length::V6, &mut problems),
            local_pref: spec.local_pref.unwrap_or(0),
            communities: communities(&spec.communities, aliases, &mut problems),
            name: name.clone(),
        };
        problems.is_sound().then_some(read)
    }
}

/// One of the two lengths.
pub(super) struct Length {
    /// The field's name.
    pub(super) field: &'static str,
    family: &'static str,
    shortest: u8,
    /// Of a single address, which is the default.
    full: u8,
}

impl Length {
    pub(super) const V4: Self = Self { field: "aggregationLength", family: "IPv4", shortest: 1, full: 32 };
    pub(super) const V6: Self = Self { field: "aggregationLengthV6", family: "IPv6", shortest: 0, full: 128 };
}

fn length(object: &Object, length: Length, problems: &mut Problems<'_>) -> u8 {
    let Length { field, family, shortest, full } = length;
    let given =
        if full == Length::V4.full { object.spec.aggregation_length } else { object.spec.aggregation_length_v6 };
    let Some(read) = u8::try_from(given).ok().filter(|length| (shortest..=full).contains(length)) else {
        problems.add(
            format!("spec.{field}"),
            given.to_string(),
            format!("invalid aggregation length {given}: a prefix of {family} has a length from {shortest} to {full}; write one"),
        );
        return full;
    };
    if read != full && !object.spec.service_selectors.is_empty() {
        problems.add(
            format!("spec.{field}"),
            given.to_string(),
            format!(
                "serviceSelectors and {field} are mutually exclusive, both cannot be set in {}: a combined route would also \
                 lead to Services that are not selected; remove one of the two",
                object.metadata.name.as_deref().unwrap_or_default()
            ),
        );
    }
    read
}

fn communities(
    given: &[String],
    aliases: &BTreeMap<String, Community>,
    problems: &mut Problems<'_>,
) -> BTreeSet<Community> {
    let mut seen = BTreeSet::new();
    let mut read = BTreeSet::new();
    for (i, text) in given.iter().enumerate() {
        let field = format!("spec.communities[{i}]");
        if !seen.insert(text) {
            problems.add(field, text, format!("duplicate definition of community {text:?}; remove one of the two"));
            continue;
        }
        let error = match aliases.get(text).copied().map_or_else(|| text.parse(), Ok) {
            Ok(community) => {
                read.insert(community);
                continue;
            }
            Err(error) => error,
        };
        let what = format!("invalid community {text:?} in BGP advertisement: {error}");
        match error {
            // What has no colon can be the name of an alias that is still to come.
            CommunityError::Format(_) if !text.contains(':') => problems.add_transient(
                field,
                text,
                format!(
                    "{what}; no Community object has an alias of this name that can be read: add one, or write the \
                     community as 64512:100 or large:64512:1:2"
                ),
            ),
            CommunityError::Format(_) => {
                problems.add(field, text, format!("{what}; write it as 64512:100 or large:64512:1:2"));
            }
            CommunityError::Value { .. } => problems.add(field, text, what),
        }
    }
    read
}
