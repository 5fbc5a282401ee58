//! On an epair(4), which only root can make.

use std::process::Command;
use std::time::Duration;

use pen_dsr::os::{self, Link, MacFilter, Purpose, Setup};

/// Two interfaces that are one another's other end, until this is dropped.
struct Epair(String);

impl Epair {
    /// `None`, and it is said why, where there can be none.
    fn create(test: &str) -> Option<Epair> {
        let output = Command::new("/sbin/ifconfig").args(["epair", "create"]).output().expect("ifconfig runs");
        if !output.status.success() {
            println!("SKIPPED offloads::{test}: no epair: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Epair(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }

    /// The line of `ifconfig` that begins with `word`, or has it after the name.
    fn line(&self, word: &str) -> String {
        let shown = ifconfig(&[&self.0]);
        shown.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned()
    }
}

impl Drop for Epair {
    fn drop(&mut self) {
        let _ = Command::new("/sbin/ifconfig").args([self.0.as_str(), "destroy"]).output();
        let _ = std::fs::remove_file(format!("/var/run/pen-dsr-{}.lock", self.0));
    }
}

fn ifconfig(words: &[&str]) -> String {
    let output = Command::new("/sbin/ifconfig").args(words).output().expect("ifconfig runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_interface_is_set_up_and_afterwards_as_before() {
    let Some(epair) = Epair::create("an_interface_is_set_up_and_afterwards_as_before") else { return };
    let options = epair.line("options=");
    let mut setup = Setup::apply(&epair.0, MacFilter::Promiscuous).unwrap();
    assert!(setup.brought_up());
    let flags = epair.line("flags=");
    assert!(flags.contains("<UP,") && flags.contains("PROMISC"), "{flags}");
    assert_eq!(os::active_offloads(&epair.0, Purpose::Netmap).unwrap(), None, "{}", epair.line("options="));
    setup.restore().unwrap();
    let flags = epair.line("flags=");
    assert!(!flags.contains("<UP,") && !flags.contains("PROMISC"), "{flags}");
    assert_eq!(epair.line("options="), options);
}

#[test]
fn an_interface_is_set_up_by_one_at_a_time() {
    let Some(epair) = Epair::create("an_interface_is_set_up_by_one_at_a_time") else { return };
    let mut setup = Setup::apply(&epair.0, MacFilter::Own).unwrap();
    let refused = Setup::apply_within(Duration::from_millis(300), &epair.0, MacFilter::Own).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ResourceBusy);
    let why = refused.to_string();
    assert!(why.contains(&format!("process {} has it", std::process::id())), "{why}");
    setup.restore().unwrap();
    // Processes that another test starts have all that is open here, for a moment.
    drop(Setup::apply_within(Duration::from_secs(5), &epair.0, MacFilter::Own).unwrap());
}

#[test]
fn what_somebody_else_changes_is_noticed_and_mended() {
    let Some(epair) = Epair::create("what_somebody_else_changes_is_noticed_and_mended") else { return };
    let mut setup = Setup::apply(&epair.0, MacFilter::Promiscuous).unwrap();
    assert_eq!(setup.disturbed().unwrap(), [""; 0]);
    ifconfig(&[&epair.0, "down", "-promisc"]);
    assert_eq!(setup.disturbed().unwrap(), ["down", "not promiscuous"]);
    setup.renew().unwrap();
    assert_eq!(setup.disturbed().unwrap(), [""; 0]);
}

#[test]
fn an_interface_that_has_gone_is_no_error() {
    let Some(epair) = Epair::create("an_interface_that_has_gone_is_no_error") else { return };
    let mut setup = Setup::apply(&epair.0, MacFilter::Own).unwrap();
    drop(epair);
    setup.restore().unwrap();
}

#[test]
fn an_interface_with_its_other_end_up_has_a_link() {
    let Some(epair) = Epair::create("an_interface_with_its_other_end_up_has_a_link") else { return };
    // epair0a's other end is epair0b.
    let other = epair.0.trim_end_matches('a').to_owned() + "b";
    ifconfig(&[&epair.0, "up"]);
    ifconfig(&[&other, "up"]);
    assert_ne!(os::link_state(&epair.0).unwrap(), Link::Down);
    assert!(os::link_state("nowhere0").is_err());
}
