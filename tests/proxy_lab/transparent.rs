//! Servers see the clients' own addresses, by TCP and UDP, IPv4 and IPv6.

use crate::harness::{Lab, PROXY4, PROXY6, S1, SECONDS, lab, wait_until};

const NEEDS: [&str; 5] = ["nginx", "curl", "dig", "dnsmasq", "nft"];

/// The proxy, transparent, at port 80 by TCP and 53 by UDP, of each family.
fn config(lab: &Lab) -> String {
    let mut toml = "[[backend]]\nhost = \"10.2.0.11\"\n[[backend]]\nhost = \"fd02::11\"\n".to_owned();
    for (address, backend) in [("10.1.0.254", "10.2.0.11"), ("[fd01::fe]", "fd02::11")] {
        for (port, protocol) in [(80, "tcp"), (53, "udp")] {
            toml += &format!(
                "[[listen]]\naddress = \"{address}:{port}\"\nprotocol = \"{protocol}\"\ntransparent = true\nbackends = [\"{backend}\"]\n"
            );
        }
    }
    lab.file("transparent.toml", toml)
}

#[test]
fn servers_see_the_clients_own_addresses() {
    lab("transparent::servers_see_the_clients_own_addresses", &NEEDS, |lab| {
        let _nginx = lab.nginx("s1");
        let dns = lab.dnsmasq("s1");
        lab.transparent("up");
        let proxy = lab.proxy(&["-c", &config(lab)]);
        assert!(!proxy.output().contains("WARN"), "{}", proxy.output());
        for (url, client) in [
            ("http://10.1.0.254/", "10.1.0.1"),
            ("http://10.1.0.254/", "10.1.0.3"),
            ("http://[fd01::fe]/", "fd01::1"),
            ("http://[fd01::fe]/", "fd01::2"),
        ] {
            let said = lab.run("client", &["curl", "-sS", "-m", SECONDS, "--interface", client, url]);
            assert_eq!(said, "s1");
            let line = format!("{client} \"GET / HTTP/1.1\"");
            wait_until("the server's log", || lab.access("s1").contains(&line));
        }
        // Bulk, too.
        let size = ["curl", "-sS", "-m", SECONDS, "-o", "/dev/null", "-w", "%{size_download}", "http://10.1.0.254/big"];
        assert_eq!(lab.run("client", &size), (5 << 20).to_string());
        for (server, client) in [(PROXY4, "10.1.0.1"), (PROXY4, "10.1.0.2"), (PROXY6, "fd01::1"), (PROXY6, "fd01::3")] {
            let at = format!("@{server}");
            let said = lab.run("client", &["dig", "+short", "+tries=15", "+time=3", "-b", client, &at, "who.test"]);
            assert_eq!(said.trim(), "192.0.2.1", "{client}");
            dns.wait_for("the server's log", |log| log.contains(&format!("query[A] who.test from {client}")));
        }
        // A server that is not there is told of as without transparency.
        lab.run("s1", &["ip", "link", "set", "lo", "up"]);
        lab.transparent("down");
    });
}

#[test]
fn what_is_missing_for_the_way_back_is_said_at_the_start() {
    lab("transparent::what_is_missing_for_the_way_back_is_said_at_the_start", &NEEDS, |lab| {
        let listener = format!("{PROXY4}:80");
        let server = format!("{S1}:80");
        let proxy = lab.proxy(&["--transparent", &listener, &server]);
        proxy.wait_for("a warning", |log| log.contains("WARN") && log.contains("scripts/transparent"));
    });
}
