//! Plain connections: bulk by iperf3, and a session that lasts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, PROXY4, S1, lab};
use crate::servers::echo;

#[test]
fn bulk_goes_both_ways_by_several_connections() {
    lab("streams::bulk_goes_both_ways_by_several_connections", &["iperf3"], |lab| {
        let _server = lab.start("s1", &["iperf3", "-s"]);
        lab.wait_listening("s1", "tcp", 5201);
        let _proxy = lab.proxy(&["10.1.0.254:5201", &format!("{S1}:5201")]);
        for direction in [&[][..], &["-R"], &["--bidir"]] {
            let words = ["iperf3", "-c", PROXY4, "-P", "3", "-n", "60M", "-f", "m"];
            let said = lab.run("client", &[&["timeout", "30"], &words[..], direction].concat());
            assert!(said.contains("iperf Done."), "{said}");
            let rate = said.lines().rfind(|line| line.contains("receiver")).unwrap_or_default();
            println!("iperf3 {direction:?}: {}", rate.trim());
        }
    });
}

#[test]
fn a_session_lasts_through_silence_reload_and_drain() {
    lab("streams::a_session_lasts_through_silence_reload_and_drain", &[], |lab| {
        lab.serve("s1", 2222, echo);
        lab.serve("s2", 2222, echo);
        let toml = |server: &str| {
            format!(
                "[[backend]]\nhost = \"{server}\"\n[[listen]]\naddress = \"10.1.0.254:22\"\nbackend-port = 2222\n[proxy.tcp]\nkeepalive = 1\n[proxy.timeouts]\ndrain = 20\n"
            )
        };
        let file = lab.file("pen.toml", toml("10.2.0.11"));
        let mut proxy = lab.proxy(&["-c", &file]);
        let talk = |stream: &mut TcpStream, from: usize| {
            for n in from..from + 40 {
                let word = format!("{n}\r\n");
                stream.write_all(word.as_bytes()).unwrap();
                let mut back = vec![0; word.len()];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(back, word.as_bytes());
                thread::sleep(Duration::from_millis(3));
            }
        };
        let connect = || {
            let stream = TcpStream::connect((PROXY4, 22)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        };
        let mut session = lab.inside("client", connect).join().unwrap();
        talk(&mut session, 0);
        thread::sleep(Duration::from_secs(2));
        talk(&mut session, 100);
        // Its server is no longer in the file: new clients go elsewhere, this one stays.
        lab.file("pen.toml", toml("10.2.0.12"));
        proxy.signal(Signal::SIGHUP);
        crate::harness::wait_until("the reload", || lab.ctl("ctl", "servers").contains("10.2.0.12"));
        talk(&mut session, 200);
        let mut other = lab.inside("client", connect).join().unwrap();
        talk(&mut other, 300);
        // What is drained goes on until it ends by itself.
        proxy.signal(Signal::SIGTERM);
        thread::sleep(Duration::from_millis(300));
        talk(&mut session, 400);
        talk(&mut other, 500);
        drop(session);
        drop(other);
        assert!(proxy.end().success(), "{}", proxy.output());
    });
}
