//! Logs on standard error: one line per event, as JSON for machines or as text for people.

use std::io::IsTerminal as _;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, its fields at the top level.
    #[default]
    Json,
    /// Text, coloured on a terminal.
    Text,
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(anyhow!("unknown log format {other:?}: use json or text")),
        }
    }
}

/// Starts logging; once per process. For `level` see [`filter`].
///
/// # Errors
/// `level` cannot be read, or logging was started before.
pub fn init(level: &str, format: Format) -> anyhow::Result<()> {
    let registry = tracing_subscriber::registry().with(filter(level)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer).try_init()
        }
        Format::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
    }
    .context("cannot start logging")
}

/// What is logged: one of MetalLB's levels `all, debug, info, warn, error, none`, or targets with their own levels, such
/// as `info,landfall_speaker=debug`. A bare level is about Landfall's own crates; of the libraries below only what
/// deserves attention is said, and what a caller says better (each failed request) is left to the caller.
///
/// # Errors
/// The text is neither; the error says what may be written.
pub fn filter(level: &str) -> anyhow::Result<Targets> {
    let (ours, others) = match level {
        "all" => ("trace", "warn"),
        "debug" | "info" | "warn" => (level, "warn"),
        "error" => ("error", "error"),
        "none" => ("off", "off"),
        expression => {
            return expression.parse().with_context(|| {
                format!(
                    "unknown log level {expression:?}: use all, debug, info, warn, error, none, \
                     or targets such as info,landfall_speaker=debug"
                )
            });
        }
    };
    let text = format!("{others},kube_client=off,kube_runtime=off,landfall={ours}");
    text.parse().with_context(|| format!("cannot use the log filter {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn each_level_lets_through_what_its_name_says() {
        // level, of ours: the finest that passes and the next that does not; whether a library's warning passes
        for (level, passes, stops, warning_of_library) in [
            ("all", Some(Level::TRACE), None, true),
            ("debug", Some(Level::DEBUG), Some(Level::TRACE), true),
            ("info", Some(Level::INFO), Some(Level::DEBUG), true),
            ("warn", Some(Level::WARN), Some(Level::INFO), true),
            ("error", Some(Level::ERROR), Some(Level::WARN), false),
            ("none", None, Some(Level::ERROR), false),
        ] {
            let filter = filter(level).unwrap();
            let ours = |at: Level| filter.would_enable("landfall_speaker::run", &at);
            assert!(passes.is_none_or(ours), "{level}");
            assert!(!stops.is_some_and(ours), "{level}");
            assert_eq!(filter.would_enable("netlink_proto", &Level::WARN), warning_of_library, "{level}");
            assert!(!filter.would_enable("netlink_proto", &Level::INFO), "{level}");
            assert!(!filter.would_enable("kube_client::client::builder", &Level::ERROR), "{level}");
        }
    }

    #[test]
    fn targets_may_have_their_own_levels() {
        let filter = filter("info,landfall_speaker=debug,kube_client=debug").unwrap();
        assert!(filter.would_enable("landfall_speaker::watch", &Level::DEBUG));
        assert!(filter.would_enable("kube_client::client", &Level::DEBUG));
        assert!(!filter.would_enable("landfall_controller", &Level::DEBUG));
    }

    #[test]
    fn a_wrong_level_says_which_exist() {
        let error = filter("landfall=loud").unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown log level "landfall=loud": use all, debug, info"#), "{error}");
    }
}
