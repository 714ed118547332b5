"""The rows as a picture: how many times as good as the peer, and which share of what the machine allows."""
import matplotlib

matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt  # noqa: E402

MET, MISSED, NEITHER = "#2a9d5c", "#d9822b", "#6b7a8f"


def draw(path, head, rows):
    """Writes a PNG. Rows with neither a ratio nor a roofline have no bar, and are left out."""
    rows = [row for row in rows if row.ratio is not None or row.roofline_fraction is not None]
    figure, (ratios, rooflines) = plt.subplots(
        1, 2, figsize=(13, 1.9 + 0.36 * max(len(rows), 2)), sharey=True, layout="constrained")
    _ratios(ratios, rows)
    _rooflines(rooflines, rows)
    ratios.set_yticks(range(len(rows)), [row.name for row in rows])
    ratios.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    figure.suptitle(f"{head['cpu']} ({' '.join(head['instruction_sets'])}), {head['threads']} threads, {head['date']}\n"
                    + " beside ".join(f"{name} {version}" for name, version in head["versions"].items() if version),
                    fontsize=10)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _color(reached, aim):
    return NEITHER if aim is None else MET if reached >= aim else MISSED


def _ratios(axes, rows):
    top = max([row.ratio or 1 for row in rows] + [row.target.ratio or 1 for row in rows] + [2])
    for y, row in enumerate(rows):
        if row.ratio is None:
            axes.text(1.03, y, "no peer in this run", va="center", fontsize=8, color=NEITHER)
            continue
        # From 1, the peer: to the right better, to the left worse.
        axes.barh(y, row.ratio - 1, left=1, height=0.62, color=_color(row.ratio, row.target.ratio))
        axes.text(max(row.ratio, 1) * 1.03, y, f"{row.ratio:.2f}x", va="center", fontsize=8)
        if row.target.ratio is not None:
            axes.plot([row.target.ratio] * 2, [y - 0.4, y + 0.4], color="black", linewidth=2)
    axes.axvline(1, color="black", linewidth=0.8)
    low = min([row.ratio for row in rows if row.ratio is not None] + [0.8])
    axes.set_xscale("log")
    axes.set_xlim(low * 0.8, top * 1.5)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if low * 0.8 <= t <= top * 1.5]
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.minorticks_off()
    axes.set_title("times as good as the peer (bold mark: target)", fontsize=10)


def _rooflines(axes, rows):
    for y, row in enumerate(rows):
        fraction = row.roofline_fraction
        if fraction is None:
            continue
        axes.barh(y, fraction * 100, height=0.62, color=_color(fraction, row.target.roofline))
        axes.text(fraction * 100 + 1, y, f"{fraction:.0%}", va="center", fontsize=8)
        if row.target.roofline is not None:
            axes.plot([row.target.roofline * 100] * 2, [y - 0.4, y + 0.4], color="black", linewidth=2)
    axes.axvline(100, color="#b02a37", linewidth=1.5, linestyle="--")
    axes.set_xlim(0, max([110] + [row.roofline_fraction * 115 for row in rows if row.roofline_fraction]))
    axes.set_xlabel("% of what memory bandwidth and arithmetic allow (dashed line: the roofline)", fontsize=9)
    axes.set_title("share of the roofline (bold mark: target)", fontsize=10)
