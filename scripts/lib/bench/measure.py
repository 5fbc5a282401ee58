"""One row of one metric, measured once: the balancer started, the load applied, all taken down again."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

import frames
import lab
import load
import rounds
import rows
from rounds import CannotRun, say

XDP_PATIENCE = 5.0  # seconds until a smallest program is attached
CRASHES = (101,)  # exit status of a panic; a signal is negative


class Bench(rounds.Samples):
    """The samples of scripts/bench dsr."""

    def __init__(self, options, generator, load_cpu, balancer_cpu):
        super().__init__(options)
        self.generator = generator
        self.load_cpu = load_cpu
        self.balancer_cpu = balancer_cpu
        self.settings = None

    def prepare(self):
        """Once the labs are up: which generator it is."""
        self.set_up("frames", True)
        self.generator.choose()
        if self.generator.why_not:
            say(f"small frames come from a packet socket, at a fraction of the rate: {self.generator.why_not}")

    def has_enough(self, metric, row, earlier, number):
        """pen with offloads on: once is enough, as each attempt waits for connections that don't come about."""
        if row is not rows.PEN or not metric.offloads or metric.kind not in ("tcp", "http"):
            return False
        return any(not any(sample.values()) for sample in earlier.values())

    def sample(self, metric, row):
        """The metric's load, through the row's balancer."""
        self.set_up(metric.kind, metric.offloads)
        if metric.kind in ("frames", "near"):
            return self.frames(metric.kind, row)
        if metric.kind == "tcp":
            return self.tcp(row)
        return self.http(row, metric.connections)

    def set_up(self, kind, offloads):
        """Offloads, and GRO where the generator of small frames needs it, when they are not so already."""
        wanted = (kind in ("frames", "near"), offloads)
        if self.settings == wanted or not shutil.which("ethtool"):
            return
        lab.offloads(offloads)
        for host, interface in frames.FIRST_INTERFACES:
            lab.gro(host, interface, on=wanted[0])
        self.settings = wanted

    def frames(self, kind, row):
        """Small frames over the bridge or back to back."""
        if row is rows.DIRECT:
            return self.generator.flood(frames.DIRECT, self.options.seconds)
        way, client = (frames.NEAR, lab.NEAR_GENERATOR) if kind == "near" else (frames.BRIDGE, "client")
        with self.balancer(row, way.entry, client, "udp", 9) as balancer:
            if balancer is None:
                return {"rate": 0.0}
            if row.action == "drop":
                return self.generator.flood(way, self.options.seconds, receivers=[way.entry])
            self.generator.warm_up(way)
            return self.generator.flood(way, self.options.seconds, balancer if row.has_process else None)

    def tcp(self, row):
        """iperf3 through the balancer."""
        with contextlib.ExitStack() as stack:
            for server in load.iperf3_servers(self.load_cpu):
                stack.enter_context(server)
            target = self.target(stack, row, load.IPERF_PORT)
            return load.iperf3(target, self.options.seconds, self.load_cpu) if target else {"bits": 0.0}

    def http(self, row, connections):
        """wrk through the balancer."""
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            os.chmod(directory, 0o755)  # nginx's worker may be another user
            for server in load.http_servers(self.load_cpu, directory):
                stack.enter_context(server)
            target = self.target(stack, row, load.HTTP_PORT)
            if not target:
                return {"requests": 0.0}
            url = f"http://{target}:{load.HTTP_PORT}/page"
            return load.wrk(url, self.options.seconds, connections, self.load_cpu, directory)

    def target(self, stack, row, port):
        """The address that the client goes to, with a balancer running if there is one; None if no TCP connects."""
        address, balancer = lab.BACKENDS["be1"], None
        if row is not rows.DIRECT:
            address, balancer = lab.VIP, stack.enter_context(self.balancer(row, "lb", "client", "tcp", port))
            if balancer is None:
                return None
            if row.action:
                lab.set_neighbour("client", lab.VIP, lab.LB_MAC)  # as nobody answers
        for _ in range(5):
            try:
                lab.run("client", "bash", "-c", f": </dev/tcp/{address}/{port}", timeout=1)
                return address
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
                time.sleep(0.2)
        if row is not rows.PEN or not self.settings[1]:  # pen with offloads on is expected to carry nothing
            self.broken = True
            said = f"; it said:\n{balancer.said()}" if balancer else ""
            say(f"{row.name}: no TCP connection to {address}:{port}{said}")
        return None

    @contextlib.contextmanager
    def balancer(self, row, host, client, protocol, port):
        """The balancer of a row, running and answering for the VIP; None if it fails. Raises CannotRun."""
        lab.forget_neighbour(client, lab.VIP)
        back_to = lab.BACKEND_MACS["be1"] if host == "lb" else lab.NEAR_GENERATOR_MAC
        words = row.command(self.options.pen_dsr, protocol, port, back_to)
        with contextlib.ExitStack() as stack:
            self.other_end(stack, row, host)
            program = stack.enter_context(lab.Program(host, words, self.balancer_cpu))
            trouble = self.trouble(row, host, client, program)
            if trouble is None:
                yield program
                return
            code = program.process.returncode
            if code is not None and code > 0 and code not in CRASHES:
                raise CannotRun(last_line(program.said()) or f"ended with status {code}")
            self.broken = True
            say(f"{row.name}: {' '.join(program.words)}: {trouble}; it said:\n{program.said()}")
            yield None

    def trouble(self, row, host, client, program):
        """Waits until the balancer is at work; what is wrong if it isn't."""
        if row.answers:
            answered_by = lab.mac_of(client, lab.VIP, program)
            if answered_by != lab.LB_MAC:
                return f"the VIP is answered for by {answered_by}"
        else:
            limit = time.monotonic() + XDP_PATIENCE
            while "attached" not in program.said() and program.alive() and time.monotonic() < limit:
                time.sleep(0.02)
        if not program.alive():
            return "ended"
        if lab.attached(host) != row.xdp:
            return f"its XDP program was to be attached as {row.xdp} and is as {lab.attached(host)}"
        return None

    def other_end(self, stack, row, host):
        """A smallest program at the other end of the balancer's cable, without which veth takes nothing of XDP_TX.

        Back to back, in all rows, it drops what comes back, already counted, at little cost. Over the bridge it
        passes everything on, and only in rows that need it, as it makes the others slower.
        """
        if host == "lb" and row.xdp != "native":
            return
        end, interface = lab.CABLE_ENDS[host]
        action = "pass" if host == "lb" else "drop"
        program = lab.Program(end, [sys.executable, rows.XDP_PROGRAM, action, "native", interface], self.balancer_cpu)
        stack.enter_context(program)
        limit = time.monotonic() + XDP_PATIENCE
        while "attached" not in program.said() and program.alive() and time.monotonic() < limit:
            time.sleep(0.02)
        if "attached" not in program.said() and row.xdp == "native":
            raise CannotRun("other end of the cable: " + (last_line(program.said()) or "no program within seconds"))


def last_line(text):
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
