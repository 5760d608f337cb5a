//! What an administrator says about how speakers watch each other, and which of it makes no sense.

use std::net::IpAddr;

use anyhow::{bail, ensure};
use landfall_membership::{Settings, SettingsError};

/// How this speaker and the others watch each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipSettings {
    /// How fast, how sure, how patient.
    pub settings: Settings,
    /// The Node's address, from which beats are sent and at which they arrive.
    pub address: Option<IpAddr>,
    /// The UDP port of beats, the same on every node.
    pub port: u16,
    /// The Secret with the speakers' key, in the namespace of the configuration objects; `None`: speakers do not watch each other.
    pub secret: Option<String>,
}

impl MembershipSettings {
    /// # Errors
    /// The first value that makes no sense: names the flag, the value, and what would.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Err(error) = self.settings.check() {
            let (SettingsError::Duration { field, .. } | SettingsError::Count { field, .. }) = error;
            match flag(field) {
                Some(flag) => bail!("{flag}: {error} (in the chart: speaker.membership.{field})"),
                None => bail!(error),
            }
        }
        ensure!(self.port != 0, "--beat-port is 0; give a port from 1 to 65535, the same on every node");
        match self.address {
            Some(address) if address.is_unspecified() || address.is_multicast() => {
                bail!("--node-address is {address}; give the Node's own address (in a Pod status.hostIP)")
            }
            None if self.secret.is_some() => {
                bail!(
                    "--speaker-key-secret is of no use without --node-address; give the Node's own address (in a Pod status.hostIP)"
                )
            }
            _ => Ok(()),
        }
    }
}

/// The flag of a setting that `landfall_membership` names as the chart does.
fn flag(field: &str) -> Option<&'static str> {
    Some(match field {
        "beatInterval" => "--beat-interval",
        "misses" => "--misses",
        "coverFor" => "--cover-for",
        "holdDown" => "--hold-down",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn good() -> MembershipSettings {
        let address = Some("192.0.2.1".parse().unwrap());
        MembershipSettings { settings: Settings::default(), address, port: 7946, secret: Some("s".into()) }
    }

    #[test]
    fn both_profiles_are_taken_and_so_is_a_speaker_without_a_key() {
        assert!(good().check().is_ok());
        assert!(MembershipSettings { settings: Settings::fast(), ..good() }.check().is_ok());
        assert!(MembershipSettings { address: None, secret: None, ..good() }.check().is_ok());
    }

    #[test]
    fn nonsense_is_refused_with_its_flag_its_value_and_what_would_make_sense() {
        let with = |settings| MembershipSettings { settings, ..good() };
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        for (settings, text) in [
            (
                with(Settings { beat_interval: ms(5), ..Settings::default() }),
                "--beat-interval: beatInterval is 5ms; give a value from 10ms to 1s (in the chart: speaker.membership.beatInterval)",
            ),
            (with(Settings { misses: 1, ..Settings::default() }), "--misses: misses is 1; give a number from 2 to 10"),
            (
                with(Settings { cover_for: s(1), ..Settings::default() }),
                "--cover-for: coverFor is 1s; give a value from 5s",
            ),
            (
                with(Settings { hold_down: s(0), ..Settings::default() }),
                "--hold-down: holdDown is 0ns; give a value from 1s",
            ),
            (MembershipSettings { port: 0, ..good() }, "--beat-port is 0; give a port from 1 to 65535"),
            (
                MembershipSettings { address: Some("::".parse().unwrap()), ..good() },
                "--node-address is ::; give the Node's own address",
            ),
            (
                MembershipSettings { address: None, ..good() },
                "--speaker-key-secret is of no use without --node-address",
            ),
        ] {
            let error = settings.check().expect_err(text).to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
