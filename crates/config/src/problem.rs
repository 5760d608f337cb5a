//! What is wrong with a user's object, so that the user can mend it without asking anybody.

use std::fmt;

use crate::bgp;

/// One mistake in one field of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object's kind, such as `IPAddressPool`.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// Path of the field, such as `spec.addresses[1]`.
    pub field: String,
    /// The value that stands there.
    pub value: String,
    /// What is wrong with it and the way out.
    pub what: String,
    /// Whether an object that is still to come may cure it, as a BFDProfile that a BGPPeer names already. The order in which
    /// objects are made is free, so this is reported but is no reason to refuse the object (see
    /// [`introduced`](crate::introduced)).
    pub transient: bool,
}

impl Problem {
    /// Whether it is about an object of the BGP kinds, which does not keep pools and L2Advertisements from taking force.
    pub fn is_about_bgp(&self) -> bool {
        bgp::KINDS.contains(&self.kind)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, field, value, what, transient: _ } = self;
        write!(f, "{kind} {name:?}: {field} is {value:?}: {what}")
    }
}

/// Collects the problems of one object.
pub(crate) struct Problems<'a> {
    kind: &'static str,
    name: &'a str,
    found: &'a mut Vec<Problem>,
    /// How many problems of other objects there were before.
    others: usize,
}

impl<'a> Problems<'a> {
    pub(crate) fn of(kind: &'static str, name: &'a str, found: &'a mut Vec<Problem>) -> Self {
        let others = found.len();
        Self { kind, name, found, others }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, value: impl Into<String>, what: impl Into<String>) {
        self.push(field.into(), value.into(), what.into(), false);
    }

    /// Adds a problem that another object may cure: see [`Problem::transient`].
    pub(crate) fn add_transient(
        &mut self,
        field: impl Into<String>,
        value: impl Into<String>,
        what: impl Into<String>,
    ) {
        self.push(field.into(), value.into(), what.into(), true);
    }

    /// Whether nothing is wrong with the object itself; transient problems aside.
    pub(crate) fn is_sound(&self) -> bool {
        self.found[self.others..].iter().all(|problem| problem.transient)
    }

    fn push(&mut self, field: String, value: String, what: String, transient: bool) {
        self.found.push(Problem { kind: self.kind, name: self.name.to_owned(), field, value, what, transient });
    }
}
