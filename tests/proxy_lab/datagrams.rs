//! UDP: dig, and a name server.

use crate::harness::{PROXY4, PROXY6, Process, lab};

const NEEDS: [&str; 2] = ["dig", "dnsmasq"];

#[test]
fn names_are_found_by_each_family_and_questions_spread_over_the_servers() {
    lab("datagrams::names_are_found_by_each_family_and_questions_spread_over_the_servers", &NEEDS, |lab| {
        let servers: Vec<Process> = ["s1", "s2"].map(|host| lab.dnsmasq(host)).into();
        let _proxy = lab.proxy(&["-r", "-U", "53", "10.2.0.11:53", "[fd02::12]:53"]);
        let mut questions = String::new();
        for _ in 0..50 {
            questions += "who.test\n";
        }
        let file = lab.file("questions", questions);
        for at in [PROXY4, PROXY6] {
            let said = lab.run("client", &["dig", "+short", "+tries=9", "+time=5", &format!("@{at}"), "-f", &file]);
            let count = |n| said.lines().filter(|line| *line == format!("192.0.2.{n}")).count();
            assert_eq!(count(1) + count(2), 50, "{said}");
            assert!(count(1) >= 10 && count(2) >= 10, "{said}");
        }
        // One dies: what it is asked is asked elsewhere.
        let [one, two] = <[Process; 2]>::try_from(servers).ok().unwrap();
        drop(two);
        for _ in 0..10 {
            let said = lab.run("client", &["dig", "+short", "+tries=20", "+time=2", "@10.1.0.254", "who.test"]);
            assert_eq!(said.lines().last(), Some("192.0.2.1"), "{said}");
        }
        drop(one);
    });
}
