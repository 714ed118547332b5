"""What is compared: rows, their targets, the table and the JSON."""
import dataclasses
import json
import statistics


@dataclasses.dataclass(frozen=True)
class Target:
    """What a row should reach. A ratio of 3 is three times as good as the peer, whichever direction is good."""
    ratio: float | None = None
    at_most: float | None = None  # in the row's unit
    roofline: float | None = None  # a fraction

    def text(self, unit):
        parts = []
        if self.ratio is not None:
            parts.append(f">= {self.ratio:g}x")
        if self.at_most is not None:
            parts.append(f"<= {self.at_most:g} {unit}")
        if self.roofline is not None:
            parts.append(f">= {self.roofline:.0%} of roofline")
        return ", ".join(parts)


@dataclasses.dataclass
class Row:
    name: str
    unit: str
    target: Target = Target()
    peer: str | None = None  # whom the peer's values are of
    ours: list = dataclasses.field(default_factory=list)
    theirs: list = dataclasses.field(default_factory=list)
    ceiling: float | None = None  # what the machine allows at most, in the row's unit

    @property
    def lower_is_better(self):
        return self.unit in ("us", "ms", "MB", "perplexity")

    @property
    def value(self):
        return statistics.median(self.ours) if self.ours else None

    @property
    def peer_value(self):
        return statistics.median(self.theirs) if self.theirs else None

    @property
    def ratio(self):
        """How many times as good as the peer; above 1 is better, for latencies, too."""
        value, peer = self.value, self.peer_value
        if value is None or peer is None or 0 in (value, peer):
            return None
        return peer / value if self.lower_is_better else value / peer

    @property
    def roofline_fraction(self):
        return self.value / self.ceiling if self.ours and self.ceiling else None

    @property
    def met(self):
        """Whether every part of the target is reached: False as soon as one is not, None while one was not measured."""
        verdicts = []
        for aim, reached in ((self.target.ratio, self.ratio), (self.target.roofline, self.roofline_fraction)):
            if aim is not None:
                verdicts.append(None if reached is None else reached >= aim)
        if self.target.at_most is not None:
            verdicts.append(None if self.value is None else self.value <= self.target.at_most)
        if not verdicts or (None in verdicts and False not in verdicts):
            return None
        return all(verdicts)

    @property
    def ratio_text(self):
        """Perplexities differ in digits that speeds do not have."""
        if self.ratio is None:
            return "-"
        return f"{self.ratio:.4f}x" if self.unit == "perplexity" else f"{self.ratio:.2f}x"

    def as_json(self):
        return {"name": self.name, "value": self.value, "unit": self.unit, "peer": self.peer if self.theirs else None,
                "peer_value": self.peer_value, "ratio": self.ratio, "target": self.target.text(self.unit) or None,
                "roofline_fraction": self.roofline_fraction}


def number(value):
    """Three significant digits at least, and no exponent."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows):
    lines = [["row", "unit", "trireme", "peer", "ratio", "roofline", "target", "met"]]
    for row in rows:
        fraction = row.roofline_fraction
        lines.append([row.name, row.unit, number(row.value), number(row.peer_value),
                      row.ratio_text, "-" if fraction is None else f"{fraction:.0%}",
                      row.target.text(row.unit) or "-", {True: "yes", False: "no", None: "-"}[row.met]])
    return aligned(lines, left=(0, 1, 6))


def aligned(lines, left):
    """Cells as text, the first line being the head. left: columns that are not of numbers."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join("  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def write_json(path, head, rows):
    with open(path, "w") as file:
        json.dump({"head": head, "rows": [row.as_json() for row in rows]}, file, indent=1)
        file.write("\n")
