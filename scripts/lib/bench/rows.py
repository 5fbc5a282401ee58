"""What is compared: the rows of the bench, and the metrics with their rows."""

import dataclasses
import pathlib
import sys

import lab

XDP_PROGRAM = str(pathlib.Path(__file__).with_name("xdp.py"))


@dataclasses.dataclass(frozen=True)
class Row:
    """One contestant, or one ceiling."""

    name: str
    colour: str
    # Program that has to be there, beside this project's.
    program: str = None
    # Options of pen-dsr; None for a row that is not pen-dsr.
    options: tuple = None
    # Action of xdp.py, for a row that is a smallest program in the kernel.
    action: str = None
    # How it is attached: native, generic; None for a row that has no program in the kernel.
    xdp: str = None

    @property
    def has_process(self):
        """Whether frames are forwarded by a process, whose CPU time can be read."""
        return self.xdp is None and self is not DIRECT

    @property
    def answers(self):
        """Whether it answers for the VIP."""
        return self.action is None and self is not DIRECT

    def command(self, pen_dsr, protocol, port, backend_mac):
        """The command line of the row's balancer. All of them say the same."""
        backends = list(lab.BACKENDS.values())
        if self.action:
            return [sys.executable, XDP_PROGRAM, self.action, self.xdp, "eth0", backend_mac]
        if self is PEN:
            udp = ["-U"] if protocol == "udp" else []
            return ["pen", "-f", *udp, "-O", "dsr_if eth0", f"{lab.VIP}:{port}", *backends]
        return [pen_dsr, "-i", "eth0", *self.options, "--protocol", protocol, f"{lab.VIP}:{port}", *backends]


DIRECT = Row("direct", "#9aa5b1")
DROP_GENERIC = Row("XDP_DROP generic", "#c3cad2", action="drop", xdp="generic")
DROP_NATIVE = Row("XDP_DROP native", "#c3cad2", action="drop", xdp="native")
SEND_GENERIC = Row("XDP_TX generic", "#9aa5b1", action="send", xdp="generic")
SEND_NATIVE = Row("XDP_TX native", "#9aa5b1", action="send", xdp="native")
PEN = Row("pen", "#d9822b", program="pen")
PACKET = Row("packet", "#7fb0f5", options=("--driver", "packet"))
RING = Row("ring", "#1f6feb", options=("--driver", "ring"))
RING_SLEEPING = Row("ring sleeping", "#5b95ef", options=("--driver", "ring", "--busy-poll", "0"))
XDP_GENERIC = Row("xdp generic", "#2f9e6e", options=("--driver", "xdp", "--xdp-mode", "generic"), xdp="generic")
XDP_NATIVE = Row("xdp native", "#12704a", options=("--driver", "xdp", "--xdp-mode", "native"), xdp="native")

CEILINGS = [DROP_GENERIC, DROP_NATIVE, SEND_GENERIC, SEND_NATIVE]
OURS = [PACKET, RING, XDP_GENERIC, XDP_NATIVE]
ALL = [DIRECT, *CEILINGS, PEN, PACKET, RING, RING_SLEEPING, XDP_GENERIC, XDP_NATIVE]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One load over one way, with the rows that it is measured for."""

    # The kind of load, then `on` or `off` for the offloads, then the number of connections.
    key: str
    title: str
    rows: tuple
    # Programs without which nothing of it can be measured.
    needs: tuple

    @property
    def kind(self):
        """frames, near, tcp or http."""
        return self.key.split("-")[0]

    @property
    def offloads(self):
        """Whether they are on."""
        return "off" not in self.key.split("-")

    @property
    def connections(self):
        """Of wrk."""
        return int(self.key.rpartition("-")[2])


# With offloads on, native XDP on veth loses what a frame says of its unfinished checksum: no row for it there.
OFFLOADED = (PACKET, RING, XDP_GENERIC)
FRAMES = ("nft",)
STREAM = ("iperf3", "ethtool")
WEB = ("wrk", "nginx", "ethtool")

METRICS = [
    Metric("frames", "60-byte UDP, 1024 flows, one-arm over the bridge", (DIRECT, *CEILINGS, PEN, *OURS), FRAMES),
    Metric("near", "60-byte UDP, 1024 flows, back to back", (*CEILINGS, PEN, *OURS), FRAMES),
    Metric("tcp-on", "iperf3, one TCP stream, offloads on", (DIRECT, SEND_GENERIC, PEN, *OFFLOADED), STREAM),
    Metric("http-on-1", "wrk, 1 connection, offloads on", (DIRECT, SEND_GENERIC, PEN, *OFFLOADED), WEB),
    Metric("http-on-64", "wrk, 64 connections, offloads on", (DIRECT, PEN, *OFFLOADED), WEB),
    Metric("tcp-off", "iperf3, one TCP stream, offloads off", (DIRECT, PEN, *OURS), STREAM),
    Metric("http-off-1", "wrk, 1 connection, offloads off",
           (DIRECT, SEND_GENERIC, SEND_NATIVE, PEN, PACKET, RING, RING_SLEEPING, XDP_GENERIC, XDP_NATIVE), WEB),
    Metric("http-off-64", "wrk, 64 connections, offloads off", (DIRECT, PEN, *OURS), WEB),
]
