//! The access log (stub).
use super::select::Why;
#[derive(Clone, Copy, Debug)] pub enum End { Closed, Idle, Stopped, Broken, Refused(Why) }
pub struct Recorder;
