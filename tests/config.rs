//! The configuration as a whole: what is refused and how that is said, what counts before what, and that what is written
//! is what is read.

#[path = "config/call.rs"]
mod call;
#[path = "config/example.rs"]
mod example;
#[path = "config/noise.rs"]
mod noise;
#[path = "config/order.rs"]
mod order;
#[path = "config/proxies.rs"]
mod proxies;
#[path = "config/round_trip.rs"]
mod round_trip;
#[path = "config/wrong.rs"]
mod wrong;
