//! Who may speak: datagrams are sealed with a key that only the members of one cluster have.
//!
//! ```text
//! version 1 | key id 4 | sender 8 | session 8 | number 4 | sealed message | tag 16
//! ```
//! ChaCha20-Poly1305 (RFC 8439): as fast in software as AES is in hardware, which the smallest boards lack. Each sender has
//! a key of its own, HKDF-SHA256 (RFC 5869) of the Secret with the cluster's id and the sender's; the nonce is the session and
//! the number. A session is 64 random bits, drawn at each start, so no nonce comes twice, whatever the clock says and
//! however often a node restarts. What stands before the seal and the cluster's id are the associated data.
//!
//! To rotate the key without a gap: add the new one behind the old one on all nodes; then put it first; then take the old one
//! away. The first key seals, all of them open.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::{self, HKDF_SHA256, Prk};

use crate::MemberId;
use crate::message::MAX_MESSAGE;

/// The version of everything inside the seal.
const VERSION: u8 = 1;
/// Octets before the seal.
const HEADER: usize = 25;
/// Octets of the tag.
const TAG: usize = 16;
/// The longest datagram.
pub const MAX_DATAGRAM: usize = HEADER + MAX_MESSAGE + TAG;
/// The shortest secret, in octets.
const SHORTEST_SECRET: usize = 16;
/// How many secrets may be in use at a time.
const MOST_SECRETS: usize = 2;

/// Why a datagram was refused; [`reason`](Self::reason) is the label to count it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too short or too long to be one of ours.
    #[error("{have} octets are too few or too many for a datagram of a member")]
    Length {
        /// Its octets.
        have: usize,
    },
    /// Of another version of the protocol.
    #[error("protocol version {have} is not {VERSION}")]
    Version {
        /// The version it has.
        have: u8,
    },
    /// The sender is no member, as far as the API has told, or we ourselves.
    #[error("its sender {have:?} is none of the other members")]
    Sender {
        /// The sender that it names.
        have: MemberId,
    },
    /// Sealed with a key that is not in the Secret.
    #[error("its key is not in the Secret")]
    Key,
    /// It was here before, or is too old to tell.
    #[error("its number {number} was here before or is too old")]
    Replay {
        /// The number that it has.
        number: u32,
    },
    /// Of an earlier session than one that was heard.
    #[error("it is of an earlier session of its sender")]
    Session,
    /// Not sealed by a member of this cluster, or damaged.
    #[error("its seal is broken")]
    Seal,
    /// The seal is right and the message inside is not.
    #[error("its message cannot be read: {0}")]
    Message(#[from] crate::message::MessageError),
}

impl Refusal {
    /// A short word from a closed set.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Version { .. } => "version",
            Self::Sender { .. } => "sender",
            Self::Key => "key",
            Self::Replay { .. } => "replay",
            Self::Session => "session",
            Self::Seal => "seal",
            Self::Message(_) => "message",
        }
    }
}

/// A Secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// None at all, or more than two.
    #[error("the Secret holds {have} keys; give one, or two while the key is changed")]
    Count {
        /// How many there are.
        have: usize,
    },
    /// Too easy to guess.
    #[error("key {which} of the Secret has {have} octets; give at least {SHORTEST_SECRET}, best 32 random ones")]
    Short {
        /// Its place, from 1.
        which: usize,
        /// Its octets.
        have: usize,
    },
}

/// The keys of a cluster: the first seals, all open.
pub struct Keys {
    cluster: String,
    secrets: Vec<(KeyId, Prk)>,
}

type KeyId = [u8; 4];

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys of {} ({} secrets)", self.cluster, self.secrets.len())
    }
}

impl Keys {
    /// The keys that come of a Secret. `cluster` tells clusters on one network apart (the uid of the namespace `kube-system`).
    ///
    /// # Errors
    /// [`KeyError`]: none, more than two, or one shorter than 16 octets.
    pub fn new(cluster: &str, secrets: &[&[u8]]) -> Result<Self, KeyError> {
        if secrets.is_empty() || secrets.len() > MOST_SECRETS {
            return Err(KeyError::Count { have: secrets.len() });
        }
        if let Some(at) = secrets.iter().position(|secret| secret.len() < SHORTEST_SECRET) {
            return Err(KeyError::Short { which: at + 1, have: secrets[at].len() });
        }
        let secrets = secrets.iter().map(|secret| {
            let prk = hkdf::Salt::new(HKDF_SHA256, b"landfall membership").extract(secret);
            (key_id(&prk, cluster), prk)
        });
        Ok(Self { cluster: cluster.to_owned(), secrets: secrets.collect() })
    }

    /// The keys of one sender.
    pub(crate) fn of(&self, sender: MemberId) -> SenderKeys {
        let key = |(id, prk): &(KeyId, Prk)| {
            let info: [&[u8]; 4] = [b"datagram", &sender.0, self.cluster.as_bytes(), &[]];
            // It fails beyond 255 times 32 octets only.
            prk.expand(&info, &CHACHA20_POLY1305).ok().map(|okm| (*id, LessSafeKey::new(UnboundKey::from(okm))))
        };
        SenderKeys(self.secrets.iter().filter_map(key).collect())
    }
}

/// Four octets that tell the keys apart and nothing else: they stand before the seal.
fn key_id(prk: &Prk, cluster: &str) -> KeyId {
    struct Four;
    impl hkdf::KeyType for Four {
        fn len(&self) -> usize {
            4
        }
    }
    let mut id = KeyId::default();
    // Both fail beyond 255 times 32 octets only, or for another length than the one asked for.
    let _ = prk.expand(&[b"key id", cluster.as_bytes()], Four).and_then(|okm| okm.fill(&mut id));
    id
}

/// One sender's keys, in the order of the secrets.
pub(crate) struct SenderKeys(Vec<(KeyId, LessSafeKey)>);

impl SenderKeys {
    /// The datagram with this message in it. `session` and `number` together are used once only.
    pub(crate) fn seal(
        &self,
        cluster: &Keys,
        sender: MemberId,
        session: u64,
        number: u32,
        message: &[u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let (id, key) = self.0.first().ok_or(Unspecified)?;
        let mut datagram = Vec::with_capacity(HEADER + message.len() + TAG);
        datagram.push(VERSION);
        datagram.extend(id);
        datagram.extend(sender.0);
        datagram.extend(session.to_be_bytes());
        datagram.extend(number.to_be_bytes());
        let data = associated(&datagram, &cluster.cluster);
        datagram.extend(message);
        let tag = key.seal_in_place_separate_tag(nonce(session, number), Aad::from(data), &mut datagram[HEADER..])?;
        datagram.extend(tag.as_ref());
        Ok(datagram)
    }

    /// The message inside, opened in `buffer`.
    pub(crate) fn open<'b>(
        &self,
        cluster: &Keys,
        sealed: &Sealed<'_>,
        buffer: &'b mut [u8; MAX_MESSAGE],
    ) -> Result<&'b [u8], Refusal> {
        let (_, key) = self.0.iter().find(|(id, _)| *id == sealed.key).ok_or(Refusal::Key)?;
        let message = buffer.get_mut(..sealed.message.len()).ok_or(Refusal::Seal)?;
        message.copy_from_slice(sealed.message);
        let data = associated(sealed.header, &cluster.cluster);
        let nonce = nonce(sealed.session, sealed.number);
        key.open_in_place_separate_tag(nonce, Aad::from(data), sealed.tag, message, 0..)
            .map(|message| &*message)
            .map_err(|Unspecified| Refusal::Seal)
    }
}

/// What is sealed without being hidden.
fn associated(header: &[u8], cluster: &str) -> Vec<u8> {
    [header, cluster.as_bytes()].concat()
}

fn nonce(session: u64, number: u32) -> Nonce {
    let mut octets = [0; 12];
    octets[..8].copy_from_slice(&session.to_be_bytes());
    octets[8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(octets)
}

/// A datagram whose seal is not yet opened.
pub(crate) struct Sealed<'a> {
    header: &'a [u8],
    key: KeyId,
    pub(crate) sender: MemberId,
    pub(crate) session: u64,
    pub(crate) number: u32,
    message: &'a [u8],
    tag: Tag,
}

impl<'a> Sealed<'a> {
    /// Reads what stands before the seal. What has another length than ours is refused before anything else is done.
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, Refusal> {
        let length = Refusal::Length { have: datagram.len() };
        if datagram.len() > MAX_DATAGRAM {
            return Err(length);
        }
        let (header, rest) = datagram.split_first_chunk::<HEADER>().ok_or(length)?;
        let (message, tag) = rest.split_last_chunk::<TAG>().ok_or(length)?;
        if header[0] != VERSION {
            return Err(Refusal::Version { have: header[0] });
        }
        let octets = |at: usize| -> [u8; 8] { std::array::from_fn(|n| header[at + n]) };
        Ok(Self {
            header,
            key: std::array::from_fn(|n| header[1 + n]),
            sender: MemberId(octets(5)),
            session: u64::from_be_bytes(octets(13)),
            number: u32::from_be_bytes(std::array::from_fn(|n| header[21 + n])),
            message,
            tag: Tag::from(*tag),
        })
    }
}

#[cfg(test)]
#[path = "seal/tests.rs"]
mod tests;
