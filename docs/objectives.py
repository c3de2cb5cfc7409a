"""Write docs/objectives.md from the classes of the package and the last measurement of costs.

    python docs/objectives.py > docs/objectives.md

A test compares the page with what this prints.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.objectives import LIMIT
from hf_icckd.losses import OBJECTIVES, TEACHER_TERMS
from hf_icckd.losses.description import Description, describe, kind_of, needs_of, references, replays
from hf_icckd.losses.objective import DistillationObjective

ROOT = Path(__file__).resolve().parents[1]
INTRO = """\
# Objectives

A student minimises cross-entropy (weight `--ce_weight`, 1 by default) plus what `--objectives` names; `kd` is the
default. Several add up:

```bash
hf-icckd student --objectives kd:temperature=2 rkd:weight=0.5 --output_dir runs/student
```

In [a study of ten](evidence.md#ten-objectives-three-seeds) none was shown to teach more than KD, so the default is the
plainest one.

`hf-icckd objectives` prints the first table in a terminal, and `hf-icckd objectives dkd` what stands here about one of
them. This page is made from the classes, by `docs/objectives.py`. To add one of your own, see
[CONTRIBUTING](../CONTRIBUTING.md#example-a-new-objective).
"""
LEGEND = """\
`NAME:weight=VALUE` multiplies these weights, which are the literature's where nothing else is said. Recorded: whether
[recorded teacher targets](distill.md#many-students-of-one-teacher) serve it. Mixed, unlabelled: whether mixup and
CutMix, and images without a label, may be trained on with it. Layers are its own (`ctkd` has a temperature); they are
trained with the student and not exported. Below, a computation grows with B images in a step, C
classes, D numbers in an embedding or channels of a map, P places in a map, N further images.
"""
COST = "Cost: a training step over one with KD, median, on {device} with {pair}, by `{command}`.\n"
LEFT_OUT = """\
## Left out

- SimKD keeps its projector and the teacher's classifier in the student that is deployed.
- FT, AB and FSP train in phases: a paraphraser, or the student's features, before the student.
- OFD reads feature maps before the ReLU, which nets of timm don't return.
- CWD, MGD, ICKD and SemCKD wait until somebody asks.
"""
DEARER = {
    "review_kd": "ReviewKD has 3 x 3 convolutions of its own on all stages, which the paper's fusion needs.",
}


def page(costs: dict | None) -> str:
    """The whole page; without costs that column is empty."""
    ratios = {name: statistics.median(values) for name, values in (costs or {"ratios": {}})["ratios"].items()}
    lines = [INTRO, "| objective | copies | weights | needs | recorded | mixed | unlabelled | cost |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | ---: |")
    for name, kind in OBJECTIVES.items():
        weights = ", ".join(f"{weight:g}" for weight in kind.term_weights.values())
        flags = (yes_or_no(each) for each in (replays(kind), kind.takes_mixed, kind.takes_unlabeled))
        cost = f"{ratios[name]:.2f}" if name in ratios else ""
        cells = [f"[`{name}`](#{name})", kind_of(kind), weights, ", ".join(needs_of(kind)), *flags, cost]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", LEGEND]
    if costs:
        command = costs["command"].partition(" --output")[0]
        device = f"{costs['machine']['cores']} cores of {costs['machine']['device']}"
        lines.append(COST.format(command=command, device=device, pair=costs["pair"]))
        lines += [f"{DEARER[name]}\n" for name, ratio in ratios.items() if ratio > LIMIT]  # each has to say why
    for name, kind in OBJECTIVES.items():
        lines += section(name, kind)
    lines.append(
        "## Terms of a teacher\n\nThey stand beside its cross-entropy: `--terms intra_class:weight=0.1`, or `none`.\n"
    )
    for name, term in TEACHER_TERMS.items():
        lines += section(name, term, level="###")
    return "\n".join([*lines, LEFT_OUT])


def section(name: str, kind: type, level: str = "##") -> list[str]:
    """All that is known of an objective or a term."""
    about = describe(kind)
    lines = [f"{level} {name}", "", f"{about.summary}: {about.formula}.", ""]
    if issubclass(kind, DistillationObjective):
        terms = " and ".join(f"{weight:g} × `{term}`" for term, weight in kind.term_weights.items())
        lines += [f"Loss: {terms}. Grows with {kind.cost.replace('^2', '²').replace('^3', '³')}.", ""]
    lines += ["| argument | default | meaning | elsewhere |", "| --- | --- | --- | --- |"]
    for each in about.arguments:
        lines.append(f"| `{each.name}` | {each.default} | {each.meaning.rstrip('.')} | {each.elsewhere} |")
    lines.append("")
    for paragraph in [*about.text, about.relations, *references(kind)]:
        lines += [paragraph, ""] if paragraph else []
    return [*lines, f"{source(about)}.", ""]


def source(about: Description) -> str:
    """Title, authors and a link."""
    link = f", [arXiv {about.arxiv}](https://arxiv.org/abs/{about.arxiv})" if about.arxiv else ""
    return f"Source: {about.title} ({about.authors}{link})"


def yes_or_no(flag: bool) -> str:
    """A cell."""
    return "yes" if flag else "no"


def newest_costs() -> dict | None:
    """The last measurement that is in the repository; None without one."""
    files = sorted(ROOT.glob("results/*-objectives/cost/cost.json"))
    return json.loads(files[-1].read_text(encoding="utf-8")) if files else None


if __name__ == "__main__":
    sys.stdout.write(
        page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")) if sys.argv[1:] else newest_costs())
    )
