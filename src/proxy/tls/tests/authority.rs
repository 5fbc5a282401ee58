//! An authority for a test, and files of its certificates.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber};
use tempfile::TempDir;

use crate::config::proxy::CertificateFiles;

/// An authority, and the folder for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder: tempfile::tempdir().unwrap() };
        authority.write("authority.pem", authority.issuer.pem());
        authority
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.path("authority.pem")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// A certificate for these names, in `FILE.crt` and `FILE.key`.
    pub fn issue(&self, file: &str, names: &[&str]) -> CertificateFiles {
        self.issue_with(file, names, |_| {})
    }

    /// As [`issue`](Authority::issue), with something else about it.
    pub fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.serial_number = Some(SerialNumber::from(file.bytes().map(u64::from).sum::<u64>() + 1000));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = self.write(&format!("{file}.crt"), certificate.pem());
        let key = self.write(&format!("{file}.key"), key.serialize_pem());
        CertificateFiles { chain, key, ocsp: None }
    }
}
