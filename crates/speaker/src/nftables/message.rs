//! Messages to the kernel's nf_tables. Pure. Source: `linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`.
//!
//! Numbers in attributes are in network byte order, those in headers in the machine's.

/// `NFNL_SUBSYS_NFTABLES`: the upper octet of every message's type.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;
/// Of a netlink message, and of what netfilter puts after it: family, version, resource.
const HEADER: usize = 16;
const NETFILTER_HEADER: usize = 4;

/// Several messages that take effect together or not at all.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    /// Of the last message.
    sequence: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self { octets: Vec::new(), sequence: 0 };
        batch.push(BATCH_BEGIN, libc::NLM_F_REQUEST, 0, SUBSYSTEM, &Attributes::new());
        batch
    }

    /// Adds one of `NFT_MSG_*` for the tables of `family`. `flags` besides those of a request.
    pub(super) fn add(&mut self, message: i32, flags: i32, family: u8, attributes: &Attributes) {
        // They are small numbers: an enumeration in C.
        let kind = SUBSYSTEM << 8 | message as u16;
        self.push(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags, family, 0, attributes);
    }

    /// What is to be sent, and how many answers there will be if all goes well.
    pub(super) fn finish(mut self) -> (Vec<u8>, usize) {
        let answers = self.sequence as usize - 1;
        self.push(BATCH_END, libc::NLM_F_REQUEST, 0, SUBSYSTEM, &Attributes::new());
        (self.octets, answers)
    }

    fn push(&mut self, kind: u16, flags: i32, family: u8, resource: u16, attributes: &Attributes) {
        self.sequence += 1;
        let header = Header { kind, flags, sequence: self.sequence, family, resource };
        header.message(attributes, &mut self.octets);
    }
}

/// A request to list the elements of a set.
pub(super) fn list_elements(family: u8, table: &str, set: &str) -> Vec<u8> {
    let kind = SUBSYSTEM << 8 | libc::NFT_MSG_GETSETELEM as u16;
    let header = Header { kind, flags: libc::NLM_F_REQUEST | libc::NLM_F_DUMP, sequence: 1, family, resource: 0 };
    let mut octets = Vec::new();
    header.message(&Attributes::new().text(1, table).text(2, set), &mut octets);
    octets
}

/// What stands before the attributes: `nlmsghdr` and `nfgenmsg`.
struct Header {
    kind: u16,
    flags: i32,
    sequence: u32,
    family: u8,
    resource: u16,
}

impl Header {
    fn message(&self, Attributes(attributes): &Attributes, to: &mut Vec<u8>) {
        let length = (HEADER + NETFILTER_HEADER + attributes.len()) as u32;
        to.extend(length.to_ne_bytes());
        to.extend(self.kind.to_ne_bytes());
        to.extend((self.flags as u16).to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        to.extend([0; 4]); // to the kernel
        to.extend([self.family, 0]);
        to.extend(self.resource.to_be_bytes());
        to.extend(attributes);
    }
}

/// Attributes one after another.
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn octets(mut self, kind: u16, value: &[u8]) -> Self {
        // The caller keeps what is nested below 64 kB.
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.octets(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.octets(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, Attributes(inner): Attributes) -> Self {
        self.octets(kind | NESTED, &inner)
    }

    /// A value, as `nft_data_attributes` has it.
    pub(super) fn data(self, kind: u16, value: &[u8]) -> Self {
        self.nested(kind, Attributes::new().octets(1, value))
    }

    /// One expression of a rule (`nft_expr_attributes`), as an element of a list.
    pub(super) fn expression(self, name: &str, attributes: Attributes) -> Self {
        self.nested(1, Attributes::new().text(1, name).nested(2, attributes))
    }
}

/// One netlink message that was received: its type and what follows the header; and what follows it.
pub(super) fn first(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(octets.get(4..6)?.try_into().ok()?);
    let body = octets.get(HEADER..length)?;
    Some((kind, body, octets.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a list of elements in a message's body.
pub(super) fn elements(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    let list = attribute(body.get(NETFILTER_HEADER..).unwrap_or_default(), 3).unwrap_or_default();
    attributes(list).filter_map(|(_, element)| {
        let value = |kind| attribute(attribute(element, kind)?, 1).map(<[u8]>::to_vec);
        Some((value(1)?, value(2)?))
    })
}

fn attribute(octets: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(octets).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

fn attributes(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(octets.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(octets.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = octets.get(4..length)?;
        octets = octets.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_have_their_length() {
        let Attributes(octets) = Attributes::new().text(1, "ab").nested(2, Attributes::new().number(3, 1));
        let expected: Vec<u8> = [
            &7_u16.to_ne_bytes()[..],
            &1_u16.to_ne_bytes(),
            b"ab\0",
            &[0],
            &12_u16.to_ne_bytes(),
            &(2 | NESTED).to_ne_bytes(),
            &8_u16.to_ne_bytes(),
            &3_u16.to_ne_bytes(),
            &[0, 0, 0, 1],
        ]
        .concat();
        assert_eq!(octets, expected);
        let read: Vec<(u16, &[u8])> = attributes(&octets).collect();
        assert_eq!(read[0], (1, &b"ab\0"[..]));
        assert_eq!(attribute(read[1].1, 3), Some(&[0, 0, 0, 1][..]));
    }

    #[test]
    fn a_batch_is_counted_and_each_message_has_its_length() {
        let mut batch = Batch::new();
        for _ in 0..2 {
            let table = Attributes::new().text(1, "t");
            batch.add(libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE, libc::NFPROTO_IPV4 as u8, &table);
        }
        let (octets, answers) = batch.finish();
        assert_eq!(answers, 2);
        let (mut rest, mut kinds) = (&octets[..], Vec::new());
        while let Some((kind, _, after)) = first(rest) {
            kinds.push(kind);
            rest = after;
        }
        assert_eq!(kinds, [BATCH_BEGIN, 0x0a00, 0x0a00, BATCH_END]);
    }

    #[test]
    fn what_is_cut_off_is_read_as_far_as_it_goes() {
        let element = Attributes::new().data(1, &[192, 0, 2, 1]).data(2, &[198, 51, 100, 2]);
        let list = Attributes::new().text(1, "t").nested(3, Attributes::new().nested(1, element));
        let mut octets = Vec::new();
        Header { kind: 0x0a0c, flags: 0, sequence: 1, family: 2, resource: 0 }.message(&list, &mut octets);
        let (_, body, _) = first(&octets).unwrap();
        let whole: Vec<_> = elements(body).collect();
        assert_eq!(whole, [(vec![192, 0, 2, 1], vec![198, 51, 100, 2])]);
        for length in 0..octets.len() {
            assert!(first(&octets[..length]).is_none());
        }
        for length in 0..body.len() {
            assert!(elements(&body[..length]).next().is_none());
        }
    }
}
