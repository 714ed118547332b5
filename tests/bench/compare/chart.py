"""The rows as a picture: how many times as good as the peer, and which share of what the machine allows."""
import matplotlib

matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt  # noqa: E402

MET, MISSED, NEITHER = "#2a9d5c", "#d9822b", "#6b7a8f"


def draw(path, head, rows):
    """Writes a PNG. Rows with neither a ratio nor a roofline have no bar, and are left out."""
    rows = [row for row in rows if row.ratio is not None or row.roofline_fraction is not None]
    figure, (ratios, rooflines) = plt.subplots(
        1, 2, figsize=(13, 2.1 + 0.36 * max(len(rows), 2)), sharey=True, layout="constrained")
    _ratios(ratios, rows)
    _rooflines(rooflines, rows)
    ratios.set_yticks(range(len(rows)), [row.name for row in rows])
    ratios.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    compared = " beside ".join(f"{name} {version}" for name, version in head["versions"].items() if version)
    figure.suptitle(f"{compared}\n"
                    f"{head['cpu']} ({' '.join(head['instruction_sets'])}), {head['threads']} threads, {head['date']}\n"
                    "bold mark: target; green: met, orange: missed, grey: none", fontsize=10)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _color(met):
    return NEITHER if met is None else MET if met else MISSED


def _note(axes, y, text):
    """At the right edge, where no bar and no mark is."""
    axes.text(0.99, y, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8)


def _mark(axes, y, x):
    axes.plot([x, x], [y - 0.4, y + 0.4], color="black", linewidth=2)


def _ratios(axes, rows):
    known = [row.ratio for row in rows if row.ratio is not None]
    low = min(known + [0.8]) * 0.8
    high = max(known + [row.target.ratio or 1 for row in rows] + [2]) * 2
    for y, row in enumerate(rows):
        aim = row.target.ratio
        if aim is not None:
            _mark(axes, y, aim)
        if row.ratio is None:
            _note(axes, y, "no peer")
            continue
        # From 1, the peer: to the right better, to the left worse.
        met = row.ratio >= aim if aim is not None else row.met if row.target.at_most is not None else None
        axes.barh(y, row.ratio - 1, left=1, height=0.62, color=_color(met))
        _note(axes, y, row.ratio_text)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("ratio, in medians of one run", fontsize=9)
    axes.set_title("times as good as the peer", fontsize=10)


def _rooflines(axes, rows):
    fractions = [row.roofline_fraction for row in rows if row.roofline_fraction is not None]
    for y, row in enumerate(rows):
        fraction, aim = row.roofline_fraction, row.target.roofline
        if fraction is None:
            continue
        axes.barh(y, fraction * 100, height=0.62, color=_color(None if aim is None else fraction >= aim))
        _note(axes, y, f"{fraction:.0%}")
        if aim is not None:
            _mark(axes, y, aim * 100)
    axes.axvline(100, color="#b02a37", linewidth=1.5, linestyle="--")
    axes.set_xlim(0, max([115] + [fraction * 115 for fraction in fractions]))
    axes.set_xlabel("% of what memory bandwidth and arithmetic allow; dashed: the roofline", fontsize=9)
    axes.set_title("share of the roofline", fontsize=10)
