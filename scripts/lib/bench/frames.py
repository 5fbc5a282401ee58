"""Small UDP frames: the ways that they take through the labs, the generator, and what the counters say meanwhile."""

import dataclasses
import pathlib
import shutil
import sys
import time

import lab

FLOOD = str(pathlib.Path(__file__).with_name("flood.py"))
MARGIN = 0.3  # seconds of flood before the first reading
PATIENCE = 5.0  # seconds until the flood has to show
LEAST = 1000  # frames: more than what hosts say to each other unasked


@dataclasses.dataclass(frozen=True)
class Way:
    """From a generator's interface to an address, and where to count."""

    host: str
    interface: str
    address: str
    mac: str
    # Host that the frames reach first, with the generator on the other side of its cable or of the bridge.
    entry: str
    # Hosts that the frames end in.
    receivers: tuple


# Over the bridge the generator sits at the bridge's end of the balancer's cable: the way in would cost it half its
# rate, and is not measured.
DIRECT = Way("client", "eth0", lab.BACKENDS["be1"], lab.BACKEND_MACS["be1"], "be1", ("be1",))
BRIDGE = Way("sw", "lb", lab.VIP, lab.LB_MAC, "lb", tuple(lab.BACKENDS))
NEAR = Way(lab.NEAR_GENERATOR, "eth0", lab.VIP, lab.LB_MAC, lab.NEAR_LB, (lab.NEAR_GENERATOR,))

# What is at the other end of the generators' cables. GRO there makes veth take frames that flood.py sends.
FIRST_INTERFACES = [("lb", "eth0"), (lab.NEAR_LB, "eth0"), ("sw", "client")]


class Generator:
    """flood.py where the kernel lets it, else the packet socket of tests/tools/blast.rs; on one CPU."""

    def __init__(self, blast, cpu):
        self.blast = blast
        self.cpu = cpu
        # Why it is not flood.py; None if it is.
        self.why_not = None

    def choose(self):
        """Tries flood.py on the cable of the labs that is nearest."""
        if not shutil.which("ethtool"):
            self.why_not = "ethtool is missing"
            return
        before = lab.received(NEAR.entry)
        with self.started(NEAR, 0.1) as program:
            program.process.wait(PATIENCE)
            if program.process.returncode:
                self.why_not = program.said()
            elif lab.received(NEAR.entry) - before < LEAST:
                self.why_not = "flood: nothing arrived"

    def started(self, way, seconds):
        """The generator, running for so long unless it is stopped."""
        if self.why_not:
            words = [self.blast, "--interface", way.interface, "--to", way.address, "--to-mac", way.mac,
                     "--seconds", str(seconds)]
        else:
            words = [sys.executable, FLOOD, way.interface, way.address, way.mac, str(seconds)]
        return lab.Program(way.host, words, self.cpu)

    def warm_up(self, way):
        """Short floods until frames come out: a balancer has to learn first where its backends are."""
        for _ in range(20):
            before = total(way.receivers)
            with self.started(way, 0.05) as program:
                program.process.wait(PATIENCE)
            if total(way.receivers) - before > LEAST:
                return

    def flood(self, way, seconds, process=None, receivers=None):
        """Forwarded and offered frames per second.

        Of `process`, if there is one, CPU time per forwarded frame in ns, and the share of a CPU that it had.
        """
        receivers = receivers or way.receivers

        def reading():
            """Time, frames that arrived, frames that were offered, CPU time of the balancer."""
            offered = lab.received(way.entry)
            return time.monotonic(), total(receivers), offered, process.cpu_seconds() if process else 0.0

        idle = lab.received(way.entry)
        with self.started(way, seconds + PATIENCE + 1) as program:
            limit = time.monotonic() + PATIENCE
            while lab.received(way.entry) - idle < LEAST and time.monotonic() < limit and program.alive():
                time.sleep(0.01)
            time.sleep(MARGIN)
            begin = reading()
            time.sleep(seconds)
            end = reading()
            if not program.alive():
                raise RuntimeError(f"{' '.join(program.words)}: ended early; it said: {program.said()}")
        elapsed, frames, offered, busy = (after - before for before, after in zip(begin, end))
        measured = {"rate": frames / elapsed}
        if way is not DIRECT:
            measured["offered"] = offered / elapsed
        if process and frames:
            measured["cpu"] = busy / frames * 1e9
            measured["share"] = busy / elapsed
        return measured


def total(hosts):
    """Frames that these hosts have received."""
    return sum(map(lab.received, hosts))
