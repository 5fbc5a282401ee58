"""scripts/bench dsr: pen-dsr's drivers against Debian's pen on the same lab, interleaved; run by scripts/bench.

Rows: `direct`, the client straight to a backend, and smallest programs in the kernel, as ceilings; `pen`; each driver
of pen-dsr. Every round measures every row of a metric one after the other, each round in another order, so that what
disturbs the machine disturbs all; the medians and their ratios count, not a single figure.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import time

import frames
import lab
import machine
import report
import rows
from measure import Bench, say


def main():
    """Measures all, prints the report, writes it if asked."""
    options = arguments()
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    cpus = sorted(os.sched_getaffinity(0))
    generator = frames.Generator(options.blast, cpus[0])
    bench = Bench(options, generator, load_cpu=cpus[0], balancer_cpu=cpus[-1])
    chosen = list(chosen_metrics(options))
    for metric in chosen:
        for row in metric.rows:
            absent = machine.missing([*metric.needs, *(["pen"] if row is rows.PEN else [])])
            if absent:
                bench.skip(metric, row, "package " + ", ".join(absent))
    begin = time.monotonic()
    with machine.raised_autogroup():
        lab.up()
        bench.prepare()
        for number in range(options.rounds):
            for metric in chosen:
                turn = number % len(metric.rows)
                for row in metric.rows[turn:] + metric.rows[:turn]:
                    bench.measure(metric, row, number)
    say(f"measured in {(time.monotonic() - begin) / 60:.1f} minutes")
    text, chart = report.of_dsr(bench, chosen, options)
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
    names = [row.name.replace(" ", "-") for row in rows.ALL]
    parser = argparse.ArgumentParser(prog="scripts/bench dsr", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each measures every row (default 3)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default 2)")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 second: shows that it works, no more")
    parser.add_argument("--only", action="append", metavar="METRIC",
                        choices=sorted({m.kind for m in rows.METRICS} | {m.key for m in rows.METRICS}),
                        help="only these metrics, by kind or name (repeatable): %(choices)s")
    parser.add_argument("--row", action="append", metavar="ROW", choices=names,
                        help="only these rows (repeatable): %(choices)s")
    parser.add_argument("--write", action="store_true", help="write docs/bench/dsr.md and dsr.svg")
    parser.add_argument("--pen-dsr", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--blast", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1
    if not (1 <= options.rounds <= 100 and 1 <= options.seconds <= 60):
        parser.error("--rounds 1 to 100, --seconds 1 to 60")
    return options


def chosen_metrics(options):
    """The metrics that are to be measured, with those of their rows that are."""
    for metric in rows.METRICS:
        if options.only and not {metric.kind, metric.key} & set(options.only):
            continue
        wanted = tuple(row for row in metric.rows if not options.row or row.name.replace(" ", "-") in options.row)
        if wanted:
            yield dataclasses.replace(metric, rows=wanted)


if __name__ == "__main__":
    sys.exit(main())
