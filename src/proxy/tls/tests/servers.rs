//! TLS to servers.

use super::*;
use crate::config::proxy::{ClientCertificates, TlsVersion};
use crate::failure::Sysexit;

fn outcome(loaded: &Loaded, config: &BackendTls, name: &str) -> Result<(), String> {
    let mut pair = pair(loaded, &connector(config), name);
    pair.handshake().map_err(|error| error.to_string())?;
    pair.talk();
    Ok(())
}

#[test]
fn a_server_is_verified_by_authority_and_name_if_that_is_asked_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let loaded = load(&settings(&authority));
    assert_eq!(outcome(&loaded, &verifying(&authority), "a.example.org"), Ok(()));
    for (config, name, part, alert) in [
        (verifying(&stranger), "a.example.org", "UnknownIssuer", "UnknownCA"),
        (verifying(&authority), "b.example.org", "not valid for name", "BadCertificate"),
        (verifying(&authority), "192.0.2.1", "not valid for name", "BadCertificate"),
    ] {
        let mut pair = pair(&loaded, &connector(&config), name);
        let why = pair.handshake().unwrap_err().to_string();
        assert!(why.contains(part), "{name}: {why}");
        let told = pair.server.receive().unwrap_err().to_string();
        assert!(told.contains(alert), "{name}: {told}");
    }
    for name in ["a.example.org", "b.example.org", "192.0.2.1"] {
        assert_eq!(outcome(&loaded, &BackendTls::default(), name), Ok(()));
    }
}

#[test]
fn a_configured_name_goes_before_the_servers_own() {
    let authority = Authority::new();
    let loaded = load(&settings(&authority));
    let config = BackendTls { name: Some("a.example.org".into()), ..verifying(&authority) };
    let pair = established(&loaded, &connector(&config), "b.example.org");
    assert_eq!(pair.server.side.server_name(), Some("a.example.org"));
}

#[test]
fn our_own_certificate_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    let clients = Some(ClientCertificates { authorities: authority.file(), required: true });
    let loaded = load(&TlsConfig { clients, ..settings(&authority) });
    let own = Some(authority.issue("own", &["own.example.org"]));
    assert_eq!(outcome(&loaded, &BackendTls { own, ..verifying(&authority) }, "a.example.org"), Ok(()));
    assert!(outcome(&loaded, &verifying(&authority), "a.example.org").is_err());
}

#[test]
fn http_1_1_is_agreed_on_where_http_is_spoken_and_nothing_else() {
    let authority = Authority::new();
    let server = Acceptor::new().load(&settings(&authority), true).unwrap();
    for (http, agreed) in [(true, Some(b"http/1.1".as_slice())), (false, None)] {
        let connector = Connector::load(&verifying(&authority), http).unwrap().connector;
        let pair = established(&server, &connector, "a.example.org");
        assert_eq!((pair.client.side.alpn(), pair.server.side.alpn()), (agreed, agreed));
    }
    // A listener of which no HTTP is read offers nothing, but for what is configured.
    let connector = Connector::load(&verifying(&authority), true).unwrap().connector;
    assert_eq!(established(&load(&settings(&authority)), &connector, "a.example.org").server.side.alpn(), None);
    let configured = TlsConfig { alpn: vec!["imap".into()], ..settings(&authority) };
    assert!(pair(&load(&configured), &connector, "a.example.org").handshake().is_err());
}

#[test]
fn versions_and_suites_are_those_that_are_configured_the_servers_first_choice_first() {
    let authority = Authority::new();
    let connector = connector(&verifying(&authority));
    let base = settings(&authority);
    let only = |version| TlsConfig { oldest: version, newest: version, ..base.clone() };
    let ciphers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let ecdsa = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let swapped = ciphers(&["TLS13_AES_256_GCM_SHA384", "tls_aes_128_gcm_sha256", ecdsa]);
    let old = TlsConfig { ciphers: ciphers(&[ecdsa]), ..base.clone() };
    for (config, version, cipher) in [
        (base.clone(), "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        (only(TlsVersion::V13), "TLSv1.3", "TLS_AES_128_GCM_SHA256"),
        (only(TlsVersion::V12), "TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (TlsConfig { ciphers: swapped, ..base.clone() }, "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        (old, "TLSv1.2", ecdsa),
    ] {
        let pair = established(&load(&config), &connector, "a.example.org");
        for side in [&pair.client.side, &pair.server.side] {
            assert_eq!((side.version(), side.cipher()), (Some(version), Some(cipher)));
        }
    }
    let remarks = load(&TlsConfig { ciphers: ciphers(&["TLS_AES_128_GCM_SHA256"]), ..base }).remarks;
    assert!(remarks.len() == 1 && remarks[0].contains("TLS 1.2 is not spoken"), "{remarks:?}");
}

#[test]
fn a_name_that_is_none_and_a_missing_file_are_told() {
    let authority = Authority::new();
    let missing = authority.path("missing.pem");
    let name = BackendTls { name: Some("no name".into()), ..BackendTls::default() };
    let roots = BackendTls { verify: true, authorities: Some(missing), ..BackendTls::default() };
    for (config, code, part) in [(name, Sysexit::Config, "no name"), (roots, Sysexit::NoInput, "missing.pem")] {
        let failure = Connector::load(&config, false).unwrap_err();
        assert!(failure.code == code && failure.message.contains(part), "{failure}");
    }
    let failure = connector(&BackendTls::default()).connect("no name").err().unwrap();
    assert_eq!(failure.code, Sysexit::Config);
}
