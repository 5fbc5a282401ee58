//! The rules about sums: what is counted, what is remembered, what is left in the end.

use std::time::Duration;

use pen_dsr::hold;
use pen_dsr::verdict::DropReason;

use super::Fault;
use super::balancer::{Balancer, NUMBERS};
use super::network::{Event, Sent};
use super::packet;
use super::plan::{VIP4, VIP6};
use super::world::{Outcome, World};

/// Between two audits of everything.
const INTERVAL: Duration = Duration::from_secs(1);

/// Frames that are held now, by what has been counted.
fn held(balancer: &Balancer) -> Option<u64> {
    let counters = &balancer.counters;
    let gone = counters.released.frames.get() + counters.expired.get();
    counters.dropped(DropReason::Held).get().checked_sub(gone)
}

impl World {
    /// A client's frame leaves for a backend: is it counted as that?
    pub fn count(&mut self, index: usize, sent: Sent, frame: &[u8]) -> Outcome {
        let uncounted = self.fault == Fault::Uncounted && self.now_and_then(300);
        let name = self.hosts[usize::from(frame[5])].name.clone();
        // The stamp behind the frame was counted, too.
        let bytes = (frame.len() + packet::STAMP) as u64;
        let vip = self.conversations.get(sent.conversation).map_or(VIP4, |conversation| conversation.vip.ip());
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        let numbers = balancer.number(&name).zip(balancer.director.vip_number(vip));
        let Some((number, vip)) = numbers.filter(|(number, vip)| (*number).max(*vip) < NUMBERS) else {
            return self.violation('d', format!("{name} has no number"));
        };
        let counters = &balancer.counters;
        let mut missing = false;
        for (counted, seen, n) in
            [(&counters.backends, &mut balancer.to_backends, number), (&counters.vips, &mut balancer.to_vips, vip)]
        {
            seen[n].0 += u64::from(!uncounted);
            seen[n].1 += bytes;
            // More of what was held may have been counted at once, and leave later.
            missing |= counted[n].frames.get() < seen[n].0 || counted[n].bytes.get() < seen[n].1;
        }
        if missing { self.violation('d', format!("a frame to {name} was not counted")) } else { Ok(()) }
    }

    /// What holds after every frame.
    pub fn audit_frame(&self, index: usize) -> Outcome {
        let Some(balancer) = &self.balancers[index] else {
            return Ok(());
        };
        let counters = &balancer.counters;
        let (received, transmitted, host) =
            (counters.received.frames.get(), counters.transmitted.frames.get(), counters.host.frames.get());
        let dropped = counters.dropped_total();
        if received != transmitted + host + dropped {
            let what = format!("{received} received are not {transmitted} sent, {host} to the host, {dropped} dropped");
            return self.violation('d', what);
        }
        match held(balancer) {
            Some(held) if held <= hold::PLACES as u64 => Ok(()),
            held => self.violation('c', format!("{held:?} frames are held, for which there is no room")),
        }
    }

    /// Looks at all sums.
    pub fn audit(&mut self) -> Outcome {
        for index in 0..self.balancers.len() {
            self.audit_counters(index)?;
            self.audit_flows(index)?;
        }
        let amiss = |balancer: &Balancer| {
            !balancer.wishes.is_empty() || !balancer.director.tables().backends().iter().any(|b| b.in_service)
        };
        if self.hosts.iter().any(|host| !host.is_well())
            || self.balancers.iter().flatten().any(amiss)
            || self.active().is_none()
        {
            self.trouble = self.now;
        }
        for index in 0..self.balancers.len() {
            if let Some(balancer) = self.balancers[index].as_mut() {
                balancer.director.observe(&balancer.counters.flows);
                self.settle(index, None)?;
            }
        }
        self.network.at(self.now + INTERVAL, Event::Audit);
        Ok(())
    }

    fn audit_counters(&self, index: usize) -> Outcome {
        let Some(balancer) = &self.balancers[index] else {
            return Ok(());
        };
        let counters = &balancer.counters;
        for (of, counted, seen) in
            [("backend", &counters.backends, &balancer.to_backends), ("VIP", &counters.vips, &balancer.to_vips)]
        {
            for (number, (counted, seen)) in counted.iter().zip(seen).enumerate() {
                let counted = (counted.frames.get(), counted.bytes.get());
                if counted != *seen {
                    let what = format!("{of} {number}: {counted:?} frames and bytes counted, {seen:?} seen to leave");
                    return self.violation('d', what);
                }
            }
        }
        self.audit_frame(index)
    }

    fn audit_flows(&mut self, index: usize) -> Outcome {
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        let (mut total, mut live, mut remembered) = (0, [0u64; NUMBERS], [0u64; NUMBERS]);
        let mut stray = None;
        for (_, owner, stage) in balancer.engine.flows().flows() {
            total += 1;
            let number = usize::from(owner.backend);
            if number >= NUMBERS {
                stray = Some(owner);
                continue;
            }
            live[number] += u64::from(!stage.is_over());
            remembered[number] += 1;
        }
        let counters = &balancer.counters.flows;
        let counted: Vec<u64> = (0..NUMBERS).map(|number| counters.live(number)).collect();
        let all: Vec<u64> = (0..NUMBERS).map(|number| counters.remembered(number)).collect();
        let pushed_out = [&counters.displaced, &counters.evicted, &counters.full].map(|counter| counter.get());
        let counted_total = counters.total();
        if stray.is_some() || counted_total != total || counted != live || all != remembered {
            let what = format!(
                "the flow table holds {total}, {live:?} by backend; counted are {counted_total}, {counted:?}; {stray:?}"
            );
            return self.violation('c', what);
        }
        // There is room for all.
        if self.fault != Fault::SmallTable && pushed_out != [0; 3] {
            let what = format!("{pushed_out:?} displaced, evicted, without room in a table that is almost empty");
            return self.violation('c', what);
        }
        Ok(())
    }

    /// All is well again, and the clients have gone: nothing is missing, and when time has passed nothing is left.
    pub fn conclude(&mut self) -> Outcome {
        self.audit()?;
        if let Some(open) = self.conversations.iter().position(|conversation| conversation.end().is_none()) {
            return self.violation('h', format!("conversation {open} does not end"));
        }
        for index in 0..self.balancers.len() {
            self.judge_recovery(index)?;
        }
        let timeouts = &self.plan.balance.timeouts;
        let patience = timeouts.established.max(timeouts.udp) + Duration::from_secs(30);
        for balancer in self.balancers.iter_mut().flatten().filter(|_| self.fault != Fault::Timeless) {
            for second in 1..=patience.as_secs() {
                balancer.engine.advance(self.now + Duration::from_secs(second));
            }
        }
        for index in 0..self.balancers.len() {
            self.audit_flows(index)?;
            let Some(balancer) = self.balancers[index].as_mut() else {
                continue;
            };
            let (flows, held) = (balancer.engine.flows().flows().count(), held(balancer));
            let live: u64 = (0..NUMBERS).map(|number| balancer.counters.flows.live(number)).sum();
            if (flows, live, held) != (0, 0, Some(0)) {
                return self
                    .violation('c', format!("{flows} flows, {live} live, {held:?} held frames are left at the end"));
            }
        }
        Ok(())
    }

    /// Rule g in the end: who is wanted serves.
    fn judge_recovery(&self, index: usize) -> Outcome {
        let Some(balancer) = &self.balancers[index] else {
            return Ok(());
        };
        for backend in &balancer.director.balance().backends {
            let number = balancer.number(&backend.name);
            let state = number.and_then(|number| balancer.director.tables().backend(number));
            let wanted = backend.weight > 0 && !backend.maintenance && !balancer.wishes.contains_key(&backend.name);
            if state.is_none_or(|state| state.in_service != wanted) {
                let what = format!("balancer {index}: {} in the end: wanted {wanted}, but {state:?}", backend.name);
                return self.violation('g', what);
            }
        }
        let known = [VIP4, VIP6].map(|vip| self.stations.iter().all(|station| station.neighbors.contains_key(&vip)));
        if known != [true, true] {
            return self.violation('g', "a station has never learnt where a VIP is");
        }
        Ok(())
    }
}
