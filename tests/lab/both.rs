//! Direct Server Return and the proxy in one process: the same backends, whose health and duties count for both.

use nix::sys::signal::Signal;

use crate::harness::{VIP4, lab, wait_until};

/// The balancer's own address: the proxy's.
const OWN: &str = "10.0.0.2";

#[test]
fn both_halves_serve_and_share_what_is_known_of_the_backends() {
    let name = "both::both_halves_serve_and_share_what_is_known_of_the_backends";
    lab(name, &[], &["nginx", "curl"], |lab| {
        let mut be1 = lab.nginx("be1", b"");
        let mut be2 = lab.nginx("be2", b"");
        let (control, listener) = (lab.path("lb.sock"), format!("{OWN}:80"));
        let words = [
            "-C",
            &control,
            "-r",
            "--check",
            "tcp:80",
            "--check-interval",
            "200",
            "--listen",
            &listener,
            "-H",
            VIP4,
            "10.0.0.11",
            "10.0.0.12",
        ];
        let _balancer = lab.balancer(&words, 2);
        let ask = |address: &str| lab.curl("10.0.0.1", &format!("http://{address}/")).unwrap_or_else(|e| e);
        let who = |address: &str| {
            let mut seen: Vec<String> = (0..12).map(|_| ask(address)).collect();
            seen.sort();
            seen.dedup();
            seen
        };
        assert_eq!((who(VIP4), who(OWN)), (vec!["be1".into(), "be2".into()], vec!["be1".into(), "be2".into()]));
        // Behind the proxy a server sees the balancer, by Direct Server Return the client.
        let access = lab.access("be1");
        for address in ["10.0.0.1 /", "10.0.0.2 /"] {
            assert!(access.lines().any(|line| line == address), "{address} in {access:?}");
        }
        let status = lab.ctl("lb.sock", "status");
        assert!(status.contains("VIP 10.0.0.100") && status.contains("proxy: "), "{status}");
        // What the operator wants counts for both.
        lab.ctl("lb.sock", "drain 10.0.0.11");
        wait_until("new clients of both to be at be2 alone", || who(VIP4) == ["be2"] && who(OWN) == ["be2"]);
        lab.ctl("lb.sock", "undrain 10.0.0.11");
        wait_until("both to use be1 again", || who(VIP4).len() == 2 && who(OWN).len() == 2);
        // What checks find counts for both.
        be2.signal(Signal::SIGTERM);
        be2.end();
        wait_until("be2 to be down", || lab.server("lb.sock", "10.0.0.12", "state") == "down");
        assert_eq!((who(VIP4), who(OWN)), (vec!["be1".to_owned()], vec!["be1".to_owned()]));
        be1.signal(Signal::SIGTERM);
        be1.end();
    });
}
