//! What happens to a cluster, drawn at random.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::manifests::{NODES, POOLS, SERVICES};

/// Something that happens to the cluster. A number without a name of its own is an index into [`manifests`](crate::manifests).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A Service is created or changed.
    Service {
        /// Which of [`SERVICES`].
        service: usize,
        /// What it is from now on.
        terms: Terms,
    },
    /// A Service is deleted, if it exists.
    Delete(usize),
    /// A Service is deleted, if it exists, and at once made again under the same name.
    Recreate(usize),
    /// An IPAddressPool is created or changed.
    Pool {
        /// Which of [`POOLS`].
        pool: usize,
        /// Which list of addresses.
        addresses: usize,
        /// Whom it is for.
        rule: usize,
    },
    /// An IPAddressPool is deleted, if it exists.
    DeletePool(usize),
    /// The second Namespace gets or loses the label that one of the pools' rules selects.
    Namespace {
        /// Whether it has the label from now on.
        labelled: bool,
    },
    /// A Node joins.
    Node(usize),
    /// A Node is deleted, if it exists.
    DeleteNode(usize),
    /// The API server cannot be reached by the controller any more, or again.
    ApiServer {
        /// Whether it cannot.
        down: bool,
    },
    /// The controller dies, and another process takes over.
    Restart,
    /// Time passes until nothing is left to do.
    Settle,
}

/// What decides about the addresses of a Service; each number picks one of a few values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// 0 and 1: IPv4; 2: IPv6; 3: both preferred; 4: both required.
    pub families: usize,
    /// 0: no sharing; others are keys.
    pub sharing: usize,
    /// Counted from port 80.
    pub port: usize,
    /// Addresses or a pool that it asks for; from 4 on nothing.
    pub request: usize,
    /// externalTrafficPolicy Local.
    pub local: bool,
    /// A label, which one of the pools' rules selects, and the selector of the Pods. 5: no load balancer.
    pub class: usize,
}

impl Default for Terms {
    /// An IPv4 Service that asks for nothing.
    fn default() -> Self {
        Self { families: 0, sharing: 0, port: 0, request: 4, local: false, class: 0 }
    }
}

/// One happening. Services change most often, and the cluster comes to rest every fifth time or so.
pub fn happening() -> impl Strategy<Value = Happening> {
    let terms = (0..5usize, 0..3usize, 0..2usize, 0..8usize, prop::bool::weighted(0.2), 0..6usize).prop_map(
        |(families, sharing, port, request, local, class)| Terms { families, sharing, port, request, local, class },
    );
    let (service, pool, node) = (0..SERVICES.len(), 0..POOLS.len(), 0..NODES);
    prop_oneof![
        12 => (service.clone(), terms).prop_map(|(service, terms)| Happening::Service { service, terms }),
        3 => service.clone().prop_map(Happening::Delete),
        1 => service.prop_map(Happening::Recreate),
        4 => (pool.clone(), 0..4usize, 0..5usize)
            .prop_map(|(pool, addresses, rule)| Happening::Pool { pool, addresses, rule }),
        1 => pool.prop_map(Happening::DeletePool),
        1 => any::<bool>().prop_map(|labelled| Happening::Namespace { labelled }),
        1 => node.clone().prop_map(Happening::Node),
        1 => node.prop_map(Happening::DeleteNode),
        2 => any::<bool>().prop_map(|down| Happening::ApiServer { down }),
        1 => Just(Happening::Restart),
        6 => Just(Happening::Settle),
    ]
}

/// The sequence that belongs to this seed, always the same one: as many random happenings as `length` says, after
/// [`beginning`], so that there is something to lose.
pub fn sequence(seed: u64, length: Range<usize>) -> Vec<Happening> {
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    match prop::collection::vec(happening(), length).new_tree(&mut runner) {
        Ok(tree) => beginning().into_iter().chain(tree.current()).collect(),
        Err(reason) => unreachable!("nothing is filtered out: {reason}"),
    }
}

/// Two pools for all, and Services of every family that each have an address; two of them share theirs.
fn beginning() -> Vec<Happening> {
    let any = Terms::default();
    let terms = [
        Terms { sharing: 1, ..any },
        Terms { sharing: 1, port: 1, ..any },
        Terms { families: 4, ..any },
        any,
        Terms { families: 2, ..any },
    ];
    let pools = [0, 1].map(|pool| Happening::Pool { pool, addresses: 1, rule: 3 });
    let services = terms.into_iter().enumerate().map(|(service, terms)| Happening::Service { service, terms });
    pools.into_iter().chain(services).chain([Happening::Settle]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_sequence_each_time_and_another_seed_another() {
        let of = |seed| sequence(seed, 40..41);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(1).len(), beginning().len() + 40);
    }
}
