//! What several workers have counted, in all.

use std::sync::Arc;

use super::{Counter, Counters, FlowCounters, MOST_BACKENDS, MOST_VIPS, Traffic};
use crate::verdict::DropReason;

impl Counters {
    /// The sum of `all`, as it is now.
    pub fn total<'a>(all: impl IntoIterator<Item = &'a Arc<Counters>>) -> Counters {
        let mut total = Counters::new(MOST_BACKENDS, MOST_VIPS);
        let flows = FlowCounters::default();
        for one in all {
            one.add_to(&total);
            one.flows.add_to(&flows);
        }
        total.flows = Arc::new(flows);
        total
    }

    fn add_to(&self, total: &Counters) {
        let Counters {
            received,
            transmitted,
            host,
            dropped: _,
            backends,
            vips,
            released,
            expired,
            neighbor_answers,
            echo_answers,
            icmp_errors,
            flows: _,
            send_failed,
            overrun,
            bad_slots,
            ring_errors,
            finished,
            stuck,
            gave_up,
        } = self;
        received.add_to(&total.received);
        transmitted.add_to(&total.transmitted);
        host.add_to(&total.host);
        for reason in DropReason::ALL {
            total.dropped(reason).add(self.dropped(reason).get());
        }
        backends.iter().zip(&total.backends).for_each(|(one, all)| one.add_to(all));
        vips.iter().zip(&total.vips).for_each(|(one, all)| one.add_to(all));
        released.add_to(&total.released);
        for (one, all) in [
            (expired, &total.expired),
            (neighbor_answers, &total.neighbor_answers),
            (echo_answers, &total.echo_answers),
            (icmp_errors, &total.icmp_errors),
            (send_failed, &total.send_failed),
            (overrun, &total.overrun),
            (bad_slots, &total.bad_slots),
            (ring_errors, &total.ring_errors),
            (finished, &total.finished),
            (stuck, &total.stuck),
            (gave_up, &total.gave_up),
        ] {
            all.add(one.get());
        }
    }
}

impl Traffic {
    fn add_to(&self, total: &Traffic) {
        total.frames.add(self.frames.get());
        total.bytes.add(self.bytes.get());
    }
}

impl FlowCounters {
    fn add_to(&self, total: &FlowCounters) {
        let FlowCounters { live, remembered, total: in_all, opened, displaced, evicted, full, learnt } = self;
        let add = |one: &Counter, all: &Counter| all.add(one.get());
        live.iter().zip(&total.live).for_each(|(one, all)| add(one, all));
        remembered.iter().zip(&total.remembered).for_each(|(one, all)| add(one, all));
        add(in_all, &total.total);
        add(opened, &total.opened);
        add(displaced, &total.displaced);
        add(evicted, &total.evicted);
        add(full, &total.full);
        add(learnt, &total.learnt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_the_workers() {
        let workers = [Arc::new(Counters::new(2, 2)), Arc::new(Counters::new(2, 2))];
        for (n, worker) in workers.iter().enumerate() {
            worker.received.count(60 + n);
            worker.forwarded(1, 1, 100);
            worker.dropped(DropReason::Looped).add(3);
            worker.bad_slots.add(5);
            worker.flows.added(1, true);
        }
        let total = Counters::total(&workers);
        assert_eq!((total.received.frames.get(), total.received.bytes.get()), (2, 121));
        assert_eq!((total.vips[1].frames.get(), total.backends[1].bytes.get()), (2, 200));
        assert_eq!((total.dropped(DropReason::Looped).get(), total.bad_slots.get()), (6, 10));
        assert_eq!((total.flows.live(1), total.flows.total()), (2, 2));
    }
}
