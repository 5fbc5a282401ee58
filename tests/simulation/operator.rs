//! Fate and the operator: what happens to backends and balancers, and what is changed while all goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_dsr::config::TableSize;
use pen_dsr::director::Duty;
use pen_dsr::lb::Seed;

use super::Fault;
use super::balancer::Wish;
use super::host::Service;
use super::network::{About, Event, Place};
use super::plan::{self, Kind, SIZES};
use super::world::{ACTIVE, Outcome, World};

/// What ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// The link of a backend is up again, if that is the failure that it has.
    Link { host: usize, since: Instant },
    /// The service of a backend is well again.
    Service { host: usize, since: Instant },
    /// The operator takes back what he told balancers about a backend.
    Wish { host: usize },
    /// A balancer takes over from one that has died,
    TakeOver { index: usize },
    /// or from one that was told to be silent.
    Handover { to: usize },
    /// A balancer runs again, with or without its flow file.
    Return { index: usize, kept: bool },
}

impl World {
    /// Something happens.
    pub fn turn(&mut self) -> Outcome {
        if self.elapsed() >= ACTIVE {
            return self.heal();
        }
        let pause = self.random.millis(self.plan.turns.0, self.plan.turns.1);
        self.network.at(self.now + pause, Event::Turn);
        match self.random.below(100) {
            0..15 if !self.plan.calm => self.kill_link(),
            15..25 if !self.plan.calm => self.kill_service(),
            25..29 if !self.plan.calm => self.replace_card(),
            29..41 if !self.plan.calm => self.fell_balancer()?,
            41..47 => self.hand_over()?,
            47..62 => self.tell()?,
            62..72 => self.change_weight()?,
            72..81 => self.add_or_remove()?,
            81..93 => self.reload()?,
            93..97 => {
                let count = self.random.within(20, 150);
                self.say(|_| format!("a flood of {count} SYNs"));
                self.flood(count);
            }
            _ => {}
        }
        Ok(())
    }

    fn kill_link(&mut self) {
        let host = self.random.below(self.hosts.len());
        let crash = self.random.permille(500);
        let (short, long) = self.random.pick(&[(200, 2000), (2000, 8000), (8000, 25_000)]);
        let duration = self.random.millis(short, long);
        let now = self.now;
        let target = &mut self.hosts[host];
        if !target.link {
            return;
        }
        (target.link, target.link_since) = (false, now);
        if crash {
            target.crash();
        }
        self.tally.deaths += 1;
        self.trouble = now;
        self.say(|world| {
            format!(
                "{} dies for {duration:?}, its connections {}",
                world.hosts[host].name,
                if crash { "with it" } else { "do not" }
            )
        });
        self.network.at(now + duration, Event::End(Passing::Link { host, since: now }));
    }

    fn kill_service(&mut self) {
        let host = self.random.below(self.hosts.len());
        let service = self.random.pick(&[Service::Refuses, Service::Absent, Service::Stuck]);
        let duration = self.random.millis(500, 20_000);
        let now = self.now;
        let target = &mut self.hosts[host];
        if target.service != Service::Well {
            return;
        }
        (target.service, target.service_since) = (service, now);
        if service == Service::Refuses {
            target.crash();
        }
        self.tally.deaths += 1;
        self.trouble = now;
        self.say(|world| format!("the service of {} is {service:?} for {duration:?}", world.hosts[host].name));
        self.network.at(now + duration, Event::End(Passing::Service { host, since: now }));
    }

    fn replace_card(&mut self) {
        let host = self.random.below(self.hosts.len());
        let everybody = self.balance.backends.iter().chain(&self.balance.emergency);
        let fixed = everybody.into_iter().any(|b| b.name == self.hosts[host].name && b.mac.is_some());
        if fixed || !self.hosts[host].link {
            return;
        }
        let old = self.hosts[host].mac;
        let announcement = self.hosts[host].change_mac(self.now);
        let new = self.hosts[host].mac;
        self.network.macs.remove(&old);
        self.network.macs.insert(new, vec![Place::Host(host)]);
        self.say(|world| format!("{} has another card, {new}", world.hosts[host].name));
        if self.random.permille(700) {
            self.network.send(Place::Host(host), &announcement, About::Control, self.now);
        }
        self.trouble = self.now;
    }

    /// A balancer restarts at once, or dies for a while.
    fn fell_balancer(&mut self) -> Outcome {
        let running: Vec<usize> = self.balancers.iter().flatten().map(|b| b.index).collect();
        if running.len() < if self.kind == Kind::Pair { 2 } else { 1 } {
            return Ok(());
        }
        let index = self.random.pick(&running);
        let kept = self.random.permille(500) || self.fault == Fault::LostMemory;
        let Some(balancer) = self.balancers[index].take() else {
            return Ok(());
        };
        let silent = balancer.director.is_silent();
        self.files[index] = Some(balancer.end());
        self.trouble = self.now;
        if self.random.permille(500) {
            return self.revive_balancer(index, kept, silent);
        }
        let away = self.random.millis(300, 4000);
        self.say(|_| format!("balancer {index} dies for {away:?}"));
        self.network.at(self.now + away, Event::End(Passing::Return { index, kept }));
        if self.kind == Kind::Pair && !silent {
            let pause = self.random.millis(0, 1500);
            self.network.at(self.now + pause, Event::End(Passing::TakeOver { index: 1 - index }));
        }
        Ok(())
    }

    fn revive_balancer(&mut self, index: usize, kept: bool, silent: bool) -> Outcome {
        self.say(|_| format!("balancer {index} starts, {}", if kept { "with its flows" } else { "without memory" }));
        let file = self.files[index].take().filter(|_| kept);
        *if kept { &mut self.tally.kept_restarts } else { &mut self.tally.lost_restarts } += 1;
        self.start_balancer(index, silent, file);
        self.settle(index, None)
    }

    /// The silent balancer takes over from the other.
    fn hand_over(&mut self) -> Outcome {
        let (Some(active), Kind::Pair) = (self.active(), self.kind) else {
            return Ok(());
        };
        let to = 1 - active;
        if self.balancers[to].is_none() {
            return Ok(());
        }
        let now = self.now;
        self.say(|_| format!("balancer {active} hands over"));
        // With a MAC that both have there must be no time in which both listen to it.
        let first = self.random.permille(500) || self.plan.vip_mac;
        if let Some(balancer) = self.balancers[active].as_mut().filter(|_| first) {
            balancer.director.go_silent(now);
            self.settle(active, None)?;
        }
        self.trouble = now;
        let pause = self.random.millis(0, 300);
        self.network.at(now + pause, Event::End(Passing::Handover { to }));
        Ok(())
    }

    fn take_over(&mut self, index: usize) -> Outcome {
        let now = self.now;
        let Some(balancer) = self.balancers[index].as_mut() else {
            return Ok(());
        };
        if !balancer.director.is_silent() {
            return Ok(());
        }
        self.tally.takeovers += 1;
        self.trouble = now;
        balancer.director.take_over(now);
        self.say(|_| format!("balancer {index} takes over"));
        self.settle(index, None)?;
        let other = 1 - index;
        if let Some(balancer) = self.balancers[other].as_mut().filter(|other| !other.director.is_silent()) {
            balancer.director.go_silent(now);
            self.settle(other, None)?;
        }
        Ok(())
    }

    /// The operator tells all balancers something about a backend.
    fn tell(&mut self) -> Outcome {
        let host = self.random.below(self.hosts.len());
        let until = self.now + self.random.millis(1000, 8000);
        let wish = self.random.pick(&[Wish::Drain, Wish::Drain, Wish::Maintenance, Wish::Blacklist(until)]);
        let name = self.hosts[host].name.clone();
        let maintained = self.balance.backends.iter().any(|backend| backend.name == name && backend.maintenance);
        if maintained || self.balancers.iter().flatten().any(|balancer| balancer.wishes.contains_key(&name)) {
            return Ok(());
        }
        self.say(|_| format!("{name}: {wish:?}"));
        for index in 0..2 {
            let now = self.now;
            let Some(balancer) = self.balancers[index].as_mut() else {
                continue;
            };
            let left = balancer.number(&name).map_or(0, |number| balancer.counters.flows.live(number));
            let duty = match wish {
                Wish::Drain => Duty::Draining,
                Wish::Maintenance => Duty::Maintenance,
                Wish::Blacklist(until) => Duty::Blacklisted(until),
            };
            if balancer.director.set_duty(&name, duty, left, now) {
                balancer.wishes.insert(name.clone(), wish);
            }
            self.settle(index, None)?;
        }
        let end = if wish == Wish::Blacklist(until) { until } else { self.now + self.random.millis(500, 12_000) };
        self.network.at(end, Event::End(Passing::Wish { host }));
        Ok(())
    }

    fn take_back(&mut self, host: usize) -> Outcome {
        let name = self.hosts[host].name.clone();
        self.say(|_| format!("{name} is to serve again"));
        for index in 0..2 {
            let now = self.now;
            let Some(balancer) = self.balancers[index].as_mut() else {
                continue;
            };
            balancer.director.advance(now);
            match balancer.wishes.remove(&name) {
                // It ends by itself, and nobody has to say so.
                Some(Wish::Blacklist(until)) if until <= now => {}
                Some(_) => {
                    balancer.director.set_duty(&name, Duty::Active, 0, now);
                }
                None => {}
            }
            self.settle(index, None)?;
        }
        Ok(())
    }

    fn change_weight(&mut self) -> Outcome {
        let backend = self.random.below(self.balance.backends.len());
        let weight = self.random.pick(&[0, 1, 1, 2, 3, 10]);
        self.balance.backends[backend].weight = weight;
        self.apply(|world| format!("{} weighs {weight}", world.balance.backends[backend].name))
    }

    fn add_or_remove(&mut self) -> Outcome {
        let host = self.random.below(self.hosts.len());
        let name = self.hosts[host].name.clone();
        if self.balance.emergency.as_ref().is_some_and(|emergency| emergency.name == name) {
            return Ok(());
        }
        match self.balance.backends.iter().position(|backend| backend.name == name) {
            Some(_) if self.balance.backends.len() < 2 => Ok(()),
            Some(at) => {
                self.balance.backends.remove(at);
                self.apply(|_| format!("{name} is removed"))
            }
            None => {
                let at = self.random.below(self.balance.backends.len() + 1);
                let backend = plan::backend(&self.hosts[host], &mut self.random);
                self.balance.backends.insert(at, backend);
                self.apply(|_| format!("{name} is added"))
            }
        }
    }

    /// Another configuration, or the same once more.
    fn reload(&mut self) -> Outcome {
        let random = &mut self.random;
        let balance = &mut self.balance;
        match random.below(10) {
            0 => balance.seed = Seed(u128::from(random.next())),
            1 => balance.hash_port = !balance.hash_port,
            2 => balance.table_size = TableSize::new(random.pick(&SIZES)).expect("a prime"),
            3 => balance.health.check = plan::check(random),
            4 => balance.slow_start = random.pick(&[0, 1, 5, 20].map(Duration::from_secs)),
            5 => balance.panic_threshold = random.pick(&[0, 34, 51, 100]),
            6 => {
                let backend = random.below(balance.backends.len());
                let backend = &mut balance.backends[backend];
                backend.maintenance = !backend.maintenance;
            }
            7 => balance.neighbor.revalidate = random.millis(1000, 5000),
            8 => {
                let first = random.below(balance.backends.len());
                balance.backends.rotate_left(first);
            }
            _ => {}
        }
        self.apply(|world| format!("reload: {:?}", world.balance))
    }

    /// All balancers go by the configuration as it now stands.
    fn apply(&mut self, what: impl FnOnce(&World) -> String) -> Outcome {
        self.tally.changes += 1;
        self.say(what);
        let balance = Arc::new(self.balance.clone());
        let bound = self.return_bound();
        for index in 0..2 {
            let now = self.now;
            if let Some(balancer) = self.balancers[index].as_mut() {
                balancer.reconfigure(&balance, bound, now);
                self.settle(index, None)?;
            }
        }
        if self.balance.backends.iter().all(|backend| backend.weight == 0 || backend.maintenance) {
            self.trouble = self.now;
        }
        Ok(())
    }

    /// Something ends by itself.
    pub fn end(&mut self, passing: Passing) -> Outcome {
        let now = self.now;
        match passing {
            Passing::Link { host, since } if self.hosts[host].link_since == since => {
                let target = &mut self.hosts[host];
                (target.link, target.link_since) = (true, now);
                self.trouble = now;
                self.say(|world| format!("{} is back", world.hosts[host].name));
                Ok(())
            }
            Passing::Service { host, since } if self.hosts[host].service_since == since => {
                let target = &mut self.hosts[host];
                (target.service, target.service_since) = (Service::Well, now);
                self.trouble = now;
                self.say(|world| format!("{} serves again", world.hosts[host].name));
                Ok(())
            }
            Passing::Link { .. } | Passing::Service { .. } => Ok(()),
            Passing::Wish { host } => self.take_back(host),
            Passing::TakeOver { index } if self.active().is_none() => self.take_over(index),
            Passing::TakeOver { .. } => Ok(()),
            Passing::Handover { to } => self.take_over(to),
            Passing::Return { index, kept } if self.balancers[index].is_none() => {
                // Where the other one has taken over, or is about to, it starts as the second.
                let silent = self.kind == Kind::Pair && self.balancers[1 - index].is_some();
                self.revive_balancer(index, kept, silent)?;
                if silent && self.active().is_none() {
                    return self.take_over(1 - index);
                }
                Ok(())
            }
            Passing::Return { .. } => Ok(()),
        }
    }

    /// Everything is well again, and stays so.
    fn heal(&mut self) -> Outcome {
        self.say(|_| "all is well again".to_owned());
        for host in 0..self.hosts.len() {
            self.end(Passing::Link { host, since: self.hosts[host].link_since })?;
            self.end(Passing::Service { host, since: self.hosts[host].service_since })?;
            self.take_back(host)?;
        }
        for index in 0..if self.kind == Kind::Pair { 2 } else { 1 } {
            self.end(Passing::Return { index, kept: true })?;
        }
        if self.active().is_none() {
            self.take_over(0)?;
        }
        if self.fault != Fault::Grudge {
            self.balance.backends.iter_mut().for_each(|backend| backend.maintenance = false);
            self.apply(|_| "no more maintenance".to_owned())?;
        }
        Ok(())
    }
}
