"""scripts/bench dsr: pen-dsr against Debian's pen on the same lab, interleaved; run by scripts/bench in a sandbox.

Rows: `direct`, the client straight to a backend, as the ceiling; `pen`; `pen-dsr`; for latency, `pen-dsr`
that always sleeps. Every round measures every row of a metric one after the other, each round in another order, so that
what disturbs the machine disturbs all; the medians and their ratio count, not a single figure.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import lab
import load
import report
from report import DIRECT, PEN, PEN_DSR, PEN_DSR_SLEEPY

# program: Debian's package
PACKAGES = {"pen": "pen", "iperf3": "iperf3", "wrk": "wrk", "nginx": "nginx", "ethtool": "ethtool",
            "nft": "nftables"}

ROWS = [DIRECT, PEN, PEN_DSR]
LATENCY_ROWS = [DIRECT, PEN, PEN_DSR, PEN_DSR_SLEEPY]
ALWAYS_SLEEP = ["--busy-poll", "0"]

METRICS = [
    # key, title, rows, programs that it needs
    ("frames", "60-byte UDP, 1024 flows, over the bridge", ROWS, ["nft"]),
    ("near", "60-byte UDP, 1024 flows, back to back", [PEN, PEN_DSR], ["nft"]),
    ("tcp-on", "iperf3, one TCP stream, offloads on", ROWS, ["iperf3", "ethtool"]),
    ("http-on-1", "wrk, 1 connection, offloads on", LATENCY_ROWS, ["wrk", "nginx", "ethtool"]),
    ("http-on-64", "wrk, 64 connections, offloads on", LATENCY_ROWS, ["wrk", "nginx", "ethtool"]),
    ("tcp-off", "iperf3, one TCP stream, offloads off", ROWS, ["iperf3", "ethtool"]),
    ("http-off-1", "wrk, 1 connection, offloads off", LATENCY_ROWS, ["wrk", "nginx", "ethtool"]),
    ("http-off-64", "wrk, 64 connections, offloads off", LATENCY_ROWS, ["wrk", "nginx", "ethtool"]),
]


def main():
    """Measures all, prints the report, writes it if asked."""
    options = arguments()
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    cpus = sorted(os.sched_getaffinity(0))
    bench = Bench(options, load_cpu=cpus[0], balancer_cpu=cpus[-1])
    chosen = [metric for metric in METRICS if not options.only or metric[0].split("-")[0] in options.only]
    missing = [program for program in PACKAGES if not shutil.which(program)]
    skipped = {}
    for key, title, rows, needs in chosen:
        for row in rows:
            absent = [p for p in needs + ([PEN] if row == PEN else []) if p in missing]
            if absent:
                skipped[key, row] = "SKIPPED: package " + ", ".join(PACKAGES[p] for p in absent)
                say(f"{title}: {row}: {skipped[key, row]}")
    with raised_autogroup():
        lab.up()
        for number in range(options.rounds):
            for key, title, rows, _ in chosen:
                turn = number % len(rows)
                for row in rows[turn:] + rows[:turn]:
                    if (key, row) not in skipped:
                        bench.measure(key, title, row, number)
    text, chart = report.of_dsr(bench.samples, skipped, chosen, options)
    print(text)
    if options.write:
        folder = pathlib.Path(lab.ROOT, "docs", "bench")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dsr.md").write_text(text + "\n")
        (folder / "dsr.svg").write_text(chart)
        say(f"written: {folder / 'dsr.md'}, {folder / 'dsr.svg'}")
    return 1 if bench.broken else 0


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench dsr", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds; each measures every row (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 second: shows that it works, no more")
    parser.add_argument("--only", action="append", choices=["frames", "near", "tcp", "http"],
                        help="only these metrics (repeatable)")
    parser.add_argument("--write", action="store_true", help="write docs/bench/dsr.md and dsr.svg")
    parser.add_argument("--pen-dsr", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--blast", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    if not (1 <= options.rounds <= 100 and 1 <= options.seconds <= 60):
        parser.error("--rounds 1 to 100, --seconds 1 to 60")
    return options


class Bench:
    """The samples so far: (metric, row) -> one dict of figures for each round."""

    def __init__(self, options, load_cpu, balancer_cpu):
        self.options = options
        self.load_cpu = load_cpu
        self.balancer_cpu = balancer_cpu
        self.samples = {}
        self.broken = False
        self.offloads = None

    def measure(self, key, title, row, number):
        """One row of one metric, once."""
        kind, *rest = key.split("-")
        self.set_offloads(rest[:1] != ["off"])
        if kind in ("frames", "near"):
            sample = self.frames(kind, row)
        elif kind == "tcp":
            sample = self.tcp(row)
        else:
            sample = self.http(row, int(rest[1]))
        self.samples.setdefault((key, row), []).append(sample)
        figures = ", ".join(f"{name} {value:,.0f}" for name, value in sample.items())
        say(f"round {number + 1}: {title}: {row}: {figures}")

    def set_offloads(self, on):
        """Switches them when they are not so already."""
        if self.offloads != on and shutil.which("ethtool"):
            lab.offloads(on)
            self.offloads = on

    def frames(self, kind, row):
        """Small frames over the bridge or back to back."""
        if row == DIRECT:
            return self.flood("direct", self.options.seconds, None)
        way, host, client = ("near", lab.NEAR_LB, lab.NEAR_GENERATOR) if kind == "near" else ("bridge", "lb", "client")
        with self.balancer(row, host, client, "udp", 9) as balancer:
            if balancer is None:
                return {"rate": 0.0}
            for _ in range(20):  # the balancer has to learn where its backends are
                if self.flood(way, 0.05, balancer)["rate"] > 1000:
                    break
            return self.flood(way, self.options.seconds, balancer)

    def flood(self, way, seconds, balancer):
        """One flood, pinned."""
        return load.small_frames(self.options.blast, way, seconds, self.load_cpu, balancer)

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
            return load.wrk(target, self.options.seconds, connections, self.load_cpu, directory)

    def target(self, stack, row, port):
        """The address that the client goes to, with a balancer running if there is one; None if no TCP connects."""
        address, balancer = lab.BACKENDS["be1"], None
        if row != DIRECT:
            address, balancer = lab.VIP, stack.enter_context(self.balancer(row, "lb", "client", "tcp", port))
        for _ in range(5):
            try:
                lab.run("client", "bash", "-c", f": </dev/tcp/{address}/{port}", timeout=1)
                return address
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
                time.sleep(0.2)
        if row != PEN or not self.offloads:  # pen with offloads on is expected to carry nothing
            self.broken = True
            said = f"; it said:\n{balancer.said()}" if balancer else ""
            say(f"{row}: no TCP connection to {address}:{port}{said}")
        return None

    @contextlib.contextmanager
    def balancer(self, row, host, client, protocol, port):
        """The balancer of a row, running and answering for the VIP; None for a row without one, or if it fails."""
        if row == DIRECT:
            yield None
            return
        lab.forget_neighbour(client, lab.VIP)
        with lab.Program(host, self.command(row, protocol, port), self.balancer_cpu) as program:
            answered_by = lab.mac_of(client, lab.VIP)
            if answered_by == lab.LB_MAC and program.alive():
                yield program
            else:
                self.broken = True
                say(f"{row}: {' '.join(program.words)}: VIP answered by {answered_by}; it said:\n{program.said()}")
                yield None

    def command(self, row, protocol, port):
        """The command lines say the same."""
        backends = list(lab.BACKENDS.values())
        if row == PEN:
            udp = ["-U"] if protocol == "udp" else []
            return ["pen", "-f", *udp, "-O", "dsr_if eth0", f"{lab.VIP}:{port}", *backends]
        sleep = ALWAYS_SLEEP if row == PEN_DSR_SLEEPY else []
        return [self.options.pen_dsr, "-i", "eth0", *sleep, "--protocol", protocol, f"{lab.VIP}:{port}", *backends]


@contextlib.contextmanager
def raised_autogroup():
    """With sched_autogroup, a busy neighbour session takes half the machine: raise this one's group, if allowed."""
    path = pathlib.Path("/proc/self/autogroup")
    try:
        nice = path.read_text().split()[-1]
        path.write_text("-15")
    except (OSError, IndexError):
        nice = None
    try:
        yield
    finally:
        if nice is not None:
            with contextlib.suppress(OSError):
                path.write_text(nice)


def say(text):
    """Progress goes to standard error; standard output is the report."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
