//! What each lane answers for: from where addresses are placed and whom we cover. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_wire::MacAddr;

use crate::links::Placement;
use crate::ownership::Ownership;
use crate::packet_socket::Protocol;
use crate::probation::Probation;
use crate::respond::Owned;

/// A lane by its interface's index and its protocol.
pub(crate) type LaneKey = (u32, Protocol);

/// The one by which an address is asked for.
pub(crate) fn protocol_of(ip: IpAddr) -> Protocol {
    if ip.is_ipv4() { Protocol::Arp } else { Protocol::Ndp }
}

/// What each lane is to answer for as its own.
pub(crate) fn lane_tables(placement: &Placement, probation: &Probation) -> BTreeMap<LaneKey, Owned> {
    let mut tables: BTreeMap<LaneKey, Owned> = BTreeMap::new();
    for (interface, placed) in placement {
        for ip in &placed.addresses {
            let table = table(&mut tables, (*interface, protocol_of(*ip)), placed.mac);
            let addresses = if probation.holds(*ip) { &mut table.on_trial } else { &mut table.addresses };
            addresses.insert(*ip);
        }
    }
    tables
}

/// Adds what is answered in the name of others, where the MAC address of the owner is known.
pub(crate) fn cover(
    tables: &mut BTreeMap<LaneKey, Owned>,
    placement: &Placement,
    ownership: &Ownership,
    mut mac_of: impl FnMut(&Arc<str>, u32) -> Option<MacAddr>,
) {
    // Asked once for each node and interface, however many addresses there are.
    let mut macs: BTreeMap<(&Arc<str>, u32), Option<MacAddr>> = BTreeMap::new();
    for (interface, placed) in placement {
        for (ip, owner) in placed.addresses.iter().filter_map(|ip| Some((ip, ownership.covered.get(ip)?))) {
            let mac = *macs.entry((owner, *interface)).or_insert_with(|| mac_of(owner, *interface));
            if let Some(mac) = mac {
                table(tables, (*interface, protocol_of(*ip)), placed.mac).covered.insert(*ip, mac);
            }
        }
    }
}

/// Adds lanes that answer for nothing yet, to ask on them for what others own.
pub(crate) fn look_after(tables: &mut BTreeMap<LaneKey, Owned>, placement: &Placement) {
    for (interface, placed) in placement {
        for ip in &placed.addresses {
            table(tables, (*interface, protocol_of(*ip)), placed.mac);
        }
    }
}

/// That of one lane, which has this MAC address.
pub(crate) fn table(tables: &mut BTreeMap<LaneKey, Owned>, key: LaneKey, mac: MacAddr) -> &mut Owned {
    tables.entry(key).or_insert_with(|| Owned::nothing(mac))
}
