//! Which certificate is shown, and what is said about files.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use rcgen::date_time_ymd;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::super::{der, suites};
use super::*;
use crate::config::proxy::TlsVersion;
use crate::failure::Sysexit;

/// The certificate that a client sees who asks for `name`, as `FILE` of the one that was issued.
fn shown(loaded: &Loaded, name: &str) -> Vec<u8> {
    let pair = established(loaded, &connector(&BackendTls::default()), name);
    pair.client.side.peer_certificate().unwrap().to_vec()
}

fn der_of(files: &CertificateFiles) -> Vec<u8> {
    super::super::files::certificates(&files.chain).unwrap()[0].to_vec()
}

#[test]
fn the_asked_name_chooses_the_certificate_exactly_then_by_wildcard_then_by_default() {
    let authority = Authority::new();
    let default = authority.issue("default", &["a.example.org"]);
    let exact = authority.issue("exact", &["www.example.net"]);
    let wild = authority.issue("wild", &["*.example.net"]);
    let config = TlsConfig {
        default: Some(default.clone()),
        names: vec![("WWW.example.net".into(), exact.clone()), ("*.Example.net".into(), wild.clone())],
        ..TlsConfig::default()
    };
    let loaded = load(&config);
    assert_eq!(loaded.remarks, Vec::<String>::new());
    for (name, files) in [
        ("www.example.net", &exact),
        ("WwW.eXample.nEt", &exact),
        ("other.example.net", &wild),
        ("two.labels.example.net", &default),
        ("example.net", &default),
        ("net", &default),
        ("unknown.example.com", &default),
        ("192.0.2.1", &default),
    ] {
        assert_eq!(shown(&loaded, name), der_of(files), "{name}");
    }
}

#[test]
fn the_asked_name_is_told_and_an_address_asks_for_none() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&BackendTls::default()));
    let named = established(&loaded, &connector, "WWW.example.com");
    assert_eq!(named.server.side.server_name(), Some("www.example.com"));
    let unnamed = established(&loaded, &connector, &Ipv4Addr::LOCALHOST.to_string());
    assert_eq!(unnamed.server.side.server_name(), None);
}

#[test]
fn without_a_default_an_unknown_name_is_refused_and_told_so() {
    let authority = Authority::new();
    let names = vec![("www.example.net".into(), authority.issue("www", &["www.example.net"]))];
    let loaded = load(&TlsConfig { names, ..TlsConfig::default() });
    let connector = connector(&BackendTls::default());
    established(&loaded, &connector, "www.example.net").talk();
    let mut pair = pair(&loaded, &connector, "other.example.net");
    assert!(pair.handshake().is_err());
    let told = pair.client.receive().unwrap_err().to_string();
    assert!(told.contains("AccessDenied"), "{told}");
}

#[test]
fn a_folder_has_certificates_by_their_files_names() {
    let authority = Authority::new();
    let pair_of = |name: &str, names: &[&str]| authority.issue(&format!("sni/{name}"), names);
    let split = pair_of("www.example.net", &["www.example.net"]);
    let wild = pair_of("_.example.net", &["*.example.net"]);
    let one = authority.issue("one", &["one.example.com"]);
    let both = [fs::read(&one.chain).unwrap(), fs::read(&one.key).unwrap()].concat();
    authority.write("sni/One.example.com.pem", both);
    pair_of("configured.example.net", &["configured.example.net"]);
    let configured = authority.issue("configured", &["configured.example.net"]);
    authority.write("sni/broken.example.net.pem", "nothing");
    authority.write("sni/README", "no certificate");
    authority.write("sni/not a name.pem", "nothing");
    authority.write("sni/...pem", "nothing");
    fs::create_dir(authority.path("sni/folder.example.net.pem")).unwrap();
    let config = TlsConfig {
        sni_path: Some(authority.path("sni")),
        names: vec![("configured.example.net".into(), configured.clone())],
        ..TlsConfig::default()
    };
    let loaded = load(&config);
    assert_eq!(loaded.remarks.len(), 1, "{:?}", loaded.remarks);
    assert!(loaded.remarks[0].contains("broken.example.net") && loaded.remarks[0].contains("left out"));
    for (name, files) in [
        ("www.example.net", &split),
        ("any.example.net", &wild),
        ("one.example.com", &one),
        ("configured.example.net", &configured),
    ] {
        assert_eq!(shown(&loaded, name), der_of(files), "{name}");
    }
}

#[test]
fn a_certificate_that_comes_into_the_folder_is_there_after_a_reload() {
    let authority = Authority::new();
    authority.issue("sni/a.example.net", &["a.example.net"]);
    let config = TlsConfig { sni_path: Some(authority.path("sni")), ..TlsConfig::default() };
    let acceptor = Acceptor::new();
    let before = acceptor.load(&config, false).unwrap();
    let new = authority.issue("sni/b.example.net", &["b.example.net"]);
    let after = acceptor.load(&config, false).unwrap();
    let connector = connector(&BackendTls::default());
    assert!(pair(&before, &connector, "b.example.net").handshake().is_err());
    assert_eq!(shown(&after, "b.example.net"), der_of(&new));
}

#[test]
fn a_file_that_is_not_fit_is_named_with_the_remedy() {
    let authority = Authority::new();
    let good = authority.issue("good", &["a.example.org"]);
    let other = authority.issue("other", &["a.example.org"]);
    let empty = authority.write("empty.pem", "");
    let spoilt = authority.write("spoilt.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let open = authority.write("open.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = authority.write("encrypted.key", encrypted);
    let nonsense = authority.write("nonsense.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let missing = authority.path("missing.pem");
    let (chain, key) = (good.chain.clone(), good.key.clone());
    let mut ocsp = good.clone();
    ocsp.ocsp = Some(missing.clone());
    for (files, code, file, remedy) in [
        (files(missing.clone(), key.clone()), Sysexit::NoInput, "missing.pem", "correct the path"),
        (files(chain.clone(), missing.clone()), Sysexit::NoInput, "missing.pem", "private key"),
        (ocsp, Sysexit::NoInput, "missing.pem", "OCSP"),
        (files(empty.clone(), key.clone()), Sysexit::Config, "empty.pem", "BEGIN CERTIFICATE"),
        (files(chain.clone(), empty), Sysexit::Config, "empty.pem", "BEGIN PRIVATE KEY"),
        (files(spoilt, key.clone()), Sysexit::Config, "spoilt.pem", "first certificate"),
        (files(open, key.clone()), Sysexit::Config, "open.pem", "not PEM"),
        (files(chain.clone(), encrypted), Sysexit::Config, "encrypted.key", "openssl pkey"),
        (files(chain.clone(), nonsense), Sysexit::Config, "nonsense.key", "cannot be used"),
        (files(chain, other.key), Sysexit::Config, "good.crt", "not for the key in"),
        (files(other.chain, key), Sysexit::Config, "other.crt", "not for the key in"),
    ] {
        let config = TlsConfig { default: Some(files.clone()), ..TlsConfig::default() };
        let failure = Acceptor::new().load(&config, false).unwrap_err();
        assert_eq!(failure.code, code, "{files:?}: {failure}");
        assert!(failure.message.contains(file) && failure.message.contains(remedy), "{files:?}: {failure}");
    }
}

#[test]
fn settings_without_sense_are_refused() {
    let authority = Authority::new();
    let base = settings(&authority);
    fs::create_dir(authority.path("none")).unwrap();
    let twice = ["www.example.net", "WWW.example.net"].map(|name| (name.to_owned(), authority.issue("www", &[name])));
    let bad_name = |name: &str| vec![(name.to_owned(), authority.issue("www", &["www.example.net"]))];
    let plain = TlsConfig::default;
    for (config, part) in [
        (plain(), "without a certificate"),
        (TlsConfig { sni_path: Some(authority.path("none")), ..plain() }, "no certificate in it"),
        (TlsConfig { names: twice.to_vec(), ..plain() }, "two certificates for WWW.example.net"),
        (TlsConfig { names: bad_name("../../etc"), ..plain() }, "not the name of a server"),
        (TlsConfig { names: bad_name("a.*.example.net"), ..plain() }, "not the name of a server"),
        (TlsConfig { names: bad_name(""), ..plain() }, "not the name of a server"),
        (TlsConfig { oldest: TlsVersion::V13, newest: TlsVersion::V12, ..base.clone() }, "exchange them"),
        (
            TlsConfig { ciphers: vec!["TLS_AES_128_GCM_SHA265".into()], ..base.clone() },
            "perhaps TLS_AES_128_GCM_SHA256?",
        ),
        (
            TlsConfig {
                ciphers: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()],
                oldest: TlsVersion::V13,
                ..base.clone()
            },
            "none of the configured cipher suites",
        ),
        (TlsConfig { alpn: vec![String::new()], ..base }, "ALPN"),
    ] {
        let failure = Acceptor::new().load(&config, false).unwrap_err();
        assert_eq!(failure.code, Sysexit::Config, "{failure}");
        assert!(failure.message.contains(part), "{failure}");
    }
    let missing = TlsConfig { sni_path: Some(authority.path("missing")), ..plain() };
    assert_eq!(Acceptor::new().load(&missing, false).unwrap_err().code, Sysexit::NoInput);
}

#[test]
fn a_certificate_that_clients_will_refuse_is_remarked_upon() {
    let authority = Authority::new();
    let expired = authority.issue_with("expired", &["a.example.org"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let early = authority.issue_with("early", &["a.example.org"], |params| {
        params.not_before = date_time_ymd(2120, 1, 1);
        params.not_after = date_time_ymd(2121, 1, 1);
    });
    let other = authority.issue("other", &["a.example.org"]);
    for (config, remark) in [
        (TlsConfig { default: Some(expired), ..TlsConfig::default() }, "expired.crt: the certificate has expired"),
        (TlsConfig { default: Some(early), ..TlsConfig::default() }, "early.crt: the certificate is not valid yet"),
        (TlsConfig { names: vec![("*.example.net".into(), other)], ..TlsConfig::default() }, "not for *.example.net"),
    ] {
        let remarks = load(&config).remarks;
        assert!(remarks.len() == 1 && remarks[0].contains(remark), "{remarks:?}");
    }
}

#[test]
fn the_whole_chain_is_sent() {
    let authority = Authority::new();
    let middle = authority.middle();
    let loaded = load(&TlsConfig { default: Some(middle.clone()), ..TlsConfig::default() });
    established(&loaded, &connector(&verifying(&authority)), "deep.example.org").talk();
    // Without the one between, the client cannot find its way to the authority.
    let text = fs::read_to_string(&middle.chain).unwrap();
    let own = text.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    fs::write(&middle.chain, own).unwrap();
    let loaded = load(&TlsConfig { default: Some(middle), ..TlsConfig::default() });
    assert!(pair(&loaded, &connector(&verifying(&authority)), "deep.example.org").handshake().is_err());
}

/// Accepts everybody, and keeps the OCSP response.
#[derive(Debug)]
struct Stapled(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = Some(ocsp_response.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn stapled(loaded: &Loaded) -> Vec<u8> {
    let verifier = Arc::new(Stapled(Mutex::new(None)));
    let client = ClientConfig::builder_with_provider(suites::provider(&[]).unwrap())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let client = TlsSide::connect(Arc::new(client), "a.example.org".try_into().unwrap()).unwrap();
    Pair::new(client, TlsSide::accept(Arc::clone(&loaded.config)).unwrap()).handshake().unwrap();
    verifier.0.lock().unwrap().take().unwrap()
}

#[test]
fn an_ocsp_response_is_stapled_if_it_is_for_the_certificate_and_says_that_it_is_good() {
    let authority = Authority::new();
    let mut files = authority.issue("default", &["a.example.org"]);
    let certificate = der_of(&files);
    let serial = der::certificate(&certificate).unwrap().serial;
    let (past, future) = ("20200101000000Z", "21200101000000Z");
    let good = 0x80;
    for (response, remark) in [
        (der::tests::response(0, &[(serial, good, past, Some(future))]), None),
        (der::tests::response(0, &[(serial, good, past, None)]), None),
        (der::tests::response(0, &[(serial, good, past, Some(past))]), Some("has expired")),
        (der::tests::response(0, &[(serial, good, future, Some(future))]), Some("not valid yet")),
        (der::tests::response(0, &[(&[99], good, past, Some(future))]), Some("not for this certificate")),
        (der::tests::response(0, &[(serial, 0xa1, past, Some(future))]), Some("revoked or unknown")),
        (der::tests::response(6, &[]), Some("cannot answer")),
        (b"nonsense".to_vec(), Some("not an OCSP response")),
    ] {
        files.ocsp = Some(authority.write("default.ocsp", &response));
        let loaded = load(&TlsConfig { default: Some(files.clone()), ..TlsConfig::default() });
        match remark {
            None => {
                assert_eq!(loaded.remarks, Vec::<String>::new());
                assert_eq!(stapled(&loaded), response);
            }
            Some(remark) => {
                assert!(loaded.remarks.len() == 1 && loaded.remarks[0].contains(remark), "{:?}", loaded.remarks);
                assert!(loaded.remarks[0].contains("default.ocsp"));
                assert_eq!(stapled(&loaded), b"");
            }
        }
    }
}

#[test]
fn an_ocsp_response_that_expires_while_it_is_served_is_not_stapled_any_more() {
    let authority = Authority::new();
    let mut files = authority.issue("default", &["a.example.org"]);
    let certificate = der_of(&files);
    let serial = der::certificate(&certificate).unwrap().serial;
    let response = der::tests::response(0, &[(serial, 0x80, "20200101000000Z", Some("21200101000000Z"))]);
    files.ocsp = Some(authority.write("default.ocsp", &response));
    let provider = suites::provider(&[]).unwrap();
    let shown = super::super::files::shown(&files, &provider, &mut Vec::new()).unwrap();
    let until = 4_733_510_400;
    assert_eq!(shown.key(until - 1).ocsp.as_deref(), Some(response.as_slice()));
    assert_eq!(shown.key(until).ocsp, None);
}
