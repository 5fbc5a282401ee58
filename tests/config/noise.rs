//! Whatever is in a file or a command, it is a configuration or an error of one line, and never the end of the program.

use pen_dsr::config::parse_backend;
use pen_dsr::control::command::{Command, help};
use proptest::prelude::*;

use crate::call::load_text;

const EXAMPLE: &str = include_str!("../../docs/pen-dsr.example.toml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_file_with_anything_in_it_is_read_or_refused(at in 0..EXAMPLE.len(), length in 0..40usize, noise in "\\PC{0,12}|[\\[\\]=\"#\n 0-9a-f:.-]{0,20}") {
        let start = EXAMPLE.floor_char_boundary(at);
        let end = EXAMPLE.floor_char_boundary((at + length).min(EXAMPLE.len()));
        let text = format!("{}{noise}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
        if let Err(failure) = load_text(&text) {
            prop_assert_eq!(failure.message.lines().count(), 1, "{}", failure);
            prop_assert!(!failure.message.contains(|c: char| c.is_control()), "{failure:?}");
        }
    }

    #[test]
    fn a_command_of_any_words_is_read_or_refused(word in 0..100usize, rest in "[ a-z0-9:./@\\[\\]é-]{0,40}") {
        let lines = help(None);
        let known: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
        let line = format!("{} {rest}", known[word % known.len()]);
        for line in [line.as_str(), &format!("no {line}"), &rest] {
            if let Err(failure) = Command::parse(line) {
                prop_assert_eq!(failure.message.lines().count(), 1, "{}", failure);
            }
        }
        let _ = parse_backend(&rest);
    }
}
