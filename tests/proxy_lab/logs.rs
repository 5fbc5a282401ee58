//! The access log by a real syslogd.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Lab, PEN_DSR, PROXY4, Process, S1, SECONDS, lab, wait_until};
use crate::life::content;

/// Browsers at a time.
const BROWSERS: usize = 4;
/// Answers between two events.
const SOME: usize = 100;

/// Gives the sandbox a /dev of its own, where a syslogd can listen at /dev/log.
fn own_dev(lab: &Lab) {
    let script = "mkdir dev && cd dev
        for name in null zero full random urandom; do : >$name && mount --bind /dev/$name $name; done
        cd .. && mount --rbind dev /dev";
    lab.run("proxy", &["sh", "-euc", script]);
}

/// Starts rsyslogd, which writes what it gets to the test's file `syslog`: facility, severity, program, its number, text.
fn rsyslogd(lab: &Lab) -> Process {
    let (log, work) = (lab.path("syslog"), lab.path("."));
    let config = format!(
        "global(workDirectory=\"{work}\" maxMessageSize=\"16k\")
         module(load=\"imuxsock\" SysSock.Use=\"off\")
         input(type=\"imuxsock\" Socket=\"/dev/log\" RateLimit.Interval=\"0\")
         template(name=\"all\" type=\"string\"
           string=\"%syslogfacility-text%.%syslogseverity-text% %programname% %procid%%msg%\\n\")
         *.* action(type=\"omfile\" file=\"{log}\" template=\"all\")\n"
    );
    let file = lab.file("rsyslog.conf", config);
    let process = lab.start("proxy", &["rsyslogd", "-n", "-f", &file, "-i", "NONE"]);
    wait_until("rsyslogd", || fs::exists("/dev/log").unwrap_or(false));
    process
}

/// Ends it, and takes its socket away, as a system's syslogd does when it ends.
fn end(mut rsyslogd: Process) {
    rsyslogd.signal(Signal::SIGTERM);
    rsyslogd.end();
    let _ = fs::remove_file("/dev/log");
}

fn get(lab: &Lab, path: &str) {
    let url = format!("http://{PROXY4}:8080{path}");
    lab.run("client", &["curl", "-sS", "-m", SECONDS, "-o", "/dev/null", "-A", "agent \"x\"", &url]);
}

#[test]
fn a_syslogd_gets_each_line_and_is_found_again_and_clients_are_served_without_it() {
    let name = "logs::a_syslogd_gets_each_line_and_is_found_again_and_clients_are_served_without_it";
    lab(name, &["nginx", "curl", "rsyslogd"], |lab| {
        let _nginx = lab.nginx("s1");
        own_dev(lab);
        let (listener, server) = (format!("{PROXY4}:8080"), format!("{S1}:80"));
        let words = ["-H", "-l", "syslog", "--log-layout", "combined", &listener, &server];
        // It says at the start that there is nobody.
        let (status, said) = lab.try_run("proxy", &[&["timeout", SECONDS, PEN_DSR][..], &words].concat());
        assert!(status.code() == Some(69) && said.contains("no syslogd"), "{status} {said}");

        let syslogd = rsyslogd(lab);
        let mut proxy = lab.proxy(&words);
        let has = |path: &str| lab.read("syslog").contains(&format!("\"GET {path} HTTP/1.1\""));
        get(lab, "/one");
        wait_until("a line", || has("/one"));
        // Its end may come behind.
        wait_until("all of it", || lab.read("syslog").ends_with('\n'));
        let all = lab.read("syslog");
        let line = all.lines().find(|line| line.contains("/one")).unwrap();
        let begin = format!("local0.info pen-dsr {} 10.1.0.1 - - [", proxy.pid());
        assert!(line.starts_with(&begin), "{line}");
        assert!(line.ends_with("] \"GET /one HTTP/1.1\" 404 153 \"-\" \"agent \\\"x\\\"\""), "{line}");

        // It is restarted.
        end(syslogd);
        get(lab, "/meanwhile");
        let syslogd = rsyslogd(lab);
        wait_until("a line by another one", || {
            get(lab, "/two");
            has("/two")
        });

        // It stands still, and then it goes away: clients do not notice.
        let browsers = lab.browse(BROWSERS, &listener);
        browsers.go_on(SOME);
        syslogd.signal(Signal::SIGSTOP);
        browsers.go_on(10 * SOME);
        syslogd.signal(Signal::SIGCONT);
        browsers.go_on(SOME);
        end(syslogd);
        browsers.go_on(SOME);
        let _syslogd = rsyslogd(lab);
        browsers.go_on(SOME);
        content("with and without a syslogd", &browsers.stop());
        wait_until("a line by the third one", || {
            get(lab, "/three");
            has("/three")
        });
        // What nobody took was counted.
        proxy.signal(Signal::SIGTERM);
        assert!(proxy.end().success(), "{}", proxy.output());
        assert!(
            proxy.output().contains("access log syslog: ") && proxy.output().contains(" lost"),
            "{}",
            proxy.output()
        );
    });
}
