//! The companion proxy: it ends clients' connections itself and makes its own to the servers, where Direct Server Return
//! cannot serve.

pub mod http;
