//! The `virtio_net_hdr` (linux/virtio_net.h) that packet(7) sockets put before each frame: which checksum is not finished
//! yet, and into what a large frame is to be cut.

use crate::wire::ether::TAG_LEN;

/// Its length, bytes.
pub const VNET_HEADER: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;

/// Does `header` leave nothing to be done: no checksum to finish, no segments to be cut?
#[inline]
pub fn is_finished(header: &[u8]) -> bool {
    matches!(header, [flags, GSO_NONE, ..] if flags & NEEDS_CSUM == 0)
}

/// Moves the offsets in `header` by a tag: they count from the frame's start, and the frame has just got one more tag.
pub fn shift_offsets(header: &mut [u8]) {
    let mut add = |at: usize| {
        if let Some(field) = header.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *field = (u16::from_ne_bytes(*field).saturating_add(TAG_LEN as u16)).to_ne_bytes();
        }
    };
    add(2); // hdr_len
    add(6); // csum_start
    // Without a checksum to finish, csum_start means nothing and has to be 0.
    let unfinished = header.first().is_some_and(|flags| flags & NEEDS_CSUM != 0);
    if let Some(start_and_offset) = header.get_mut(6..10).filter(|_| !unfinished) {
        start_and_offset.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, hdr_len: u16, csum_start: u16, csum_offset: u16) -> [u8; VNET_HEADER] {
        let mut header = [0; VNET_HEADER];
        header[0] = flags;
        header[2..4].copy_from_slice(&hdr_len.to_ne_bytes());
        header[6..8].copy_from_slice(&csum_start.to_ne_bytes());
        header[8..10].copy_from_slice(&csum_offset.to_ne_bytes());
        header
    }

    #[test]
    fn a_checksum_to_finish_moves_with_its_frame() {
        let mut moved = header(NEEDS_CSUM, 54, 34, 16);
        shift_offsets(&mut moved);
        assert_eq!(moved, header(NEEDS_CSUM, 58, 38, 16));
    }

    #[test]
    fn what_is_left_to_be_done_is_told() {
        assert!(is_finished(&[2, 0, 9, 9, 0, 0, 0, 0, 0, 0]) && !is_finished(&[]));
        assert!(!is_finished(&header(NEEDS_CSUM, 54, 34, 16)));
        assert!(!is_finished(&[0, 1, 54, 0, 0, 4, 0, 0, 0, 0]), "TCP over IPv4 to be cut");
    }

    #[test]
    fn without_one_the_place_of_it_stays_empty() {
        let mut moved = header(2, 0, 0, 0);
        shift_offsets(&mut moved);
        assert_eq!(moved, header(2, 4, 0, 0));
        shift_offsets(&mut []);
    }
}
