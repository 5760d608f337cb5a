//! The BGP kinds: peers, BFD profiles, communities and advertisements, by the rules of MetalLB's frr modes.
//!
//! An object with a mistake is left out as a whole: half a peer is another peer, and a selector that is left out selects
//! more than the user wished.

mod advertisement;
mod bfd;
mod community;
mod peer;
mod reach;
mod same_node;
mod timers;

use std::collections::{BTreeMap, BTreeSet};

pub use advertisement::BgpAdvertisement;
pub use bfd::BfdProfile;
pub use community::{Community, CommunityError};
pub use peer::{Endpoint, Password, Peer, RemoteAs};
pub use timers::Timers;

use crate::pool::Pool;
use crate::problem::{Problem, Problems};
use crate::{Resources, by_age};

const ADVERTISEMENT: &str = "BGPAdvertisement";
const BFD_PROFILE: &str = "BFDProfile";
const COMMUNITY: &str = "Community";
const PEER: &str = "BGPPeer";
/// The kinds that this module reads.
pub(crate) const KINDS: [&str; 4] = [ADVERTISEMENT, BFD_PROFILE, COMMUNITY, PEER];

/// What the objects of the BGP kinds mean together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bgp {
    /// Peers by name. Those that one node connects to differ in address or VRF, have one router ID, and one `my_asn` in each
    /// VRF; the BFD profile of each is among `bfd_profiles`.
    pub peers: BTreeMap<String, Peer>,
    /// Advertisements by name.
    pub advertisements: BTreeMap<String, BgpAdvertisement>,
    /// BFD profiles by name.
    pub bfd_profiles: BTreeMap<String, BfdProfile>,
    /// What the aliases stand for, of all Community objects. The advertisements' are resolved already.
    pub communities: BTreeMap<String, Community>,
}

impl Bgp {
    /// Reads the objects of the BGP kinds beside the pools, which were read already.
    pub(crate) fn read(resources: &Resources, pools: &BTreeMap<String, Pool>, problems: &mut Vec<Problem>) -> Self {
        let mut found = Vec::new();
        let profiles = resources.bfd_profiles.iter().filter_map(|object| BfdProfile::read(object, &mut found));
        let bfd_profiles: BTreeMap<_, _> = profiles.map(|profile| (profile.name.clone(), profile)).collect();
        let communities = community::aliases(&resources.communities, &mut found);
        let peers =
            by_age(&resources.bgp_peers).into_iter().filter_map(|object| Peer::read(object, &mut found)).collect();
        let peers = same_node::agreeing(peers, &resources.nodes, &mut found);
        for peer in &peers {
            check_profile(peer, &bfd_profiles, &mut found);
        }
        let advertisements: Vec<_> = by_age(&resources.bgp_advertisements)
            .into_iter()
            .filter_map(|object| BgpAdvertisement::read(object, &communities, &mut found))
            .collect();
        reach::check_lengths(&advertisements, pools, &mut found);
        reach::check_local_prefs(&advertisements, pools, &resources.nodes, &mut found);
        reach::check_echo(&advertisements, pools, &peers, &bfd_profiles, &mut found);

        // What has a transient problem was checked like the others, but means nothing yet.
        let wrong: BTreeSet<(&str, &str)> = found.iter().map(|problem| (problem.kind, problem.name.as_str())).collect();
        let right = |kind, name: &str| !wrong.contains(&(kind, name));
        let bgp = Self {
            peers: peers
                .into_iter()
                .filter(|peer| right(PEER, &peer.name))
                .map(|peer| (peer.name.clone(), peer))
                .collect(),
            advertisements: advertisements
                .into_iter()
                .filter(|advertisement| right(ADVERTISEMENT, &advertisement.name))
                .map(|advertisement| (advertisement.name.clone(), advertisement))
                .collect(),
            bfd_profiles,
            communities,
        };
        problems.append(&mut found);
        bgp
    }
}

fn check_profile(peer: &Peer, profiles: &BTreeMap<String, BfdProfile>, found: &mut Vec<Problem>) {
    if let Some(profile) = peer.bfd_profile.as_ref().filter(|profile| !profiles.contains_key(*profile)) {
        Problems::of(PEER, &peer.name, found).add_transient(
            "spec.bfdProfile",
            profile,
            format!(
                "peer {} referencing non existing bfd profile {profile}: there is no BFDProfile of this name that can be \
                 read; create or correct it, or remove bfdProfile",
                peer.name
            ),
        );
    }
}

#[cfg(test)]
mod tests;
