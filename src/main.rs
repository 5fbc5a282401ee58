//! pen-dsr.
fn main() {}
