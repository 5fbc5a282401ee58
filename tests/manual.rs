//! The manual page `docs/pen-dsr.8` names what the program takes, all of it and nothing else.
//!
//! `Fl` in it is for options of pen-dsr alone; those of other programs stand in literal text.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const PAGE: &str = "docs/pen-dsr.8";

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).expect("the manual page")
}

/// What `pen-dsr WORDS --help` prints. Hidden options are not in it.
fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pen-dsr")).args(words).arg("--help").output().expect("it starts");
    assert!(output.status.success(), "pen-dsr {words:?} --help: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The subcommands: the first words of the lines under `Commands:`.
fn subcommands(help: &str) -> BTreeSet<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The options: `-c, --config <FILE>` stands further to the left than what is said of it.
fn options(help: &str) -> BTreeSet<String> {
    let listed = help.lines().filter(|line| line.len() - line.trim_start().len() <= 6);
    let words = listed.filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    let is_name = |c: char| c == '-' || c.is_ascii_alphanumeric();
    // One whose value may be left out is written --backend-tls[=<verify>].
    let words = words.map(|word| word.split('[').next().unwrap_or_default());
    let names = words.filter(|word| word.starts_with('-')).map(|word| word.trim_end_matches(|c: char| !is_name(c)));
    names.filter(|name| name.len() > 1).map(str::to_owned).collect()
}

/// All options of the program and of its subcommands.
fn all_options() -> BTreeSet<String> {
    let own = help(&[]);
    let mut all = options(&own);
    for subcommand in subcommands(&own) {
        all.extend(options(&help(&[&subcommand])));
    }
    all
}

/// What follows the macro `name` in a line of mdoc(7).
fn arguments<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let words: Vec<&str> = line.strip_prefix('.').unwrap_or_default().split_whitespace().collect();
    let pairs: Vec<(&str, &str)> = words.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect();
    pairs.into_iter().filter(move |(word, _)| *word == name).map(|(_, argument)| argument)
}

/// The options that `lines` name: `Fl c` is `-c`, and `Fl -config` is `--config`.
fn flags<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let lines = lines.filter(|line| !line.starts_with(".\\\""));
    lines.flat_map(|line| arguments(line, "Fl")).map(|flag| format!("-{flag}")).collect()
}

#[test]
fn each_option_of_the_program_has_its_item_in_the_manual() {
    let page = page();
    let described = flags(page.lines().filter(|line| line.starts_with(".It ")));
    let options = all_options();
    assert!(options.len() > 40 && options.contains("--check-interval") && options.contains("-w"), "{options:?}");
    let missing: Vec<_> = options.difference(&described).collect();
    assert!(missing.is_empty(), "{PAGE} does not describe {missing:?}");
}

#[test]
fn the_manual_names_no_option_that_the_program_does_not_take() {
    let page = page();
    let named = flags(page.lines());
    let options = all_options();
    let unknown: Vec<_> = named.difference(&options).collect();
    assert!(unknown.is_empty(), "{PAGE} names {unknown:?}, which pen-dsr --help does not");
}

#[test]
fn each_subcommand_has_its_item_in_the_manual_and_no_other_word_has() {
    let page = page();
    let section = page.lines().skip_while(|line| *line != ".Sh SUBCOMMANDS").skip(1);
    let section = section.take_while(|line| !line.starts_with(".Sh ") && !line.starts_with(".Ss "));
    let described: BTreeSet<String> =
        section.filter_map(|line| line.strip_prefix(".It Cm ")).map(str::to_owned).collect();
    let subcommands = subcommands(&help(&[]));
    assert!(subcommands.contains("explain"), "{subcommands:?}");
    assert_eq!(described, subcommands);
}

#[test]
fn the_manual_names_each_exit_code() {
    let page = page();
    let section = page.lines().skip_while(|line| *line != ".Sh EXIT STATUS").skip(1);
    let codes: Vec<&str> =
        section.take_while(|line| !line.starts_with(".Sh ")).filter_map(|line| line.strip_prefix(".It ")).collect();
    // Those of failure::Sysexit, and success.
    assert_eq!(codes, ["0", "64", "65", "66", "67", "68", "69", "70", "71", "73", "77", "78"]);
}

#[test]
fn mandoc_finds_no_fault_in_the_manual() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    match Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(path).output() {
        Err(e) => println!("SKIPPED manual::mandoc_finds_no_fault_in_the_manual: mandoc cannot be run ({e})"),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        }
    }
}
