//! Which certificate is shown to a client, by the name that it asks for (SNI, RFC 6066 section 3).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::files::{self, Shown};
use crate::config::proxy::{CertificateFiles, TlsConfig};
use crate::failure::{Failure, Sysexit};

/// The most certificates that a folder may have: each takes some kB of memory.
const FOLDER: usize = 10_000;

/// Certificates by names, in lower case.
#[derive(Debug, Default)]
pub(super) struct Names {
    default: Option<Shown>,
    exact: HashMap<Box<str>, Shown>,
    /// By what follows the asterisk and its dot.
    wildcard: HashMap<Box<str>, Shown>,
}

impl Names {
    /// Reads all certificates that are configured. Those with names go before those of the folder.
    ///
    /// Errors: of a configured file, see [`files::shown`]; `Config` for a name that is none, or where there is no
    /// certificate at all; `NoInput` for a folder that cannot be read. A certificate in the folder that is not fit is
    /// remarked upon and left out.
    pub(super) fn load(
        config: &TlsConfig,
        provider: &CryptoProvider,
        remarks: &mut Vec<String>,
    ) -> Result<Names, Failure> {
        let mut names = Names::default();
        for (name, files) in &config.names {
            let shown = files::shown(files, provider, remarks)?;
            let fit = name.strip_prefix("*.").map_or(name.as_str(), |parent| parent);
            if !is_host_name(fit) {
                let message =
                    format!("TLS: {name:?} is not the name of a server; write www.example.org or *.example.org");
                return Err(Failure::new(Sysexit::Config, message));
            }
            if !shown.is_for(name) {
                remarks.push(format!(
                    "{}: the certificate is not for {name}; clients will refuse it",
                    files.chain.display()
                ));
            }
            if names.add(name, shown).is_some() {
                let message = format!("TLS: there are two certificates for {name}; take one out");
                return Err(Failure::new(Sysexit::Config, message));
            }
        }
        if let Some(folder) = &config.sni_path {
            names.add_folder(folder, provider, remarks)?;
        }
        if let Some(files) = &config.default {
            names.default = Some(files::shown(files, provider, remarks)?);
        }
        if names.default.is_none() && names.exact.is_empty() && names.wildcard.is_empty() {
            let message = match &config.sni_path {
                Some(folder) => {
                    format!("{}: no certificate in it that can be used; put NAME.pem there", folder.display())
                }
                None => "TLS is asked for without a certificate; configure one, with its key".to_owned(),
            };
            return Err(Failure::new(Sysexit::Config, message));
        }
        Ok(names)
    }

    /// Adds a certificate; returns the one that had the name.
    fn add(&mut self, name: &str, shown: Shown) -> Option<Shown> {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.insert(parent.into(), shown),
            None => self.exact.insert(name.into(), shown),
        }
    }

    fn has(&self, name: &str) -> bool {
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.contains_key(parent),
            None => self.exact.contains_key(name),
        }
    }

    fn add_folder(
        &mut self,
        folder: &Path,
        provider: &CryptoProvider,
        remarks: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let unreadable = |error| files::unreadable(folder, "a folder of certificates", &error);
        let mut files: Vec<_> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>())
            .map_err(unreadable)?;
        files.sort();
        let mut count = 0;
        for chain in files {
            let Some((name, files)) = in_folder(&chain) else {
                continue;
            };
            count += 1;
            if count > FOLDER {
                let message = format!("{}: more than {FOLDER} certificates; use several listeners", folder.display());
                return Err(Failure::new(Sysexit::Config, message));
            }
            if self.has(&name) {
                continue;
            }
            match files::shown(&files, provider, remarks) {
                Ok(shown) => {
                    if !shown.is_for(&name) {
                        remarks.push(format!("{}: the certificate is not for {name}", chain.display()));
                    }
                    self.add(&name, shown);
                }
                Err(failure) => remarks.push(format!("{failure}; {name} is left out")),
            }
        }
        Ok(())
    }

    fn find(&self, name: Option<&str>) -> Option<&Shown> {
        let named = name.and_then(|name| {
            let exact = self.exact.get(name);
            exact.or_else(|| self.wildcard.get(name.split_once('.')?.1))
        });
        named.or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A final dot, and capitals, are the same name; rustls mostly has seen to that.
        let name = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let key = self.find(name.as_deref()).map(|shown| shown.key(now).clone());
        ASKED.set(name.map(String::into_boxed_str));
        key
    }
}

thread_local! {
    /// The name in the latest hello that this thread has resolved. rustls's unbuffered connections do not tell it; but
    /// they resolve it within the call that gets the hello, so whoever made the call finds it here.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Forgets the name of another connection.
pub(super) fn forget_asked() {
    ASKED.set(None);
}

/// The name that was asked for since [`forget_asked`].
pub(super) fn asked() -> Option<Box<str>> {
    ASKED.take()
}

/// The name that a file of the folder is for, and what belongs to it; `None` where it is no certificate.
fn in_folder(path: &Path) -> Option<(String, CertificateFiles)> {
    let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
    let key = match path.extension()?.to_str()? {
        "pem" => path.to_owned(),
        "crt" => path.with_extension("key"),
        _ => return None,
    };
    let name = match stem.strip_prefix("_.") {
        Some(parent) => format!("*.{parent}"),
        None => stem,
    };
    let fit = name.strip_prefix("*.").unwrap_or(&name);
    (is_host_name(fit) && path.is_file()).then(|| (name, CertificateFiles { chain: path.to_owned(), key, ocsp: None }))
}

/// Letters, digits and hyphens in labels of 1 to 63, RFC 1123 section 2.1.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
