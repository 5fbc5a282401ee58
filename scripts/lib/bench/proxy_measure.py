"""One proxy under one load, measured once: started, loaded, taken down again."""

import contextlib
import os
import signal
import subprocess
import time

import cables
import candidates
import lab
import processes
import proxy_load
import rounds
from measure import last_line
from rounds import CannotRun, say

START_PATIENCE = 5.0  # seconds until it listens
STOP_PATIENCE = 0.5  # seconds that it has for ending by itself
TARGET = f"{cables.PROXY_ADDRESS}:{candidates.PORT}"


class Bench(rounds.Samples):
    """The samples of scripts/bench proxy, and what was seen while they were taken."""

    digits = 2

    def __init__(self, options, directory, load_cpu, proxy_cpu):
        super().__init__(options)
        self.directory = directory
        self.load_cpu = load_cpu
        self.proxy_cpu = proxy_cpu
        self.load = proxy_load.Load(directory, load_cpu)
        # name of the candidate -> what TLS agrees on
        self.agreed = {}
        # name of the candidate -> what Load.seen says of its HTTP
        self.seen = {}
        # (name of the candidate, title of the metric) -> requests that failed
        self.errors = {}

    def has_enough(self, metric, row, earlier, number):
        """Some metrics take long."""
        return metric.rounds is not None and number >= metric.rounds

    def could_not_run(self, row):
        """Peers may; ours has to."""
        self.broken = self.broken or row is self.options.ours

    def sample(self, metric, row):
        """CPU time per unit and what else there is; memory of idle connections."""
        if row is candidates.DIRECT:
            server = f"{cables.SERVER_ADDRESS}:{metric.server_port}"
            return rated(self.load.run(metric, server, self.options.seconds))
        with self.proxy(row, metric.mode, metric.server_port) as proxy:
            pids = processes.tree(proxy.process.pid)
            if metric.mode in (candidates.TLS, candidates.H2) and row.name not in self.agreed:
                self.agreed[row.name] = self.load.hello(TARGET)
            if metric.mode == candidates.HTTP and row.name not in self.seen:
                self.seen[row.name] = self.load.seen(TARGET)
                say(f"{row.name}: X-Forwarded-For on requests, and one connection to the server: {self.seen[row.name]}")
            if metric.load == "idle":
                return self.idle(metric, pids)
            begin = self.reading(pids)
            measured = self.load.run(metric, TARGET, self.options.seconds)
            end = self.reading(pids)
            if not proxy.alive():
                raise CannotRun(f"ended under load; it said: {last_line(proxy.said())}")
        busy, waited, user, softirq = (after - before for before, after in zip(begin, end))
        if not measured["count"]:
            raise proxy_load.NoLoad("nothing came through")
        return {"cpu": busy / measured["count"] * 1e6, **rated(measured), "user": user / busy if busy else 0.0,
                "softirq": softirq / measured["seconds"], "share": busy / measured["seconds"],
                "waited": waited / measured["seconds"]}

    def reading(self, pids):
        """Seconds: of the proxy on its CPU, waiting for it, outside the kernel; of softirqs on that CPU."""
        return (*processes.scheduled_seconds(pids), processes.user_seconds(pids),
                processes.softirq_seconds(self.proxy_cpu))

    def idle(self, metric, pids):
        """Bytes per connection."""
        with self.load.idle(metric, TARGET, 1):
            pass
        before = processes.resident_bytes(pids)
        with self.load.idle(metric, TARGET, metric.connections):
            after = processes.resident_bytes(pids)
        return {"memory": (after - before) / metric.connections, "start": before}

    @contextlib.contextmanager
    def proxy(self, row, mode, server_port):
        """The candidate, running and listening. Raises CannotRun."""
        words = row.command(candidates.Task(mode, server_port, self.directory))
        with Proxy(cables.PROXY, words, self.proxy_cpu) as program:
            self.wait(program, mode)
            yield program

    def wait(self, program, mode):
        """Until it listens."""
        limit = time.monotonic() + START_PATIENCE
        protocol = "-lnHu" if mode == candidates.UDP else "-lnHt"
        while time.monotonic() < limit and program.alive():
            if lab.run(cables.PROXY, "ss", protocol, f"sport = :{candidates.PORT}").stdout.strip():
                return
            time.sleep(0.02)
        state = "does not listen" if program.alive() else f"ended with status {program.process.returncode}"
        raise CannotRun(f"{state}; it said: {last_line(program.said()) or 'nothing'}")


class Proxy(lab.Program):
    """A proxy with its workers. Some drain at TERM, some leave their workers behind when killed: none of that here."""

    def __exit__(self, *_):
        pids = processes.tree(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_PATIENCE)
        for pid in pids[1:] + ([pids[0]] if self.alive() else []):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().__exit__()


def rated(measured):
    """With units per second instead of their count."""
    rest = {name: value for name, value in measured.items() if name not in ("count", "seconds")}
    return {"rate": measured["count"] / measured["seconds"], **rest}
