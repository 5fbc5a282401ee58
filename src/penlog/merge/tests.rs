use super::*;

/// A web server's line, `second` seconds after the hour.
fn web(host: &str, second: u32, path: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!("{host} - - [23/Nov/2026:11:{minute:02}:{second:02} +0000] \"GET /{path} HTTP/1.1\" 200 9\n")
}

/// The balancer's, of a request that took 100 ms.
fn pen(client: u8, second: f64, server: u8, path: &str) -> String {
    let start = 1_795_431_600.0 + second;
    format!(
        "192.0.2.{client}:4000 {start:.3} 10.0.0.{server}:80 \"GET /{path} HTTP/1.1\" 200 body=9 server=be total=100.000 end=closed\n"
    )
}

fn merged(penlog: &str, logs: &[(u8, String)], jitter: i64, cache: usize) -> (String, Summary) {
    let path = Path::new("file");
    let logs = logs.iter().map(|(server, text)| (IpAddr::from([10, 0, 0, *server]), path, text.as_bytes())).collect();
    let mut out = Vec::new();
    let limits = Limits { jitter: jitter * 1000, cache };
    let summary = merge((path, penlog.as_bytes()), logs, limits, &mut out, &mut |_, _| {}).unwrap();
    (String::from_utf8(out).unwrap(), summary)
}

fn counts(matched: u64, unmatched: u64, malformed: u64) -> Counts {
    Counts { matched, unmatched, malformed }
}

#[test]
fn logs_become_one_in_the_order_of_time_with_the_clients_addresses() {
    let penlog = [pen(1, 1.5, 1, "a"), pen(2, 2.2, 2, "a"), pen(3, 3.0, 1, "b"), pen(4, 4.9, 2, "c")].concat();
    let logs = [
        (1, [web("10.0.0.9", 1, "a"), web("10.0.0.9", 3, "b")].concat()),
        (2, [web("10.0.0.9", 2, "a"), web("10.0.0.9", 5, "c")].concat()),
    ];
    let (text, summary) = merged(&penlog, &logs, 1, 100);
    let expected =
        [web("192.0.2.1", 1, "a"), web("192.0.2.2", 2, "a"), web("192.0.2.3", 3, "b"), web("192.0.2.4", 5, "c")];
    assert_eq!(text, expected.concat());
    assert_eq!(summary, Summary { web: counts(4, 0, 0), passed: 4, bad: 0 });
}

#[test]
fn clocks_may_differ_by_the_jitter_and_no_more() {
    let penlog = [pen(1, 100.0, 1, "a"), pen(2, 200.0, 1, "b")].concat();
    let log = [(1, [web("h", 70, "a"), web("h", 231, "b")].concat())];
    let expected = |first: &str, second: &str| [web(first, 70, "a"), web(second, 231, "b")].concat();
    assert_eq!(merged(&penlog, &log, 31, 100).0, expected("192.0.2.1", "192.0.2.2"));
    assert_eq!(merged(&penlog, &log, 30, 100).0, expected("192.0.2.1", "h"));
    assert_eq!(merged(&penlog, &log, 29, 100).0, expected("h", "h"));
}

#[test]
fn the_same_request_of_several_clients_goes_to_the_nearest_of_each_and_each_once() {
    let penlog = [pen(1, 1.0, 1, ""), pen(2, 5.0, 1, ""), pen(3, 9.0, 1, "")].concat();
    let log = [(1, [web("h", 1, ""), web("h", 5, ""), web("h", 9, ""), web("h", 9, "")].concat())];
    let (text, summary) = merged(&penlog, &log, 600, 100);
    assert_eq!(
        text,
        [web("192.0.2.1", 1, ""), web("192.0.2.2", 5, ""), web("192.0.2.3", 9, ""), web("h", 9, "")].concat()
    );
    assert_eq!(summary.web, counts(3, 1, 0));
}

#[test]
fn lines_out_of_order_are_found_within_the_jitter() {
    let penlog = [pen(3, 30.0, 1, "c"), pen(1, 10.0, 1, "a"), pen(2, 20.0, 1, "b")].concat();
    let log = [(1, [web("h", 20, "b"), web("h", 30, "c"), web("h", 10, "a")].concat())];
    let (text, summary) = merged(&penlog, &log, 20, 100);
    assert_eq!(text, [web("192.0.2.2", 20, "b"), web("192.0.2.3", 30, "c"), web("192.0.2.1", 10, "a")].concat());
    assert_eq!(summary.web, counts(3, 0, 0));
}

#[test]
fn with_all_of_it_kept_the_order_of_the_balancers_log_does_not_count() {
    // A long connection, logged when it was over.
    let penlog = [pen(2, 2000.0, 1, "b"), pen(1, 10.0, 1, "a")].concat();
    let log = [(1, [web("h", 10, "a"), web("h", 2000, "b")].concat())];
    assert_eq!(merged(&penlog, &log, 5, 100).1.web, counts(1, 1, 0));
    assert_eq!(merged(&penlog, &log, 5, 0).1.web, counts(2, 0, 0));
}

#[test]
fn what_is_malformed_stays_as_it_is_and_is_counted() {
    let long = "x".repeat(3 * LONGEST);
    let penlog =
        ["rubbish\n", &pen(1, 1.0, 1, "a"), "\n", "192.0.2.9:1 5.000 - \"-\" - total=1.000 end=down\n", &long].concat();
    let middle = format!("\u{0}\u{e9} rubbish \"\r\n\n{long}\n");
    let log = [(1, [middle.as_str(), &web("h", 1, "a"), "the last one"].concat())];
    let (text, summary) = merged(&penlog, &log, 1, 100);
    assert_eq!(text, [&middle, web("192.0.2.1", 1, "a").as_str(), "the last one\n"].concat());
    assert_eq!(summary.web.matched, 1);
    assert!(summary.web.malformed >= 4 && summary.bad >= 2, "{summary:?}");
    assert_eq!(summary.passed, 1);
}

#[test]
fn a_small_cache_reads_less_ahead_and_of_one_time_keeps_the_newest() {
    let (penlog, log): (Vec<_>, Vec<_>) =
        (0..10).map(|n| (pen(n, f64::from(n), 1, ""), web("h", n.into(), ""))).unzip();
    assert_eq!(merged(&penlog.concat(), &[(1, log.concat())], 600, 3).1.web, counts(10, 0, 0));
    let (penlog, log): (Vec<_>, Vec<_>) =
        (0..10).map(|n| (pen(n, 0.0, 1, &n.to_string()), web("h", 0, &n.to_string()))).unzip();
    let (text, summary) = merged(&penlog.concat(), &[(1, log.concat())], 600, 3);
    assert_eq!(summary.web, counts(3, 7, 0));
    assert!(text.contains("192.0.2.9") && !text.contains("192.0.2.6"), "{text}");
}

#[test]
fn lines_of_pen_serve_as_well() {
    let penlog = "192.0.2.1 1795431601 10.0.0.1 GET /a HTTP/1.1\n";
    let (text, _) = merged(penlog, &[(1, web("h", 1, "a"))], 0, 100);
    assert_eq!(text, web("192.0.2.1", 1, "a"));
}

#[test]
fn a_log_is_named_with_its_server() {
    let log = |text: &str| text.parse::<WebLog>().map(|log| (log.server.to_string(), log.file));
    assert_eq!(log("10.0.0.1:/var/log/access"), Ok(("10.0.0.1".into(), "/var/log/access".into())));
    assert_eq!(log("[2001:db8::1]:a:b"), Ok(("2001:db8::1".into(), "a:b".into())));
    for bad in ["10.0.0.1", "10.0.0.1:", ":file", "host:file", "2001:db8::1:file", "[::1]file"] {
        assert!(log(bad).is_err(), "{bad}");
    }
}
