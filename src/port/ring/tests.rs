//! The port on a ring in memory, with the kernel's side of it played by [`Model`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use memmap2::{MmapMut, MmapRaw};

use super::slots::{Header, TP_STATUS_COPY, TP_STATUS_USER, TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID};
use super::*;
use crate::os::RingShape;
use crate::port::waker;
use crate::verdict::DropReason;

/// Two blocks with something left over behind their slots.
const SHAPE: RingShape = RingShape { slot: 320, block: 2048, blocks: 2 };
/// Where the kernel puts a frame in a slot.
const MAC: usize = 80;
/// The largest frame that fits.
const FITS: usize = SHAPE.slot - MAC;

/// What the port has asked of the system, and what that is to answer.
#[derive(Default)]
struct System {
    /// Frames that did not fit, with their prefix.
    whole: VecDeque<Vec<u8>>,
    aside: VecDeque<Vec<u8>>,
    /// What was sent, with its prefix.
    sent: Vec<Vec<u8>>,
    /// How many frames each call had to send.
    batches: Vec<usize>,
    /// Frames, by their last byte, that are refused, and why.
    refuses: Vec<(u8, i32)>,
    /// Errors that come instead of the next frames.
    errors: VecDeque<i32>,
    /// Slots that were the kernel's when something was sent.
    free_when_sent: Vec<usize>,
    memory: Option<*mut u8>,
    /// Only so many frames leave by each call, if so; the others wait.
    room: Option<usize>,
    waiting: VecDeque<Vec<u8>>,
    /// Frames that had waited and have left.
    taken: u32,
    refused: u64,
    /// Until when the port has waited last.
    until: Option<Instant>,
}

impl System {
    fn push_on(&mut self) {
        let count = self.room.unwrap_or(usize::MAX).min(self.waiting.len());
        self.sent.extend(self.waiting.drain(..count));
        self.taken = self.taken.wrapping_add(count as u32);
    }
}

struct Socket(Rc<RefCell<System>>);

impl Socket {
    fn receive(queue: Option<Vec<u8>>, buffer: &mut [u8]) -> Option<usize> {
        let frame = queue?;
        buffer[..frame.len()].copy_from_slice(&frame);
        Some(frame.len())
    }
}

impl Calls for Socket {
    fn receive_whole(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut system = self.0.borrow_mut();
        if let Some(error) = system.errors.pop_front() {
            return Err(io::Error::from_raw_os_error(error));
        }
        Ok(Socket::receive(system.whole.pop_front(), buffer))
    }

    fn receive_aside(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(Socket::receive(self.0.borrow_mut().aside.pop_front(), buffer))
    }

    fn send(&mut self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut system = self.0.borrow_mut();
        system.batches.push(frames.len());
        if let Some(memory) = system.memory {
            let free = (0..SHAPE.slots()).filter(|&slot| status(memory, slot) == 0).count();
            system.free_when_sent.push(free);
        }
        if system.room.is_some() {
            system.waiting.extend(frames.iter().map(|frame| frame.to_vec()));
            system.push_on();
            return Ok(frames.len());
        }
        for (n, frame) in frames.iter().enumerate() {
            let refused = system.refuses.iter().find(|(last, _)| frame.last() == Some(last)).copied();
            match refused {
                Some((_, error)) if n == 0 => return Err(io::Error::from_raw_os_error(error)),
                Some(_) => return Ok(n),
                None => system.sent.push(frame.to_vec()),
            }
        }
        Ok(frames.len())
    }

    fn push_on(&mut self) {
        self.0.borrow_mut().push_on();
    }

    fn held_up(&self) -> Option<u32> {
        let system = self.0.borrow();
        (!system.waiting.is_empty()).then_some(system.taken)
    }

    fn give_up(&mut self) {
        let mut system = self.0.borrow_mut();
        system.refused += system.waiting.drain(..).count() as u64;
        system.room = None;
    }

    fn wait(&mut self, _wake: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Ready> {
        self.0.borrow_mut().until = until;
        Ok(Ready { aside: !self.0.borrow().aside.is_empty(), ..Ready::default() })
    }

    fn clear_error(&mut self) {}

    fn take_drops(&mut self) -> u64 {
        0
    }

    fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.0.borrow_mut().refused)
    }
}

fn start(memory: *mut u8, slot: usize) -> *mut u8 {
    let per_block = SHAPE.slots_per_block();
    // SAFETY: tests ask for slots of the ring, which are all in its memory.
    unsafe { memory.add(slot / per_block * SHAPE.block + slot % per_block * SHAPE.slot) }
}

fn status(memory: *mut u8, slot: usize) -> u32 {
    // SAFETY: a slot begins with its status, aligned; port and model are one thread.
    unsafe { start(memory, slot).cast::<u32>().read() }
}

/// The port, and the kernel's side of its ring.
struct Model {
    port: RingPort<Socket>,
    system: Rc<RefCell<System>>,
    memory: *mut u8,
    next: usize,
}

impl Model {
    fn new() -> Model {
        let memory = MmapRaw::from(MmapMut::map_anon(SHAPE.length()).unwrap());
        let pointer = memory.as_mut_ptr();
        let system = Rc::new(RefCell::new(System { memory: Some(pointer), ..System::default() }));
        let (_waker, wake) = waker().unwrap();
        let slots = Slots::new(memory, SHAPE).unwrap();
        let port = RingPort::new(slots, Socket(Rc::clone(&system)), wake);
        Model { port, system, memory: pointer, next: 0 }
    }

    /// Fills the next slot with `frame` behind `prefix`, as far as it fits; false: the slot is not the kernel's.
    fn put(&mut self, prefix: [u8; VNET_HEADER], frame: &[u8], change: impl FnOnce(&mut Header)) -> bool {
        if status(self.memory, self.next) != 0 {
            return false;
        }
        let length = frame.len().min(FITS);
        let mut header = Header {
            len: frame.len() as u32,
            snaplen: length as u32,
            mac: MAC as u16,
            net: MAC as u16 + 14,
            ..Header::default()
        };
        header.status = TP_STATUS_USER;
        change(&mut header);
        let slot = start(self.memory, self.next);
        // SAFETY: the slot is the kernel's, that is ours, and has room for all of it.
        unsafe {
            slot.add(MAC - VNET_HEADER).copy_from_nonoverlapping(prefix.as_ptr(), VNET_HEADER);
            slot.add(MAC).copy_from_nonoverlapping(frame.as_ptr(), length);
            slot.cast::<Header>().write(header);
        }
        self.next = (self.next + 1) % SHAPE.slots();
        true
    }

    /// A frame as it comes, whole at the socket if it does not fit.
    fn arrive(&mut self, frame: &[u8]) -> bool {
        let copied = frame.len() > FITS;
        let put = self.put([0; VNET_HEADER], frame, |header| {
            if copied {
                header.status |= TP_STATUS_COPY;
            }
        });
        if put && copied {
            self.system.borrow_mut().whole.push_back([&[0; VNET_HEADER], frame].concat());
        }
        put
    }

    /// Has the port send everything back; how many frames there were.
    fn drive(&mut self) -> io::Result<usize> {
        self.port.drive(64, &mut |_, _| Verdict::Transmit)
    }

    /// What was sent since the last call, without its prefix.
    fn sent(&self) -> Vec<Vec<u8>> {
        let sent = std::mem::take(&mut self.system.borrow_mut().sent);
        sent.into_iter().map(|frame| frame[VNET_HEADER..].to_vec()).collect()
    }
}

fn frame(number: u8, length: usize) -> Vec<u8> {
    vec![number; length]
}

#[test]
fn frames_go_round_and_round_in_their_order() {
    let mut model = Model::new();
    let count = SHAPE.slots();
    for round in 0..40u8 {
        let frames: Vec<Vec<u8>> = (0..=round % count as u8).map(|n| frame(round ^ n, 60 + usize::from(n))).collect();
        assert!(frames.iter().all(|frame| model.arrive(frame)));
        assert_eq!(model.drive().unwrap(), frames.len());
        assert_eq!(model.sent(), frames);
        assert_eq!(model.drive().unwrap(), 0, "each once");
    }
}

#[test]
fn slots_are_the_kernels_again_once_their_frames_are_sent() {
    let mut model = Model::new();
    let count = SHAPE.slots();
    assert!((0..count).all(|n| model.arrive(&frame(n as u8, 60))));
    assert!(!model.arrive(&frame(99, 60)), "the ring is full");
    assert_eq!(model.drive().unwrap(), count);
    assert_eq!(model.system.borrow().free_when_sent, [0], "all are still held while they are sent");
    assert!(model.arrive(&frame(99, 60)), "and free then");
    // What is not sent is let go, too.
    assert_eq!(model.port.drive(64, &mut |_, _| Verdict::Host).unwrap(), 1);
    assert_eq!(status(model.memory, 0), 0);
}

#[test]
fn frames_that_do_not_fit_come_whole_and_in_their_turn() {
    let mut model = Model::new();
    // More large ones in a row than there are buffers.
    let lengths = [60, 1500, 61, 9000, 1501, 1502, 1503, 65_549, 62, FITS, FITS + 1];
    let frames: Vec<Vec<u8>> = (0..).zip(lengths).map(|(n, length)| frame(n, length)).collect();
    assert!(frames.iter().all(|frame| model.arrive(frame)));
    assert_eq!(model.drive().unwrap(), frames.len());
    assert!(model.sent() == frames);
}

#[test]
fn an_error_that_the_socket_tells_instead_of_a_large_frame_loses_nothing() {
    let mut model = Model::new();
    assert!(model.arrive(&frame(1, 1500)));
    model.system.borrow_mut().errors.extend([libc::ENETDOWN; 3]);
    assert_eq!(model.drive().unwrap(), 1);
    assert_eq!(model.sent(), [frame(1, 1500)]);
}

#[test]
fn a_large_frame_that_is_not_there_is_lost_and_nothing_else() {
    let mut model = Model::new();
    assert!(model.arrive(&frame(1, 60)));
    assert!(model.put([0; VNET_HEADER], &frame(2, 1500), |header| header.status |= TP_STATUS_COPY));
    // The socket had no room for this one.
    assert!(model.put([0; VNET_HEADER], &frame(3, 1500), |_| {}));
    assert!(model.arrive(&frame(4, 60)));
    assert_eq!(model.drive().unwrap(), 4);
    assert_eq!(model.sent(), [frame(1, 60), frame(4, 60)]);
    assert_eq!(model.port.tally().overrun, 2);
}

#[test]
fn a_tag_that_was_taken_out_is_put_back() {
    let mut model = Model::new();
    // An unfinished checksum 34 bytes from the frame's start, and 16 behind that.
    let mut prefix = [1, 0, 54, 0, 0, 0, 34, 0, 16, 0];
    for field in [2, 6, 8] {
        let number = u16::from(prefix[field]);
        prefix[field..field + 2].copy_from_slice(&number.to_ne_bytes());
    }
    let plain: Vec<u8> = (0..60).collect();
    for (tpid, status) in [(0x88a8, TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID), (0, TP_STATUS_VLAN_VALID)] {
        assert!(model.put(prefix, &plain, |header| {
            (header.vlan_tpid, header.vlan_tci) = (tpid, 0x2005);
            header.status |= status;
        }));
    }
    let mut shown = Vec::new();
    let decide = &mut |_: Arm, frame: &mut [u8]| {
        shown.push(frame.to_vec());
        Verdict::Transmit
    };
    assert_eq!(model.port.drive(64, decide).unwrap(), 2);
    let tagged = |tag: [u8; 4]| [&plain[..12], &tag, &plain[12..]].concat();
    assert_eq!(shown, [tagged([0x88, 0xa8, 0x20, 5]), tagged([0x81, 0, 0x20, 5])]);
    let sent = model.system.borrow().sent[0].clone();
    assert_eq!(sent[VNET_HEADER..], shown[0]);
    let field = |at: usize| u16::from_ne_bytes([sent[at], sent[at + 1]]);
    assert_eq!((sent[0], field(2), field(6), field(8)), (1, 58, 38, 16), "the checksum moves with its frame");
}

#[test]
fn headers_that_make_no_sense_are_counted_and_passed_over() {
    let mut model = Model::new();
    let wrong: [fn(&mut Header); 8] = [
        |header| header.mac = 0,
        |header| header.mac = 60,
        |header| header.mac = u16::MAX,
        |header| header.mac = SHAPE.slot as u16,
        |header| header.snaplen = FITS as u32 + 1,
        |header| header.snaplen = u32::MAX,
        |header| (header.mac, header.snaplen) = (u16::MAX, u32::MAX),
        // A tag for a frame without MACs.
        |header| {
            header.snaplen = 11;
            header.len = 11;
            header.status |= TP_STATUS_VLAN_VALID;
        },
    ];
    for change in wrong {
        assert!(model.put([0; VNET_HEADER], &frame(7, 60), change));
    }
    assert!(model.arrive(&frame(8, 60)));
    assert_eq!(model.drive().unwrap(), wrong.len() + 1);
    assert_eq!(model.sent(), [frame(8, 60)]);
    assert_eq!(model.port.tally().bad_slots, wrong.len() as u64);
}

#[test]
fn a_frame_that_is_refused_is_counted_and_the_rest_goes_on() {
    let mut model = Model::new();
    model.system.borrow_mut().refuses = vec![(0, libc::ENOBUFS), (3, libc::EMSGSIZE), (4, libc::EAGAIN)];
    assert!((0..6).all(|n| model.arrive(&frame(n, 60))));
    assert_eq!(model.drive().unwrap(), 6);
    assert_eq!(model.sent(), [1, 2, 5].map(|n| frame(n, 60)));
    assert_eq!(model.port.tally().send_failed, 3);
    // 0 is refused; 1 and 2 leave; 3 and 4 are refused; 5 leaves.
    assert_eq!(model.system.borrow().batches, [6, 5, 3, 2, 1]);
}

#[test]
fn a_port_whose_interface_has_gone_says_so_and_holds_nothing() {
    let mut model = Model::new();
    model.system.borrow_mut().refuses = vec![(1, libc::ENXIO)];
    assert!((0..4).all(|n| model.arrive(&frame(n, 60))));
    assert_eq!(model.drive().unwrap_err().raw_os_error(), Some(libc::ENXIO));
    assert_eq!(model.port.tally().send_failed, 3);
    assert!((0..4).all(|slot| status(model.memory, slot) == 0));
}

#[test]
fn a_queue_that_takes_nothing_is_given_up_and_what_waited_there_is_counted() {
    let mut model = Model::new();
    model.port.patience = Duration::ZERO;
    // Some leave, then none any more; those that come meanwhile wait, too.
    model.system.borrow_mut().room = Some(2);
    assert!((0..3).all(|n| model.arrive(&frame(n, 60))));
    assert_eq!(model.drive().unwrap(), 3);
    model.system.borrow_mut().room = Some(0);
    assert!((3..5).all(|n| model.arrive(&frame(n, 60))));
    assert_eq!(model.drive().unwrap(), 2);
    let tally = model.port.tally();
    assert_eq!((tally.send_failed, tally.gave_up), (3, 1));
    // What comes then leaves the other way, and nobody asks for room any more.
    assert!((5..8).all(|n| model.arrive(&frame(n, 60))));
    assert_eq!(model.drive().unwrap(), 3);
    assert_eq!(model.sent(), [0, 1, 5, 6, 7].map(|n| frame(n, 60)));
    model.port.wait(None).unwrap();
    assert_eq!(model.system.borrow().until, None);
    assert_eq!(model.port.tally(), tally);
}

#[test]
fn a_queue_that_nothing_more_is_sent_by_is_given_up_too() {
    let mut model = Model::new();
    model.port.patience = Duration::ZERO;
    model.system.borrow_mut().room = Some(0);
    assert!(model.arrive(&frame(1, 60)));
    assert_eq!(model.drive().unwrap(), 1);
    model.port.wait(None).unwrap();
    assert!(model.system.borrow().until.is_some(), "it looks again");
    assert_eq!(model.drive().unwrap(), 0);
    let tally = model.port.tally();
    assert_eq!((tally.send_failed, tally.gave_up), (1, 1));
}

#[test]
fn a_queue_that_takes_a_little_loses_nothing() {
    let mut model = Model::new();
    model.port.patience = Duration::ZERO;
    model.system.borrow_mut().room = Some(1);
    let frames: Vec<Vec<u8>> = (0..8).map(|n| frame(n, 60)).collect();
    assert!(frames.iter().all(|frame| model.arrive(frame)));
    for _ in &frames {
        model.drive().unwrap();
    }
    assert_eq!(model.sent(), frames);
    assert_eq!(model.port.tally(), Tally::default());
}

#[test]
fn a_queue_that_takes_nothing_for_a_moment_loses_nothing() {
    let mut model = Model::new();
    model.port.patience = Duration::MAX;
    model.system.borrow_mut().room = Some(0);
    assert!((0..4).all(|n| model.arrive(&frame(n, 60))));
    for _ in 0..100 {
        model.drive().unwrap();
    }
    model.system.borrow_mut().room = Some(64);
    model.drive().unwrap();
    assert_eq!(model.sent(), [0, 1, 2, 3].map(|n| frame(n, 60)));
    assert_eq!(model.port.tally(), Tally::default());
}

#[test]
fn what_stands_aside_has_its_share_in_a_flood() {
    let mut model = Model::new();
    let mut from_aside = 0;
    for _ in 0..LOOK_ASIDE {
        while model.arrive(&frame(1, 60)) {}
        if model.system.borrow().aside.is_empty() {
            model.system.borrow_mut().aside.push_back(frame(2, VNET_HEADER + 60));
        }
        assert!(model.drive().unwrap() > 0);
        from_aside += model.sent().iter().filter(|sent| sent[0] == 2).count();
    }
    // At least as often as so many frames have come by.
    assert!(from_aside >= SHAPE.slots() - 1, "{from_aside}");
}

#[test]
fn who_is_told_that_something_stands_aside_looks_at_once() {
    let mut model = Model::new();
    assert_eq!(model.drive().unwrap(), 0);
    model.system.borrow_mut().aside.push_back(frame(2, VNET_HEADER + 60));
    assert_eq!(model.drive().unwrap(), 0, "looking costs a system call");
    model.port.wait(Some(Instant::now())).unwrap();
    assert_eq!(model.drive().unwrap(), 1);
}

#[test]
fn what_the_engine_originates_leaves_nothing_to_the_hardware() {
    let mut model = Model::new();
    let mut dirty = frame(9, VNET_HEADER + 60);
    dirty[0] = 1;
    model.system.borrow_mut().aside.push_back(dirty);
    assert_eq!(model.port.drive(64, &mut |_, _| Verdict::Drop(DropReason::Denied)).unwrap(), 1);
    model.port.send(&frame(3, 60)).unwrap();
    assert_eq!(model.system.borrow().sent, [[vec![0; VNET_HEADER], frame(3, 60)].concat()]);
    model.port.send(&vec![0; BUFFER]).unwrap();
    assert_eq!(model.port.tally().send_failed, 1, "too long for any link");
}

#[test]
fn memory_that_is_no_ring_is_refused() {
    let memory = || MmapRaw::from(MmapMut::map_anon(4096).unwrap());
    let shapes = [
        RingShape { slot: 320, block: 2048, blocks: 3 },
        RingShape { slot: 300, block: 2048, blocks: 2 },
        RingShape { slot: 48, block: 2048, blocks: 2 },
        RingShape { slot: 4096, block: 2048, blocks: 2 },
    ];
    assert!(shapes.into_iter().all(|shape| Slots::new(memory(), shape).is_err()));
}
