"""The moving average of the weights, the best weights by validation, and when training stops early."""

from __future__ import annotations

import copy
import json
import math
import random
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from timm.utils import ModelEmaV3
from torch.utils.data import TensorDataset
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_icckd import (
    ImagePipeline,
    StudentTrainer,
    TeacherTrainer,
    TeacherTrainingArguments,
    from_pretrained,
    load_image_data,
    predict_split,
    session,
    student,
    teacher,
)
from hf_icckd.metrics.catalogue import WHILE_TRAINING
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.checkpoints import checkpoints, load_extra_state, newest_intact
from hf_icckd.training import trainer as trainer_module
from hf_icckd.training.best_weights import BestWeights, best_weights
from hf_icckd.training.rehearsal import rehearse
from hf_icckd.training.weight_average import WeightAverage
from tests.training.test_interruptions import At, assert_same_run, figures
from tests.training.test_trainers import assert_same_state, student_args, teacher_args

# Five steps in an epoch; evaluations and checkpoints fall on and between the ends of epochs.
BEST = {
    "max_steps": 14, "load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2,
    "save_strategy": "steps", "save_steps": 3, "logging_steps": 3, "terms": ["none"],
}  # fmt: skip
EMA = {"model_ema": True, "model_ema_decay": 0.8}


@pytest.fixture(scope="module")
def validated() -> ImagePipeline:
    """128 training, 40 validation and 40 test digits."""
    data = load_image_data("digits", max_train_samples=160, max_eval_samples=40, validation_fraction=0.2)
    return ImagePipeline(data, device="cuda" if torch.cuda.is_available() else "cpu")


class Recorded(TrainerCallback):
    """The weights after every step."""

    def __init__(self, classifier):
        self.classifier, self.states = classifier, {}

    def on_step_end(self, args, state, control, **kwargs):
        self.states[state.global_step] = copy.deepcopy(self.classifier.state_dict())


def make(pipeline, model, folder, *callbacks, split="validation", **options):
    args = teacher_args(folder, **options)
    data = pipeline.dataset("train", training=True, num_views=args.num_views)
    return TeacherTrainer(model, args, data, pipeline.dataset(split), callbacks=list(callbacks))


@pytest.fixture
def measured(monkeypatch):
    """Lets evaluations find given values: `measured(trainer, {step: top-1})`, the same for each step at a resume."""
    values = {}

    def measure(classifier, dataset, logits, **options):
        step = values["trainer"].state.global_step
        return dict.fromkeys(WHILE_TRAINING, 0.0) | {"top1": values["top1"].get(step, -1.0)}

    def use(trainer, top1):
        values.update(trainer=trainer, top1=top1)
        return trainer

    monkeypatch.setattr(trainer_module, "measure_split", measure)
    return use


# Average


@pytest.mark.parametrize("warmup", [False, True])
def test_the_average_is_timms_and_that_of_the_formula(pipeline, tiny_classifier, tmp_path, warmup):
    model = tiny_classifier()
    recorded = Recorded(model)
    timms = ModelEmaV3(copy.deepcopy(model), decay=0.8, use_warmup=warmup)
    options = EMA | {"model_ema_warmup": warmup, "max_steps": 7}
    trainer = make(pipeline, model, tmp_path, recorded, split="test", **options)
    trainer.train()
    replayed, expected = tiny_classifier().to(trainer.args.device), {}
    for step, state in recorded.states.items():
        replayed.load_state_dict(state)
        timms.to(trainer.args.device).update(replayed, step=step)
        decay = 0.8 if step > 1 else 0.0
        if warmup and step > 1:
            decay = min(1 - (1 + (step - 1)) ** (-2 / 3), 0.8)
        for name, value in state.items():
            before = expected.get(name, value.double())
            moves = value.is_floating_point()
            expected[name] = decay * before + (1 - decay) * value.double() if moves else value.double()
    assert_same_state(trainer.average.module, timms.module)
    for name, value in trainer.average.module.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)
    assert not torch.equal(trainer.average.module.net.fc.weight, model.net.fc.weight)


def test_what_is_evaluated_and_exported_is_the_average(pipeline, tiny_classifier, tmp_path):
    trainer = make(pipeline, tiny_classifier(), tmp_path, split="test", max_steps=6, **EMA)
    trainer.train()
    test, average = pipeline.dataset("test"), trainer.measured_classifier
    assert average is trainer.average.module and not average.training
    logits = predict_split(average, test).logits
    assert torch.equal(trainer.predict_split(test).logits, logits)
    assert not torch.equal(predict_split(trainer.classifier, test).logits, logits)
    assert trainer.evaluate()["eval_nll"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits.double(), trainer.predict_split(test).labels).item()
    )
    trainer.save_model()
    assert_same_state(from_pretrained(tmp_path), average)


def test_without_an_option_nothing_is_added(pipeline, tiny_classifier, tmp_path):
    trainer = make(pipeline, tiny_classifier(), tmp_path, split="test", max_steps=2, save_strategy="epoch")
    trainer.train()
    assert trainer.measured_classifier is trainer.classifier and trainer.average is None and trainer.best is None
    names = load_extra_state(newest_intact(tmp_path))
    assert not [name for name in names if name.startswith(("average", "best"))]


def test_training_is_the_same_with_and_without_an_average(deterministic, pipeline, tiny_classifier, tmp_path):
    models = [tiny_classifier(), tiny_classifier()]
    for model, options in zip(models, ({}, EMA), strict=True):
        make(pipeline, model, tmp_path, split="test", max_steps=6, **options).train()
    assert_same_state(*models)


def test_a_student_and_a_teacher_with_branches_have_one_too(pipeline, tiny_classifier, tmp_path):
    args = student_args(tmp_path / "s", max_steps=3, **EMA)
    one = StudentTrainer(tiny_classifier(), tiny_classifier(seed=1), args, pipeline.dataset("train", training=True))
    other = make(
        pipeline, tiny_classifier(), tmp_path / "t", split="test", terms=["sftn:student=cifar_resnet8"], **EMA
    )
    for trainer in (one, other):
        trainer.train()
        trainer.save_model()
        assert_same_state(from_pretrained(trainer.args.output_dir), trainer.average.module)


def test_a_compiled_teacher_is_averaged(pipeline, tiny_classifier, tmp_path):
    options = EMA | {"torch_compile_backend": "eager", "max_steps": 3}
    trainer = make(pipeline, tiny_classifier(), tmp_path, split="test", **options)
    trainer.train()
    assert not torch.equal(trainer.average.module.net.fc.weight, trainer.classifier.net.fc.weight)
    assert math.isfinite(trainer.evaluate()["eval_nll"])


def test_what_is_frozen_keeps_its_bits_in_the_average_too(pipeline, tiny_classifier, tmp_path):
    model = tiny_classifier()
    before = copy.deepcopy(model.state_dict())
    trainer = make(pipeline, model, tmp_path, split="test", terms=["none"], freeze_backbone=True, **EMA)
    trainer.train()
    for name, value in trainer.average.module.state_dict().items():
        assert torch.equal(value.cpu(), before[name]) == (not name.startswith("net.fc")), name


def test_a_run_too_short_for_the_decay_says_so(pipeline, tiny_classifier, tmp_path, caplog):
    for options, said in (({}, 1), ({"model_ema_warmup": True, "max_steps": 20}, 0), ({"model_ema_decay": 0.1}, 0)):
        caplog.clear()
        make(pipeline, tiny_classifier(), tmp_path, split="test", model_ema=True, **options).train()
        assert caplog.text.count("at the end of 4 steps 100 % of the average are still the weights") == said


def test_half_precision_has_no_average(tiny_classifier):
    with pytest.raises(ValueError, match=r"net\.conv1\.weight is torch\.bfloat16, expected float32"):
        WeightAverage(tiny_classifier().bfloat16(), 0.9, False)


# Best weights


def note_as_transformers(values, patience, threshold, greater):
    """Where transformers would stop, and which evaluation it would call best."""
    args = SimpleNamespace(greater_is_better=greater, metric_for_best_model="top1")
    state, control = SimpleNamespace(best_metric=None), SimpleNamespace(should_training_stop=False)
    callback, best = EarlyStoppingCallback(patience, threshold), None
    for index, value in enumerate(values):
        callback.on_evaluate(args, state, control, {"eval_top1": value})
        if state.best_metric is None or (value > state.best_metric if greater else value < state.best_metric):
            state.best_metric, best = value, index
        if control.should_training_stop:
            return index, best
    return None, best


@pytest.mark.parametrize("greater", [True, False])
def test_best_and_stop_are_those_of_transformers(greater):
    draw = random.Random(0)
    for _ in range(200):
        values = [draw.choice([0.0, 1.0, 1.5, 2.0, 3.0]) for _ in range(8)]
        patience, threshold = draw.randint(1, 3), draw.choice([0.0, 0.5, 1.0])
        args = SimpleNamespace(
            early_stopping_patience=patience, early_stopping_threshold=threshold, greater_is_better=greater
        )
        best, stopped = BestWeights(args, "eval_top1", torch.nn.Linear(1, 1)), None
        for index, value in enumerate(values):
            best.note({"eval_top1": value}, index)
            if best.stopped:
                stopped = index
                break
        assert (stopped, best.step) == note_as_transformers(values, patience, threshold, greater), values


def test_what_is_no_number_is_never_best():
    args = SimpleNamespace(early_stopping_patience=None, early_stopping_threshold=0.0, greater_is_better=True)
    best = BestWeights(args, "eval_top1", torch.nn.Linear(1, 1))
    for step, value in enumerate([math.nan, 1.0, math.nan]):
        best.note({"eval_top1": value}, step)
    assert (best.value, best.step, best.evaluations, best.stopped) == (1.0, 1, 3, False)


@pytest.mark.parametrize("average", [{}, EMA], ids=["last", "average"])
def test_the_best_weights_outlive_their_checkpoint(validated, tiny_classifier, tmp_path, measured, average):
    model = tiny_classifier()
    trainer = make(validated, model, tmp_path, save_total_limit=1, **BEST | average)
    recorded = Recorded(trainer.measured_classifier)
    trainer.add_callback(recorded)
    measured(trainer, {2: 10.0, 4: 50.0, 6: 50.0, 8: 40.0})
    trainer.train()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-14"]
    assert (trainer.best.step, trainer.best.evaluations) == (4, 7)
    for name, value in recorded.states[4].items():
        assert torch.equal(trainer.measured_classifier.state_dict()[name], value), name
    assert not torch.equal(recorded.states[14]["net.fc.weight"], recorded.states[4]["net.fc.weight"])


def test_training_stops_at_the_right_evaluation(validated, tiny_classifier, tmp_path, measured):
    options = BEST | {"early_stopping_patience": 2, "early_stopping_threshold": 1.0}
    trainer = measured(make(validated, tiny_classifier(), tmp_path, **options), {2: 10, 4: 50, 6: 50.5, 8: 40})
    trainer.train()
    assert trainer.state.global_step == 8 and trainer.ended and trainer.stopped_early
    assert (trainer.best.step, trainer.best.value, trainer.best.waited) == (6, 50.5, 2)
    assert [trainer.best.record(steps, 5)["stopped_after"] for steps in (8, 14)] == [None, 2]
    assert newest_intact(tmp_path).name == "checkpoint-8"  # although none was due


def test_a_run_that_stopped_early_does_nothing_more(validated, tiny_classifier, tmp_path, measured):
    """As it resumes if it was killed between its last checkpoint and its report."""
    options, values = BEST | {"early_stopping_patience": 1}, {2: 10.0, 4: 50.0}
    whole = measured(make(validated, tiny_classifier(), tmp_path, **options), values)
    whole.train()
    again = measured(make(validated, tiny_classifier(seed=3), tmp_path, **options), values)
    again.begin_epoch = lambda epoch: pytest.fail("an epoch was begun")
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == whole.state.global_step == 6
    assert figures(again.state.log_history) == figures(whole.state.log_history)
    assert_same_state(again.classifier, whole.classifier)


@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 10, 13])
@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_an_interrupted_run_keeps_the_same_weights(
    deterministic, validated, tiny_classifier, tmp_path, step, strategy
):
    """Average, best weights and the count for early stopping resume wherever the run was stopped."""
    more = {"eval_steps": None, "eval_strategy": "epoch"} if strategy == "epoch" else {}
    options = BEST | EMA | {"early_stopping_patience": 3, "metric_for_best_model": "nll", "save_total_limit": 1} | more
    whole = make(validated, tiny_classifier(), tmp_path / "whole", **options)
    whole.train()
    cut = make(validated, tiny_classifier(), tmp_path / "cut", At(step, lambda: cut.request_stop()), **options)
    cut.train()
    assert newest_intact(tmp_path / "cut").name == f"checkpoint-{step}"
    resumed = make(validated, tiny_classifier(seed=4), tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert_same_state(whole.average.module, resumed.average.module)
    assert_same_state(whole.classifier, resumed.classifier)
    assert figures(whole.state.log_history) == figures(resumed.state.log_history)
    assert whole.best.record(14, 4) == resumed.best.record(14, 4)


def test_a_second_training_begins_with_nothing(validated, tiny_classifier, tmp_path, measured):
    trainer = measured(make(validated, tiny_classifier(), tmp_path, **BEST), {4: 50.0})
    trainer.train()
    trainer.train()
    assert trainer.best.evaluations == 7


def test_a_checkpoint_without_them_is_answered(validated, tiny_classifier, tmp_path):
    make(validated, tiny_classifier(), tmp_path, max_steps=2, save_strategy="epoch").train()
    for options, said in ((EMA, "has no average"), ({"load_best_model_at_end": True}, "which evaluation was best")):
        more = {"max_steps": 3, "eval_strategy": "epoch"} | options
        with pytest.raises(ValueError, match=said):
            make(validated, tiny_classifier(), tmp_path, **more).train(resume_from_checkpoint=True)


def test_the_rehearsal_tries_them_and_leaves_no_trace(validated, tiny_classifier, tmp_path, monkeypatch):
    trainer = make(validated, tiny_classifier(), tmp_path, **BEST | EMA)
    before = copy.deepcopy(trainer.average.state_dict())
    from hf_icckd.training import rehearsal

    rooms = []
    monkeypatch.setattr(rehearsal, "_check_room", lambda trainer, place, one: rooms.append(one))
    rehearse(trainer)
    for name, value in trainer.average.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert trainer.best.weights == {} and trainer.best.value is None
    plain = make(validated, tiny_classifier(), tmp_path, **{**BEST, "load_best_model_at_end": False})
    rehearse(plain)
    weights = sum(value.numel() * value.element_size() for value in trainer.classifier.state_dict().values())
    assert rooms[0] - rooms[1] == pytest.approx(2 * weights, rel=0.01)


def test_a_run_that_is_never_evaluated_is_refused_before_it_trains(validated, tiny_classifier, tmp_path):
    for options in ({"eval_steps": 4, "eval_delay": 15}, {"eval_strategy": "epoch", "eval_steps": None,
                    "eval_delay": 5}):  # fmt: skip
        with pytest.raises(ValueError, match="no evaluation comes in 14 steps"):
            rehearse(make(validated, tiny_classifier(), tmp_path, **BEST | options))
    rehearse(make(validated, tiny_classifier(), tmp_path, **BEST | {"eval_steps": 0.9}))


def test_an_interval_beyond_the_end_is_the_end_if_transformers_evaluates_there(validated, tiny_classifier, tmp_path):
    trainer = make(validated, tiny_classifier(), tmp_path, **BEST | {"eval_steps": 15, "save_strategy": "no"})
    try:
        rehearse(trainer)
    except ValueError as error:  # an older version, which does not
        assert "no evaluation comes in 14 steps" in str(error)
        return
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "eval_top1" in entry] == [14]


# Which data set is for validation


class Named(TensorDataset):
    split = "validation[:50%]"


def some_images(kind=TensorDataset):
    return kind(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))


@pytest.mark.parametrize(
    ("dataset", "metric"),
    [
        ({"val": some_images(), "test": some_images()}, "eval_val_top1"),
        ({"validation": some_images()}, "eval_validation_top1"),
        (some_images(Named), "eval_top1"),
    ],
)
def test_a_data_set_says_that_it_is_for_validation(tmp_path, dataset, metric):
    args = teacher_args(tmp_path, load_best_model_at_end=True, eval_strategy="epoch")
    assert best_weights(args, dataset, None).metric == metric


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            some_images(),
            "not evaluated on a validation split: .*best one on test data flatters; add --validation_frac",
        ),
        ({"test": some_images()}, "not evaluated on a validation split"),
        (None, "not evaluated on a validation split"),
        ({"val": some_images(), "dev": some_images()}, "val and dev are for validation, expected one"),
    ],
)
def test_nothing_is_chosen_on_other_data(tmp_path, dataset, said):
    args = teacher_args(tmp_path, load_best_model_at_end=True, eval_strategy="epoch")
    with pytest.raises(ValueError, match=said):
        best_weights(args, dataset, None)


def test_transformers_callback_becomes_the_option(validated, tiny_classifier, tmp_path, measured):
    trainer = make(validated, tiny_classifier(), tmp_path, EarlyStoppingCallback(2, 0.5), **BEST)
    assert (trainer.args.early_stopping_patience, trainer.args.early_stopping_threshold) == (2, 0.5)
    assert not any(isinstance(each, EarlyStoppingCallback) for each in trainer.callback_handler.callbacks)
    trainer.add_callback(EarlyStoppingCallback)  # the class: transformers makes one that waits once
    measured(trainer, {2: 1.0}).train()
    assert trainer.state.global_step == 4

    class Own(EarlyStoppingCallback):
        pass

    with pytest.raises(ValueError, match="callbacks hold Own, which is made from EarlyStoppingCallback"):
        trainer.add_callback(Own())


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_ema": True, "model_ema_decay": 1.0}, "model_ema_decay is 1.0, expected a number above 0 and below 1"),
        ({"model_ema": True, "model_ema_decay": 0.0}, "model_ema_decay is 0.0, expected a number above 0"),
        ({"model_ema_warmup": True}, "model_ema_warmup is True but model_ema is False, .*; add --model_ema true"),
        ({"early_stopping_patience": 3}, "early_stopping_patience is 3 but load_best_model_at_end is False"),
        ({"metric_for_best_model": "nll"}, "metric_for_best_model is 'nll' but load_best_model_at_end is False"),
        ({"greater_is_better": True}, "greater_is_better is True but load_best_model_at_end is False"),
        (BEST | {"early_stopping_patience": 0}, "early_stopping_patience is 0, expected a number at least 1"),
        (BEST | {"early_stopping_threshold": 1.0}, "but early_stopping_patience is None.*--early_stopping_patience 3"),
        (BEST | {"early_stopping_patience": 1, "early_stopping_threshold": -1.0}, "threshold is -1.0, expected"),
        (BEST | {"eval_strategy": "no", "eval_steps": None}, "eval_strategy is 'no', so nothing would be compared"),
        (BEST | {"metric_for_best_model": "eval_loss"}, r"is 'eval_loss', expected one of top1, .*\(here it is 'nll'"),
        (BEST | {"metric_for_best_model": "balanced"}, r"did you mean 'balanced_accuracy'"),
        (BEST | {"metric_for_best_model": "agreement"}, "metric_for_best_model is 'agreement', expected one of"),
        (BEST | {"metric_for_best_model": "ece", "greater_is_better": True}, "of which lower values are better"),
    ],
)
def test_what_does_not_work_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        teacher_args(tmp_path, **options)


def test_an_average_of_shards_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TeacherTrainingArguments, "sharded", True)
    with pytest.raises(ValueError, match="model_ema is true but accelerate was told to use FSDP"):
        teacher_args(tmp_path, **EMA)


def test_metric_and_direction_are_filled_in_and_taken_again(tmp_path):
    options = BEST | {"metric_for_best_model": "eval_ece"}
    args = teacher_args(tmp_path, **options)
    assert (args.metric_for_best_model, args.greater_is_better, args.load_best_model_at_end) == ("ece", False, True)
    assert TeacherTrainingArguments(**args.to_dict()).to_dict() == args.to_dict()
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch"}
    assert student_args(tmp_path, metric_for_best_model="agreement", **best).greater_is_better
    assert teacher_args(tmp_path, **best).metric_for_best_model == "top1"


def test_the_metrics_are_those_of_an_evaluation_and_the_help_has_all(pipeline, tiny_classifier, tmp_path):
    args = student_args(tmp_path, max_steps=1)
    trainer = StudentTrainer(
        tiny_classifier(),
        tiny_classifier(seed=1),
        args,
        pipeline.dataset("train", training=True),
        pipeline.dataset("test"),
    )
    found = {name.removeprefix("eval_") for name in trainer.evaluate()}
    assert found - {"epoch"} == set(args.evaluation_metrics)
    help_text = type(args).__dataclass_fields__["metric_for_best_model"].metadata["help"]
    assert all(name in help_text for name in args.evaluation_metrics)


# Recipes


WORDS = [
    "--max_train_samples", "160", "--max_eval_samples", "60", "--validation_fraction", "0.2", "--model",
    "cifar_resnet8", "--per_device_train_batch_size", "32", "--num_train_epochs", "20", "--disable_tqdm", "true",
    "--num_threads", "1", "--use_cpu", "true", "--terms", "none", "--model_ema", "true", "--model_ema_decay", "0.6",
    "--load_best_model_at_end", "true", "--early_stopping_patience", "2", "--learning_rate", "0.02",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a teacher that stopped early, with the average of its best epoch."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    teacher.main([*WORDS, "--output_dir", str(folder)])
    return folder


def test_record_and_card_say_which_weights_were_kept(finished):
    results = json.loads((finished / "metrics.json").read_text())
    kept = results["kept_weights"]
    assert kept["average"] == {"decay": 0.6, "warmup": False}
    best = kept["best"]
    values = [entry["eval_top1"] for entry in results["history"]]
    assert len(values) == best["evaluations"] == kept["epoch"] < kept["epochs"] == 20
    assert best["value"] == max(values) == results["validation"]["top1"]
    assert best["epoch"] == values.index(max(values)) + 1 == kept["epoch"] - 2 and best["stopped_after"] == 2
    card = (finished / "README.md").read_text()
    assert (
        f"with the moving average of the weights (EMA, decay 0.6) of epoch {best['epoch']:g}, the best of "
        f"{len(values)} on the validation split (top-1 {best['value']:.2f} %). Training stopped early, after 2 "
        f"evaluations without a better one, at epoch {kept['epoch']:g} of 20. No choice was based on these numbers."
    ) in card
    assert "after the last epoch" not in card
    assert "moving average of the weights (EMA, decay 0.6), best epoch by validation top-1" in card


def test_a_run_that_stopped_early_is_finished(finished, capsys):
    assert not checkpoints(finished)
    teacher.main([*WORDS, "--output_dir", str(finished)])
    said = capsys.readouterr().out
    assert "is finished" in said and "moving average (EMA, decay 0.6)" in said
    assert "stopped early" in said and max(map(len, said.splitlines())) < 100


def test_a_run_killed_before_its_report_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(session, "_report", fail)
        with pytest.raises(SystemExit):
            teacher.main([*WORDS, "--output_dir", str(folder)])
    kept = load_file(newest_intact(folder) / "training_state.safetensors")
    assert {"best.value", "best.weights.net.fc.weight", "average.module.net.fc.weight"} <= kept.keys()
    teacher.main([*WORDS, "--output_dir", str(folder)])
    assert_same_run(folder, finished)
    one, other = (json.loads((each / "metrics.json").read_text())["kept_weights"] for each in (folder, finished))
    assert one == other


@pytest.mark.parametrize(
    ("more", "differs"),
    [
        (["--early_stopping_patience", "3"], "early_stopping_patience 2 -> 3"),
        (["--eval_strategy", "steps", "--eval_steps", "2"], "eval_strategy 'epoch' -> 'steps'"),
        (["--model_ema_decay", "0.7"], "model_ema_decay 0.6 -> 0.7"),
    ],
)
def test_what_decides_about_the_weights_makes_another_run(finished, more, differs):
    with pytest.raises(UserError, match=differs):
        teacher.main([*WORDS, *more, "--output_dir", str(finished)])


def test_without_a_validation_split_the_recipe_says_what_to_add(tmp_path):
    words = [*WORDS, "--validation_fraction", "0", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(UserError, match=r"best one on test data flatters; add --validation_fraction 0\.1"):
        teacher.main(words)
    assert not (tmp_path / "run" / "all_args.yaml").exists()


def test_a_student_says_how_its_teacher_was_kept(finished, tmp_path):
    words = [word for word in WORDS if word not in ("--terms", "none")]
    words += ["--teacher", str(finished), "--metric_for_best_model", "agreement", "--num_train_epochs", "3",
              "--accept_teacher", "true", "--output_dir", str(tmp_path / "s")]  # fmt: skip
    student.main(words)
    results = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert results["kept_weights"]["best"]["metric"] == "agreement"
    assert results["teacher"]["method"]["model_ema"] and results["teacher"]["method"]["model_ema_decay"] == 0.6
