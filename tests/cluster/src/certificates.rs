//! Two authorities, one for all and one for the aggregator, and what they sign.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};

/// An authority whose files lie in a folder.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Writes `NAME.crt` into `folder`.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.distinguished_name.push(DnType::CommonName, name);
        std::fs::write(folder.join(format!("{name}.crt")), parameters.self_signed(&key)?.pem())?;
        Ok(Self { folder: folder.into(), issuer: Issuer::new(parameters, key) })
    }

    /// Writes `NAME.crt` and `NAME.key`, good for a server of these hosts and for a client of this group.
    pub fn sign(&self, name: &str, group: Option<&str>, hosts: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(hosts.iter().map(|host| host.to_string()).collect::<Vec<_>>())?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        let signed = parameters.signed_by(&key, &self.issuer)?;
        std::fs::write(self.folder.join(format!("{name}.crt")), signed.pem())?;
        std::fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// A key pair without a certificate: `NAME.key` and `NAME.pub`.
pub fn key_pair(folder: &Path, name: &str) -> Result<()> {
    let key = KeyPair::generate()?;
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    std::fs::write(folder.join(format!("{name}.pub")), key.public_key_pem())?;
    Ok(())
}
