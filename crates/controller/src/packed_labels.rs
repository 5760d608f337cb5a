//! Labels at rest.

use landfall_config::Labels;

/// Labels as one text, `key=value` a line, in the order of the keys. A map takes half a kilobyte for its first entry, which
/// with ten thousand Services is a fifth of all memory; and labels are read only when a Service is decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedLabels(Box<str>);

impl From<&Labels> for PackedLabels {
    fn from(labels: &Labels) -> Self {
        // Neither a key nor a value can have '=' or a line's end in it (Kubernetes, "Labels and Selectors").
        let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self(lines.join("\n").into())
    }
}

impl PackedLabels {
    /// The labels as a map.
    pub fn unpack(&self) -> Labels {
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.0.lines().filter_map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        for pairs in [&[][..], &[("app", "web")], &[("a.b/c", ""), ("app", "web"), ("tier", "x_1.y-z")]] {
            let labels: Labels = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(PackedLabels::from(&labels).unpack(), labels);
        }
    }
}
