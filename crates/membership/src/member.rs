//! Who takes part.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

/// A node with a speaker, as the API knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The Node's name.
    pub node: Arc<str>,
    /// Where its speaker receives datagrams.
    pub address: SocketAddr,
}

/// A member's name on the wire and its place on the ring: the first 8 octets of the SHA-256 of its node's name. In a
/// cluster of a thousand nodes two have the same with a probability of 3 in 10^14.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub(crate) [u8; 8]);

impl MemberId {
    /// The id of a node.
    #[must_use]
    pub fn of(node: &str) -> Self {
        let hash = digest(&SHA256, node.as_bytes());
        Self(std::array::from_fn(|at| hash.as_ref()[at]))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}
