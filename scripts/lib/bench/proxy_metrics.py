"""What proxies are compared by: the metrics of scripts/bench proxy, their figures, and the aims."""

import dataclasses
import statistics

import candidates
import summary
from candidates import DIRECT, HAPROXY, H2, HTTP, NGINX, PEERS, PEN, TCP, TLS, UDP
from summary import Figure


@dataclasses.dataclass(frozen=True)
class Metric:
    """One load on one mode of a proxy."""

    key: str
    title: str
    mode: str
    # Kind of load: wrk, h2load, first, bulk, idle, udp.
    load: str
    # Of the client, at once.
    connections: int
    # What CPU time is divided by, in words.
    unit: str = "request"
    # A connection for each request.
    close: bool = False
    # bulk: down or up.
    direction: str = None
    # Whether there is a row of the client straight at the server, and of haproxy with splice(2).
    direct: bool = False
    splice: bool = False
    # The same in every round: measured in this many rounds only.
    rounds: int = None
    # The candidates that are measured.
    rows: tuple = ()

    @property
    def server_port(self):
        """Where the proxy's server listens."""
        return {"bulk": candidates.BULK_PORT, "udp": candidates.UDP_PORT}.get(self.load, candidates.HTTP_PORT)

    @property
    def needs(self):
        """Programs without which nothing of it can be measured."""
        others = {"bulk": (), "udp": (), "wrk": ("wrk", "nginx"), "h2load": ("h2load", "nginx")}
        return others.get(self.load, ("nginx",))

    @property
    def figures(self):
        """Those of its samples; the chart shows the first."""
        if self.load == "idle":
            return [Figure("memory", "memory per connection", "kB", 1e3, 2, PEERS),
                    Figure("start", "in all before", "MB", 1e6, 1)]
        cpu = Figure("cpu", f"CPU per {self.unit}", "µs", 1, 0 if self.unit == "MB" else 1, PEERS)
        more = [Figure("user", "user", "%", 0.01, 0), Figure("softirq", "softirq", "%", 0.01, 0),
                Figure("share", "CPU had", "%", 0.01, 0)]
        rate = (Figure("rate", "rate", "MB/s", 1, 0) if self.unit == "MB"
                else Figure("rate", self.unit + "s", "1/s", 1, 0))
        if self.load == "udp":
            return [cpu, rate, Figure("lost", "lost", "‰", 1e-3, 1), *more]
        if self.load in ("bulk", "h2load"):
            return [cpu, rate, *more]
        against = (DIRECT,) if self.direct else ()
        if self.load == "first":
            return [Figure("p50", "to the first byte, median", "µs", 1, 0, (*against, *PEERS)),
                    Figure("p99", "99 %", "µs", 1, 0), cpu]
        latency = [] if self.close else [Figure("p50", "latency, median", "µs", 1, 1, against),
                                         Figure("p99", "latency, 99 %", "µs", 1, 0)]
        first = [*latency, cpu] if self.connections == 1 else [cpu, *latency]
        return [*first, rate, *more]


METRICS = [
    Metric("keep", "TCP, 64 kept-alive connections", TCP, "wrk", 64, direct=True),
    Metric("keep-1", "TCP, 1 kept-alive connection", TCP, "wrk", 1, direct=True),
    Metric("new", "TCP, a connection for each request, 64 at a time", TCP, "wrk", 64, "connection", close=True),
    Metric("first", "TCP, first byte over a new connection, one at a time", TCP, "first", 1, "connection", direct=True),
    Metric("down", "TCP, download, 1 connection", TCP, "bulk", 1, "MB", direction="down", splice=True),
    Metric("down-4", "TCP, download, 4 connections", TCP, "bulk", 4, "MB", direction="down", splice=True),
    Metric("up", "TCP, upload, 1 connection", TCP, "bulk", 1, "MB", direction="up", splice=True),
    Metric("http", "HTTP with X-Forwarded-For, 64 kept-alive connections", HTTP, "wrk", 64),
    Metric("http-new", "HTTP with X-Forwarded-For, a connection for each request, upstream's kept", HTTP, "wrk", 64,
           "connection", close=True),
    Metric("h2", "HTTP/2 over TLS, 16 connections, 8 streams each", H2, "h2load", 16),
    Metric("tls-new", "TLS 1.3, a connection with full handshake for each request, P-256", TLS, "wrk", 64, "connection",
           close=True),
    Metric("tls", "TLS 1.3, 64 kept-alive connections", TLS, "wrk", 64),
    Metric("tls-first", "TLS 1.3, first byte over a new connection, one at a time", TLS, "first", 1, "connection"),
    Metric("tls-down", "TLS 1.3, download, 1 connection", TLS, "bulk", 1, "MB", direction="down"),
    Metric("tls-up", "TLS 1.3, upload, 1 connection", TLS, "bulk", 1, "MB", direction="up"),
    Metric("udp", "UDP, 64 bytes there and back, 64 clients, 4 on their way each", UDP, "udp", 64, "pair"),
    Metric("idle", "TCP, 4000 idle connections after a request each", TCP, "idle", 4000, rounds=1),
    Metric("idle-tls", "TLS, 4000 idle connections after a request each", TLS, "idle", 4000, rounds=1),
]


@dataclasses.dataclass(frozen=True)
class Aim:
    """The most that this project's proxy may take, and the peer's figure that this was set beside."""

    title: str
    metric: str
    figure: str
    unit: str
    most: float
    # None: whichever peer takes the least.
    peer: object
    peer_took: float

    @property
    def wanted(self):
        """In words."""
        return f"at most {self.most:g} {self.unit}"

    @property
    def wanted_ratio(self):
        """The same beside the peer, for a machine of another speed."""
        return self.most / self.peer_took

    def outcome(self, bench, ours):
        """Median and ratio to the peer, with the peer's name; None for what was not measured."""
        figure = next(f for m in METRICS if m.key == self.metric for f in m.figures if f.name == self.figure)
        found = [v / figure.divisor for v in summary.values(bench.samples, self.metric, ours, self.figure)]
        median = statistics.median(found) if found else None
        peer = self.peer or self.least(bench)
        ratio = summary.ratio(bench.samples, self.metric, ours, peer, self.figure) if peer else None
        return median, ratio, peer.name if peer else "peer"

    def least(self, bench):
        """The peer with the least median."""
        medians = {}
        for peer in PEERS:
            found = summary.values(bench.samples, self.metric, peer, self.figure)
            if found:
                medians[peer] = statistics.median(found)
        return min(medians, key=medians.get, default=None)


AIMS = [
    Aim("keep-alive request", "keep", "cpu", "µs", 13, PEN, 13.6),
    Aim("new connection", "new", "cpu", "µs", 66, None, 69),
    Aim("bulk, per MB", "down", "cpu", "µs", 440, PEN, 463),
    Aim("HTTP with forwarded-for, request", "http", "cpu", "µs", 15.5, NGINX, 15.9),
    Aim("HTTP, new connection, upstream reused", "http-new", "cpu", "µs", 43, NGINX, 43),
    Aim("TLS 1.3 handshake, P-256", "tls-new", "cpu", "µs", 277, NGINX, 277),
    Aim("TLS bulk, per MB", "tls-down", "cpu", "µs", 1000, NGINX, 1056),
    Aim("memory of an idle connection", "idle", "memory", "kB", 3.3, HAPROXY, 3.3),
    Aim("memory of an idle connection, TLS", "idle-tls", "memory", "kB", 17, HAPROXY, 17.7),
]
