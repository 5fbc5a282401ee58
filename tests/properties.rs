//! What holds for all frames, all sets of backends, all clients: checked on random ones.

#[path = "properties/balance.rs"]
mod balance;
#[path = "properties/datagrams.rs"]
mod datagrams;
#[path = "properties/frames.rs"]
mod frames;
#[path = "golden/mod.rs"]
mod golden;
#[path = "common/invariants.rs"]
mod invariants;
#[path = "properties/shortcuts.rs"]
mod shortcuts;
