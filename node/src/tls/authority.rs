//! Makes certificates: of an authority of one's own, of nodes, of users; and takes them back.
//!
//! Gives back text; files are written by who asked. An authority is for one cluster: whoever has
//! its key can make a node of it.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::der::{Certificate, RevocationList};
use super::verify::node_uri;
use crate::clock;

/// How long an authority lasts. It is what everybody trusts, and so hard to replace.
const AUTHORITY_DAYS: i64 = 3_652;

/// How long others last: a forgotten one does not stay good for ever.
const CERTIFICATE_DAYS: i64 = 365;

/// Clocks of other machines may be behind.
const BACKDATED: Duration = Duration::minutes(5);

/// A certificate and its key, as text.
#[derive(Debug)]
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The authority's files are not as `alluvium cert ca` writes them.
    #[error("this is no authority that can sign: {reason}")]
    Unfit {
        /// What is wrong.
        reason: String,
    },
    /// A name cannot stand in a certificate.
    #[error("\"{name}\" cannot stand in a certificate")]
    Name {
        /// The name.
        name: String,
    },
    /// Making it failed.
    #[error("make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Something that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Certificate,
}

fn now() -> OffsetDateTime {
    let seconds = clock::now().0 / 1_000_000;
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn params(common_name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(common_name);
    params.not_before = now() - BACKDATED;
    params.not_after = now() + Duration::days(days);
    let mut serial = clock::random_wide().to_be_bytes();
    // Positive, and of the same length each time.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// Makes an authority that everybody else's certificates are signed by.
pub fn make_authority(purpose: &str) -> Result<Made, AuthorityError> {
    let name = format!("Alluvium {purpose} {:016x}", clock::random_id());
    let mut params = params(&name, AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Made { certificate, key: key.serialize_pem() })
}

impl Authority {
    /// From its files.
    pub fn read(certificate: &str, key: &str) -> Result<Authority, AuthorityError> {
        let unfit = |reason: &str| AuthorityError::Unfit { reason: reason.into() };
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| unfit(&error.to_string()))?;
        let own = Certificate::read(&der).ok_or_else(|| unfit("it cannot be read"))?;
        let key = KeyPair::from_pem(key)?;
        if !own.is_authority || key.public_key_raw() != own.key {
            return Err(unfit("certificate and key do not belong together, or it may not sign"));
        }
        let name = own.common_name.as_deref().ok_or_else(|| unfit("it has no common name"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if let Some(id) = &own.key_id {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id.clone());
        }
        Ok(Authority { issuer: Issuer::new(params, key), own })
    }

    /// Whether it signed this certificate.
    pub fn has_signed(&self, certificate: &Certificate) -> bool {
        certificate.issuer == self.own.subject
    }

    /// Makes the certificate of a node that answers to these hosts and addresses.
    pub fn make_node(
        &self,
        cluster: &str,
        name: &str,
        hosts: &[String],
        addresses: &[IpAddr],
    ) -> Result<Made, AuthorityError> {
        let mut params = params(name, CERTIFICATE_DAYS);
        let text = |name: &str| {
            name.try_into().map_err(|_| AuthorityError::Name { name: name.to_owned() })
        };
        params.subject_alt_names.push(SanType::URI(text(&node_uri(cluster, name))?));
        for host in hosts {
            params.subject_alt_names.push(SanType::DnsName(text(host)?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Makes the certificate of a user.
    pub fn make_client(&self, user: &str) -> Result<Made, AuthorityError> {
        let mut params = params(user, CERTIFICATE_DAYS);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Made, AuthorityError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let read = Certificate::read(certificate.der());
        if !read.is_some_and(|read| self.has_signed(&read)) {
            let reason = "its name has more parts than `alluvium cert ca` gives".to_owned();
            return Err(AuthorityError::Unfit { reason });
        }
        Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The text of a file of revocation lists with one number more in this authority's list.
    /// Lists of others stay as they are.
    pub fn revoke(&self, file: &str, serial: &[u8]) -> Result<String, AuthorityError> {
        const END: &str = "-----END X509 CRL-----";
        let (mut serials, mut others) = (vec![serial.to_vec()], String::new());
        for block in file.split_inclusive(END).filter(|block| block.contains(END)) {
            let der = CertificateRevocationListDer::from_pem_slice(block.as_bytes());
            let list = der.ok().and_then(|der| RevocationList::read(&der));
            let list = list.ok_or_else(|| AuthorityError::Unfit {
                reason: "the revocation list there is cannot be read".into(),
            })?;
            if list.issuer == self.own.subject {
                serials.extend(list.serials);
            } else {
                others.push_str(block.trim_start());
                others.push('\n');
            }
        }
        serials.sort();
        serials.dedup();
        let revoked = serials.into_iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: now(),
            reason_code: None,
            invalidity_date: None,
        });
        let number = clock::now().0.to_be_bytes();
        let list = CertificateRevocationListParams {
            this_update: now() - BACKDATED,
            next_update: now() + Duration::days(AUTHORITY_DAYS),
            crl_number: SerialNumber::from_slice(&number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: self
                .own
                .key_id
                .clone()
                .map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
        };
        Ok(others + &list.signed_by(&self.issuer)?.pem()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pem: &str) -> Certificate {
        Certificate::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_made_can_be_read_back() {
        let made = make_authority("CA").unwrap();
        let authority = Authority::read(&made.certificate, &made.key).unwrap();
        let hosts = ["localhost".to_owned()];
        let node = authority.make_node("alluvium", "n_1", &hosts, &["127.0.0.1".parse().unwrap()]);
        let node = read(&node.unwrap().certificate);
        assert!(authority.has_signed(&node) && !node.is_authority);
        assert_eq!(node.hosts, ["localhost"]);
        assert_eq!(node.uris, ["alluvium://alluvium/node/n_1"]);
        assert_eq!(node.addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let days = (node.ends - node.starts) / 86_400;
        assert_eq!((days, node.serial.len()), (CERTIFICATE_DAYS, 16));
        let client = read(&authority.make_client("ann").unwrap().certificate);
        assert_eq!((client.common_name.as_deref(), client.hosts.len()), (Some("ann"), 0));
        let other = make_authority("CA").unwrap();
        assert!(Authority::read(&made.certificate, &other.key).is_err());
        assert!(Authority::read(&other.certificate, &other.key).is_ok());
    }

    #[test]
    fn revoking_adds_to_the_list_and_keeps_those_of_others() {
        let [first, second] = [(); 2].map(|()| {
            let made = make_authority("CA").unwrap();
            Authority::read(&made.certificate, &made.key).unwrap()
        });
        let text = first.revoke("", &[0x41, 1]).unwrap();
        let text = second.revoke(&text, &[0x42, 2]).unwrap();
        let text = first.revoke(&text, &[0xf3, 3]).unwrap();
        let lists = CertificateRevocationListDer::pem_slice_iter(text.as_bytes());
        let lists: Vec<RevocationList> =
            lists.map(|der| RevocationList::read(&der.unwrap()).unwrap()).collect();
        let serials: Vec<_> = lists.iter().map(|list| list.serials.clone()).collect();
        assert_eq!(serials, [vec![vec![0x42, 2]], vec![vec![0x41, 1], vec![0xf3, 3]]]);
        assert!(
            first.revoke("-----BEGIN X509 CRL-----\nAA\n-----END X509 CRL-----", &[1]).is_err()
        );
    }
}
