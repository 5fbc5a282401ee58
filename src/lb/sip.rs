//! SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of whole words, for the way of a frame.
//!
//! The same numbers as a hasher for bytes gives, without its buffer: what is hashed here is put together in registers.

/// SipHash-1-3 under the key `(k0, k1)` of `words`, eight bytes each in little-endian order, and behind them of the
/// `more` (0 to 7) lowest bytes of `rest`, whose other bytes are 0.
#[inline]
pub(crate) fn hash<const N: usize>((k0, k1): (u64, u64), words: [u64; N], rest: u64, more: usize) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let length = (8 * N + more) as u64;
    for word in words {
        compress(&mut v, word);
    }
    compress(&mut v, length << 56 | rest);
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn compress(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}

#[inline]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use siphasher::sip::SipHasher13;

    use super::*;

    fn check<const N: usize>(bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: [u64; N] = std::array::from_fn(|n| u64::from_le_bytes(words[n]));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let key = (0x0706050403020100, 0x0f0e0d0c0b0a0908);
        let ours = hash(key, words, u64::from_le_bytes(last), rest.len());
        assert_eq!(ours, SipHasher13::new_with_keys(key.0, key.1).hash(bytes), "{} bytes", bytes.len());
    }

    #[test]
    fn it_gives_the_same_numbers_as_a_hasher_for_bytes() {
        let bytes: Vec<u8> = (0..48).map(|n| 0xf1_u8.wrapping_mul(n)).collect();
        (0..8).for_each(|more| check::<0>(&bytes[..more]));
        (0..8).for_each(|more| check::<1>(&bytes[..8 + more]));
        (0..8).for_each(|more| check::<2>(&bytes[..16 + more]));
        (0..8).for_each(|more| check::<5>(&bytes[..40 + more]));
    }
}
