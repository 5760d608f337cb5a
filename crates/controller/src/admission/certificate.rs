//! The webhooks' certificate: is what the Secret holds good for a while, and if not, what to put there. No cluster here;
//! keys come from the system's random numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_runtime::certificate::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// On the Secret, for people: when the certificate ends.
pub const NOT_AFTER: &str = "landfall.io/not-after";
/// On the Secret: when the authority ends. It signs only certificates that end before it does.
pub const CA_NOT_AFTER: &str = "landfall.io/ca-not-after";

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// A renewal goes unnoticed, so it can be often enough to be known to work.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// A new authority has to be published before it is any good; hence seldom.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(3650 * 24);
/// A third of the lifetime is left for a cluster that is switched off, or whose API refuses us.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(365 * 24 / 3);

/// A certificate that can be served, and the authority that clients are to be told of.
#[derive(Clone, Debug)]
pub struct Usable {
    /// For the server.
    pub identity: Identity,
    /// For `caBundle`: PEM.
    pub ca: Vec<u8>,
}

/// What is to stand in the Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// The Secret's data.
    pub data: BTreeMap<String, ByteString>,
    /// The Secret's annotations that are ours.
    pub annotations: BTreeMap<String, String>,
}

/// The name under which the API server calls a Service's webhooks.
pub fn dns_name(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Reads what the Secret holds: good for `dns_name` now, and for a third of its lifetime from now on.
/// # Errors
/// It is to be renewed: says why.
pub fn assess(data: &BTreeMap<String, ByteString>, dns_name: &str, now: Timestamp) -> anyhow::Result<Usable> {
    let part = |key: &str| {
        data.get(key)
            .map(|value| value.0.as_slice())
            .filter(|v| !v.is_empty())
            .with_context(|| format!("it has no {key}"))
    };
    let (ca, certificate, key) = (part(CA_CERTIFICATE)?, part(CERTIFICATE)?, part(KEY)?);
    let identity = Identity::read(certificate, key)?;
    identity.check(ca, dns_name, now)?;
    let then = now.checked_add(RENEW_BEFORE)?;
    identity
        .check(ca, dns_name, then)
        .with_context(|| format!("less than {} days are left of it", RENEW_BEFORE.as_hours() / DAY.as_hours()))?;
    Ok(Usable { identity, ca: ca.to_vec() })
}

/// Makes a certificate for `dns_name`. The authority of `previous` is used again if it can be and outlives the new
/// certificate: clients that know it need not be told anything.
/// # Errors
/// The system has no random numbers, or the name is none.
pub fn issue(previous: Option<&Secret>, dns_name: &str, now: Timestamp) -> anyhow::Result<Issued> {
    if let Some(authority) = previous.and_then(|secret| Authority::stored(secret, now)) {
        let issued = authority.issue(dns_name, now)?;
        // The authority's key may not be its certificate's, or the certificate may be somebody else's.
        if assess(&issued.data, dns_name, now).is_ok() {
            return Ok(issued);
        }
    }
    Authority::make(now)?.issue(dns_name, now)
}

/// Who signs.
struct Authority {
    certificate: Vec<u8>,
    key: KeyPair,
    not_after: Timestamp,
}

impl Authority {
    fn stored(secret: &Secret, now: Timestamp) -> Option<Self> {
        let not_after: Timestamp = secret.metadata.annotations.as_ref()?.get(CA_NOT_AFTER)?.parse().ok()?;
        let data = secret.data.as_ref()?;
        let key = KeyPair::from_pem(std::str::from_utf8(&data.get(CA_KEY)?.0).ok()?).ok()?;
        let certificate = data.get(CA_CERTIFICATE)?.0.clone();
        (not_after > now.checked_add(LIFETIME).ok()?).then_some(Self { certificate, key, not_after })
    }

    fn make(now: Timestamp) -> anyhow::Result<Self> {
        let not_after = now.checked_add(CA_LIFETIME)?;
        let (mut params, key) = (authority_params(), KeyPair::generate()?);
        set_validity(&mut params, now, not_after)?;
        let certificate = params.self_signed(&key)?.pem().into_bytes();
        Ok(Self { certificate, key, not_after })
    }

    fn issue(self, dns_name: &str, now: Timestamp) -> anyhow::Result<Issued> {
        let not_after = now.checked_add(LIFETIME)?;
        let mut params = CertificateParams::new([dns_name.to_owned()])?;
        // Not the DNS name, which can be longer than the 64 characters of a common name; nobody reads it here.
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("landfall-webhooks".into()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, not_after)?;
        let key = KeyPair::generate()?;
        let ca_key = self.key.serialize_pem();
        let certificate = params.signed_by(&key, &Issuer::new(authority_params(), self.key))?;
        let data = [
            (CA_CERTIFICATE, self.certificate),
            (CA_KEY, ca_key.into_bytes()),
            (CERTIFICATE, certificate.pem().into_bytes()),
            (KEY, key.serialize_pem().into_bytes()),
        ];
        let annotations = [(NOT_AFTER, not_after), (CA_NOT_AFTER, self.not_after)];
        Ok(Issued {
            data: data.map(|(key, value)| (key.to_owned(), ByteString(value))).into(),
            annotations: annotations.map(|(key, at)| (key.to_owned(), seconds(at))).into(),
        })
    }
}

/// The same for every authority of ours, so that one can sign again after only its key was read back.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("landfall-webhooks-ca".into()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From a day ago, for clocks that are behind ours.
fn set_validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) -> anyhow::Result<()> {
    let at = |time: Timestamp| -> anyhow::Result<_> {
        Ok(date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_second().try_into().context("a time before 1970")?))
    };
    (params.not_before, params.not_after) = (at(now.checked_sub(DAY)?)?, at(not_after)?);
    Ok(())
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    const NAME: &str = "webhooks.landfall-system.svc";

    fn day(number: i64) -> Timestamp {
        let start: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        start.checked_add(DAY * i32::try_from(number).unwrap()).unwrap()
    }

    fn secret(issued: &Issued) -> Secret {
        Secret {
            metadata: ObjectMeta { annotations: Some(issued.annotations.clone()), ..ObjectMeta::default() },
            data: Some(issued.data.clone()),
            ..Secret::default()
        }
    }

    fn why(data: &BTreeMap<String, ByteString>, name: &str, now: Timestamp) -> String {
        format!("{:#}", assess(data, name, now).expect_err("it is to be renewed"))
    }

    #[test]
    fn a_certificate_is_kept_until_a_third_of_its_year_is_left() {
        let issued = issue(None, NAME, day(0)).unwrap();
        for kept in [0, 1, 200, 243] {
            let usable = assess(&issued.data, NAME, day(kept)).unwrap_or_else(|error| panic!("day {kept}: {error:#}"));
            assert_eq!(usable.ca, issued.data[CA_CERTIFICATE].0);
        }
        assert!(why(&issued.data, NAME, day(244)).starts_with("less than 121 days are left of it"));
        assert!(why(&issued.data, NAME, day(366)).contains("certificate expired"));
        assert_eq!(issued.annotations[NOT_AFTER], "2027-11-21T12:00:00Z");
        assert_eq!(issued.annotations[CA_NOT_AFTER], "2036-11-18T12:00:00Z");
    }

    #[test]
    fn what_cannot_be_served_under_the_name_is_renewed_and_says_why() {
        let (issued, other) = (issue(None, NAME, day(0)).unwrap(), issue(None, NAME, day(0)).unwrap());
        assert!(why(&issued.data, "webhooks.other.svc", day(0)).contains("not valid for name \"webhooks.other.svc\""));
        assert_eq!(why(&BTreeMap::new(), NAME, day(0)), "it has no ca.crt");
        for (key, value, expected) in [
            (KEY, ByteString::default(), "it has no tls.key"),
            (CERTIFICATE, ByteString(b"rubbish".to_vec()), "the certificate cannot be read"),
            (KEY, other.data[KEY].clone(), "do not make a pair"),
            (CA_CERTIFICATE, other.data[CA_CERTIFICATE].clone(), "invalid peer certificate"),
        ] {
            let mut data = issued.data.clone();
            data.insert(key.into(), value);
            assert!(why(&data, NAME, day(0)).contains(expected), "{}", why(&data, NAME, day(0)));
        }
    }

    #[test]
    fn a_renewal_keeps_the_authority_as_long_as_it_outlives_the_certificate() {
        let first = issue(None, NAME, day(0)).unwrap();
        for (on, same) in [(250, true), (3284, true), (3286, false), (4000, false)] {
            let renewed = issue(Some(&secret(&first)), NAME, day(on)).unwrap();
            assert!(assess(&renewed.data, NAME, day(on)).is_ok(), "day {on}");
            assert_ne!(renewed.data[CERTIFICATE], first.data[CERTIFICATE], "day {on}");
            assert_eq!(renewed.data[CA_CERTIFICATE] == first.data[CA_CERTIFICATE], same, "day {on}");
            assert_eq!(renewed.annotations[CA_NOT_AFTER] == first.annotations[CA_NOT_AFTER], same, "day {on}");
        }
    }

    #[test]
    fn an_authority_that_cannot_sign_is_replaced() {
        let (first, other) = (issue(None, NAME, day(0)).unwrap(), issue(None, NAME, day(0)).unwrap());
        for damage in [
            (CA_KEY, ByteString::default()),
            (CA_KEY, ByteString(b"rubbish".to_vec())),
            (CA_KEY, other.data[CA_KEY].clone()),
            (CA_CERTIFICATE, ByteString(b"rubbish".to_vec())),
        ] {
            let mut damaged = secret(&first);
            damaged.data.as_mut().unwrap().insert(damage.0.into(), damage.1.clone());
            let renewed = issue(Some(&damaged), NAME, day(1)).unwrap();
            assert!(assess(&renewed.data, NAME, day(1)).is_ok(), "{damage:?}");
            assert_ne!(renewed.data[CA_CERTIFICATE], first.data[CA_CERTIFICATE], "{damage:?}");
        }
        let mut unmarked = secret(&first);
        unmarked.metadata.annotations = None;
        let renewed = issue(Some(&unmarked), NAME, day(1)).unwrap();
        assert_ne!(renewed.data[CA_CERTIFICATE], first.data[CA_CERTIFICATE]);
    }
}
