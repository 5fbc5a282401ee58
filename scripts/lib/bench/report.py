"""The report of scripts/bench dsr: Markdown with the medians, the aims and what a reader has to know."""

import pathlib
import shlex
import statistics

import chart
import machine
import summary

TITLE = "Direct Server Return: pen-dsr's drivers and pen"
NOTES = pathlib.Path(__file__).with_name("dsr-notes.md")


def of_dsr(bench, metrics, options):
    """Markdown text and SVG text."""
    lines = ["# " + TITLE, "", *circumstances(bench, options), "", "![Medians as bars](dsr.svg)", "", "## Aims", "",
             *aims(bench, metrics), ""]
    panels = []
    for metric in metrics:
        lines += ["## " + metric.title, "", *table(bench, metric, summary.FIGURES[metric.kind]), ""]
        panels.append((metric.title, *bars(bench.samples, metric, summary.FIGURES[metric.kind][0])))
    lines += ["## How to read this", "", NOTES.read_text().rstrip()]
    return "\n".join(lines), chart.svg(TITLE, panels)


def aims(bench, metrics):
    """A line for each aim whose metric was measured, computed from this run's samples."""
    lines = [markdown_row(["aim", "wanted", "this run", ""]), markdown_row(["---", "---", "---:", "---"])]
    keys = [metric.key for metric in metrics]
    for aim in summary.AIMS:
        measured, met = aim.outcome(bench.samples) if aim.metric in keys else (None, None)
        verdict = {True: "met", False: "**not met**", None: "not measured"}[met]
        lines.append(markdown_row([aim.title, aim.wanted, "–" if measured is None else f"{measured:.2f}", verdict]))
    share = summary.disturbed(bench.samples)
    if share is not None:
        lines += ["", f"**The machine was not idle:** a balancer had only {share * 100:.0f} % of its CPU while frames "
                  "waited for it. Rows of user space are too low, pen's too, and ratios to it too high."]
    return lines


def table(bench, metric, figures):
    """One metric: a line for each row of the bench, a column for each figure and each comparison."""
    head, lines, skipped = [""], [], []
    for figure in figures:
        head.append(f"{figure.heading}, {figure.unit}")
        head += [f": {other.name}" for other in figure.against if other in metric.rows]
    for row in metric.rows:
        why = bench.skipped.get((metric.key, row.name))
        if why:
            skipped.append(f"- {row.name}: skipped: {why}")
        cells = [row.name]
        for figure in figures:
            found = [v / figure.divisor for v in summary.values(bench.samples, metric.key, row, figure.name)]
            cells.append("skipped" if why and not found else cell(found, figure.digits))
            for other in figure.against:
                if other in metric.rows:
                    cells.append(compared(bench.samples, metric, row, other, figure))
        lines.append(markdown_row(cells))
    rule = markdown_row(["---", *["---:"] * (len(head) - 1)])
    return [markdown_row(head), rule, *lines, *([""] if skipped else []), *skipped]


def cell(found, digits):
    """Median (least to greatest); a dash where there is nothing."""
    if not found:
        return "–"
    digits = 0 if min(found) >= 1000 else digits
    middle = f"{statistics.median(found):.{digits}f}"
    if len(found) == 1:
        return middle
    return f"{middle} ({min(found):.{digits}f}–{max(found):.{digits}f})"


def compared(samples, metric, row, other, figure):
    """A ratio; nothing for a row beside itself."""
    if row is other:
        return ""
    found = summary.ratio(samples, metric.key, row, other, figure.name)
    return "–" if found is None else f"{found:.2f}"


def markdown_row(cells):
    """Cells between bars."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def bars(samples, metric, figure):
    """A figure of a metric as bars: unit, and for each row itself, its median or None, and text."""
    found = []
    for row in metric.rows:
        values = [v / figure.divisor for v in summary.values(samples, metric.key, row, figure.name)]
        middle = statistics.median(values) if values else None
        found.append((row, middle, "skipped" if middle is None else f"{middle:,.{figure.digits}f}"))
    return figure.unit, found


def circumstances(bench, options):
    """What was measured, on what, and how: lines of Markdown."""
    words = ["scripts/bench", "dsr", "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    for option, chosen in (("--only", options.only), ("--row", options.row)):
        for name in chosen or []:
            words += [option, name]
    why_not = bench.generator.why_not
    return [
        f"`{shlex.join(words)}`",
        "",
        *machine.described(),
        f"- programs: {machine.versions(['pen', 'iperf3', 'wrk', 'nginx'])}; "
        f"{machine.answer([options.pen_dsr, '--version']) or 'pen-dsr'}",
        f"- small frames from {'a packet socket: ' + why_not if why_not else 'the kernel (flood.py)'}",
    ]

