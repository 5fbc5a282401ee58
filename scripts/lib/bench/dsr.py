"""scripts/bench dsr: pen-dsr's drivers against Debian's pen on the same lab, interleaved; run by scripts/bench.

Rows: `direct`, the client straight to a backend, and smallest programs in the kernel, as ceilings; `pen`; each driver
of pen-dsr. Every round measures every row of a metric one after the other, each round in another order, so that what
disturbs the machine disturbs all; the medians and their ratios count, not a single figure.
"""

import argparse
import dataclasses
import sys

import frames
import lab
import machine
import report
import rounds
import rows
from measure import Bench


def main():
    """Measures all, prints the report, writes it if asked."""
    options = arguments()
    load_cpu, balancer_cpu = rounds.begin()
    generator = frames.Generator(options.blast, load_cpu)
    bench = Bench(options, generator, load_cpu=load_cpu, balancer_cpu=balancer_cpu)
    chosen = list(chosen_metrics(options))
    bench.skip_absent(chosen)
    with machine.raised_autogroup():
        lab.up()
        bench.prepare()
        bench.measure_all(chosen)
    rounds.publish("dsr", *report.of_dsr(bench, chosen, options), options)
    return 1 if bench.broken else 0


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench dsr", description=__doc__.split("\n\n", maxsplit=1)[0])
    rounds.add_options(parser, "dsr", "row")
    parser.add_argument("--only", action="append", metavar="METRIC",
                        choices=sorted({m.kind for m in rows.METRICS} | {m.key for m in rows.METRICS}),
                        help="only these metrics, by kind or name (repeatable): %(choices)s")
    parser.add_argument("--row", action="append", metavar="ROW", choices=list(map(rounds.hyphened, rows.ALL)),
                        help="only these rows (repeatable): %(choices)s")
    parser.add_argument("--pen-dsr", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--blast", required=True, help=argparse.SUPPRESS)
    return rounds.parse(parser)


def chosen_metrics(options):
    """The metrics that are to be measured, with those of their rows that are."""
    for metric in rows.METRICS:
        if options.only and not {metric.kind, metric.key} & set(options.only):
            continue
        wanted = tuple(row for row in metric.rows if not options.row or rounds.hyphened(row) in options.row)
        if wanted:
            yield dataclasses.replace(metric, rows=wanted)


if __name__ == "__main__":
    sys.exit(main())
