"""The part of a report that shows predictions on scans, and lists those that failed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from semiseg.evaluation.overlay import class_colour
from semiseg.reports.cohort import Cohort
from semiseg.reports.findings import FEWEST, find_failures, summarised
from semiseg.reports.markup import Markup, inert, join, raw, tag
from semiseg.reports.records import Record
from semiseg.reports.results import percent
from semiseg.reports.slices import Slice, Stack, cut_stacks
from semiseg.reports.tables import source, table
from semiseg.scans.readers import read_channel, read_label


def pictures(cohort: Cohort, *, most: int) -> Markup:
    """Worst, median and best case, each in three planes with at most `most` slices, one row per run.

    Raises:
        InputError: a scan cannot be read.
    """
    notes = [tag("p", note, class_="note") for note in cohort.notes]
    if not cohort.pictured or not cohort.dataset:
        return join(notes)
    shown = [_case(cohort, role, case, most) for role, case in cohort.extremes().items()]
    outlines = source(cohort.pictured, "predictions", "predict")
    scores = source(cohort.pictured, "scores.csv", "evaluate")
    return join([*notes, _legend(cohort.class_names), *shown, outlines, scores])


def _legend(names: Sequence[str]) -> Markup:
    items = [tag("li", _sample(class_colour(label), "prediction"), name) for label, name in enumerate(names) if label]
    items.append(tag("li", _sample("#ffffff", "truth"), "reference (dashed)"))
    switches = [
        tag("label", tag("input", type="checkbox", checked=True, data_layer=layer), " ", text)
        for layer, text in (("prediction", "outlines of the prediction"), ("truth", "outlines of the reference"))
    ]
    return join([tag("ul", *items, class_="legend"), tag("p", *switches, class_="switches")])


def _sample(ink: str, kind: str) -> Markup:
    casing = tag("path", d="M3 8h28", class_="casing")
    line = tag("path", d="M3 8h28", class_=kind, stroke=ink)
    return tag(
        "svg",
        tag("rect", width=34, height=16, fill="#444"),
        casing,
        line,
        viewBox="0 0 34 16",
        class_="swatch",
        aria_hidden="true",
    )


def _case(cohort: Cohort, role: str, case: str, most: int) -> Markup:
    found = cohort.dataset[case]
    volume = read_channel(found.images[0], 0, spacing=found.spacing)
    truth = read_label(cohort.labels[case]).array
    runs = cohort.pictured
    predictions = [read_label(cohort.predictions[record.key][case]).array for record in runs]
    stacks = cut_stacks(volume.array, truth, predictions, volume.affine, most=most)
    side = max(max(stack.millimetres) for stack in stacks)
    data = inert(json.dumps([_json(stack) for stack in stacks], separators=(",", ":")))
    means = [_dice_of(record, case) for record in runs]
    heading = tag("h4", f"{role.capitalize()} of {len(cohort.scores[0].cases)}: {case}")
    planes = [_plane(stack, index, runs, side, cohort.class_names) for index, stack in enumerate(stacks)]
    return tag(
        "section",
        heading,
        tag("p", "Dice ", "; ".join(means), class_="note"),
        tag("div", *planes, class_=f"planes planes-{len(planes)}"),
        raw("script", data, type="application/json"),
        class_="case",
    )


def _dice_of(record: Record, case: str) -> str:
    assert record.scores is not None
    names = record.scores.class_names
    parts = [f"{names[row.label]} {percent(row.scores['dice'])}" for row in record.scores.rows if row.case == case]
    return f"{record.key}: {', '.join(parts)}"


def _json(stack: Stack) -> dict[str, object]:
    return {
        "name": stack.name,
        "count": stack.count,
        "slices": [{"n": cut.number, "i": cut.jpeg, "t": cut.truth, "p": cut.predictions} for cut in stack.slices],
    }


def _plane(stack: Stack, index: int, runs: Sequence[Record], side: float, names: Sequence[str]) -> Markup:
    last = len(stack.slices) - 1
    cut = stack.slices[stack.first]
    words = f"{stack.name} {cut.number} of {stack.count}" if stack.name else "the slice"
    slider = tag(
        "label",
        tag("output", words),
        tag(
            "input",
            type="range",
            min=0,
            max=last,
            value=stack.first,
            step=1,
            aria_label=f"{stack.name} slice",
            aria_valuetext=words,
        ),
    )
    panels = [
        tag(
            "figure",
            tag("figcaption", tag("b", record.key), " ", record.config.method),
            _panel(stack, cut, run, side, names),
        )
        for run, record in enumerate(runs)
    ]
    return tag("div", slider if last else tag("p", words, class_="only"), *panels, class_="plane", data_plane=index)


def _panel(stack: Stack, cut: Slice, run: int, side: float, names: Sequence[str]) -> Markup:
    """A square of `side` mm with the view in its middle."""
    width, height = stack.millimetres
    left, top = (side - width) / 2, (side - height) / 2
    scale = width / (2 * stack.voxels[0]), height / (2 * stack.voxels[1])
    place = f"translate({left:.3f} {top:.3f}) scale({scale[0]:.5f} {scale[1]:.5f})"
    picture = tag(
        "image",
        href=f"data:image/jpeg;base64,{cut.jpeg}",
        x=left,
        y=top,
        width=width,
        height=height,
        preserveAspectRatio="none",
    )
    lines = []
    for label in range(len(cut.truth)):
        ink = class_colour(label + 1)
        drawn = cut.predictions[run][label]
        lines.append(tag("path", d=drawn, class_="prediction", stroke=ink, data_label=label))
    for kind in ("casing", "truth"):
        lines += [tag("path", d=path, class_=kind, data_label=label) for label, path in enumerate(cut.truth)]
    what = f"{stack.name} slice with outlines of {', '.join(names[1:])}"
    return tag(
        "svg",
        tag("rect", width=side, height=side, fill="#000"),
        picture,
        tag("g", *lines, transform=place),
        *_ends(stack, side),
        viewBox=f"0 0 {side:.2f} {side:.2f}",
        role="img",
        aria_label=what,
        class_="panel",
        data_run=run,
    )


def _ends(stack: Stack, side: float) -> list[Markup]:
    places = ((0.03, 0.5, "start"), (0.97, 0.5, "end"), (0.5, 0.98, "middle"), (0.5, 0.055, "middle"))
    size = {"font_size": 0.05 * side, "stroke_width": 0.008 * side}
    return [
        tag("text", name, x=x * side, y=y * side, text_anchor=anchor, **size, class_="side")
        for name, (x, y, anchor) in zip(stack.ends, places, strict=True)
        if name
    ]


SHOWN = 25
"""Failures of a run that are listed at once; the others are behind a switch."""


def failures(cohort: Cohort) -> Markup:
    """What failed, run by run.

    Raises:
        InputError: a label file cannot be read.
    """
    found = [_failed(cohort, record) for record in cohort.records]
    return join([*found, source(cohort.records, "scores.csv", "evaluate")])


def _failed(cohort: Cohort, record: Record) -> Markup:
    assert record.scores is not None
    files = cohort.predictions.get(record.key, {})
    found = find_failures(record.scores, files, cohort.labels)
    heading = tag("p", tag("b", record.key), f" {record.name}: {summarised(found)}.")
    if not files or not cohort.labels:
        heading = join([heading, tag("p", "Pieces could not be counted: the files are not there.", class_="note")])
    rows = [[finding.case, cohort.class_names[finding.label], finding.what] for finding in found]
    heads = ("case", "class", "what happened")
    parts = [heading]
    if rows:
        parts.append(table(f"Failures of run {record.key}", heads, rows[:SHOWN]))
    if len(rows) > SHOWN:
        more = table(f"More failures of run {record.key}", heads, rows[SHOWN:])
        parts.append(tag("details", tag("summary", f"{len(rows) - SHOWN} more"), more))
    return join(parts)


RULES = (
    "Listed are classes that were not found at all, found only where the reference has nothing, or invented, and "
    f"predictions in {FEWEST} or more pieces where the reference has fewer (voxels that share a corner are connected)."
)
