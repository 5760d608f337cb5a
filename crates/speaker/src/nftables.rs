//! Rules in the kernel (nf_tables) that pass packets of connections unknown here on to the node that had the address before.
//!
//! One table for each family, named `landfall`, with a map from address to node, and one rule, before kube-proxy's: a TCP packet
//! to an address of the map that begins no connection, and belongs to none that the kernel knows, is sent to that node (`dup`)
//! and goes no further here. `nft list table ip landfall` shows it, with a count of packets. An element of the map ends by itself
//! after an hour, so that nothing acts when its speaker is gone for good.
//!
//! A thread of its own: the kernel takes some ten milliseconds for each change, and beats do not wait for it. Needs
//! CAP_NET_ADMIN, and the modules nf_tables and nft_dup_ipv4 / nft_dup_ipv6 or their like built in, which the kernel loads itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use tokio::sync::watch;

use crate::passing_on::{KEPT_FOR, PassedOn};
use crate::socket_options::{set_receive_buffer, set_send_buffer};

mod message;

use message::{Attributes, Batch};

const TABLE: &str = "landfall";
const MAP: &str = "passed-on";
const CHAIN: &str = "prerouting";
/// After the kernel has looked up the connection (-200), before kube-proxy translates (-100).
const PRIORITY: i32 = -150;
/// As many elements go into one message: well below the 64 kB that an attribute holds.
const ELEMENTS: usize = 500;
/// Room for a change with ten thousand addresses, in one piece, and for its answers.
const BUFFER: usize = 4 << 20;
/// Longer than any datagram of the kernel's.
const LONGEST_ANSWER: usize = 1 << 16;
/// In seconds.
const ANSWER_LIMIT: i64 = 5;
/// What failed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// `NFT_REG_1`, and the register of verdicts.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;
/// `NF_CT_STATE_BIT`: what belongs to no connection that is known, or to one that begins.
const INVALID_OR_NEW: u32 = 1 | 1 << 3;
const SYN: u8 = 0x02;

/// What differs between the families.
struct Family {
    protocol: u8,
    /// The type of addresses as nft shows them (`ipv4_addr`, `ipv6_addr`).
    data_type: u32,
    length: u32,
    /// Where the destination is in the header.
    destination: u32,
    is_of: fn(&IpAddr) -> bool,
}

const FAMILIES: [Family; 2] = [
    Family { protocol: libc::NFPROTO_IPV4 as u8, data_type: 7, length: 4, destination: 16, is_of: IpAddr::is_ipv4 },
    Family { protocol: libc::NFPROTO_IPV6 as u8, data_type: 8, length: 16, destination: 24, is_of: IpAddr::is_ipv6 },
];

/// What the thread is told, and tells.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// What is to be passed on; nothing is changed before the first value is sent.
    pub(crate) wanted: watch::Sender<Option<Arc<PassedOn>>>,
    /// What is in force; `None` while nothing can be.
    pub(crate) in_force: watch::Receiver<Option<Arc<PassedOn>>>,
}

/// Starts the thread, in the network namespace of the calling thread. It ends when the result is dropped; the rules stay.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn() -> anyhow::Result<Rules> {
    let (wanted, want) = watch::channel(None);
    let (in_force_out, in_force) = watch::channel(None);
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(follow(want, &in_force_out)),
            Err(error) => tracing::error!(%error, "no runtime for the thread that sets rules"),
        }
    };
    std::thread::Builder::new()
        .name("nftables".to_owned())
        .spawn(body)
        .context("cannot start the thread that sets rules")?;
    Ok(Rules { wanted, in_force })
}

/// Until nobody wants anything.
async fn follow(mut wanted: watch::Receiver<Option<Arc<PassedOn>>>, in_force: &watch::Sender<Option<Arc<PassedOn>>>) {
    let mut standing = None;
    loop {
        let change = wanted.borrow_and_update().clone();
        let done = match &change {
            None => set_up().and_then(|()| list()),
            Some(rules) => replace(rules).map(|()| PassedOn::clone(rules)),
        };
        let failed = done.as_ref().err().map(ToString::to_string);
        if let Some(error) = failed.as_ref().filter(|_| standing != failed) {
            let way_out = "the speaker needs CAP_NET_ADMIN, and the kernel nf_tables with dup; connections break when an address moves";
            tracing::error!(error, way_out, "cannot pass packets of connections on; trying again every minute");
        } else if standing.is_some() && failed.is_none() {
            tracing::info!("packets of connections can be passed on");
        }
        standing = failed;
        in_force.send_replace(done.ok().map(Arc::new));
        let again = standing.is_some();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if again => {}
        }
    }
}

/// Tables, maps, chains and rules; elements that are there stay. It is enough that one family can be had: a kernel may have
/// IPv6 switched off.
fn set_up() -> io::Result<()> {
    let each = FAMILIES.each_ref().map(|family| {
        let mut batch = Batch::new();
        family.set_up(&mut batch);
        send(batch)
    });
    let [v4, v6] = each;
    v4.or(v6)
}

/// Replaces all elements; of each family at once.
fn replace(rules: &PassedOn) -> io::Result<()> {
    FAMILIES.iter().try_for_each(|family| {
        let ours: Vec<_> = rules.iter().filter(|(ip, to)| (family.is_of)(ip) && (family.is_of)(to)).collect();
        // A family that cannot be had has no elements either.
        let is_missing = || ours.is_empty() && family.list(&mut PassedOn::new()).is_err();
        family.replace(&ours).or_else(|error| if is_missing() { Ok(()) } else { Err(error) })
    })
}

/// The elements that the kernel has.
fn list() -> io::Result<PassedOn> {
    let mut all = PassedOn::new();
    for family in &FAMILIES {
        match family.list(&mut all) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {} // there is no such table
        }
    }
    Ok(all)
}

/// Attributes are named by their numbers in the enumerations of `linux/netfilter/nf_tables.h`: those of a table are `NFTA_TABLE_*`,
/// those of an expression `NFTA_CMP_*` and so on.
impl Family {
    fn replace(&self, rules: &[(&IpAddr, &IpAddr)]) -> io::Result<()> {
        let mut batch = Batch::new();
        self.set_up(&mut batch);
        let map = || Attributes::new().text(1, TABLE).text(2, MAP);
        batch.add(libc::NFT_MSG_DELSETELEM, 0, self.protocol, &map());
        for some in rules.chunks(ELEMENTS) {
            let elements = some.iter().fold(Attributes::new(), |list, (ip, to)| {
                let timeout = (KEPT_FOR.as_millis() as u64).to_be_bytes();
                let element = Attributes::new().data(1, &octets(**ip)).data(2, &octets(**to)).octets(4, &timeout);
                list.nested(1, element)
            });
            let list = map().nested(3, elements);
            batch.add(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, self.protocol, &list);
        }
        send(batch)
    }

    fn list(&self, all: &mut PassedOn) -> io::Result<()> {
        let socket = socket()?;
        socket.send(&message::list_elements(self.protocol, TABLE, MAP), 0)?;
        let mut buffer = vec![0; LONGEST_ANSWER];
        loop {
            let length = socket.recv(&mut &mut buffer[..], 0)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, after)) = message::first(rest) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => answer(body)?,
                    _ => {
                        all.extend(message::elements(body).filter_map(|(ip, to)| Some((address(&ip)?, address(&to)?))))
                    }
                }
                rest = after;
            }
        }
    }

    /// Each part is made if it is not there. The rule is taken out of the chain and put in again.
    fn set_up(&self, batch: &mut Batch) {
        let (create, new) = (libc::NLM_F_CREATE, Attributes::new);
        batch.add(libc::NFT_MSG_NEWTABLE, create, self.protocol, &new().text(1, TABLE).number(2, 0));
        let flags = (libc::NFT_SET_MAP | libc::NFT_SET_TIMEOUT) as u32;
        let map = new().text(1, TABLE).text(2, MAP).number(3, flags).number(4, self.data_type).number(5, self.length);
        let map = map.number(6, self.data_type).number(7, self.length).number(10, 1);
        batch.add(libc::NFT_MSG_NEWSET, create, self.protocol, &map);
        let hook = new().number(1, 0).number(2, PRIORITY as u32);
        let chain = new().text(1, TABLE).text(3, CHAIN).nested(4, hook);
        let chain = chain.number(5, libc::NF_ACCEPT as u32).text(7, "filter");
        batch.add(libc::NFT_MSG_NEWCHAIN, create, self.protocol, &chain);
        let rule = || new().text(1, TABLE).text(2, CHAIN);
        batch.add(libc::NFT_MSG_DELRULE, 0, self.protocol, &rule());
        let rule = rule().nested(4, self.rule());
        batch.add(libc::NFT_MSG_NEWRULE, create | libc::NLM_F_APPEND, self.protocol, &rule);
    }

    /// `meta l4proto tcp, tcp flags & syn == 0, ct state new,invalid, counter, dup to daddr map @passed-on, drop`
    fn rule(&self) -> Attributes {
        let new = Attributes::new;
        let into_register = |key: i32| new().number(1, REGISTER).number(2, key as u32);
        let compare = |operator: i32, value: &[u8]| into_register(operator).data(3, value);
        let mask = |mask: &[u8]| {
            let register = new().number(1, REGISTER).number(2, REGISTER).number(3, mask.len() as u32);
            register.data(4, mask).data(5, &vec![0; mask.len()])
        };
        let payload = |base: i32, offset: u32, length: u32| into_register(base).number(3, offset).number(4, length);
        new()
            .expression("meta", into_register(libc::NFT_META_L4PROTO))
            .expression("cmp", compare(libc::NFT_CMP_EQ, &[libc::IPPROTO_TCP as u8]))
            .expression("payload", payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1)) // TCP's flags
            .expression("bitwise", mask(&[SYN]))
            .expression("cmp", compare(libc::NFT_CMP_EQ, &[0]))
            .expression("ct", into_register(libc::NFT_CT_STATE))
            .expression("bitwise", mask(&INVALID_OR_NEW.to_ne_bytes()))
            .expression("cmp", compare(libc::NFT_CMP_NEQ, &[0; 4]))
            .expression("payload", payload(libc::NFT_PAYLOAD_NETWORK_HEADER, self.destination, self.length))
            .expression("lookup", new().text(1, MAP).number(2, REGISTER).number(3, REGISTER))
            .expression("counter", new())
            .expression("dup", new().number(1, REGISTER))
            .expression(
                "immediate",
                new().number(1, VERDICT).nested(2, new().nested(2, new().number(1, libc::NF_DROP as u32))),
            )
    }
}

fn socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    set_send_buffer(&socket, BUFFER)?;
    set_receive_buffer(&socket, BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_LIMIT))?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends a batch, and waits until it is in force.
fn send(batch: Batch) -> io::Result<()> {
    let (octets, mut answers) = batch.finish();
    let socket = socket()?;
    socket.send(&octets, 0)?;
    let mut buffer = vec![0; LONGEST_ANSWER];
    while answers > 0 {
        let length = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, after)) = message::first(rest) {
            if i32::from(kind) == libc::NLMSG_ERROR {
                answer(body)?;
                answers = answers.saturating_sub(1);
            }
            rest = after;
        }
    }
    Ok(())
}

/// An answer is an error, or 0.
fn answer(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_namespace::in_new_namespace;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kernel_takes_the_rules_and_keeps_what_is_not_replaced() {
        in_new_namespace(|| {
            assert_eq!(list().unwrap(), PassedOn::new(), "there is no table");
            set_up().unwrap();
            assert_eq!(list().unwrap(), PassedOn::new());
            let two: PassedOn =
                [(ip("192.0.2.1"), ip("198.51.100.2")), (ip("2001:db8:1::1"), ip("2001:db8::2"))].into();
            replace(&two).unwrap();
            set_up().unwrap(); // by the next speaker
            assert_eq!(list().unwrap(), two);
            let other: PassedOn = [(ip("192.0.2.1"), ip("198.51.100.3"))].into();
            replace(&other).unwrap();
            assert_eq!(list().unwrap(), other);
            replace(&PassedOn::new()).unwrap();
            assert_eq!(list().unwrap(), PassedOn::new());
        });
    }

    #[test]
    fn ten_thousand_addresses_are_one_change() {
        in_new_namespace(|| {
            let many = |number: u32| (IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 + number)), ip("198.51.100.2"));
            let rules: PassedOn = (0..10_000).map(many).collect();
            replace(&rules).unwrap();
            assert_eq!(list().unwrap(), rules);
        });
    }

    #[test]
    fn the_thread_tells_what_is_in_force_and_ends_without_a_word_more() {
        in_new_namespace(|| {
            let Rules { wanted, mut in_force } = spawn().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let rules: Arc<PassedOn> = Arc::new([(ip("192.0.2.1"), ip("198.51.100.2"))].into());
            let told = runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), async {
                    in_force.wait_for(|rules| rules.as_deref() == Some(&PassedOn::new())).await.unwrap();
                    wanted.send_replace(Some(Arc::clone(&rules)));
                    in_force.wait_for(|standing| standing.as_ref() == Some(&rules)).await.unwrap();
                    drop(wanted);
                    in_force.wait_for(|_| false).await.is_err()
                })
                .await
            });
            assert_eq!(told, Ok(true), "the thread has ended");
            assert_eq!(list().unwrap(), *rules, "the rules have not");
        });
    }
}
