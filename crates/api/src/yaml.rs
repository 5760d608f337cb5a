//! YAML for people's files. The cluster speaks JSON; nothing that comes over a network is parsed here.
//!
//! The only place that names `serde_yaml`, which is archived upstream: replacing it is a change to this file.
#![expect(clippy::disallowed_methods, reason = "this is the one door to serde_yaml")]

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What could not be read or written, with line and column where the text is to blame.
pub type Error = serde_yaml::Error;

/// One document, without the leading `---`.
/// # Errors
/// If the value has no form in YAML, such as a map whose keys are maps.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    serde_yaml::to_string(value)
}

/// Reads the one document of `text`.
/// # Errors
/// If `text` is no YAML, has more than one document, or does not have the fields of `T`.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text)
}

/// Reads each document of `text`, in order. Documents with nothing but comments are left out.
/// # Errors
/// If `text` is no YAML.
pub fn documents(text: &str) -> Result<Vec<serde_json::Value>, Error> {
    let all: Result<Vec<_>, Error> =
        serde_yaml::Deserializer::from_str(text).map(serde_json::Value::deserialize).collect();
    Ok(all?.into_iter().filter(|document| !document.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_come_in_order_without_the_empty_ones() {
        let text = "# a comment\n---\na: 1\n---\n# nothing here\n---\nb: [x, 'y: z']\n";
        assert_eq!(documents(text).unwrap(), [json!({"a": 1}), json!({"b": ["x", "y: z"]})]);
    }

    #[test]
    fn an_error_says_where_it_is() {
        let error = documents("a: 1\nb: [\n").unwrap_err();
        assert!(error.to_string().contains("line"), "{error}");
    }
}
