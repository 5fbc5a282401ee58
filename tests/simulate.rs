//! `pen-dsr simulate`, the real binary: what it says is what `explain` and arithmetic say.

use std::process::{Command, Output};

fn pen_dsr(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pen-dsr")).args(words).output().expect("the binary runs")
}

/// What is printed for `pen-dsr 10.0.0.100 BACKENDS simulate CHANGES`.
fn simulate(backends: &[&str], changes: &[&str]) -> String {
    let words = [&["10.0.0.100"], backends, &["simulate"], changes].concat();
    let output = pen_dsr(&words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// One step of what was printed.
#[derive(Debug, PartialEq)]
struct Step {
    /// Percent that move, that have to, that need not.
    moved: [f64; 3],
    /// Percent that another method would move.
    by_remainder: f64,
    /// Backend, weight, before, ideal, after, ideal, off by.
    rows: Vec<(String, String, [f64; 5])>,
}

/// The numbers in front of percent signs.
fn percents(line: &str) -> Vec<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[1] == "%").map(|pair| pair[0].parse().expect("a number")).collect()
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            steps.push(Step { moved: [0.0; 3], by_remainder: 0.0, rows: Vec::new() });
        }
        let step = steps.last_mut().expect("the change comes first");
        if line.contains("are served by another backend") {
            step.moved[0] = percents(line)[0];
        } else if line.contains("the least") {
            let numbers = percents(line);
            (step.moved[1], step.moved[2], step.by_remainder) = (numbers[0], numbers[1], numbers[2]);
        } else if let [name, weight, numbers @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..]
            && numbers.len() == 5
            && *name != "backend"
        {
            let number = |n: usize| numbers[n].parse().expect("a number");
            let numbers = std::array::from_fn(number);
            step.rows.push(((*name).to_owned(), (*weight).to_owned(), numbers));
        }
    }
    steps
}

/// Few slots, as `explain` counts them for each client.
const SMALL: [&str; 2] = ["--table-size", "2039"];

/// Who serves some thousand clients, by `explain`.
fn served(backends: &[&str]) -> Vec<String> {
    let clients: Vec<String> = (0..3000u32).map(|n| format!("192.{}.{}.{}", n % 7, n / 250, 1 + n % 250)).collect();
    let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    let output = pen_dsr(&[&SMALL[..], &["10.0.0.100"], backends, &["explain"], &clients[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split_whitespace().nth(2).expect("a backend").to_owned()).collect()
}

#[test]
fn as_many_clients_move_as_explain_says() {
    let four = ["be1", "be2::::2", "be3", "be4"];
    for (change, after) in [
        ("remove be2", &["be1", "be3", "be4"][..]),
        ("weight be1 3", &["be1::::3", "be2::::2", "be3", "be4"]),
        ("add be5", &["be1", "be2::::2", "be3", "be4", "be5"]),
    ] {
        let step = &steps(&simulate(&[&four[..], &SMALL].concat(), &[change]))[0];
        let (before, after) = (served(&four), served(after));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let moved = 100.0 * moved as f64 / before.len() as f64;
        assert!((moved - step.moved[0]).abs() < 3.0, "{change}: {moved} % of those asked for, {step:?}");
        assert!(step.by_remainder > step.moved[0] + 10.0, "{change}: {step:?}");
    }
}

#[test]
fn shares_are_near_the_ideal_and_what_moves_is_near_the_least() {
    let text = simulate(&["be1", "be2", "be3::::2"], &["remove be2, weight be1 3, add be4::::5, drain be3"]);
    let steps = steps(&text);
    assert_eq!(steps.len(), 4, "{text}");
    for step in &steps {
        let [all, least, needless] = step.moved;
        assert!((all - least - needless).abs() < 0.02 && needless < 1.0, "{step:?}");
        for shares in [0, 2] {
            let sum: f64 = step.rows.iter().map(|(.., numbers)| numbers[shares]).sum();
            assert!((sum - 100.0).abs() < 0.01, "{step:?}");
        }
        for (name, _, [_, _, after, ideal, off]) in &step.rows {
            assert!((after - ideal - off).abs() < 0.002 && off.abs() < 0.1, "{name}: {step:?}");
        }
    }
    let weights: Vec<&str> = steps.iter().flat_map(|step| &step.rows).map(|(_, weight, _)| weight.as_str()).collect();
    assert_eq!(weights, ["1", "1>-", "2", "1>3", "2", "3", "2", "->5", "3", "2>out", "5"]);
}

#[test]
fn each_step_begins_where_the_one_before_has_ended() {
    let steps = steps(&simulate(&["be1", "be2", "be3"], &["down be2", "up be2"]));
    let [down, up] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(down.moved, up.moved);
    for ((_, _, down), (_, _, up)) in down.rows.iter().zip(&up.rows) {
        assert_eq!((down[0], down[2]), (up[2], up[0]), "who comes back has what he had");
    }
    assert_eq!(down.moved[2], 0.0, "only those of the backend that is down move");
}

#[test]
fn connections_stay_but_those_of_a_backend_that_is_down() {
    let text = simulate(&["be1", "be2"], &["weight be1 2, down be2, down be1"]);
    assert!(text.contains("connections that there are stay") && text.contains("backend that is down break"), "{text}");
    assert_eq!(text.matches("nobody is left").count(), 1, "{text}");
}

#[test]
fn what_is_no_change_is_refused_with_the_remedy() {
    for (changes, what) in [
        (&["fly be1"][..], "fly"),
        (&["servers"], "weight be1 3"),
        (&["remove be7"], "be7"),
        (&["remove be1, remove be2"], "no backends"),
        (&["add be1"], "be1"),
        (&["weight be1 x"], "x"),
        (&[], "COMMAND"),
    ] {
        let output = pen_dsr(&[&["10.0.0.100", "be1", "be2", "simulate"], changes].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{changes:?}: {said}");
        assert!(said.contains(what), "{changes:?}: {said}");
    }
}
