"""What both benches have in common: rounds in which every row of every metric is measured, and what comes of them.

Every round measures every row of a metric one after the other, each round in another order, so that what disturbs the
machine disturbs all.
"""

import os
import pathlib
import sys
import time

import lab
import machine


class CannotRun(Exception):
    """A row can't be measured here, and why."""


class Samples:
    """The samples so far. A bench says how one is taken (`sample`)."""

    # Of figures that are said while measuring, behind the point.
    digits = 0

    def __init__(self, options):
        self.options = options
        # (key of the metric, name of the row) -> round -> one dict of figures
        self.samples = {}
        # (key of the metric, name of the row) -> why
        self.skipped = {}
        # Did pen-dsr, or what is measured with it, do what it should not?
        self.broken = False

    def skip(self, metric, row, why):
        """The row goes without this metric."""
        self.skipped[metric.key, row.name] = why
        say(f"{metric.title}: {row.name}: skipped: {why}")

    def skip_absent(self, metrics):
        """Rows go without those metrics for which programs are not here."""
        for metric in metrics:
            for row in metric.rows:
                absent = machine.missing([*metric.needs, *([row.program] if row.program else [])])
                if absent:
                    self.skip(metric, row, "package " + ", ".join(absent))

    def measure_all(self, metrics):
        """As many rounds as the options say."""
        begin = time.monotonic()
        for number in range(self.options.rounds):
            for metric in metrics:
                turn = number % len(metric.rows)
                for row in metric.rows[turn:] + metric.rows[:turn]:
                    self.measure(metric, row, number)
        say(f"measured in {(time.monotonic() - begin) / 60:.1f} minutes")

    def measure(self, metric, row, number):
        """One sample, unless the row is known to have none."""
        earlier = self.samples.setdefault((metric.key, row.name), {})
        if (metric.key, row.name) in self.skipped or self.has_enough(metric, row, earlier, number):
            return
        try:
            sample = self.sample(metric, row)
        except CannotRun as why:
            self.could_not_run(row)
            self.skip(metric, row, str(why))
            return
        earlier[number] = sample
        figures = ", ".join(f"{name} {value:,.{self.digits}f}" for name, value in sample.items())
        say(f"round {number + 1}: {metric.key}: {row.name}: {figures}")

    def sample(self, metric, row):
        """One dict of figures. Raises CannotRun."""
        raise NotImplementedError

    def has_enough(self, metric, row, earlier, number):
        """Whether no more samples than the earlier ones are wanted."""
        raise NotImplementedError

    def could_not_run(self, row):
        """What it means that a row can't be measured."""


def begin():
    """Whoever measures finds the programs of administrators, too. The CPUs: one for the load, one for what is measured."""
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


def add_options(parser, bench, row):
    """How much is measured; where it is written. `row`: what a row is called."""
    parser.add_argument("--rounds", type=int, default=3, help=f"rounds; each measures every {row} (default 3)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default 2)")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 second: shows that it works, no more")
    parser.add_argument("--write", action="store_true", help=f"write docs/bench/{bench}.md and {bench}.svg")


def parse(parser):
    """The command line's options, those of add_options within their bounds."""
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    if not (1 <= options.rounds <= 100 and 1 <= options.seconds <= 60):
        parser.error("--rounds 1 to 100, --seconds 1 to 60")
    return options


def hyphened(row):
    """A row's name as a word of the command line."""
    return row.name.replace(" ", "-")


def publish(bench, text, chart, options):
    """Prints the report of a bench, and writes it if that is wanted."""
    print(text)
    if options.write:
        folder = pathlib.Path(lab.ROOT, "docs", "bench")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{bench}.md").write_text(text + "\n")
        (folder / f"{bench}.svg").write_text(chart)
        say(f"written: {folder / bench}.md, {folder / bench}.svg")


def say(text):
    """Progress goes to standard error; standard output is the report."""
    print(text, file=sys.stderr, flush=True)
