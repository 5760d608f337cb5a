//! The CEL rules that are longer than a line: what the API server refuses at apply, in whose words.
//!
//! Only functions that every Kubernetes since 1.25 knows are used. The `ip()` and `cidr()` libraries came with 1.30, and a
//! 1.30 server, which must be able to go back to 1.29, does not take them in a new CRD: addresses are matched as text.
//! What text cannot tell (more than eight parts in an IPv6 address, the order of the two ends of an IPv6 range), and what
//! takes other objects to know, is found by the controller and said in the object's conditions.

use kube::core::{Message, Rule};
use schemars::Schema;
use serde_json::json;

// A server refuses a rule whose estimated cost, length of the text × length of the pattern × number of items, is beyond a
// budget. Hence patterns as short as can be, and limits on lengths and counts, each far above what a person writes.

/// A number of one to three digits; [`octets_fit`] sees to the rest.
const OCTET: &str = r"\d{1,3}";
/// One 16-bit part of an IPv6 address; the patterns begin with `(?i)`.
const HEXTET: &str = r"[\da-f]{1,4}";

/// The longest entry of `addresses`: a range of two IPv6 addresses takes 79 characters; the rest is room for spaces.
const ADDRESS_MAX_LENGTH: u32 = 96;
/// The longest entry of `communities`: a community takes 38 characters, an alias is a word.
const COMMUNITY_MAX_LENGTH: u32 = 128;

fn ipv4() -> String {
    format!(r"({OCTET}\.){{3}}{OCTET}")
}

/// RFC 4291 section 2.2: eight parts; or fewer with `::` in one place; or an IPv4 address at the end.
fn ipv6() -> String {
    let (h, v4) = (HEXTET, ipv4());
    format!(r"(({h}:){{7}}{h}|(({h}:){{0,6}}{h})?::(({h}:){{0,6}}{h})?|[\da-f:]+:{v4})")
}

/// Two addresses of one form, with spaces where a person may put them.
fn range(of: &str) -> String {
    format!(r"\s*{of}\s*-\s*{of}\s*")
}

/// On a string: what has dots and no colon has numbers of 0 to 255 without leading zeros.
pub(crate) fn octets_fit() -> Rule {
    Rule::new(
        r"!self.matches(r'^[\d./\s-]+$') || (!self.matches(r'\b0\d') && self.findAll(r'\d{1,3}').all(n, int(n) <= 255))",
    )
    .message(Message::Expression("'\"' + self + '\" has a number above 255 or with a leading zero'".to_owned()))
}

/// On `addresses`.
pub(crate) fn at_least_one_address() -> Rule {
    Rule::new("self.size() > 0").message("a pool needs at least one prefix or range, such as 192.0.2.0/28")
}

/// Adds to the schema of `addresses` what each entry must look like.
pub(crate) fn each_address(addresses: &mut Schema) {
    let (v4, v6) = (ipv4(), ipv6());
    let (v4_range, v6_range) = (range(&v4), range(&v6));
    let prefix = Rule::new(format!(
        r"self.contains('-') || self.matches(r'(?i)^({v4}/([12]?\d|3[0-2])|{v6}/(12[0-8]|1[01]\d|[1-9]?\d))$')"
    ))
    .message(Message::Expression(
        "'\"' + self + '\" is no prefix such as 192.0.2.0/28 or 2001:db8::/124, and no range such as \
         192.0.2.10-192.0.2.20; a single address is written with its length: 192.0.2.10/32 or 2001:db8::10/128'"
            .to_owned(),
    ));
    let both_ends = Rule::new(format!("!self.contains('-') || self.matches(r'(?i)^({v4_range}|{v6_range})$')"))
        .message(Message::Expression(
            "'\"' + self + '\" is no range: write two addresses of one family, the lower one first, such as \
                 192.0.2.10-192.0.2.20 or 2001:db8::10-2001:db8::20'"
                .to_owned(),
        ));
    // Four octets of each end, as two numbers; only asked of what is a range of IPv4 addresses.
    let number = |at: usize| {
        let octet = |i: usize| format!("int(o[{}])", at + i);
        format!("{} * 16777216 + {} * 65536 + {} * 256 + {}", octet(0), octet(1), octet(2), octet(3))
    };
    let in_order = Rule::new(format!(
        r"!self.matches(r'^{v4_range}$') || [self.findAll(r'\d+', 8)].all(o, {} <= {})",
        number(0),
        number(4)
    ))
    .message(Message::Expression(
        "'the range \"' + self + '\" ends before it starts: write the lower address first'".to_owned(),
    ));
    constrain_items(addresses, ADDRESS_MAX_LENGTH, &[prefix, both_ends, octets_fit(), in_order]);
}

/// Puts rules on the items of a list of strings, where errors then name the item's index.
fn constrain_items(list: &mut Schema, max_length: u32, rules: &[Rule]) {
    if let Some(items) = list.get_mut("items") {
        items["maxLength"] = json!(max_length);
        items["x-kubernetes-validations"] = json!(rules);
    }
}

/// On a string: an IPv4 or IPv6 address.
pub(crate) fn ip_address() -> Rule {
    Rule::new(format!("self.matches(r'(?i)^({}|{})$')", ipv4(), ipv6())).message(not_an_address())
}

/// On a string: an IPv4 or IPv6 address, or nothing, which is the same as leaving the field out.
pub(crate) fn ip_address_or_empty() -> Rule {
    Rule::new(format!("self.matches(r'(?i)^({}|{})?$')", ipv4(), ipv6())).message(not_an_address())
}

fn not_an_address() -> Message {
    Message::Expression("'\"' + self + '\" is no IP address such as 192.0.2.1 or 2001:db8::1'".to_owned())
}

/// A CEL expression: `self` is `a:b` with two 16-bit numbers or `large:a:b:c` with three 32-bit numbers.
const IS_COMMUNITY: &str = "(self.matches('^[0-9]{1,5}:[0-9]{1,5}$') ? \
     [self.findAll('[0-9]+', 2)].all(n, int(n[0]) <= 65535 && int(n[1]) <= 65535) : \
     self.matches('^large(:[0-9]{1,10}){3}$') && [self.findAll('[0-9]+', 3)].all(n, \
     int(n[0]) <= 4294967295 && int(n[1]) <= 4294967295 && int(n[2]) <= 4294967295))";

const COMMUNITY_FORMS: &str =
    "is no community: write two numbers up to 65535 as 64512:100, or three numbers up to 4294967295 as large:64512:1:2";

/// On the value of an alias: a community in one of the two notations.
pub(crate) fn community_value() -> Rule {
    Rule::new(IS_COMMUNITY).message(Message::Expression(format!("'\"' + self + '\" {COMMUNITY_FORMS}'")))
}

/// Adds to the schema of `communities`: each entry is a community or, if it has no colon, the name of an alias.
pub(crate) fn each_community_or_name(communities: &mut Schema) {
    let rule = Rule::new(format!("!self.contains(':') || {IS_COMMUNITY}")).message(Message::Expression(format!(
        "'\"' + self + '\" {COMMUNITY_FORMS}, or the name of an alias in a Community object'"
    )));
    constrain_items(communities, COMMUNITY_MAX_LENGTH, &[rule]);
}

/// On a BGPAdvertisement's spec: routes of single addresses only, if it is for selected Services. `field` is the length's
/// name and `full` the length of a single address.
pub(crate) fn aggregates_all_services_or_none(field: &str, full: i32) -> Rule {
    Rule::new(format!(
        "!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || !has(self.{field}) || self.{field} == {full}"
    ))
    .message(Message::Message(format!(
        "serviceSelectors and {field} are mutually exclusive: a combined route would also lead to Services that are not \
         selected; remove {field} or set it to {full}, or remove serviceSelectors"
    )))
}

/// On a BGPPeer's spec: `peerASN` or `dynamicASN`. An AS number of 0 counts as none.
pub(crate) fn peer_has_one_as_number() -> Rule {
    Rule::new("(has(self.peerASN) && self.peerASN != 0) != has(self.dynamicASN)")
        .message("set either peerASN, to a number above 0, or dynamicASN, to internal or external")
}

/// On a BGPPeer's spec: `peerAddress` or `interface`.
pub(crate) fn peer_has_one_endpoint() -> Rule {
    Rule::new("(has(self.peerAddress) && self.peerAddress != '') != (has(self.interface) && self.interface != '')")
        .message(
            "set either peerAddress or interface: a peer is reached by its address or over an unnumbered interface",
        )
}

/// On a BGPPeer's spec: not both `password` and `passwordSecret`.
pub(crate) fn peer_has_one_password() -> Rule {
    Rule::new(
        "!(has(self.password) && self.password != '' && has(self.passwordSecret) && has(self.passwordSecret.name) \
         && self.passwordSecret.name != '')",
    )
    .message("password and passwordSecret are both set: remove one, preferably password")
}

/// On a BGPPeer's spec: several hops only between different AS.
pub(crate) fn multi_hop_is_external() -> Rule {
    Rule::new("!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || self.peerASN != self.myASN")
        .message("ebgpMultiHop is for a peer in another AS, but peerASN equals myASN: remove ebgpMultiHop")
}

/// On a BGPPeer's spec. Source: RFC 4271 section 4.2. Parts of a second are cut off, as MetalLB does.
pub(crate) fn hold_time_is_zero_or_three_seconds() -> Rule {
    Rule::new(
        "!has(self.holdTime) || duration(self.holdTime).getSeconds() == 0 || duration(self.holdTime).getSeconds() >= 3",
    )
    .message("holdTime must be 0s (no hold timer) or at least 3s")
}

/// On a BGPPeer's spec.
pub(crate) fn keepalive_is_within_hold_time() -> Rule {
    Rule::new(
        "!has(self.keepaliveTime) || !has(self.holdTime) || \
         duration(self.keepaliveTime) <= duration(self.holdTime)",
    )
    .message("keepaliveTime must not be longer than holdTime, or the peer drops the session between two signs of life")
}

/// On a BGPPeer's `connectTime`.
pub(crate) fn connect_time_in_range() -> Rule {
    Rule::new("duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535")
        .message("connectTime must be between 1s and 65535s")
}

/// On a BGPPeer's `connectTime`.
pub(crate) fn connect_time_in_whole_seconds() -> Rule {
    Rule::new("duration(self).getMilliseconds() % 1000 == 0").message("connectTime must be whole seconds, such as 10s")
}
