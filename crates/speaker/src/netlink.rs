//! What the kernel says of its interfaces and their addresses, as it changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context as _;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use landfall_wire::MacAddr;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, State};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::task::JoinHandle;

use crate::links::{InterfaceAddress, Link, LinkEvent};
use crate::socket_options::set_receive_buffer;

/// Room for the news of a node that starts hundreds of Pods at once: about 2,000 messages of 2 kB. Beyond it the kernel
/// drops news and says so, and everything is read afresh.
const RECEIVE_BUFFER: usize = 4 << 20;

/// An address that is on no network of anybody (RFC 5737): the way to it is the way to the world. Nothing is sent to it.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

const GROUPS: [MulticastGroup; 3] = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];

/// News of the interfaces of one network namespace: that of the thread which opened it.
pub(crate) struct Netlink {
    handle: Handle,
    news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
    /// What was said so far may be wrong: everything is to be read afresh.
    stale: bool,
}

impl Netlink {
    /// Subscribes. Must be called in the context of a tokio runtime.
    ///
    /// # Errors
    /// Those of the system, with what was tried.
    pub(crate) fn open() -> anyhow::Result<Self> {
        Self::with_buffer(RECEIVE_BUFFER)
    }

    fn with_buffer(octets: usize) -> anyhow::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        // Before joining: news that come in between would already find the large buffer.
        set_receive_buffer(socket.socket_ref(), octets).context("cannot size the netlink socket's buffer")?;
        let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups)).context("cannot subscribe to news of interfaces")?;
        let (connection, handle, news) = rtnetlink::from_socket(socket);
        Ok(Self { handle, news, connection: tokio::spawn(connection), stale: true })
    }

    /// The next piece of news; waits for it. The first one is a snapshot. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the socket broke, or the kernel refuses to list its interfaces, with what was asked.
    pub(crate) async fn next(&mut self) -> anyhow::Result<LinkEvent> {
        loop {
            if self.stale {
                let snapshot = self.resynchronize().await?;
                self.stale = false;
                return Ok(snapshot);
            }
            let (message, _) = self.news.next().await.context("the netlink socket broke")?;
            match message.payload {
                NetlinkPayload::InnerMessage(message) => {
                    if let Some(event) = read(&message) {
                        return Ok(event);
                    }
                }
                NetlinkPayload::Overrun(_) => {
                    tracing::warn!("the kernel dropped news of interfaces; all of them are read afresh");
                    self.stale = true;
                }
                _ => {}
            }
        }
    }

    /// Older news may still wait in the socket, and applied after a snapshot they would undo it, with nothing to follow that
    /// puts it right when the kernel has dropped that. The answer to a first listing comes after them: so they are thrown
    /// away when it is here, and a second listing is the truth.
    async fn resynchronize(&mut self) -> anyhow::Result<LinkEvent> {
        self.list().await?;
        while self.news.try_recv().is_ok() {}
        self.list().await
    }

    /// All interfaces and addresses as they are now.
    async fn list(&self) -> anyhow::Result<LinkEvent> {
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.context("cannot list the interfaces")?;
        let addresses: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .context("cannot list the interfaces' addresses")?;
        let links: BTreeMap<_, _> = links.iter().filter_map(read_link).collect();
        Ok(LinkEvent::Snapshot(links, addresses.iter().filter_map(read_address).collect()))
    }
}

impl Netlink {
    /// The next hop towards the world, with the index of the interface; none where no route leads there by way of a router.
    /// The kernel is asked for one destination, not for its table, which may have a million routes.
    pub(crate) async fn gateway(&self) -> Option<(u32, Ipv4Addr)> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ELSEWHERE, 32).build();
        // Without such a route the answer is an error, which is as good as none.
        let answer = self.handle.route().get(route).execute().try_next().await;
        read_route(&answer.ok()??)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// rtnetlink's message as ours; `None` for what does not concern us.
fn read(message: &RouteNetlinkMessage) -> Option<LinkEvent> {
    match message {
        RouteNetlinkMessage::NewLink(link) => read_link(link).map(|(index, link)| LinkEvent::Link(index, link)),
        // With a family it says only that the interface left a bridge.
        RouteNetlinkMessage::DelLink(link) => {
            (link.header.interface_family == AddressFamily::Unspec).then_some(LinkEvent::LinkGone(link.header.index))
        }
        RouteNetlinkMessage::NewAddress(address) => {
            read_address(address).map(|(index, address)| LinkEvent::Address(index, address))
        }
        RouteNetlinkMessage::DelAddress(address) => {
            read_address(address).map(|(index, address)| LinkEvent::AddressGone(index, address))
        }
        _ => None,
    }
}

/// `None` for partial messages: those of bridge ports (they carry a family) and of wireless events (they have no state).
fn read_link(message: &LinkMessage) -> Option<(u32, Link)> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut address, mut state, mut enslaved) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Address(octets) => address = <[u8; 6]>::try_from(octets.as_slice()).ok(),
            LinkAttribute::OperState(value) => state = Some(*value),
            LinkAttribute::Controller(index) => enslaved = *index != 0,
            _ => {}
        }
    }
    let flags = message.header.flags;
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether
        && !flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp);
    let link = Link {
        name: name?,
        mac: address.map(MacAddr::from).filter(|_| ethernet),
        // Drivers that know no state say so; they count as up, as they do for the kernel itself.
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp) && matches!(state?, State::Up | State::Unknown),
        enslaved,
    };
    Some((message.header.index, link))
}

/// `None` for an address without a value, which the kernel does not send.
fn read_address(message: &AddressMessage) -> Option<(u32, InterfaceAddress)> {
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => peer = Some(*value),
            _ => {}
        }
    }
    // On a broadcast network both are the same or only `Address` is there; on a point-to-point link the prefix belongs to
    // the peer's address.
    let peer: IpAddr = peer.or(local)?;
    let network = IpNet::new(peer, message.header.prefix_len).ok()?.trunc();
    Some((message.header.index, InterfaceAddress { local: local.unwrap_or(peer), network }))
}

/// `None` for a destination that is on-link, or out of reach.
fn read_route(message: &RouteMessage) -> Option<(u32, Ipv4Addr)> {
    let (mut interface, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(*ip),
            _ => {}
        }
    }
    Some((interface?, gateway?))
}

#[cfg(test)]
mod tests;
