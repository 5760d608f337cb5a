//! Communities, written out or by an alias that a `Community` object defines.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use landfall_api::Community as Object;

use super::COMMUNITY;
use crate::by_age;
use crate::problem::{Problem, Problems};

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Community {
    /// The AS number and the value (RFC 1997).
    Standard(u16, u16),
    /// The global administrator and the two parts of local data (RFC 8092).
    Large(u32, u32, u32),
}

/// Why a text is no community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    /// It has the parts of a community, but one of them makes no sense.
    #[error(
        "invalid community value: {part:?} {what}; write two numbers up to 65535 as 64512:100, or three numbers up to \
         4294967295 as large:64512:1:2"
    )]
    Value {
        /// The part.
        part: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It has neither two nor four parts.
    #[error("invalid community format: {0}")]
    Format(String),
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [asn, value] => Ok(Self::Standard(number(asn, SHORT)?, number(value, SHORT)?)),
            ["large", administrator, first, second] => {
                Ok(Self::Large(number(administrator, LONG)?, number(first, LONG)?, number(second, LONG)?))
            }
            [marker, _, _, _] => Err(CommunityError::Value { part: marker.to_owned(), what: "is not the word large" }),
            _ => Err(CommunityError::Format(text.to_owned())),
        }
    }
}

const SHORT: &str = "is no number up to 65535";
const LONG: &str = "is no number up to 4294967295";

fn number<T: FromStr>(part: &str, what: &'static str) -> Result<T, CommunityError> {
    let wrong = || CommunityError::Value { part: part.to_owned(), what };
    // Rust's parser would take a plus sign too.
    if !part.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(wrong());
    }
    part.parse().map_err(|_| wrong())
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(asn, value) => write!(f, "{asn}:{value}"),
            Self::Large(administrator, first, second) => write!(f, "large:{administrator}:{first}:{second}"),
        }
    }
}

/// What the aliases of all objects stand for. An alias with a value that is no community is a problem and is left out; of
/// two with one name the one of the older object stays.
pub(super) fn aliases(objects: &[Object], found: &mut Vec<Problem>) -> BTreeMap<String, Community> {
    let mut aliases: BTreeMap<String, (Community, String)> = BTreeMap::new();
    for object in by_age(objects) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let mut problems = Problems::of(COMMUNITY, &name, found);
        for (i, alias) in object.spec.communities.iter().enumerate() {
            let value = match alias.value.parse::<Community>() {
                Ok(value) => value,
                Err(error) => {
                    let mut what = format!("parsing community {:?}: {error}", alias.name);
                    if matches!(error, CommunityError::Format(_)) {
                        what.push_str("; write the value as 64512:100 or large:64512:1:2");
                    }
                    problems.add(format!("spec.communities[{i}].value"), &alias.value, what);
                    continue;
                }
            };
            match aliases.get(&alias.name) {
                Some((_, owner)) => problems.add(
                    format!("spec.communities[{i}].name"),
                    &alias.name,
                    format!(
                        "duplicate definition of community {:?}: Community {owner:?} defines it already; rename or \
                         remove one of the two",
                        alias.name
                    ),
                ),
                None => {
                    aliases.insert(alias.name.clone(), (value, name.clone()));
                }
            }
        }
    }
    aliases.into_iter().map(|(name, (value, _))| (name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_the_same_text_both_ways() {
        for (text, community) in [
            ("64512:100", Community::Standard(64512, 100)),
            ("0:65535", Community::Standard(0, 65535)),
            ("large:4294967295:0:7", Community::Large(u32::MAX, 0, 7)),
        ] {
            assert_eq!((text.parse(), community.to_string().as_str()), (Ok(community), text));
        }
    }

    #[test]
    fn what_is_no_community_says_why() {
        for (text, begins) in [
            ("65536:1", "invalid community value: \"65536\" is no number up to 65535; write two numbers"),
            ("1:-1", "invalid community value: \"-1\" is no number up to 65535"),
            ("+1:1", "invalid community value: \"+1\" is no number up to 65535"),
            (":1", "invalid community value: \"\" is no number up to 65535"),
            ("large:1:2:4294967296", "invalid community value: \"4294967296\" is no number up to 4294967295"),
            ("huge:1:2:3", "invalid community value: \"huge\" is not the word large"),
            ("gold", "invalid community format: gold"),
            ("1:2:3", "invalid community format: 1:2:3"),
            ("large:1:2:3:4", "invalid community format: large:1:2:3:4"),
            ("", "invalid community format: "),
        ] {
            let error = text.parse::<Community>().expect_err(text).to_string();
            assert!(error.starts_with(begins), "{text:?}: {error}");
        }
    }
}
