//! pen-dsr: a load balancer for one layer-2 segment, by Direct Server Return.

pub mod counters;
pub mod engine;
pub mod hold;
pub mod lb;
pub mod port;
pub mod verdict;
pub mod wire;
