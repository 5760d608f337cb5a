//! What an advertisement meets on its way from pools to peers: the pools' prefixes, other advertisements, BFD profiles.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::ADVERTISEMENT;
use super::advertisement::{BgpAdvertisement, Length};
use super::bfd::BfdProfile;
use super::peer::Peer;
use crate::nodes::{Chosen, Nodes};
use crate::pool::Pool;
use crate::problem::{Problem, Problems};
use crate::range::AddressRange;

/// Advertised prefixes do not reach beyond a pool: of each entry of the pool at least one prefix must be as wide as the
/// advertised ones, or wider.
pub(super) fn check_lengths(
    advertisements: &[BgpAdvertisement],
    pools: &BTreeMap<String, Pool>,
    found: &mut Vec<Problem>,
) {
    for advertisement in advertisements {
        let mut problems = Problems::of(ADVERTISEMENT, &advertisement.name, found);
        for pool in pools.values().filter(|pool| advertisement.scope.selects_pool(pool)) {
            for (ipv4, field) in [(true, Length::V4.field), (false, Length::V6.field)] {
                let length = advertisement.length(ipv4);
                let too_small = pool.ranges.iter().filter(|range| range.is_ipv4() == ipv4).find_map(|range| {
                    let shortest = range.prefixes().map(|prefix| prefix.prefix_len()).min()?;
                    (length < shortest).then_some((range, shortest))
                });
                if let Some((range, shortest)) = too_small {
                    problems.add(
                        format!("spec.{field}"),
                        length.to_string(),
                        format!(
                            "invalid aggregation length {length}: prefix {shortest} in this pool is more specific than the \
                             aggregation length for addresses {} of IPAddressPool {:?}; a route of {length} would lead \
                             addresses of others to us: set {field} to {shortest} or more, or leave the pool out by \
                             ipAddressPools or ipAddressPoolSelectors",
                            entry(range),
                            pool.name
                        ),
                    );
                }
            }
        }
    }
}

/// A range as a user would write it.
fn entry(range: &AddressRange) -> String {
    let prefixes: Vec<IpNet> = range.prefixes().take(2).collect();
    match prefixes[..] {
        [one] => one.to_string(),
        _ => range.to_string(),
    }
}

/// One prefix goes from one node to one peer with one local preference. Advertisements are given from the oldest to the
/// youngest; those with `serviceSelectors` are left aside (see [`BgpAdvertisement::agrees_with`]).
pub(super) fn check_local_prefs(
    advertisements: &[BgpAdvertisement],
    pools: &BTreeMap<String, Pool>,
    nodes: &Nodes,
    found: &mut Vec<Problem>,
) {
    let all: Vec<(&BgpAdvertisement, Chosen<'_>)> = advertisements
        .iter()
        .filter(|advertisement| advertisement.scope.service_selectors.is_empty())
        .map(|advertisement| (advertisement, Chosen::of(&advertisement.scope.node_selectors, nodes)))
        .collect();
    let mut wrong: BTreeSet<&str> = BTreeSet::new();
    for pool in pools.values() {
        let mut kept: Vec<&(&BgpAdvertisement, Chosen<'_>)> = Vec::new();
        for this in &all {
            let (advertisement, chosen) = this;
            if wrong.contains(advertisement.name.as_str()) || !advertisement.scope.selects_pool(pool) {
                continue;
            }
            let conflict =
                kept.iter().find(|(other, theirs)| !advertisement.agrees_with(other, pool) && chosen.meets(theirs));
            let Some((other, _)) = conflict else {
                kept.push(this);
                continue;
            };
            wrong.insert(&advertisement.name);
            Problems::of(ADVERTISEMENT, &advertisement.name, found).add(
                "spec.localPref",
                advertisement.local_pref.to_string(),
                format!(
                    "invalid local preference {}: BGPAdvertisement {:?} gives {} to the same prefixes of IPAddressPool {:?}, \
                     from the same nodes to the same peers; make the two equal, or keep the two apart by aggregationLength, \
                     aggregationLengthV6, peers or nodeSelectors",
                    advertisement.local_pref, other.name, other.local_pref, pool.name
                ),
            );
        }
    }
}

/// BFD's echo packets are of IPv4 only, so a peer that is watched by them cannot be told of IPv6 prefixes.
pub(super) fn check_echo(
    advertisements: &[BgpAdvertisement],
    pools: &BTreeMap<String, Pool>,
    peers: &[Peer],
    profiles: &BTreeMap<String, BfdProfile>,
    found: &mut Vec<Problem>,
) {
    let echoing: Vec<(&Peer, &BfdProfile)> = peers
        .iter()
        .filter_map(|peer| Some((peer, profiles.get(peer.bfd_profile.as_ref()?)?)))
        .filter(|(_, profile)| profile.echo_mode)
        .collect();
    for advertisement in advertisements {
        let Some(pool) = pools.values().find(|pool| pool.has_family(false) && advertisement.scope.selects_pool(pool))
        else {
            continue;
        };
        let mut problems = Problems::of(ADVERTISEMENT, &advertisement.name, found);
        for (peer, profile) in echoing.iter().filter(|(peer, _)| advertisement.selects_peer(&peer.name)) {
            problems.add(
                "spec.peers",
                peer.name.clone(),
                format!(
                    "IPAddressPool {:?} has IPv6 addresses, but BGPPeer {:?} has BFDProfile {:?} with echoMode, which is not \
                     possible for IPv6; turn echoMode off, or list other peers or pools in this advertisement",
                    pool.name, peer.name, profile.name
                ),
            );
        }
    }
}
