//! What of bpf(2) the library has not.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::xdp::Action;

// Commands, from linux/bpf.h.
const MAP_DELETE_ELEM: libc::c_int = 3;
const OBJ_GET: libc::c_int = 7;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
/// BPF_LINK_TYPE_XDP.
const LINK_TYPE_XDP: u32 = 6;

/// Bytes that the program may add to a frame; it adds none.
const SPARE: usize = 256;

/// The part of `union bpf_attr` for BPF_PROG_TEST_RUN, as far as it is needed here.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// bpf(2): `command` with its part of `union bpf_attr`; what it returns.
///
/// # Safety
/// `attributes` is laid out as the command wants, and all that it points to is valid for that, throughout the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller vouches for the attributes, whose size is said.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Runs `program` on `frame`.
pub(super) fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<(Action, Vec<u8>)> {
    let mut out = vec![0; frame.len() + SPARE];
    let mut run = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ..TestRun::default()
    };
    // SAFETY: `run` is laid out as the command wants; data_in and data_out point to buffers of the sizes said, which
    // outlive the call, the second one writable.
    unsafe { bpf(PROG_TEST_RUN, &mut run) }?;
    out.truncate(run.data_size_out as usize);
    Ok((Action::from_number(run.retval), out))
}

/// The part of `union bpf_attr` for one element.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Deletes the element `key` of an array.
pub(super) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let mut element = Element { map_fd: map.as_raw_fd() as u32, key: &raw const key as u64, ..Element::default() };
    // SAFETY: `element` is laid out as the command wants, and its key, a u32 as arrays have them, outlives the call.
    unsafe { bpf(MAP_DELETE_ELEM, &mut element) }.map(drop)
}

/// The part of `union bpf_attr` for a pinned object.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
#[derive(Default)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info`, as far as it is about XDP.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    unused: u32,
    ifindex: u32,
    more: [u32; 15],
}

/// The number of the interface that the link that is pinned at `path` is attached to; `None`: there is none, or its interface
/// has gone.
pub(super) fn linked_interface(path: &Path) -> Option<u32> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut pinned = Pinned { pathname: path.as_ptr() as u64, ..Pinned::default() };
    // SAFETY: `pinned` is laid out as the command wants, and its path outlives the call.
    let fd = unsafe { bpf(OBJ_GET, &mut pinned) }.ok()?;
    let fd = i32::try_from(fd).ok()?;
    // SAFETY: a descriptor that was just opened, and that nobody else has.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut found = LinkInfo::default();
    let mut info =
        Info { bpf_fd: link.as_raw_fd() as u32, info_len: size_of::<LinkInfo>() as u32, info: &raw mut found as u64 };
    // SAFETY: `info` is laid out as the command wants; what it points to is of the size said, writable, and outlives the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut info) }.ok()?;
    (found.kind == LINK_TYPE_XDP && found.ifindex != 0).then_some(found.ifindex)
}

/// Keys and values.
type Pairs<const VALUE: usize> = Vec<(u64, [u8; VALUE])>;

/// Up to `most` keys and values of a hash map from the position `from` on (`None`: the beginning), and the position behind
/// them; `None`: that was the end.
pub(super) fn lookup_batch<const VALUE: usize>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    most: usize,
) -> io::Result<(Pairs<VALUE>, Option<u32>)> {
    let mut keys = vec![0_u64; most];
    let mut values = vec![[0_u8; VALUE]; most];
    let (position, mut next) = (from.unwrap_or_default(), 0_u32);
    let mut batch = Batch {
        in_batch: if from.is_some() { &raw const position as u64 } else { 0 },
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: most as u32,
        map_fd: map.as_raw_fd() as u32,
        ..Batch::default()
    };
    // SAFETY: `batch` is laid out as the command wants; all that it points to outlives the call: the positions are u32, as
    // hash maps have them, and there is room for `count` keys and values, whose sizes are those of the map's, of 8 bytes
    // and of `VALUE`.
    let error = unsafe { bpf(MAP_LOOKUP_BATCH, &mut batch) }.err();
    let is_end = error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::ENOENT);
    if let Some(error) = error.filter(|_| !is_end) {
        return Err(error);
    }
    let count = (batch.count as usize).min(most);
    let pairs = keys.into_iter().zip(values).take(count).collect();
    Ok((pairs, (!is_end).then_some(next)))
}
