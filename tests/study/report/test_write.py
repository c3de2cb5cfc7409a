"""Reports: they say what the records say, and what is missing. The records are made up."""

from __future__ import annotations

import base64
import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hf_icckd.study.parts import Comparison, Sweep
from hf_icckd.study.report import plots
from hf_icckd.study.report.cells import interval
from hf_icckd.study.report.controls import controls_table, gate_pairs
from hf_icckd.study.report.frames import all_runs, run_metrics
from hf_icckd.study.report.protocol import command_of
from hf_icckd.study.report.sweep_plots import _value_axis, ablation, geometry
from hf_icckd.study.report.write import write_report
from hf_icckd.utils import plotting
from tests.study.made_up_study import diverge, make_plan, make_records

COMMAND = "python recipes/study.py study.yaml"
KINDS = {"students", "gain", "accuracies", "geometry", "gate", "agreement", "cost"}


def small_plan(**changes):
    """Two teachers, one student, no sweep."""
    plan = make_plan()
    teachers = {name: plan.teachers[name] for name in ("ce", "intra")}
    return make_plan(**({"teachers": teachers, "students": {"kd": plan.students["kd"]}, "sweeps": {}} | changes))


class Page(HTMLParser):
    """All tags of a page, and its tables as rows of cells."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def row(self, header: str, first: str) -> list[str]:
        """The row that begins with `first`, of the first table whose header begins with `header`."""
        table = next(rows for rows in self.tables if rows[0][0].startswith(header))
        return next(row for row in table if row[0] == first)


def report(folder: Path, plan, records) -> tuple[Page, str]:
    path = write_report(plan, records, folder, COMMAND)
    assert path == folder / "report.html"
    return Page(path.read_text()), (folder / "report.md").read_text()


@pytest.fixture(scope="module")
def plan():
    return make_plan()


@pytest.fixture(scope="module")
def records(plan):
    return make_records(plan, fine=True)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves pixels out: for tests of what is said."""
    monkeypatch.setattr(plotting, "png", lambda figure: b"\x89PNG")


@pytest.fixture(scope="module")
def whole(plan, records, tmp_path_factory):
    """Folder, page and Markdown of a finished study."""
    folder = tmp_path_factory.mktemp("study")
    return folder, *report(folder, plan, records)


# ---- files


def test_pictures_lie_beside_the_markdown(whole):
    folder, _, text = whole
    named = set(re.findall(r"\]\(plots/(.*?)\)", text))
    assert named == {file.name for file in (folder / "plots").iterdir()}
    expected = {f"{kind}.png" for kind in KINDS | {"fine-probe", "sweep-weight", "sweep-gate", "sweep-cache"}}
    assert named == expected
    for file in (folder / "plots").iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")


def test_html_needs_nothing_else(whole):
    folder, page, _ = whole
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == len(list((folder / "plots").iterdir()))
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in sources)
    contents = {file.read_bytes() for file in (folder / "plots").iterdir()}
    assert {base64.b64decode(source.removeprefix(prefix)) for source in sources} == contents
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)|url\(|@import""", (folder / "report.html").read_text())
    assert any(tag == "meta" and attrs.get("name") == "viewport" for tag, attrs in page.tags)
    assert "prefers-color-scheme: dark" in (folder / "report.html").read_text()


def test_what_the_plan_says_is_text_and_fetches_nothing(tmp_path, records):
    plan = make_plan(text="<script>alert(1)</script> ![a picture](http://example.org/x.png)", title="1 < 2 & *so*")
    page, _ = report(tmp_path, plan, {})
    assert not any(tag in ("script", "img") for tag, _ in page.tags)
    assert "<h1>1 &lt; 2 &amp; *so*</h1>" in (tmp_path / "report.html").read_text()


def test_the_same_records_give_the_same_report(whole, plan, records, tmp_path):
    report(tmp_path, plan, records)
    assert (tmp_path / "report.html").read_bytes() == (whole[0] / "report.html").read_bytes()


def test_an_old_picture_goes(tmp_path, plan, records):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "students.png").write_bytes(b"of an earlier study")
    report(tmp_path, plan, {})
    assert not list((tmp_path / "plots").iterdir())


# ---- what it says


def test_the_verdict_comes_first(whole, plan, records):
    text = whole[2]
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections[:5] == ["Result", "Protocol", "Students", "Teachers", "Pictures"]
    values = {
        name: [records[f"small/{name}/seed-{seed}/kd"]["metrics"]["test"]["top1"] for seed in plan.seeds]
        for name in ("intra", "ce")
    }
    difference = np.mean(values["intra"]) - np.mean(values["ce"])
    result = text.split("## Result")[1].split("##")[0]
    assert "**small: KD students of intra-class, against those of cross-entropy: " in result
    assert f"test split: {difference:+.2f}, 95 % interval" in result and "5 of 5 planned pairs" in result


def test_tables_hold_the_figures_of_the_records(whole, plan, records):
    page = whole[1]
    for teacher, label in (("intra", "intra-class"), ("smooth", "smooth")):
        runs = [records[f"small/{teacher}/seed-{seed}/kd"]["metrics"]["test"]["top1"] for seed in plan.seeds]
        row = page.row("top-1 (%), test", label)
        assert row[1] == f"{np.mean(runs):.2f} ± {np.std(runs, ddof=1):.2f} (5)"
        own = [records[f"small/{teacher}/seed-{seed}/teacher"]["metrics"] for seed in plan.seeds]
        table = next(rows for rows in page.tables if "NC1, train" in rows[0])
        row = dict(zip(table[0], next(cells for cells in table if cells[0] == label), strict=True))
        for title, split, name, decimals in (
            ("test top-1 (%)", "test", "top1", 2),
            ("NC1, train", "train", "nc1", 3),
            ("information, matched", "test", "soft_label_information_matched", 3),
            ("unread variance, train", "train", "unread_variance", 3),
            ("fine class from embeddings (%)", "fine_probe", "embeddings", 2),
        ):
            values = [metrics[split][name] for metrics in own]
            assert row[title] == f"{np.mean(values):.{decimals}f} ± {np.std(values, ddof=1):.{decimals}f}"
    swept = next(rows for rows in page.tables if rows[0][0] == "weight")
    row = dict(zip(swept[0], next(cells for cells in swept if cells[0] == "0.5"), strict=True))
    assert row["unread variance, train"] == "0.300 ± 0.000" and "unread variance, graded, train" not in row
    own = [records[f"small/intra,intra_class.weight=0.5/seed-{seed}/teacher"]["metrics"]["test"] for seed in (0, 1)]
    assert row["distance ratio"].startswith(f"{np.mean([each['distance_ratio'] for each in own]):.3f} ±")
    alone = [records[f"small/alone/seed-{seed}/ce"]["metrics"]["test"]["top1"] for seed in plan.seeds]
    assert page.row("without a teacher", "cross-entropy")[1].startswith(f"{np.mean(alone):.2f} ±")


def test_what_students_know_of_finer_classes_is_told(whole, plan, records):
    page = whole[1]
    probes = {
        (teacher, seed): records[f"small/{teacher}/seed-{seed}/kd"]["metrics"]["fine_probe"]["embeddings"]
        for teacher in ("intra", "ce")
        for seed in plan.seeds
    }
    own = [probes["intra", seed] for seed in plan.seeds]
    row = page.row("fine class from embeddings (%), test", "intra-class")
    assert row[1] == f"{np.mean(own):.2f} ± {np.std(own, ddof=1):.2f} (5)"
    gain = np.mean([probes["intra", seed] - probes["ce", seed] for seed in plan.seeds])
    table = next(rows for rows in page.tables if rows[0][:2] == ["student", "teacher"] and "fine class" in rows[0][2])
    assert table[1][:2] == ["KD", "intra-class"] and table[1][2].startswith(f"{gain:+.2f} (")
    assert len(table) == 1 + 2 * 4  # two students of each teacher but the control


def test_a_probe_may_be_what_is_compared(tmp_path, undrawn):
    plan = small_plan(comparison=Comparison("intra", "ce", "kd", "fine_probe.soft_labels", 1.0))
    records = make_records(plan, fine=True)
    page, text = report(tmp_path, plan, records)
    values = [
        [records[f"small/{teacher}/seed-{seed}/kd"]["metrics"]["fine_probe"]["soft_labels"] for seed in plan.seeds]
        for teacher in ("intra", "ce")
    ]
    difference = np.mean(values[0]) - np.mean(values[1])
    assert f"Difference in fine class from soft labels (%), test split: {difference:+.2f}" in text
    assert "was set to 1 points" in text and page.row("top-1 (%), test", "intra-class")
    with pytest.raises(ValueError, match="no smallest_effect"):
        report(tmp_path, small_plan(comparison=Comparison("intra", "ce", "kd", "fine_probe.embeddings")), records)
    with pytest.raises(ValueError, match=r"'fine_probe' .*fine_probe.embeddings"):
        report(tmp_path, small_plan(comparison=Comparison("intra", "ce", "kd", "fine_probe", 1.0)), records)


def test_differences_name_the_primary_one_and_correct_the_others(whole):
    tables = [rows for rows in whole[1].tables if "Holm p" in rows[0]]
    assert len(tables) == 2  # one for each student, the primary student's first
    column = tables[0][0].index("Holm p")
    assert [row[0] for row in tables[0][1:]] == ["intra-class (primary)", "one view, twice as long", "smooth", "early"]
    assert tables[0][1][column] == "not corrected"
    assert all(re.fullmatch(r"< 0\.001|[01]\.\d{3}", row[column]) for row in tables[0][2:] + tables[1][1:])


def test_controls_are_checked_against_the_plan(whole):
    marks = {row[0]: row[1:] for rows in whole[1].tables if rows[0][0] == "control" for row in rows[1:]}
    assert marks["cross-entropy on the same two views, same steps, same schedule"] == [
        "✓",
        "cross-entropy, 5 of 5 trained",
    ]
    assert marks["cross-entropy on one view for twice the epochs (the same compute)"][1].startswith("one view")
    assert marks["label smoothing"][1] == "smooth, 5 of 5 trained"
    assert marks["early-stopped cross-entropy teacher"][1] == "early, 5 of 5 trained"
    assert marks["SFTN-style teacher"] == ["not in this study", ""]
    assert marks["student tuned on a validation split"] == ["✓", "2 trials for each teacher"]
    assert marks["control in the terminal phase"][0] == "✓"


def test_controls_are_found_by_what_their_terms_mean():
    teachers = {
        "ce": {"terms": ["intra_class:weight=0,margin=0.4"]},
        "intra": {"terms": "intra_class:weight=0.5"},
        "branches": {"terms": ["sftn:student={student}"]},
        "both": {"terms": ["sftn:student={student}", "intra_class"], "label_smoothing": 0.1},
        "smooth": {"terms": "none", "label_smoothing": 0.1},
    }
    plan = make_plan(teachers=teachers, sweeps={})
    table = controls_table(plan, run_metrics(make_records(plan)))
    assert "same schedule | ✓ | cross-entropy, 5 of 5 trained |" in table
    assert "| SFTN-style teacher | ✓ | branches, 5 of 5 trained; both, 5 of 5 trained |" in table
    assert "| label smoothing | ✓ | smooth, 5 of 5 trained |" in table


@pytest.mark.usefixtures("undrawn")
def test_a_study_that_keeps_the_best_epoch_says_by_what(tmp_path, records):
    said = {}
    for keeps in (False, True):
        plan = small_plan(student_options={"load_best_model_at_end": keeps})
        _, said[keeps] = report(tmp_path / str(keeps), plan, records)
    assert "test split, last epoch. Diff" in said[False] and "last epoch, never the best on test data" in said[False]
    assert "test split, epoch chosen on the validation split. Diff" in said[True]
    assert "the best one on the validation split of runs with load_best_model_at_end" in said[True]
    assert "never the best epoch on test data" in said[True] and "last epoch" not in said[True]


def test_a_study_without_controls_says_so(tmp_path):
    teachers = {"ce": {"terms": "none", "learning_rate": 0.1}, "intra": {"terms": "intra_class"}}
    plan = small_plan(teachers=teachers, seeds=[0])
    page, text = report(tmp_path, plan, {})
    marks = {row[0]: row[1] for rows in page.tables if rows[0][0] == "control" for row in rows[1:]}
    assert marks["cross-entropy on the same two views, same steps, same schedule"] == "not in this study"
    assert marks["at least 5 seeds, paired"] == "not in this study"
    assert "## Ablations\n\nNot in this study." in text
    assert "Not in this study: Geometry and soft labels; Training with and without the gate." in text
    assert "Not measured yet: Students; Finer classes" in text  # no teacher has been asked yet
    _, text = report(tmp_path, plan, make_records(plan))
    assert "Not in this study: Finer classes that nobody was told; Geometry" in text


@pytest.mark.usefixtures("undrawn")
def test_a_control_that_is_not_collapsed_is_named(tmp_path):
    plan, changed = small_plan(), {}
    for name, record in make_records(plan).items():
        low = record["metrics"] | {"train": record["metrics"]["train"] | {"top1": 90.0}}
        changed[name] = record | {"metrics": low} if record["student"] is None else record
    page, text = report(tmp_path, plan, changed)
    assert "did not reach the terminal phase" in text
    assert next(row for rows in page.tables for row in rows if row[0] == "control in the terminal phase")[1] == (
        "not reached"
    )


def test_what_tuning_chose_is_shown(whole, plan, records):
    row = next(
        row for rows in whole[1].tables if rows[0][:2] == ["pair", "teacher"] for row in rows if row[1] == "smooth"
    )
    chosen = plan.chosen("small", "smooth", "kd", records)
    assert row[2] == f"ce_weight {chosen['ce_weight']}"


def test_every_row_has_its_command(whole, plan, records):
    text = whole[2]
    assert COMMAND in text
    assert "--output_dir runs/small/intra/seed-0/kd --teacher runs/small/intra/seed-0/teacher\n" in text
    assert "trial" not in text.split("## How to reproduce it")[1].split("```")[3]
    words = command_of(records["small/intra/seed-3/kd"]).split()
    assert words[:5] == ["python", "-m", "hf_icckd.student", "--model", "cifar_resnet8"]
    assert words[words.index("--objectives") + 1] == "kd:temperature=4"


@pytest.mark.usefixtures("undrawn")
def test_several_pairs_have_pictures_of_their_own(tmp_path):
    nets = {"teacher": "cifar_resnet20", "student": "cifar_resnet8"}
    pairs = ["small", "a|b, large", "a b, large", "größe", "__x__ &amp;"]  # the second and third with one plain name
    plan = small_plan(pairs=dict.fromkeys(pairs, nets))
    page, text = report(tmp_path, plan, make_records(plan))
    names = [file.name for file in (tmp_path / "plots").iterdir()]
    assert "students-small.png" in names and all(name.isascii() for name in names)
    assert len([name for name in names if name.startswith("students-a-b-large-")]) == 2
    assert len(names) % len(pairs) == 0
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == len(names) and not any("\\" in attrs["alt"] for attrs in pictures)
    assert any("__x__ &amp;" in attrs["alt"] for attrs in pictures)
    assert "nothing is corrected for there being 5 of them" in text
    chosen = next(rows for rows in page.tables if rows[0][:2] == ["pair", "teacher"])
    assert [row[0] for row in chosen[1:]] == [pair for pair in pairs for _ in range(2)]


# ---- what isn't there


def test_nothing_has_been_run_yet(tmp_path, plan):
    page, text = report(tmp_path, plan, {})
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "not decided: no seed has both runs yet" in text and "This study is not finished: 0 of" in text
    assert "Not measured yet: Students" in text
    assert "is not measured yet" in text.split("## Pictures")[0]
    missing = [row for rows in page.tables if rows[0][-1] == "why" for row in rows[1:]]
    assert ["small", "intra-class", "teacher", "100, 0, 1, 2, 3, 4", "not run yet"] in missing
    assert ["small", "intra-class", "KD; rkd", "0, 1, 2, 3, 4", "waits for its trials"] in missing


def test_planned_runs_are_counted_before_trials_end(tmp_path, plan, records):
    _, text = report(tmp_path, plan, {})
    assert f"0 of {len(records)} runs have ended" in text


def test_ends_of_an_interval_keep_their_sign():
    assert interval(-0.0004, 0.0084, 3) == "-0.000 to +0.008"
    assert interval(math.nan, math.nan, 3) == "–"


def test_one_seed_shows_figures_and_no_interval(tmp_path, plan, records):
    one = {name: record for name, record in records.items() if record["seed"] in (0, 100)}
    page, text = report(tmp_path, plan, one)
    top1 = records["small/intra/seed-0/kd"]["metrics"]["test"]["top1"]
    assert page.row("top-1 (%), test", "intra-class")[1] == f"{top1:.2f} (1)"
    assert "not decided: one seed has no interval" in text
    assert "takes two seeds" in text.split("## How many seeds are needed")[1]
    assert "nan" not in text.lower()


@pytest.mark.usefixtures("undrawn")
def test_diverged_runs_are_counted_and_quoted(tmp_path, plan, records):
    gone = "small/intra,intra_class.gate=False/seed-0/"
    some = {name: record for name, record in records.items() if name != gone + "kd"}
    for name in ("small/intra/seed-3/kd", gone + "teacher"):
        some[name] = diverge(records[name])
    page, text = report(tmp_path, plan, some)
    assert page.row("top-1 (%), test", "intra-class")[1].endswith("(4, 1 diverged)")
    assert "runs of 1 seed(s) diverged and are left out" in text and "2 run(s) diverged" in text
    quoted = [row for rows in page.tables if rows[0] == ["run", "message"] for row in rows[1:]]
    assert ["small/intra/seed-3/kd", "loss is nan at step 12, expected a finite one"] in quoted
    missing = [row for rows in page.tables if rows[0][-1] == "why" for row in rows[1:]]
    assert [row[3:] for row in missing] == [["0", "its teacher diverged"]]


@pytest.mark.usefixtures("undrawn")
def test_runs_of_different_machines_are_said_to_be(tmp_path, plan, records):
    def text(devices):
        for record, device in zip(records.values(), devices, strict=True):
            record["metrics"]["environment"] = {"device": device, "torch": "2.14.1"}
        return report(tmp_path, plan, records)[1]

    records = {name: record | {"metrics": dict(record["metrics"])} for name, record in records.items()}
    assert "the two runs of a pair may differ" not in text(["CPU"] * len(records))
    mixed = text(["GPU", *["CPU"] * (len(records) - 1)])
    assert "the two runs of a pair may differ" in mixed and re.search(r"\| GPU \|.*\| 1 \|", mixed)


@pytest.mark.usefixtures("undrawn")
def test_records_of_other_plans_are_left_out_and_counted(tmp_path, records):
    plan = small_plan(seeds=[0, 1, 2])
    page, text = report(tmp_path, plan, records)
    assert page.row("top-1 (%), test", "intra-class")[1].endswith("(3)")
    assert re.search(r"\d+ record\(s\) belong to runs that are not in the plan", text)


def test_records_with_the_least_in_them(tmp_path, plan, records):
    """No training metrics, no curve, no cost, no environment, no seconds."""
    least = {
        name: {key: value for key, value in record.items() if key not in ("curve", "seconds")}
        | {"metrics": {"test": {"top1": record["metrics"]["test"]["top1"]}, "validation": {"top1": 50.0}}}
        for name, record in records.items()
    }
    page, text = report(tmp_path, plan, least)
    assert {file.stem for file in (tmp_path / "plots").iterdir()} == {
        *("students", "accuracies", "sweep-weight", "sweep-gate", "sweep-cache")
    }
    assert "nan" not in text.lower() and page.row("top-1 (%), test", "intra-class")[1].endswith("(5)")


@pytest.mark.parametrize(
    ("metric", "message"),
    [("acc", r"comparison\.metric is 'acc'"), ("ece", "no smallest_effect, .* difference in ece")],
)
def test_a_comparison_that_says_nothing_is_refused(tmp_path, metric, message):
    plan = make_plan(comparison=Comparison("intra", "ce", "kd", metric=metric))
    with pytest.raises(ValueError, match=message):
        write_report(plan, {}, tmp_path, COMMAND)
    assert not list(tmp_path.iterdir())


# ---- parts


def test_teachers_that_differ_in_the_gate_alone():
    assert gate_pairs(make_plan()) == [("intra", "intra,intra_class.gate=False")]
    ungated = {"terms": ["intra_class:gate=false"]}
    teachers = {"ce": {"terms": "none"}, "intra": {"terms": "intra_class"}, "other": ungated | {"learning_rate": 1}}
    assert gate_pairs(make_plan(teachers=teachers, sweeps={})) == []
    teachers["other"] = ungated
    assert gate_pairs(make_plan(teachers=teachers, sweeps={})) == [("intra", "other")]


@pytest.mark.parametrize("seeds, intervals", [([0, 1], 0), ([0, 1, 2], 5)])
def test_intervals_of_a_sweep_need_three_seeds(seeds, intervals):
    sweep = Sweep("intra", "intra_class.weight", [0, 0.01, 0.05, 0.5, 1.0], seeds, ["kd"])
    plan = make_plan(sweeps={"weight": sweep})
    frame = all_runs(plan, run_metrics(make_records(plan)))
    for axis in ablation(plan, frame, sweep).axes:
        drawn = [line for line in axis.get_lines() if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
        assert len([line for line in drawn if line.get_linestyle() != "None"]) == intervals
        assert len([line for line in axis.get_lines() if line.get_linestyle() == "None"]) == 5  # points of each value


def test_a_sweep_has_no_panel_for_what_nobody_measured():
    plan = make_plan()
    frame = all_runs(plan, run_metrics(make_records(plan)))
    sweep = plan.sweeps["weight"]
    earlier = frame.assign(**{"test.unread_variance": math.nan, "train.unread_variance": math.nan})
    titles = [axis.get_title("left") for axis in geometry(plan, frame, sweep).axes]
    assert len(titles) == 4
    assert [axis.get_title("left") for axis in geometry(plan, earlier, sweep).axes] == [
        title for title in titles if "does not read" not in title
    ]
    assert len(geometry(plan, earlier.assign(**{"train.nc1": math.nan, "test.nc1": math.nan}), sweep).axes) == 2
    assert geometry(plan, frame[frame.seed < 0], sweep) is None


@pytest.mark.parametrize(
    ("values", "scale", "places"),
    [
        ([0.1, 0.01, 1.0], "log", [0.01, 0.1, 1.0]),
        ([0, 0.01, 1.0], "symlog", [0, 0.01, 1.0]),
        ([0, 0.05, 0.5], "symlog", [0, 0.05, 0.5]),
        ([0.1, 0.2, 0.4], "linear", [0.1, 0.2, 0.4]),
        ([-1, 0, 100], "linear", [-1, 0, 100]),
        ([True, False], "linear", [0, 1]),
        (["embeddings", "logits"], "linear", [0, 1]),
    ],
)
def test_an_axis_suits_the_values_of_its_option(values, scale, places):
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    assert [place for place, _ in _value_axis(axis, values)] == places
    assert axis.get_xscale() == scale
    labels = {True: "on", False: "off"}
    expected = [labels.get(value, str(value)) if isinstance(value, bool) else f"{value}" for value in values]
    assert [text.get_text().removesuffix(".0") for text in axis.get_xticklabels()] == [
        text.removesuffix(".0") for text in expected
    ]


@pytest.mark.parametrize(
    ("values", "rotation"),
    [
        (["none", "intra_class:weight=0.05", "intra_class:weight=0.5"], 45),
        (["embeddings", "logits"], 0),
        (["short", "middling", "longest"], 0),
        (["twelve chars", "twelve chars", "twelve chars"], 0),
        ([0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0], 45),
    ],
)
def test_the_values_of_an_axis_do_not_overlap(values, rotation):
    from matplotlib.figure import Figure

    figure = Figure((4.1, 3.2), layout="constrained")  # a panel of `ablation`, the widest
    axis = figure.subplots()
    _value_axis(axis, values)
    figure.draw_without_rendering()
    labels = axis.get_xticklabels()
    assert {label.get_rotation() for label in labels} == {rotation}
    boxes = [label.get_window_extent() for label in labels]
    assert min(box.x0 for box in boxes) >= 0  # inside the picture
    if not rotation:
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_is_drawn_from_its_own_seeds(tmp_path):
    sweeps = {"weight": Sweep("intra", "intra_class.weight", [0.05, 1.0], [4], ["kd"])}
    plan = small_plan(sweeps=sweeps)
    page, _ = report(tmp_path, plan, make_records(plan))
    rows = next(rows for rows in page.tables if rows[0][0] == "intra_class.weight")
    assert [row[0] for row in rows[1:]] == ["0.05", "1"]
    value = make_records(plan)["small/intra/seed-4/kd"]["metrics"]["test"]["top1"]
    assert rows[1][-1] == f"{value:.2f} (1)" and math.isfinite(value)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_missing_tables_stay_whole(tmp_path, seed):
    random = np.random.default_rng(seed)
    plan = small_plan(labels={"ce": "a | b `c` *d*", "kd": "[x](http://example.org) <b>"})
    some = {}
    for name, record in make_records(plan, fine=True).items():
        if random.random() < 0.7:
            split = random.choice(["train", "validation", "test", "environment", "cost"])
            fewer = {key: value for key, value in record["metrics"].items() if key != split}
            some[name] = diverge(record) if random.random() < 0.1 else record | {"metrics": fewer}
    page, text = report(tmp_path, plan, some)
    assert not re.search(r"\bnan\b", re.sub(r"loss is nan", "", text))
    for rows in page.tables:
        assert {len(row) for row in rows} == {len(rows[0])}
    assert any(row[0] == "a | b `c` *d*" for rows in page.tables for row in rows)
    assert not any(tag == "b" or "example.org" in str(attrs) for tag, attrs in page.tags)


def test_a_report_about_students_of_one_teacher(tmp_path):
    plan = make_plan()
    plan = small_plan(
        teachers={"ce": plan.teachers["ce"]},
        students=plan.students,
        alone=plan.alone,
        comparison=Comparison("ce", "ce", "rkd", control_student="kd"),
    )
    records = make_records(plan, fine=True)
    text = write_report(plan, records, tmp_path, COMMAND).with_suffix(".md").read_text()
    assert re.search(r"\*\*small: rkd against KD, students of cross-entropy: .*\.\*\*", text)
    assert "Differences are from the control (KD) with the same seed" in text
    assert "| student | what it says |" in text and "**rkd** (primary)" in text
    assert "Differences from the control (cross-entropy)" not in text  # there is one teacher
    assert "cross-entropy on the same two views" not in text and "student tuned on a validation split" in text
    # Pictures have a row for each student, and those that compare teachers are left out.
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"students", "agreement", "fine-probe"}
    assert "Information and accuracy" not in text
    frame = all_runs(plan, run_metrics(records))
    (axis,) = plots.students(plan, frame, "top1").axes
    rows = [each.get_text() for each in axis.get_yticklabels()]
    assert rows == ["KD", "rkd", *(f"{plan.labels[name]} (no teacher)" for name in plan.alone)]
    control = frame[(frame.teacher == "ce") & (frame.student == "kd")]["test.top1"].mean()
    assert [line.get_xdata()[0] for line in axis.get_lines() if line.get_linestyle() == "--"] == pytest.approx(
        [control]
    )
    probed = plots.fine_probe(plan, frame).axes
    assert [axis.get_title("left") for axis in probed] == [
        f"cross-entropy: probe on the {features}" for features in ("embeddings", "soft labels")
    ]
    assert [each.get_text() for each in probed[0].get_yticklabels()] == ["teacher", "KD", "rkd"]
