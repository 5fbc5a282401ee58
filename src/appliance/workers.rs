//! The workers: their threads, and what outlives them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::warn;

use super::opening::{AnyPort, Prepared};
use super::surroundings::Surroundings;
use crate::config::Process;
use crate::counters::{Counters, MOST_BACKENDS, MOST_VIPS};
use crate::engine::{Engine, Station};
use crate::failure::{Failure, Sysexit};
use crate::flowfile::{FlowFile, Key};
use crate::lb::Tables;
use crate::lb::flow::{Memory, Record, Shape};
use crate::os;
use crate::port::Waker;
use crate::worker::{self, Channels, Command, Report};

/// Reports that may wait for the director; a worker never waits for room.
const REPORTS: usize = 4096;
/// Batches of flows that may wait to be told to another balancer; a worker never waits for room.
const RECORD_BATCHES: usize = 256;
/// How long a look at a worker's engine may take to be granted.
const INSPECTION: Duration = Duration::from_secs(2);

/// What of each worker outlives it: its counters, and what it remembers of flows.
pub(super) struct Stock {
    shape: Shape,
    key: Key,
    flow_file: Option<PathBuf>,
    seats: Vec<(String, u8)>,
    files: Vec<FlowFile>,
    counters: Vec<Arc<Counters>>,
    /// By worker; `None` while it has it.
    memories: Vec<Option<Memory>>,
    /// The program's in the kernel, if there is one.
    kernel: OnceLock<Arc<Counters>>,
}

impl Stock {
    /// What the first worker needs; and the backends' numbers, by which the flows know them that a file has kept.
    pub(super) fn open(
        flow_file: Option<PathBuf>,
        shape: Shape,
        key: Key,
    ) -> Result<(Stock, Vec<(String, u8)>), Failure> {
        let mut stock = Stock {
            shape,
            key,
            flow_file,
            seats: Vec::new(),
            files: Vec::new(),
            counters: Vec::new(),
            memories: Vec::new(),
            kernel: OnceLock::new(),
        };
        stock.provide(1)?;
        let seats = stock.seats.clone();
        Ok((stock, seats))
    }

    /// Sees to it that there is enough for so many workers. Each has a file of its own: `FILE`, `FILE.1`, `FILE.2`...
    pub(super) fn provide(&mut self, workers: usize) -> Result<(), Failure> {
        while self.memories.len() < workers {
            let memory = self.memory(self.memories.len())?;
            self.memories.push(Some(memory));
            self.counters.push(Arc::new(Counters::new(MOST_BACKENDS, MOST_VIPS)));
        }
        Ok(())
    }

    /// Another memory for a worker whose own is gone.
    fn renew(&mut self, worker: usize) -> Result<(), Failure> {
        self.memories[worker] = Some(self.fresh_memory()?);
        Ok(())
    }

    fn fresh_memory(&self) -> Result<Memory, Failure> {
        let (Key::Own(key) | Key::Shared(key)) = self.key;
        let no_memory = |e: io::Error| Failure::new(Sysexit::OsErr, format!("no memory for the flow table: {e}"));
        Memory::fresh(self.shape, key).map_err(no_memory)
    }

    fn memory(&mut self, worker: usize) -> Result<Memory, Failure> {
        let Some(path) = &self.flow_file else {
            return self.fresh_memory();
        };
        let path = numbered(path, worker);
        let (mut file, mut kept) = FlowFile::open(&path, self.shape, self.key)?;
        if worker == 0 {
            self.seats.clone_from(&kept.seats);
        } else if kept.seats != self.seats && kept.discarded.is_none() && !kept.seats.is_empty() {
            // Its flows would be taken for other backends'.
            drop((file, kept));
            let failed = |e: io::Error| Failure::new(Sysexit::OsErr, format!("{}: {e}", path.display()));
            std::fs::remove_file(&path).map_err(failed)?;
            (file, kept) = FlowFile::open(&path, self.shape, self.key)?;
            kept.discarded = Some("it is not of the same time as the first worker's".to_owned());
        }
        if let Some(why) = kept.discarded {
            warn!("flow file {}: begun anew: {why}", path.display());
        }
        self.files.push(file);
        Ok(kept.memory)
    }

    /// The files that flows are kept in, by worker.
    pub(super) fn files(&self) -> &[FlowFile] {
        &self.files
    }

    /// Keeps the backends' numbers beside the flows that know them by these.
    pub(super) fn keep_seats(&mut self, seats: &[(String, u8)]) -> Result<(), (&Path, io::Error)> {
        self.seats = seats.to_vec();
        for file in &self.files {
            let names = seats.iter().map(|(name, epoch)| (name.as_str(), *epoch));
            file.keep_seats(names).map_err(|e| (file.path(), e))?;
        }
        Ok(())
    }

    /// What all workers have counted, and the program in the kernel.
    pub(super) fn counters(&self) -> Arc<Counters> {
        match (&self.counters[..], self.kernel.get()) {
            ([only], None) => Arc::clone(only),
            (all, kernel) => Arc::new(Counters::total(all.iter().chain(kernel))),
        }
    }

    /// What the program in the kernel counts in.
    pub(super) fn kernel_counters(&self) -> &Counters {
        self.kernel.get_or_init(|| Arc::new(Counters::new(MOST_BACKENDS, MOST_VIPS)))
    }

    /// What names the first worker's flows.
    pub(super) fn flow_key(&self) -> (u64, u64) {
        let (Key::Own(key) | Key::Shared(key)) = self.key;
        self.memories.iter().flatten().next().map_or(key, Memory::key)
    }

    /// Do backends' numbers mean what they meant before?
    pub(super) fn knows_numbers(&self) -> bool {
        !self.seats.is_empty()
    }

    /// For how many flows there is room.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }
}

fn numbered(path: &Path, worker: usize) -> PathBuf {
    if worker == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{worker}"));
    name.into()
}

/// The part that lives while the interfaces do.
pub(super) struct Workers {
    each: Vec<Worker>,
    pub(super) reports: Receiver<Report>,
    pub(super) records: Receiver<Vec<Record>>,
    pub(super) surroundings: Surroundings,
}

struct Worker {
    commands: Sender<Command>,
    waker: Waker,
    thread: JoinHandle<Memory>,
}

impl Workers {
    /// A thread for each line of `prepared`, with an engine that `engine` makes of memory and counters.
    pub(super) fn start(
        prepared: Prepared,
        stock: &mut Stock,
        process: &Process,
        engine: impl FnOnce(Memory, Arc<Counters>) -> Engine + Clone + Send + 'static,
    ) -> Result<Workers, Failure> {
        let Prepared { lines, surroundings } = prepared;
        let (report_sender, reports) = bounded(REPORTS);
        let (record_sender, records) = bounded(RECORD_BATCHES);
        let busy_poll = Duration::from_micros(u64::from(process.busy_poll));
        let mut workers = Workers { each: Vec::new(), reports, records, surroundings };
        for (number, line) in lines.into_iter().enumerate() {
            let Some(memory) = stock.memories.get_mut(number).and_then(Option::take) else {
                workers.stop(stock);
                return Err(Failure::new(Sysexit::OsErr, "the flow table's memory is gone"));
            };
            let (engine, counters) = (engine.clone(), Arc::clone(&stock.counters[number]));
            let (commands, command_receiver) = unbounded();
            let channels =
                Channels { commands: command_receiver, reports: report_sender.clone(), records: record_sender.clone() };
            let cpu = process.cpus.0.get(number).copied();
            let work = move || {
                // Here, as to look through a large table takes its time.
                let mut engine = engine(memory, counters);
                if let Some(elsewhere) = line.elsewhere {
                    engine.flows().keep_elsewhere(elsewhere);
                }
                if let Some(cpu) = cpu
                    && let Err(e) = os::pin_thread(cpu)
                {
                    warn!("worker {number} cannot be pinned to processor {cpu}: {e}");
                }
                match line.port {
                    AnyPort::Netmap(port) => worker::run(*port, engine, busy_poll, &channels),
                    AnyPort::Ring(port) => worker::run(*port, engine, busy_poll, &channels),
                    AnyPort::Packet(port) => worker::run(port, engine, busy_poll, &channels),
                    #[cfg(test)]
                    AnyPort::Test { panics } => worker::run(tests::TestPort { panics }, engine, busy_poll, &channels),
                }
            };
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(work);
            match thread {
                Ok(thread) => workers.each.push(Worker { commands, waker: line.waker, thread }),
                Err(e) => {
                    workers.stop(stock);
                    // What the thread was to remember went with it.
                    stock.renew(number)?;
                    return Err(Failure::new(Sysexit::OsErr, format!("no thread: {e}")));
                }
            }
        }
        Ok(workers)
    }

    /// Tells all of them what concerns the engine, and the first what is to be sent; false if nobody listens any more.
    pub(super) fn tell(&self, command: Command) -> bool {
        match command {
            Command::Install(tables) => {
                let told = |worker: &&Worker| worker.commands.send(Command::Install(Arc::clone(&tables))).is_ok();
                // All of them, whatever has become of one.
                self.each.iter().filter(told).count() == self.each.len()
            }
            other => self.each.first().is_some_and(|worker| worker.commands.send(other).is_ok()),
        }
    }

    /// Has the program in the kernel begin, if there is one: what it learns of flows goes to the first worker.
    pub(super) fn start_kernel(&mut self, tables: &Arc<Tables>, station: Station) -> Result<(), Failure> {
        let (Some(kernel), Some(first)) = (&mut self.surroundings.kernel, self.each.first()) else {
            return Ok(());
        };
        let (commands, waker) = (first.commands.clone(), first.waker.clone());
        let tell = move |records: Vec<Record>| {
            let (done, is_done) = bounded(1);
            let reflect = move |engine: &mut Engine| {
                records.iter().for_each(|record| engine.flows().reflect(record));
                let _ = done.send(());
            };
            // One lot at a time: between two, the worker looks at frames.
            if commands.send(Command::Inspect(Box::new(reflect))).is_ok() {
                waker.wake();
                let _ = is_done.recv_timeout(INSPECTION);
            }
        };
        let failed =
            |e: io::Error| Failure::new(Sysexit::OsErr, format!("no thread for the program in the kernel: {e}"));
        kernel.start(Box::new(tell)).map_err(failed)?;
        kernel.publish(tables, station);
        // The worker takes commands when it has put all flows that it knows into the kernel. Decided without them, a flow
        // might go where the tables say and not where it is.
        let begin = kernel.beginning();
        let begin = Command::Inspect(Box::new(move |_: &mut Engine| begin()));
        if first.commands.send(begin).is_ok() {
            first.waker.wake();
        }
        Ok(())
    }

    /// Are all of them still at work? One that has panicked could not say so.
    pub(super) fn are_alive(&self) -> bool {
        self.each.iter().all(|worker| !worker.thread.is_finished())
    }

    /// They look at what they were told.
    pub(super) fn wake(&self) {
        self.each.iter().for_each(|worker| worker.waker.wake());
    }

    /// Lets each worker look at its engine, or change it, at its next batch.
    pub(super) fn change(&self, change: &(impl Fn(&mut Engine) + Clone + Send + 'static)) {
        for worker in &self.each {
            if worker.commands.send(Command::Inspect(Box::new(change.clone()))).is_ok() {
                worker.waker.wake();
            }
        }
    }

    /// Has each worker look at its engine, and returns what they saw; `None` if one does not answer.
    pub(super) fn inspect<T: Send + 'static>(
        &self,
        look: &(impl Fn(&mut Engine) -> T + Clone + Send + 'static),
    ) -> Option<Vec<T>> {
        let (sender, receiver) = bounded(self.each.len());
        let look = look.clone();
        self.change(&move |engine: &mut Engine| {
            let _ = sender.send(look(engine));
        });
        self.each.iter().map(|_| receiver.recv_timeout(INSPECTION).ok()).collect()
    }

    /// Ends them; what they remember of flows goes back to `stock`. False if one has panicked.
    pub(super) fn stop(self, stock: &mut Stock) -> bool {
        if let Some(kernel) = &self.surroundings.kernel {
            kernel.tell();
        }
        for worker in &self.each {
            let _ = worker.commands.send(Command::Stop);
            worker.waker.wake();
        }
        let mut sound = true;
        for (number, worker) in self.each.into_iter().enumerate() {
            match worker.thread.join() {
                Ok(memory) => stock.memories[number] = Some(memory),
                Err(_) => sound = false,
            }
        }
        sound
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::appliance::opening::Line;
    use crate::engine::Station;
    use crate::lb::{Seed, Settings, Tables};
    use crate::os::Wanted;
    use crate::port::{Port, Tally, waker};
    use crate::verdict::{Arm, Verdict};
    use crate::wire::ether::Mac;

    /// A port without a wire.
    pub(super) struct TestPort {
        pub(super) panics: bool,
    }

    impl Port for TestPort {
        fn drive(&mut self, _: usize, _: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
            assert!(!self.panics, "as it was made to");
            Ok(0)
        }

        fn send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, _: Option<Instant>) -> io::Result<()> {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        }

        fn tally(&mut self) -> Tally {
            Tally::default()
        }
    }

    fn workers(panics: &[bool]) -> (Workers, Stock) {
        let line = |&panics: &bool| Line {
            port: AnyPort::Test { panics },
            waker: waker().expect("a socket pair").0,
            elsewhere: None,
        };
        let wanted = Wanted::default();
        let surroundings = Surroundings {
            wanted,
            vips: Vec::new(),
            filters: None,
            memberships: Vec::new(),
            ingress: None,
            kernel: None,
        };
        let prepared = Prepared { lines: panics.iter().map(line).collect(), surroundings };
        let (mut stock, _) = Stock::open(None, Shape::of(1024), Key::Own((1, 2))).expect("memory");
        stock.provide(panics.len()).expect("memory");
        let engine = |memory, counters| {
            let tables = Arc::new(tables());
            Engine::new(Station::new(Mac([2, 0, 0, 0, 0, 2])), tables, Seed(1), memory, counters, Instant::now())
        };
        (Workers::start(prepared, &mut stock, &Process::default(), engine).expect("threads"), stock)
    }

    fn tables() -> Tables {
        Tables::new(Vec::new(), Vec::new(), Settings::default())
    }

    fn await_that(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(Instant::now() < until, "it does not come");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_that_has_panicked_is_noticed_and_keeps_nothing_from_the_others() {
        let (workers, mut stock) = workers(&[false, true, false]);
        await_that(|| !workers.are_alive());
        let new = Arc::new(tables());
        assert!(!workers.tell(Command::Install(Arc::clone(&new))), "one does not hear it");
        // Here, and with both that do; each lets the old ones go.
        await_that(|| Arc::strong_count(&new) == 3);
        assert!(!workers.stop(&mut stock), "it has panicked");
        assert!(stock.memories[0].is_some() && stock.memories[2].is_some());
    }

    #[test]
    fn each_is_asked_and_leaves_its_memory() {
        let (workers, mut stock) = workers(&[false; 3]);
        // One that gets no processor for a while does not answer, and is asked again.
        let mut asked =
            (0..20).filter_map(|_| workers.inspect(&|engine: &mut Engine| engine.flows().take_records().len()));
        assert_eq!(asked.next(), Some(vec![0; 3]));
        assert!(workers.are_alive() && workers.stop(&mut stock));
        assert!(stock.memories.iter().all(Option::is_some));
    }
}
