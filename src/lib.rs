//! pen-dsr: a load balancer for one layer-2 segment, by Direct Server Return.
//!
//! Clients send to a virtual address (VIP). The balancer answers ARP and neighbour discovery for it, reads each frame
//! from the wire, picks a backend by hashing the client's address, writes that backend's MAC into the frame and puts it
//! back on the wire. Backends have the VIP on their loopback and answer clients directly.
//!
//! # The way of a frame
//!
//! ```text
//! wire -> port -> engine: parse (wire) -> choose (lb) -> rewrite in place -> port -> wire
//!                   |                  \-> Host: the host's own stack has it
//!                   |                  \-> Drop(reason), counted
//!                   \-- what is learnt (ARP, ND) -> director -> tables, questions, announcements
//! ```
//!
//! - [`port`]: where frames come from and go to; owns the buffers, carries out the [`verdict`].
//! - [`worker`]: one thread that carries frames between one port and one engine.
//! - [`engine`]: frame in, verdict out. Pure: no socket, no clock, no lock, no allocation for a client's frame.
//! - [`wire`]: views on frames. [`lb`]: the choice of a backend. [`hold`]: a few frames that have to wait.
//! - [`director`]: which backends serve, from what the [`neighbor`]s say; publishes the tables. Pure, too.
//! - [`run`]: sets all that up on an interface and keeps it going. [`os`]: what differs between systems.
//! - [`config`]: the command line, validated. [`explain`] and [`replay`] use it without a network.

pub mod appliance;
pub mod balancer;
pub mod config;
pub mod control;
pub mod counters;
pub mod director;
pub mod engine;
pub mod explain;
pub mod failure;
pub mod flowfile;
pub mod health;
pub mod hold;
pub mod lb;
pub mod logging;
pub mod neighbor;
pub mod os;
pub mod penlog;
pub mod port;
pub mod probe;
pub mod proxy;
pub mod replay;
pub mod run;
pub mod simulate;
pub mod stats;
pub mod sync;
pub mod verdict;
pub mod wire;
pub mod worker;
pub mod xdp;
