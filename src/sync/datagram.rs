//! What goes from one balancer to the other.
//!
//! | bytes | what, big-endian |
//! |---|---|
//! | 0-3 | `PDSY` |
//! | 4 | version: 1 |
//! | 5 | 0 |
//! | 6-7 | number of records |
//! | 8-15 | SipHash-2-4 of all other bytes, keyed by the seed |
//! | 16... | records of 24 bytes: tag (8), backend's code (8), seconds/16 since the last packet (4), stage (1), 0 (3) |

use std::time::Duration;

use siphasher::sip::SipHasher24;

use crate::lb::Seed;
use crate::lb::flow::{Stage, Tag};

const MAGIC: &[u8; 4] = b"PDSY";
const VERSION: u8 = 1;
const HEADER: usize = 16;
const RECORD: usize = 24;
/// Records in one datagram: what an Ethernet frame holds.
pub const MOST_RECORDS: usize = 58;

/// A flow as it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its name.
    pub tag: Tag,
    /// Who has it ([`super::backend_code`]).
    pub backend: u64,
    /// How far it has come.
    pub stage: Stage,
    /// Since its last packet; sixteenths of a second are told.
    pub idle: Duration,
}

/// The datagram that tells of `flows`, [`MOST_RECORDS`] at most.
pub fn encode(seed: Seed, flows: &[Shared]) -> Vec<u8> {
    let flows = &flows[..flows.len().min(MOST_RECORDS)];
    let mut bytes = Vec::with_capacity(HEADER + RECORD * flows.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, 0]);
    bytes.extend_from_slice(&(flows.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for flow in flows {
        bytes.extend_from_slice(&flow.tag.number().to_be_bytes());
        bytes.extend_from_slice(&flow.backend.to_be_bytes());
        let idle = u32::try_from(flow.idle.as_millis() * 16 / 1000).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&idle.to_be_bytes());
        bytes.extend_from_slice(&[flow.stage as u8, 0, 0, 0]);
    }
    let code = code(seed, &bytes);
    bytes[8..16].copy_from_slice(&code.to_be_bytes());
    bytes
}

/// The flows that a datagram tells of.
///
/// # Errors
/// It is not whole, of another version, or not signed with this seed. Records that make no sense are left out.
pub fn decode(seed: Seed, bytes: &[u8]) -> Result<Vec<Shared>, &'static str> {
    if bytes.len() < HEADER || bytes[..4] != *MAGIC {
        return Err("it is no datagram of a balancer");
    }
    if bytes[4] != VERSION {
        return Err("it is of another version");
    }
    let count = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
    let records = &bytes[HEADER..];
    if records.len() != count * RECORD {
        return Err("it is not whole");
    }
    if bytes[8..16] != code(seed, bytes).to_be_bytes() {
        return Err("it is signed with another seed: give both balancers the same --seed");
    }
    let number = |record: &[u8], at: usize| u64::from_be_bytes(std::array::from_fn(|i| record[at + i]));
    let flow = |record: &[u8; RECORD]| {
        let idle = u32::from_be_bytes([record[16], record[17], record[18], record[19]]);
        Some(Shared {
            tag: Tag::from_number(number(record, 0))?,
            backend: number(record, 8),
            stage: Stage::from_byte(record[20])?,
            idle: Duration::from_millis(u64::from(idle) * 1000 / 16),
        })
    };
    Ok(records.as_chunks().0.iter().filter_map(flow).collect())
}

/// The code over everything but itself.
fn code(seed: Seed, bytes: &[u8]) -> u64 {
    let (k0, k1) = seed.keys();
    let mut covered = bytes[..8].to_vec();
    covered.extend_from_slice(&bytes[HEADER..]);
    SipHasher24::new_with_keys(k0, k1).hash(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed(7);

    fn flows(n: u64) -> Vec<Shared> {
        let flow = |i| Shared {
            tag: Tag::from_number(i).unwrap(),
            backend: i * 3,
            stage: if i % 2 == 0 { Stage::Established } else { Stage::Closing },
            idle: Duration::from_millis(250 * i),
        };
        (1..=n).map(flow).collect()
    }

    #[test]
    fn what_is_told_is_heard_and_fits_into_a_frame() {
        let told = flows(MOST_RECORDS as u64);
        let bytes = encode(SEED, &told);
        assert!(bytes.len() <= 1500 - 40 - 8);
        assert_eq!(decode(SEED, &bytes), Ok(told));
        assert_eq!(decode(SEED, &encode(SEED, &[])), Ok(vec![]));
    }

    #[test]
    fn what_was_bent_on_the_way_is_not_taken() {
        let bytes = encode(SEED, &flows(3));
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            assert!(decode(SEED, &bent).is_err(), "byte {at}");
            assert!(decode(SEED, &bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(Seed(8), &bytes).is_err_and(|why| why.contains("--seed")));
    }
}
