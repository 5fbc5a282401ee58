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
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        let name = format!("authority of {}", folder.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder };
        authority.write("authority.pem", authority.issuer.pem());
        authority.write("authority.key", authority.issuer.key().serialize_pem());
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

    /// A certificate for `deep.example.org` by an authority below this one, with that one's behind it.
    pub fn middle(&self) -> CertificateFiles {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority below");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let below = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["deep.example.org".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &below).unwrap();
        let chain = self.write("deep.crt", certificate.pem() + &below.pem());
        let key = self.write("deep.key", key.serialize_pem());
        CertificateFiles { chain, key, ocsp: None }
    }
}
