"""The curves of scaling.py as a picture: throughput above, time between tokens below, by the number of streams."""
import matplotlib

matplotlib.use("Agg")  # no display
from matplotlib import pyplot as plt  # noqa: E402

import scaling  # noqa: E402

COLORS = ("#2a6f9d", "#d9822b")
MARKERS = ("o", "s")  # told apart without colours, too


def draw(path, head, curves):
    """Writes a PNG. Sides without levels are left out."""
    curves = {side: levels for side, levels in curves.items() if levels}
    figure, (throughput, latency) = plt.subplots(2, 1, figsize=(9, 8), sharex=True, layout="constrained")
    for (side, levels), color, marker in zip(curves.items(), COLORS, MARKERS):
        style = {"color": color, "marker": marker, "markersize": 5}
        streams = [level.streams for level in levels]
        knee = scaling.knee(levels)
        throughput.plot(streams, [level.tokens_per_s for level in levels], label=side, **style)
        latency.plot(streams, [level.itl_p99_ms for level in levels], label=f"{side}, p99", **style)
        latency.plot(streams, [level.itl_p50_ms for level in levels], label=f"{side}, p50", linestyle=":", **style)
        _ring(throughput, knee.streams, knee.tokens_per_s, color)
        _ring(latency, knee.streams, knee.itl_p99_ms, color)
        throughput.annotate(f"knee at {knee.streams}: {knee.tokens_per_s:,.0f} tokens/s", (knee.streams, knee.tokens_per_s),
                            xytext=(10, -16), textcoords="offset points", fontsize=9, color=color)
    for axes, title in ((throughput, "output tokens/s"), (latency, "ms between tokens")):
        axes.set_ylabel(title)
        axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", fontsize=9, frameon=False)
    throughput.set_ylim(bottom=0)
    latency.set_yscale("log")
    latency.set_xscale("log", base=2)
    ticks = sorted({level.streams for levels in curves.values() for level in levels})
    latency.set_xticks(ticks, [str(tick) for tick in ticks])
    latency.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    latency.set_xlabel("concurrent streams (chats in flight)")
    figure.suptitle(f"{head['model']}: " + " beside ".join(f"{name} {head['versions'].get(name) or ''}".strip() for name in curves) +
                    f"\n{head['cpu']}, {head['threads']} threads, {head['date']}\n"
                    "ring: the knee, beyond which twice the streams give less than 1.5 times the tokens", fontsize=10)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def _ring(axes, x, y, color):
    axes.plot([x], [y], marker="o", markersize=13, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.8)
