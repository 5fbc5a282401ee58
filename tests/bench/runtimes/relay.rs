//! A relay in a thread of its own, and how it is asked for its CPU time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use pen_dsr::os::pin_thread;

use crate::load::PATIENCE;
use crate::{by_mio, by_tokio};

/// By what it is made.
#[derive(Clone, Copy)]
pub enum Kind {
    /// An event loop of mio's.
    Mio,
    /// A task for each connection, and two buffers of so many bytes.
    Tokio {
        /// Bytes of each of them.
        buffer: usize,
    },
}

/// A relay that runs; it ends when this is dropped, and its connections with it.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    /// Each byte that it reads here asks for its CPU time, which it answers as [`cpu_time`]. The end ends it.
    control: UnixStream,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Relay {
    /// One that carries between its clients and `server`, on processor `cpu`.
    pub fn start(kind: Kind, cpu: usize, server: SocketAddr) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (control, asked) = UnixStream::pair()?;
        control.set_read_timeout(Some(PATIENCE))?;
        listener.set_nonblocking(true)?;
        asked.set_nonblocking(true)?;
        let thread = thread::Builder::new().spawn(move || {
            pin_thread(cpu)?;
            match kind {
                Kind::Mio => by_mio::run(listener, server, asked),
                Kind::Tokio { buffer } => by_tokio::run(listener, server, asked, buffer),
            }
        })?;
        Ok(Relay { address, control, thread: Some(thread) })
    }

    /// What its thread has taken so far, as user and in the kernel.
    pub fn cpu_time(&mut self) -> io::Result<Duration> {
        let mut micros = [0; 8];
        self.control.write_all(&[0])?;
        self.control.read_exact(&mut micros)?;
        Ok(Duration::from_micros(u64::from_ne_bytes(micros)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It sees the end of what it is asked. There is nothing to be done here about one that has failed.
        let _ = self.control.shutdown(Shutdown::Both);
        if let Some(Ok(Err(e))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("runtimes: the relay failed: {e}");
        }
    }
}

/// What a relay answers who asks for its CPU time: that of the calling thread, in us.
pub fn cpu_time() -> io::Result<[u8; 8]> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let both = usage.user_time() + usage.system_time();
    let micros = i128::from(both.tv_sec()) * 1_000_000 + i128::from(both.tv_usec());
    Ok(u64::try_from(micros).unwrap_or_default().to_ne_bytes())
}
