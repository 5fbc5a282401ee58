"""What the samples come to: figures with their units, medians, ratios of rows in the same rounds, and the aims."""

import dataclasses
import statistics

from rows import DIRECT, PEN, RING, XDP_GENERIC, XDP_NATIVE


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure of a sample, and how it is shown."""

    name: str
    heading: str
    unit: str
    # The sample's value divided by this is in the unit.
    divisor: float
    digits: int
    # Rows that its value is compared to.
    against: tuple = ()


FRAMES = [
    Figure("rate", "forwarded", "kframes/s", 1e3, 0, (PEN, DIRECT)),
    Figure("offered", "offered", "kframes/s", 1e3, 0),
    Figure("cpu", "CPU per frame", "ns", 1, 0),
    Figure("share", "CPU had", "%", 0.01, 0),
]
# Kind of metric -> its figures; the chart shows the first.
FIGURES = {
    "frames": FRAMES,
    "near": FRAMES,
    "tcp": [Figure("bits", "rate", "Gbit/s", 1e9, 2, (PEN, DIRECT))],
    "http": [
        Figure("requests", "requests", "1/s", 1, 0, (PEN, DIRECT)),
        Figure("p50", "latency, median", "µs", 1, 1, (PEN, DIRECT)),
        Figure("p99", "latency, 99 %", "µs", 1, 0),
    ],
}


def values(samples, metric_key, row, figure):
    """A row's values of a figure, one for each round that has it."""
    return [s[figure] for s in samples.get((metric_key, row.name), {}).values() if figure in s]


def ratio(samples, metric_key, row, other, figure):
    """Median, over the rounds that both have, of a row's figure divided by the other's; None if there is none."""
    ours, theirs = (samples.get((metric_key, r.name), {}) for r in (row, other))
    quotients = [ours[number][figure] / theirs[number][figure] for number in ours.keys() & theirs.keys()
                 if figure in ours[number] and theirs[number].get(figure, 0) > 0]
    return statistics.median(quotients) if quotients else None


# A balancer that is offered more than it forwards has its CPU for itself on an idle machine, but for what the kernel
# does on it; less of it than this, and other programs had the rest.
IDLE_SHARE = 0.75


def disturbed(samples):
    """The least share of a CPU that a balancer had while it could not forward all; None if all had enough."""
    shares = [s["share"] for rounds in samples.values() for s in rounds.values()
              if "share" in s and s["offered"] > 1.2 * s["rate"] and s["share"] < IDLE_SHARE]
    return min(shares, default=None)


@dataclasses.dataclass(frozen=True)
class Aim:
    """A ratio of two rows that is to be reached, or not to be exceeded."""

    title: str
    metric: str
    row: object
    other: object
    figure: str
    least: float = None
    most: float = None

    @property
    def wanted(self):
        """In words."""
        bound = f"at least {self.least:.2f}" if self.least is not None else f"at most {self.most:.2f}"
        return f"{bound} × {self.other.name}"

    def outcome(self, samples):
        """The ratio of this run, and whether it is as wanted; None for both if it was not measured."""
        measured = ratio(samples, self.metric, self.row, self.other, self.figure)
        if measured is None:
            return None, None
        return measured, measured >= self.least if self.least is not None else measured <= self.most


AIMS = [
    Aim("ring, small frames, one-arm", "frames", RING, PEN, "rate", least=1.6),
    Aim("ring, small frames, back to back", "near", RING, PEN, "rate", least=2.0),
    Aim("ring, HTTP latency, 1 connection, offloads off", "http-off-1", RING, PEN, "p50", most=1.0),
    Aim("ring, TCP, offloads on", "tcp-on", RING, DIRECT, "bits", least=0.85),
    Aim("xdp generic, small frames, one-arm", "frames", XDP_GENERIC, PEN, "rate", least=1.7),
    Aim("xdp native, small frames, one-arm", "frames", XDP_NATIVE, PEN, "rate", least=1.7),
    Aim("xdp native, small frames, back to back", "near", XDP_NATIVE, PEN, "rate", least=7.0),
    Aim("xdp generic, TCP, offloads on", "tcp-on", XDP_GENERIC, DIRECT, "bits", least=0.9),
    Aim("xdp generic, HTTP latency, 1 connection, offloads on", "http-on-1", XDP_GENERIC, DIRECT, "p50", most=1.1),
]
