//! Sending small frames by an AF_XDP socket (the kernel's Documentation/networking/af_xdp.rst) that receives nothing and
//! needs no program: in copy mode, which every interface can.
//!
//! It takes the kernel a third less time than sendmmsg(2) on a packet socket: frames are described in a ring that is shared
//! with the kernel instead of by headers, vectors and addresses that it has to copy and check, and nothing is guessed about
//! what is in them. Its price: frames go straight to the driver. No queueing discipline shapes them, and tcpdump(8) on this
//! machine does not see them.
//!
//! Frames are copied, so that whoever hands them over may forget them. One that the driver has no room for stays in the
//! ring until the next [`XdpSender::kick`].

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::option;
use crate::os::map_file;

/// Frames that may be on their way: each ring's entries, a power of two.
const FRAMES: u32 = 1024;
/// Bytes of a frame at the most.
const CHUNK: usize = 2048;
/// For frames that the driver has not sent yet; the kernel doubles it.
const SEND_BUFFER: c_int = 2 << 20;
/// Frames that the kernel sends in one call, where it can be told (Linux 6.18); before, 32.
const BUDGET: c_int = 64;
/// Calls in a row that send nothing, as far as one can see: the kernel may tell late what it has taken.
const PATIENCE: u32 = 4;

// From linux/if_xdp.h; the libc crate does not have it.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

/// Sends frames on one queue of an interface.
pub(super) struct XdpSender {
    socket: OwnedFd,
    /// The frames, each in a chunk of its own.
    chunks: MmapMut,
    /// Chunks that hold no frame: where they begin.
    free: Vec<u64>,
    transmit: Shared<libc::xdp_desc>,
    complete: Shared<u64>,
    /// Frames that were put into the ring, modulo 2^32.
    produced: u32,
    /// Completions that were read, modulo 2^32.
    completed: u32,
}

/// What has become of the frames of a [`XdpSender::kick`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kicked {
    /// Lost: refused by the driver.
    pub(super) refused: u64,
    /// Still in the ring.
    pub(super) left: u32,
}

impl XdpSender {
    /// One on the queue `queue` of interface number `index`, which has to be one that it sends by: the kernel takes any that
    /// there is in either direction, and then nothing out of the ring (net/xdp/xsk.c).
    ///
    /// # Errors
    /// The system's: a kernel without AF_XDP, no such queue, one that another program has; see [`in_words`].
    pub(super) fn open(index: u32, queue: u32) -> io::Result<XdpSender> {
        // SAFETY: socket(2) takes numbers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened, and that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let chunks = shared_memory(FRAMES as usize * CHUNK)?;
        // SAFETY: an xdp_umem_reg is plain numbers.
        let mut region: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
        region.addr = chunks.as_ptr() as u64;
        region.len = chunks.len() as u64;
        region.chunk_size = CHUNK as u32;
        // SAFETY: what it points to is the sender's `chunks`, which stay where they are until its socket is closed.
        unsafe { option::set_struct(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &region) }?;
        // Nothing is received, but no socket may be without a ring of chunks to receive into.
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            option::set(&socket, libc::SOL_XDP, ring, FRAMES as c_int)?;
        }
        let _ = option::set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER)
            .or_else(|_| option::set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER));
        let _ = option::set(&socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, BUDGET);
        let offsets = offsets(&socket)?;
        let transmit = Shared::map(&socket, libc::XDP_PGOFF_TX_RING as u64, &offsets.tx)?;
        let complete = Shared::map(&socket, libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr)?;
        bind(&socket, index, queue)?;
        let free = (0..u64::from(FRAMES)).map(|n| n * CHUNK as u64).collect();
        Ok(XdpSender { socket, chunks, free, transmit, complete, produced: 0, completed: 0 })
    }

    /// Is `frame` one that fits?
    #[inline]
    pub(super) fn fits(frame: &[u8]) -> bool {
        frame.len() <= CHUNK
    }

    /// Copies `frame` into the ring, which the next [`XdpSender::kick`] sends; false: there is no room, or it does not fit.
    #[inline]
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        let Some(address) = self.free.pop() else { return false };
        let Some(room) = self.chunks.get_mut(address as usize..).and_then(|rest| rest.get_mut(..frame.len())) else {
            self.free.push(address);
            return false;
        };
        room.copy_from_slice(frame);
        // There are as many entries as chunks: this one's last frame has been taken out, or its chunk would not be free.
        self.transmit.write(self.produced, libc::xdp_desc { addr: address, len: frame.len() as u32, options: 0 });
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Frames that the kernel has taken out of the ring, as far as it has told, modulo 2^32.
    #[inline]
    pub(super) fn taken(&self) -> u32 {
        self.transmit.consumer().load(Ordering::Acquire)
    }

    /// Frames in the ring that the kernel has not taken yet, as far as it has told.
    #[inline]
    pub(super) fn left(&self) -> u32 {
        self.produced.wrapping_sub(self.taken())
    }

    /// Has the kernel send what is in the ring.
    ///
    /// # Errors
    /// The system's: the interface is down or has gone. What is in the ring stays there.
    pub(super) fn kick(&mut self) -> io::Result<Kicked> {
        self.transmit.producer().store(self.produced, Ordering::Release);
        let (mut refused, mut vain) = (0, 0);
        while self.left() > 0 && vain < PATIENCE {
            match self.call() {
                Ok(()) => vain += 1,
                Err(e) => match e.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // One was refused; the others are still there.
                    Some(libc::EBUSY) if refused < u64::from(FRAMES) => refused += 1,
                    // No room with the driver, or there are more than the kernel sends in one call.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => vain += 1,
                    _ => return Err(e),
                },
            }
        }
        self.reclaim();
        Ok(Kicked { refused, left: self.left() })
    }

    fn call(&self) -> io::Result<()> {
        // SAFETY: nothing is handed over; the kernel looks into the ring instead.
        let sent = unsafe {
            libc::sendto(self.socket.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes back the chunks of frames that have left.
    #[inline]
    fn reclaim(&mut self) {
        let until = self.complete.producer().load(Ordering::Acquire);
        while self.completed != until && self.free.len() < FRAMES as usize {
            self.free.push(self.complete.read(self.completed));
            self.completed = self.completed.wrapping_add(1);
        }
        self.complete.consumer().store(self.completed, Ordering::Release);
    }
}

impl AsFd for XdpSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What it means that there is no sender on the queue `queue`.
pub(super) fn in_words(e: &io::Error, queue: u32) -> String {
    let words = match e.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)".to_owned(),
        Some(libc::EBUSY) => format!("another AF_XDP socket, perhaps of another program, has queue {queue}"),
        Some(libc::EINVAL) => format!("the kernel takes no AF_XDP socket on queue {queue}"),
        Some(libc::ENOBUFS) => "its memory is more than may be locked (ulimit -l)".to_owned(),
        Some(libc::EPERM | libc::EACCES) => "AF_XDP sockets take CAP_NET_RAW".to_owned(),
        _ => "no AF_XDP socket".to_owned(),
    };
    format!("{words}: {e}")
}

/// A ring of `T` that is shared with the kernel: who puts in counts one number up, who takes out the other.
struct Shared<T> {
    memory: MmapRaw,
    producer: usize,
    consumer: usize,
    entries: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Copy> Shared<T> {
    /// The ring of `socket` that is mapped at `offset`, and lies there as `at` says.
    fn map(socket: &OwnedFd, offset: u64, at: &libc::xdp_ring_offset) -> io::Result<Shared<T>> {
        let [producer, consumer, entries] = [at.producer, at.consumer, at.desc].map(|at| at as usize);
        let length = entries + FRAMES as usize * size_of::<T>();
        if producer + 4 > length || consumer + 4 > length || !(producer | consumer).is_multiple_of(4) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "AF_XDP: a ring of another kind than is known"));
        }
        if !entries.is_multiple_of(align_of::<T>()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "AF_XDP: entries that are not aligned"));
        }
        let memory = MmapOptions::new().offset(offset).len(length).map_raw(socket)?;
        Ok(Shared { memory, producer, consumer, entries, kind: std::marker::PhantomData })
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned, and within the memory (`map`), which lives as long as `self`.
        unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(self.producer).cast()) }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for the producer's.
        unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(self.consumer).cast()) }
    }

    /// The entry of the number `n`.
    #[inline]
    fn entry(&self, n: u32) -> *mut T {
        // SAFETY: the remainder is less than the number of entries, for which the memory has room (`map`).
        unsafe { self.memory.as_mut_ptr().add(self.entries).cast::<T>().add((n % FRAMES) as usize) }
    }

    #[inline]
    fn write(&mut self, n: u32, entry: T) {
        // SAFETY: aligned (`map`), and the kernel does not look at it before the producer's number has passed it.
        unsafe { self.entry(n).write(entry) };
    }

    #[inline]
    fn read(&self, n: u32) -> T {
        // SAFETY: aligned (`map`); the kernel has filled it in, as the producer's number has passed it, and does not write
        // to it before the consumer's does. Every entry is plain numbers.
        unsafe { self.entry(n).read() }
    }
}

/// `length` bytes that stay the same for the kernel and for us when the process forks (`--daemon`): of private memory the
/// kernel would go on with the parent's.
fn shared_memory(length: usize) -> io::Result<MmapMut> {
    let file = File::from(memfd_create(c"pen-dsr-frames", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(length as u64)?;
    map_file(&file, 0, length)
}

/// Where the parts of the rings are; Linux before 5.4 tells less than is known here.
fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: it is plain numbers.
    unsafe { option::get(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS) }
}

fn bind(socket: &OwnedFd, index: u32, queue: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: index,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let pointer = std::ptr::from_ref(&address).cast::<libc::sockaddr>();
    // SAFETY: the pointer is to a sockaddr_xdp of the given length that outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), pointer, size_of::<libc::sockaddr_xdp>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
