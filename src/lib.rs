//! pen-dsr: a load balancer for one layer-2 segment, by Direct Server Return.

pub mod config;
pub mod counters;
pub mod director;
pub mod engine;
pub mod explain;
pub mod failure;
pub mod hold;
pub mod lb;
pub mod logging;
pub mod neighbor;
pub mod os;
pub mod port;
pub mod replay;
pub mod run;
pub mod stats;
pub mod verdict;
pub mod wire;
pub mod worker;
