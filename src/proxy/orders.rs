//! The threads of the event loops, and what the main thread wants of them.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::{Poll, Waker};
use socket2::Socket;

use super::access::Recorder;
use super::plan::Plan;
use super::token::WAKER;

/// What the main thread wants of a loop.
pub(super) enum Order {
    /// Another snapshot, with sockets for the listeners that are new in it, by their places.
    Plan(Arc<Plan>, Vec<(usize, Socket)>),
    /// Lines of the access log go there from now on.
    Record(Option<Recorder>),
    /// Take nothing more from clients, end as soon as all sessions have.
    Drain,
    /// End.
    Stop,
}

/// An event loop in its thread, as the main thread sees it.
pub(super) struct Loop {
    orders: Sender<Order>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    /// Begins a thread `name`. What it runs is made here, of what it waits for events with and of where its orders come.
    ///
    /// # Errors
    /// The system has no room for it; those of `make`.
    pub(super) fn begin<R: FnOnce() + Send + 'static>(
        name: String,
        make: impl FnOnce(Poll, Receiver<Order>) -> io::Result<R>,
    ) -> io::Result<Loop> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (orders, receiver) = unbounded();
        let thread = thread::Builder::new().name(name).spawn(make(poll, receiver)?)?;
        Ok(Loop { orders, waker, thread: Some(thread) })
    }

    /// Tells it; it takes orders in the order in which they were given.
    pub(super) fn give(&self, order: Order) {
        // One that has ended needs no orders.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }

    /// Wakes it.
    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Has it ended?
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has ended.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // What went wrong has been said by the panic.
            let _ = thread.join();
        }
    }
}
