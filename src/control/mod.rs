//! Control at run time: the command language, and who speaks it.

pub mod client;
pub mod command;
pub mod execute;
pub mod server;
pub mod wire;
