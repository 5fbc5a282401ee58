//! How much is measured, and where.

use std::time::Duration;

use pen_dsr::os::pin_thread;

/// What may be said behind `--`.
const USAGE: &str = "--rounds N, --seconds S (of one measurement), --cpus RELAY,LOAD[,TALKER]";
/// More processors than these are not looked at.
const MOST_CPUS: usize = 512;

/// What was asked for.
pub struct Options {
    /// As it was typed.
    pub command: String,
    /// How often all of it is done.
    pub rounds: usize,
    /// How long one measurement takes.
    pub time: Duration,
    /// Connections whose heap is counted.
    pub idle: usize,
    /// Processors: the relay's, that of clients and server, and of who writes what is downloaded.
    pub cpus: [usize; 3],
}

impl Options {
    /// What `words`, those behind the program's name, ask for.
    ///
    /// # Errors
    /// A word is not known, or its value is none; or there is no processor on which this may run.
    pub fn from_words(words: impl Iterator<Item = String>) -> Result<Options, String> {
        let words: Vec<String> = words.collect();
        let mut options = Options {
            command: "cargo bench --bench runtimes".to_owned(),
            rounds: 1,
            time: Duration::from_millis(5),
            idle: 10,
            cpus: [0; 3],
        };
        let mut cpus = Vec::new();
        // `cargo bench` says so; whatever else runs this (`cargo test --all-targets`) sees whether it works. Its words are
        // for the tests.
        if words.iter().any(|word| word == "--bench") {
            (options.rounds, options.time, options.idle) = (5, Duration::from_millis(500), 1000);
            let mut words = words.into_iter().filter(|word| word != "--bench").peekable();
            if words.peek().is_some() {
                options.command.push_str(" --");
            }
            while let Some(word) = words.next() {
                let value = words.next().unwrap_or_default();
                options.command.push_str(&format!(" {word} {value}"));
                match word.as_str() {
                    "--rounds" => options.rounds = value.parse().ok().filter(|n| *n > 0).ok_or(wrong(&word, &value))?,
                    "--seconds" => {
                        let seconds = value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                        options.time = seconds.ok_or(wrong(&word, &value))?;
                    }
                    "--cpus" => {
                        let named: Result<_, _> = value.split(',').map(str::parse).collect();
                        cpus = named.map_err(|_| wrong(&word, &value))?;
                    }
                    _ => return Err(wrong(&word, &value)),
                }
            }
        }
        if cpus.is_empty() {
            cpus = usable();
        }
        let first = *cpus.first().ok_or("no processor can be chosen here: name some, as --cpus 0,1")?;
        let second = cpus.get(1).copied().unwrap_or(first);
        options.cpus = [first, second, cpus.get(2).copied().unwrap_or(second)];
        Ok(options)
    }
}

fn wrong(word: &str, value: &str) -> String {
    format!("{word} {value}: not understood; there are {USAGE}")
}

/// The processors that a thread may be bound to, those with the lowest numbers.
fn usable() -> Vec<usize> {
    let bound = || (0..MOST_CPUS).filter(|cpu| pin_thread(*cpu).is_ok()).take(3).collect();
    std::thread::spawn(bound).join().unwrap_or_default()
}
