//! The threads of the event loops for datagrams.

use std::io;
use std::sync::Arc;

use socket2::Socket;

use super::DatagramLoop;
use crate::proxy::access::{AccessWriter, Recorder};
use crate::proxy::orders::{Loop, Order};
use crate::proxy::plan::Plan;
use crate::proxy::shared::Shared;

/// All of them. There are none until there is a listener for datagrams.
#[derive(Default)]
pub(in crate::proxy) struct Loops(Vec<Loop>);

impl Loops {
    /// Serves by `plan`, with these new sockets, for each loop by the listeners' places; the first that there are begin as
    /// many loops, which write to `log`.
    ///
    /// # Errors
    /// The system has no room for the loops.
    pub(in crate::proxy) fn adopt(
        &mut self,
        shared: &Arc<Shared>,
        plan: &Arc<Plan>,
        sockets: Vec<Vec<(usize, Socket)>>,
        log: Option<&AccessWriter>,
    ) -> io::Result<()> {
        if self.0.is_empty() && sockets.iter().any(|one| !one.is_empty()) {
            self.0 = (0..sockets.len())
                .map(|index| begin(index, shared, log.map(AccessWriter::recorder)))
                .collect::<io::Result<_>>()?;
        }
        let mut sockets = sockets.into_iter();
        for one in &self.0 {
            one.give(Order::Plan(Arc::clone(plan), sockets.next().unwrap_or_default()));
        }
        Ok(())
    }

    /// Writes to `log` from now on.
    pub(in crate::proxy) fn record(&self, log: Option<&AccessWriter>) {
        self.0.iter().for_each(|one| one.give(Order::Record(log.map(AccessWriter::recorder))));
    }

    /// Takes nothing more from clients; what servers answer still goes to them.
    pub(in crate::proxy) fn drain(&self) {
        self.0.iter().for_each(|one| one.give(Order::Drain));
    }

    /// Has everything ended, after [`Loops::drain`]?
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.0.iter().all(Loop::is_over)
    }

    /// Ends everything, now.
    pub(in crate::proxy) fn stop(&mut self) {
        self.0.iter().for_each(|one| one.give(Order::Stop));
        self.0.iter_mut().for_each(Loop::join);
    }
}

fn begin(index: usize, shared: &Arc<Shared>, recorder: Option<Recorder>) -> io::Result<Loop> {
    Loop::begin(format!("datagrams {index}"), |poll, orders| {
        let datagrams = DatagramLoop::new(poll, Arc::clone(shared), orders, recorder)?;
        Ok(move || datagrams.run())
    })
}
