//! Label selectors as the advertisements and pools use them: a list of which any may match.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::problem::Problems;

/// Labels of a Service, Node, Namespace or pool.
pub type Labels = BTreeMap<String, String>;

/// A list of label selectors; it matches when one of them does. What an *empty* list means differs from field to
/// field, so the caller says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selectors(Vec<Selector>);

impl Selectors {
    /// Whether the user gave none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the selectors matches; false when there is none.
    pub fn any_matches(&self, labels: &Labels) -> bool {
        self.0.iter().any(|selector| selector.matches(labels))
    }

    /// Whether one of the selectors matches, or there is none to restrict the choice.
    pub fn allows(&self, labels: &Labels) -> bool {
        self.is_empty() || self.any_matches(labels)
    }

    /// Reads the list that stands in `field`. A selector that cannot be read or stands there twice is a problem and
    /// is left out.
    pub(crate) fn read(field: &str, given: &[LabelSelector], problems: &mut Problems<'_>) -> Self {
        let mut read: Vec<Selector> = Vec::new();
        for (i, selector) in given.iter().enumerate() {
            if let Some(selector) = read_one(&format!("{field}[{i}]"), selector, problems) {
                if read.contains(&selector) {
                    problems.add(
                        format!("{field}[{i}]"),
                        selector.to_string(),
                        format!("duplicate definition of {}; remove one of the two", last_part(field)),
                    );
                } else {
                    read.push(selector);
                }
            }
        }
        Self(read)
    }
}

/// Reads one selector. Duplicate expressions, duplicate values and operators that do not exist are problems, as in MetalLB.
pub(crate) fn read_one(field: &str, given: &LabelSelector, problems: &mut Problems<'_>) -> Option<Selector> {
    let mut sound = true;
    let mut seen = BTreeSet::new();
    for (i, expression) in given.match_expressions.iter().flatten().enumerate() {
        let at = format!("{field}.matchExpressions[{i}]");
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort_unstable();
        if let Some(twice) = values.windows(2).find(|pair| pair[0] == pair[1]) {
            problems.add(
                format!("{at}.values"),
                twice[0].clone(),
                "duplicate definition of match expression value in label selector; remove one of the two",
            );
            sound = false;
        }
        if !seen.insert((expression.key.clone(), expression.operator.clone(), values)) {
            problems.add(
                at,
                expression.key.clone(),
                "duplicate definition of match expressions; remove one of the two",
            );
            sound = false;
        }
    }
    match Selector::try_from(given.clone()) {
        Ok(selector) => sound.then_some(selector),
        Err(error) => {
            problems.add(
                field,
                format!("{given:?}"),
                format!("{error}; operators are In and NotIn with values, Exists and DoesNotExist without"),
            );
            None
        }
    }
}

/// Reads a list of names; one that stands there twice is a problem, called a duplicate of what the field's name says.
pub(crate) fn read_names(field: &str, given: &[String], problems: &mut Problems<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (i, name) in given.iter().enumerate() {
        if !names.insert(name.clone()) {
            problems.add(
                format!("{field}[{i}]"),
                name.clone(),
                format!("duplicate definition of {} {name:?}; remove one of the two", last_part(field)),
            );
        }
    }
    names
}

/// `nodeSelectors` of `spec.nodeSelectors`.
fn last_part(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}
