//! What admission needs to know: which mistakes an object would bring in, and whether it may go.

use landfall_api::bgp_peer::v1beta2::BGPPeer;

use crate::{Config, Problem, Resources};

/// The problems that `after` has and `before` had not, sorted: what a candidate that is in `after` only brings in, be it in
/// itself or in others. Mistakes that were there already are no reason to refuse it, nor are those that an object still to
/// come may cure ([`Problem::transient`]).
///
/// Both are the objects that the candidate is to be judged by, and the same but for the candidate: what is in neither
/// cannot be in conflict with it. A deleted object is in `before` only.
pub fn introduced(before: &Resources, after: &Resources) -> Vec<Problem> {
    let (_, known) = Config::read(before);
    let (_, mut problems) = Config::read(after);
    problems.retain(|problem| !problem.transient && !known.contains(problem));
    problems
}

/// A BFDProfile that BGPPeers name cannot be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to delete BFDProfile {profile}, used by BGPPeer {}; remove spec.bfdProfile there first",
    peers.join(", BGPPeer ")
)]
pub struct ProfileInUse {
    /// The profile's name.
    pub profile: String,
    /// The peers that name it, in name order.
    pub peers: Vec<String>,
}

/// Whether the BFDProfile of this name can be deleted, given every BGPPeer.
/// # Errors
/// [`ProfileInUse`] with the peers that name it.
pub fn may_delete_bfd_profile(profile: &str, peers: &[BGPPeer]) -> Result<(), ProfileInUse> {
    let users = peers.iter().filter(|peer| peer.spec.bfd_profile == profile && !profile.is_empty());
    let mut peers: Vec<String> = users.filter_map(|peer| peer.metadata.name.clone()).collect();
    peers.sort_unstable();
    match peers.is_empty() {
        true => Ok(()),
        false => Err(ProfileInUse { profile: profile.to_owned(), peers }),
    }
}
