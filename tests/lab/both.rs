//! Direct Server Return and the proxy in one process: the same backends, whose health and duties count for both.

use nix::sys::signal::Signal;

use crate::harness::{VIP4, lab, wait_to_see, wait_until};

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
        // What has been seen may be a moment old for those who serve.
        let served_by = |what: &str, hosts: &[&str]| {
            wait_to_see(what, || (who(VIP4), who(OWN)), |(vip, own)| vip == hosts && own == hosts);
        };
        served_by("both to use both", &["be1", "be2"]);
        // Behind the proxy a server sees the balancer, by Direct Server Return the client.
        let both =
            |access: &String| ["10.0.0.1 /", "10.0.0.2 /"].iter().all(|wanted| access.lines().any(|l| l == *wanted));
        wait_to_see("the log of be1", || lab.access("be1"), both);
        let status = lab.ctl("lb.sock", "status");
        assert!(status.contains("VIP 10.0.0.100") && status.contains("proxy: "), "{status}");
        // What the operator wants counts for both.
        lab.ctl("lb.sock", "drain 10.0.0.11");
        served_by("new clients of both to be at be2 alone", &["be2"]);
        lab.ctl("lb.sock", "undrain 10.0.0.11");
        served_by("both to use be1 again", &["be1", "be2"]);
        // What checks find counts for both.
        be2.signal(Signal::SIGTERM);
        be2.end();
        wait_until("be2 to be down", || lab.server("lb.sock", "10.0.0.12", "state") == "down");
        served_by("clients of both to be at be1 alone", &["be1"]);
        be1.signal(Signal::SIGTERM);
        be1.end();
    });
}
