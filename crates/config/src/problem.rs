//! What is wrong with a user's object, so that the user can mend it without asking anybody.

use std::fmt;

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
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, field, value, what } = self;
        write!(f, "{kind} {name:?}: {field} is {value:?}: {what}")
    }
}

/// Collects the problems of one object.
pub(crate) struct Problems<'a> {
    kind: &'static str,
    name: &'a str,
    found: &'a mut Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn of(kind: &'static str, name: &'a str, found: &'a mut Vec<Problem>) -> Self {
        Self { kind, name, found }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, value: impl Into<String>, what: impl Into<String>) {
        self.found.push(Problem {
            kind: self.kind,
            name: self.name.to_owned(),
            field: field.into(),
            value: value.into(),
            what: what.into(),
        });
    }
}
