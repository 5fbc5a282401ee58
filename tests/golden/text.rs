//! The golden table as text: what `table.txt` holds.
//!
//! For each row a line `# NAME`, then `in HEX`, then one line for each thing that happens: `wire HEX` (it goes to the
//! wire), `host HEX` (the host gets it), `drop REASON`.

use std::fmt::Write;

use super::{Outcome, rows};

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// An outcome as it stands in the table, in one line.
pub fn outcome(outcome: &Outcome) -> String {
    let sent = outcome.sent.iter().map(|frame| format!("wire {}", hex(frame)));
    let to_host = outcome.to_host.iter().map(|frame| format!("host {}", hex(frame)));
    let dropped = outcome.dropped.iter().map(|reason| format!("drop {reason}"));
    sent.chain(to_host).chain(dropped).collect::<Vec<_>>().join("; ")
}

/// The whole table.
pub fn table() -> String {
    let mut text = String::new();
    for row in rows() {
        writeln!(text, "# {}\nin {}\n{}\n", row.name, hex(&row.frame), outcome(&row.outcome()).replace("; ", "\n"))
            .expect("a string takes all");
    }
    text
}
