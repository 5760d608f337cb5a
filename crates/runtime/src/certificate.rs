//! A server's certificate and key: read from PEM, and judged as a client would judge them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

/// What a TLS server proves itself with: a certificate, those that lead to its authority, and the private key. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// Reads both from PEM: the server's own certificate first.
    /// # Errors
    /// There is no certificate or no key, they cannot be read, or the key is another certificate's.
    pub fn read(certificates: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let chain = certificates_in(certificates).context("the certificate cannot be read")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("the key cannot be read")?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .context("certificate and key do not make a pair that can be used")?;
        Ok(Self(Arc::new(key)))
    }

    /// Whether a client that trusts `authorities` (PEM) takes this for `dns_name` at the moment `at`.
    /// # Errors
    /// It does not: says why, such as an expired certificate or one for another name.
    pub fn check(&self, authorities: &[u8], dns_name: &str, at: Timestamp) -> anyhow::Result<()> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates_in(authorities).context("the authority's certificate cannot be read")? {
            roots.add(certificate).context("the authority's certificate cannot be read")?;
        }
        let name = ServerName::try_from(dns_name).with_context(|| format!("{dns_name:?} is no DNS name"))?;
        let since_epoch = at.duration_since(Timestamp::UNIX_EPOCH).try_into().context("a time before 1970")?;
        let at = UnixTime::since_unix_epoch(since_epoch);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider())).build()?;
        let [own, intermediate @ ..] = &self.0.cert[..] else { anyhow::bail!("there is no certificate") };
        verifier.verify_server_cert(own, intermediate, &name, &[], at)?;
        Ok(())
    }

    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0)
    }
}

fn certificates_in(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!certificates.is_empty(), "there is none in it");
    Ok(certificates)
}

/// Named wherever rustls needs one: a default of the process may not be installed yet.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    /// The authority's certificate, a server's certificate for `lb.example` from 2026 until the end of 2027, and its key.
    fn files() -> (String, String, String) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let mut own = CertificateParams::new(["lb.example".to_owned()]).unwrap();
        (own.not_before, own.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2028, 1, 1));
        let own_pem = own.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        (ca_pem, own_pem, key.serialize_pem())
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_takes_it_for_its_name_in_its_time_from_its_authority_only() {
        let (ca, own, key) = files();
        let (other_ca, ..) = files();
        let identity = Identity::read(own.as_bytes(), key.as_bytes()).unwrap();
        for (authority, name, at, refused) in [
            (&ca, "lb.example", "2027-12-31T00:00:00Z", None),
            (&ca, "lb.example", "2028-01-02T00:00:00Z", Some("certificate expired")),
            (&ca, "lb.example", "2025-12-31T00:00:00Z", Some("certificate not valid yet")),
            (&ca, "other.example", "2027-01-01T00:00:00Z", Some("not valid for name \"other.example\"")),
            (&other_ca, "lb.example", "2027-01-01T00:00:00Z", Some("invalid peer certificate")),
        ] {
            let error = identity.check(authority.as_bytes(), name, time(at)).err().map(|error| format!("{error:#}"));
            match (refused, &error) {
                (None, None) => {}
                (Some(why), Some(error)) => assert!(error.contains(why), "{name} at {at}: {error}"),
                _ => panic!("{name} at {at}: {error:?}, not {refused:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_pair_is_refused_with_the_part_that_is_wrong() {
        let (ca, own, key) = files();
        let (.., other_key) = files();
        for (certificate, key, why) in [
            ("", key.as_str(), "the certificate cannot be read: there is none in it"),
            (own.as_str(), "", "the key cannot be read"),
            (own.as_str(), other_key.as_str(), "do not make a pair"),
            (ca.as_str(), key.as_str(), "do not make a pair"),
        ] {
            let error = Identity::read(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }
}
