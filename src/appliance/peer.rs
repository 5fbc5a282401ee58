//! The other balancer: what it is told of flows, and what it tells.

use std::time::Instant;

use super::Appliance;
use crate::director::Seat;
use crate::engine::Engine;
use crate::lb::flow::{Owner, Record};
use crate::sync::{self, Shared};

impl Appliance {
    /// Flows as another balancer can understand them.
    pub fn to_peer(&self, records: &[Record]) -> Vec<Shared> {
        let seats = self.director.seats();
        let code = |record: &Record| {
            let seat = seats.get(usize::from(record.owner.backend)).filter(|seat| seat.epoch == record.owner.epoch)?;
            Some(sync::backend_code(self.peer_seed, &seat.key))
        };
        let shared = |record: &Record| {
            Some(Shared { tag: record.tag, backend: code(record)?, stage: record.stage, idle: record.idle })
        };
        records.iter().filter_map(shared).collect()
    }

    /// Takes in what another balancer tells of flows.
    pub fn hear_of(&mut self, flows: &[Shared]) {
        self.peer_heard = Some(Instant::now());
        let record = |flow: &Shared| {
            let owner = *self.peer_owners.get(&flow.backend)?;
            Some(Record { tag: flow.tag, owner, stage: flow.stage, idle: flow.idle })
        };
        let records: Vec<Record> = flows.iter().filter_map(record).collect();
        if let Some(serving) = &self.serving {
            serving.change(&move |engine: &mut Engine| engine.learn(&records));
        }
    }

    /// What the backends are called between balancers.
    pub(super) fn note_owners(&mut self) {
        if self.config.process.peer.is_some() {
            let owner = |(number, seat): (usize, &Seat<String>)| {
                (sync::backend_code(self.peer_seed, &seat.key), Owner { backend: number as u16, epoch: seat.epoch })
            };
            self.peer_owners = self.director.seats().iter().enumerate().map(owner).collect();
        }
    }

    /// When the other balancer was last heard of.
    pub fn peer_heard(&self) -> Option<Instant> {
        self.peer_heard
    }
}
