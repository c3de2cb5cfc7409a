"""Both trainers: what a step computes, what is logged, what a resume restores, what is refused."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback, get_cosine_schedule_with_warmup

from hf_icckd import (
    OBJECTIVES,
    Augmentation,
    ImagePipeline,
    StudentTrainer,
    StudentTrainingArguments,
    TeacherTrainer,
    TeacherTrainingArguments,
    load_image_data,
)
from hf_icckd.data.augment import crop_and_flip
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchDataset, KeyedBatchSampler
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.runs.records import RecordedAccuracy
from hf_icckd.training.loss_averages import LossAverages
from hf_icckd.utils.machine import best_device


def teacher_args(folder, **options):
    defaults = {
        "output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 32, "logging_steps": 1,
        "disable_tqdm": True, "eval_strategy": "no", "save_strategy": "no", "num_threads": 1,
    }  # fmt: skip
    return TeacherTrainingArguments(**defaults | options)


def student_args(folder, **options):
    args = teacher_args(folder).to_dict()
    own = {name: args[name] for name in StudentTrainingArguments.__dataclass_fields__ if name in args}
    for name in ("eval_strategy", "save_strategy", "logging_strategy", "lr_scheduler_type", "optim", "hub_strategy"):
        own[name] = str(own[name])
    return StudentTrainingArguments(**own | {"accept_teacher": True} | options)


def train_teacher(pipeline, model, folder, resume=None, callbacks=None, **options):
    args = teacher_args(folder, **options)
    trainer = TeacherTrainer(
        model,
        args,
        pipeline.dataset("train", training=True, num_views=args.num_views),
        pipeline.dataset("test"),
        callbacks=callbacks,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def assert_same_state(module, other):
    for name, value in module.state_dict().items():
        assert torch.equal(value.cpu(), other.state_dict()[name].cpu()), name


@pytest.mark.parametrize("views", [1, 2])
def test_weight_zero_is_cross_entropy_to_the_bit(deterministic, pipeline, tiny_classifier, tmp_path, views):
    model = tiny_classifier()
    plain = copy.deepcopy(model).to(pipeline.device).to(memory_format=torch.channels_last).train()
    train_teacher(pipeline, model, tmp_path, terms=["none"], num_views=views, max_steps=7)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 0, 7)
    dataset = pipeline.dataset("train", training=True, num_views=views)
    sampler = KeyedBatchSampler(len(dataset), 32, 0)
    for step in range(7):
        sampler.set_epoch(step // 5)
        batch = list(make_loader(dataset, sampler))[step % 5]
        logits = plain(batch["pixel_values"].flatten(0, 1)).logits
        F.cross_entropy(logits, batch["labels"].repeat_interleave(views)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert_same_state(model, plain)


def test_teacher_logs_named_terms(pipeline, tiny_classifier, tmp_path):
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, terms=["intra_class:weight=0.5,gate=false"])
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 4
    for entry in logs:
        expected = entry["loss/ce"] + 0.5 * entry["loss/intra_class"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-5)
        assert entry["gated_fraction"] == 1
        assert entry["images_per_second"] > 0
    # 4 steps of 32 images in two views over 10 classes, 32 rows each.
    assert logs[-1]["cache_fill"] == pytest.approx(4 * 32 * 2 / 320, abs=0.05)
    assert logs[0]["loss/intra_class"] > 0


def test_embedding_may_be_the_logits_and_the_cache_absent(pipeline, tiny_classifier, tmp_path):
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, terms=["intra_class:embedding=logits,gate=false"])
    assert trainer.terms["intra_class"].cache.dim == 10
    trainer = train_teacher(
        pipeline, tiny_classifier(), tmp_path, terms=["intra_class:cache_size=0,gate=false"], max_steps=1
    )
    assert trainer.terms["intra_class"].cache is None
    assert trainer.state.log_history[0]["loss/intra_class"] > 0


def test_student_copies_a_teacher_that_stays_untouched(pipeline, tiny_classifier, tmp_path):
    teacher = tiny_classifier(seed=1).train()
    before = copy.deepcopy(teacher.state_dict())
    args = student_args(tmp_path, objectives=["kd", "rkd:weight=0.1"], ce_weight=0.5, max_steps=2)
    trainer = StudentTrainer(
        tiny_classifier(), teacher, args, pipeline.dataset("train", training=True), pipeline.dataset("test")
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    first = logs[0]
    assert first["loss"] == pytest.approx(
        0.5 * first["loss/ce"] + first["loss/kd"] + 2.5 * first["loss/rkd_distance"] + 5 * first["loss/rkd_angle"],
        rel=1e-5,
    )
    for name, value in teacher.state_dict().items():
        assert torch.equal(value.cpu(), before[name].cpu()), name
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())


def test_student_moves_towards_its_teacher(pipeline, tiny_classifier, tmp_path):
    args = student_args(tmp_path, ce_weight=0.0, max_steps=30)
    trainer = StudentTrainer(
        tiny_classifier(),
        train_teacher(pipeline, tiny_classifier(seed=1), tmp_path / "teacher", max_steps=20).classifier,
        args,
        pipeline.dataset("train", training=True),
        pipeline.dataset("test"),
    )
    start = trainer.evaluate()
    trainer.train()
    end = trainer.evaluate()
    assert end["eval_kl_to_teacher"] < 0.5 * start["eval_kl_to_teacher"]
    assert end["eval_agreement"] > start["eval_agreement"] + 20


def test_teacher_and_student_may_want_different_pixels(pipeline, tiny_classifier, tmp_path):
    from hf_icckd import create_classifier

    teacher = create_classifier(
        "cifar_resnet8", pipeline.data.label_names, image_size=16, mean=(0.5,) * 3, std=(0.2,) * 3
    )
    trainer = StudentTrainer(
        tiny_classifier(), teacher, student_args(tmp_path, max_steps=1), pipeline.dataset("train", training=True)
    )
    trainer.train()
    assert math.isfinite(trainer.state.log_history[0]["loss"])


def test_a_teacher_is_measured_on_its_own_pixels(digits, tiny_classifier, tmp_path):
    """What a student sees of the images does not change what is said of its teacher."""
    guide, measured = tiny_classifier(seed=1), []
    for size in (8, 5):
        pipeline = ImagePipeline(digits, image_size=size)
        args = student_args(tmp_path, max_steps=1)
        trainer = StudentTrainer(tiny_classifier(), guide, args, pipeline.dataset("train", training=True))
        test = pipeline.dataset("test")
        measured.append(trainer.evaluation_teacher(test))
        assert trainer.evaluation_teacher(test) is measured[-1]
        assert trainer.predict_split(test).labels.equal(measured[-1].labels)
    for one, other in zip(*measured, strict=True):
        assert torch.equal(one, other)


def test_a_data_set_that_knows_no_other_pixels_says_that_the_teacher_gets_them_scaled(
    pipeline, tiny_classifier, tmp_path, caplog
):
    class Own(BatchDataset):
        resident = True
        images = pipeline.dataset("train", training=True)

        def __len__(self):
            return len(self.images)

        def __getitems__(self, key):
            return self.images.__getitems__(key)

    for size, warnings in ((8, 0), (12, 1)):
        guide = tiny_classifier(seed=1)
        guide.spec = dataclasses.replace(guide.spec, image_size=size)
        caplog.clear()
        StudentTrainer(tiny_classifier(), guide, student_args(tmp_path, max_steps=2), Own()).train()
        assert caplog.text.count(f"makes images of 8 pixels only, the teacher takes {size}") == warnings


def test_resume_equals_uninterrupted(deterministic, pipeline, tiny_classifier, tmp_path):
    terms = ["intra_class:gate=false", "cmi:weight=1,start=0.5"]
    options = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "terms": terms}
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path / "whole", **options)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 4

    train_teacher(pipeline, tiny_classifier(), tmp_path / "cut", callbacks=[Stop()], **options)
    checkpoint = checkpoints(tmp_path / "cut")[0]
    assert checkpoint.name == "checkpoint-3"  # in the middle of the first epoch of five steps
    resumed = train_teacher(pipeline, tiny_classifier(seed=5), tmp_path / "cut", resume=str(checkpoint), **options)
    assert_same_state(whole.model, resumed.model)
    assert_same_state(whole.terms["intra_class"].cache, resumed.terms["intra_class"].cache)
    assert_same_state(whole.terms["cmi"], resumed.terms["cmi"])
    assert [path.name for path in checkpoints(tmp_path / "cut")] == ["checkpoint-6", "checkpoint-8"]
    assert not list(tmp_path.rglob("training_args.bin"))
    # Cut off after the last checkpoint, in the middle of an epoch: nothing is left to do.
    again = train_teacher(
        pipeline, tiny_classifier(seed=6), tmp_path / "cut", resume=str(checkpoints(tmp_path / "cut")[-1]), **options
    )
    assert again.state.global_step == 8
    assert_same_state(whole.model, again.model)


@pytest.mark.parametrize(
    "objectives",
    [["kd", "rkd"], ["kd:temperature=auto", "ctkd", "crd:negatives=64", "srrl", "subclass", "review_kd"]],
    ids=["plain", "with state"],
)
def test_student_resume_equals_uninterrupted(deterministic, pipeline, tiny_classifier, tmp_path, objectives):
    def train(resume=None, seed=0):
        args = student_args(
            tmp_path, objectives=objectives, max_steps=6, save_strategy="steps", save_steps=4, save_total_limit=5
        )
        trainer = StudentTrainer(
            tiny_classifier(seed=seed),
            tiny_classifier(seed=9),
            args,
            pipeline.dataset("train", training=True),
            labeled_dataset=pipeline.dataset("train"),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer.model

    whole = train()
    assert_same_state(whole, train(resume=str(checkpoints(tmp_path)[0]), seed=3))


def test_gradient_accumulation_equals_one_large_batch_for_cross_entropy(tmp_path):
    import timm

    # 151 images: the last step of an epoch has 23 of them, or a micro-batch of 16 and one of 7.
    digits = load_image_data("digits", max_train_samples=151, max_eval_samples=40)
    pipeline = ImagePipeline(digits, device="cuda" if torch.cuda.is_available() else "cpu")

    from hf_icckd import ClassifierSpec, ImageClassifier

    results = []
    for size, accumulation in ((32, 1), (16, 2)):
        torch.manual_seed(0)
        net = timm.create_model("test_convnext", num_classes=10).double()  # no statistics over the batch
        spec = ClassifierSpec("test_convnext", tuple(digits.label_names), (0.5,) * 3, (0.5,) * 3, 32)
        model = ImageClassifier(net, spec).double()
        train_teacher(
            pipeline, model, tmp_path, terms=["none"], max_steps=7,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        results.append(model)
    for a, b in zip(results[0].parameters(), results[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_schedules(pipeline, tiny_classifier, tmp_path):
    def rates(**options):
        trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, max_steps=8, **options)
        return [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]

    multistep = rates(lr_milestones=[0.5, 0.75], warmup_steps=2)
    assert multistep == pytest.approx([0, 0.025, 0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])
    cosine = rates()
    assert cosine == pytest.approx([0.025 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])
    stopped_early = rates(num_train_epochs=30, lr_schedule_epochs=60)
    assert stopped_early == pytest.approx([0.025 * (1 + math.cos(math.pi * step / 16)) for step in range(8)])


def test_weight_decay_policy(pipeline, tiny_classifier, tmp_path):
    for policy, groups in ((True, 1), (False, 2)):
        model = tiny_classifier()
        trainer = TeacherTrainer(
            model, teacher_args(tmp_path, decay_norm_and_bias=policy), pipeline.dataset("train", training=True)
        )
        optimizer = trainer.create_optimizer()
        assert len(optimizer.param_groups) == groups
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
        if not policy:
            assert all(parameter.ndim == 1 for parameter in optimizer.param_groups[1]["params"])
            assert optimizer.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("options", [{"bf16": True}, {"torch_compile_backend": "eager"}, {"optim": "adamw_torch"}])
def test_other_ways_to_compute(pipeline, tiny_classifier, tmp_path, options):
    trainer = train_teacher(
        pipeline,
        tiny_classifier(),
        tmp_path,
        terms=["intra_class:gate=false"],
        max_steps=2,
        **{"learning_rate": 1e-3} | options,
    )
    for entry in trainer.state.log_history[:2]:
        assert math.isfinite(entry["loss/ce"]) and math.isfinite(entry["loss/intra_class"])


def test_compiled_teacher_and_augmentation_compute_the_same(digits, tiny_classifier, tmp_path):
    """By tracing alone: what a backend makes of the graphs is torch's business, and takes minutes."""
    losses = {}
    for backend in (None, "eager"):
        before = dict(torch._dynamo.utils.counters["stats"]).get("unique_graphs", 0)
        pipeline = ImagePipeline(
            digits,
            Augmentation(horizontal_flip=True),
            device="cuda" if torch.cuda.is_available() else "cpu",
            compile_backend=backend,
        )
        student = StudentTrainer(
            tiny_classifier(),
            tiny_classifier(seed=1),
            student_args(tmp_path, torch_compile_backend=backend, max_steps=12, save_strategy="steps", save_steps=7),
            pipeline.dataset("train", training=True),
        )
        student.train()
        losses[backend] = [entry["loss"] for entry in student.state.log_history if "learning_rate" in entry]
        graphs = torch._dynamo.utils.counters["stats"].get("unique_graphs", 0) - before
        assert graphs >= 3 if backend else graphs == 0  # student, teacher, augmentation
        assert (student._run_teacher is not student.teacher) == bool(backend)
        assert (student.live_dataset._crop is not crop_and_flip) == bool(backend)
    assert losses["eager"] == pytest.approx(losses[None], rel=1e-4)
    # Not under names that only the compiled module has.
    weights = load_file(checkpoints(tmp_path)[0] / "model.safetensors")
    assert weights.keys() == student.model.state_dict().keys()
    assert not any("_orig_mod" in name for name in weights)


class _Synchronisations(TorchDispatchMode):
    """Counts what makes the host wait for the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(word in str(func) for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "aten.item")):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_no_host_synchronisation_in_a_step(pipeline, tiny_classifier, tmp_path):
    terms = ["intra_class", "sftn:student=cifar_resnet8", "cmi:start=0.5"]
    objectives = [name for name in OBJECTIVES if name != "kd"] + ["kd:temperature=auto"]
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path / "teacher", max_steps=1, terms=terms)
    student = StudentTrainer(
        tiny_classifier(),
        tiny_classifier(seed=1),
        student_args(tmp_path / "student", objectives=objectives, max_steps=1),
        pipeline.dataset("train", training=True),
        labeled_dataset=pipeline.dataset("train"),
    )
    student.train()
    for each in (trainer, student):
        batch = next(iter(each.get_train_dataloader()))
        with _Synchronisations() as mode:
            each.training_step(each.model_wrapped, batch)
            each.optimizer.step()
        assert mode.found == []


def test_a_term_knows_how_much_of_the_training_is_done(pipeline, tiny_classifier, tmp_path):
    options = {"terms": ["cmi:weight=1,start=0.5"], "max_steps": 4, "logging_steps": 1}
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, **options)
    losses = [entry["loss/cmi"] for entry in trainer.state.log_history if "loss/cmi" in entry]
    assert losses[:2] == [0, 0] and max(losses[2:]) < 0


def test_non_finite_loss_names_term_and_step(pipeline, tiny_classifier, tmp_path):
    model = tiny_classifier()

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2:
                with torch.no_grad():
                    model.net.get_classifier().weight.fill_(math.nan)

    options = {"logging_steps": 4, "max_steps": 8, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(FloatingPointError, match=r"loss/ce is nan since step 3; .*lower learning_rate"):
        train_teacher(pipeline, model, tmp_path, callbacks=[Poison()], **options)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]


def test_term_averages():
    averages = LossAverages()
    assert averages.drain() == {}
    averages.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 1)
    averages.add({"a": torch.tensor(3.0), "b": torch.tensor(6.0)}, 2)
    assert averages.drain() == {"a": 2.0, "b": 4.0}
    averages.add({"a": torch.tensor(1.0), "b": torch.tensor(math.inf)}, 7)
    averages.add({"a": torch.tensor(math.nan), "b": torch.tensor(0.0)}, 9)
    with pytest.raises(FloatingPointError, match="a is nan since step 9"):
        averages.drain()


def test_classes_must_agree(pipeline, tiny_classifier, tmp_path):
    from hf_icckd import create_classifier

    fewer = create_classifier("cifar_resnet8", ["a", "b"], image_size=8)
    dataset = pipeline.dataset("train", training=True)
    with pytest.raises(ValueError, match="the teacher has 2 classes, the data set 10; take a teacher"):
        StudentTrainer(tiny_classifier(), fewer, student_args(tmp_path), dataset)
    renamed = create_classifier("cifar_resnet8", [*map(str, range(8)), "9", "8"], image_size=8)
    with pytest.raises(ValueError, match="name 2 classes differently, first class 8: '9' and '8'"):
        StudentTrainer(tiny_classifier(), renamed, student_args(tmp_path), dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auto_find_batch_size": True}, "auto_find_batch_size is True"),
        ({"eval_on_start": True}, "eval_on_start is True"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau"},
            "lr_scheduler_type is 'reduce_lr_on_plateau', expected a schedule",
        ),
        ({"deepspeed": "x.json"}, r"deepspeed is 'x.json'.*use recipes/accelerate/ddp\.yaml"),
        ({"save_strategy": "best"}, "save_strategy is 'best', expected no, steps or epoch"),
        ({"bf16_full_eval": True}, "bf16_full_eval is True.*logits tie"),
        ({"fsdp": "full_shard"}, r"fsdp is 'full_shard'.*use recipes/accelerate/fsdp2\.yaml"),
        ({"label_smoothing_factor": 0.1}, "use --label_smoothing"),
        ({"remove_unused_columns": True}, "remove_unused_columns is true, expected false"),
        ({"momentum": 1}, "momentum is 1, expected a number at least 0 and below 1"),
        ({"lr_milestones": [0.5, 150]}, "lr_milestones holds 150, expected fractions"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"num_train_epochs": 3, "lr_schedule_epochs": 2}, "lr_schedule_epochs is 2 but num_train_epochs 3"),
    ],
)
def test_refused_options_say_why(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        teacher_args(tmp_path, **options)


def test_synchronised_batchnorm_replaces_the_layers_only(pipeline, tiny_classifier, tmp_path, monkeypatch):
    """That it computes the same with several GPUs waits for several GPUs."""
    with pytest.raises(ValueError, match="sync_batchnorm is true, expected false on a CPU"):
        teacher_args(tmp_path, sync_batchnorm=True, use_cpu=True)
    model, plain = tiny_classifier(), tiny_classifier()
    args = teacher_args(tmp_path)
    args.sync_batchnorm = True
    monkeypatch.setattr(TeacherTrainingArguments, "world_size", property(lambda self: 2))
    TeacherTrainer(model, args, pipeline.dataset("train", training=True, num_views=2))
    kinds = {type(module) for module in model.modules()}
    assert torch.nn.SyncBatchNorm in kinds and torch.nn.BatchNorm2d not in kinds
    assert_same_state(model, plain)
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, device=pipeline.device)
    expected = plain.to(pipeline.device).to(memory_format=torch.channels_last).eval()(images).logits
    torch.testing.assert_close(model.eval()(images).logits, expected)


def test_precision_is_said_in_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch --mixed_precision bf16` does
    with pytest.raises(ValueError, match=r"told mixed_precision 'bf16', the recipe float32; .*give --bf16 true"):
        teacher_args(tmp_path)
    assert teacher_args(tmp_path, bf16=True).precision == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert teacher_args(tmp_path, bf16=True).precision == "bf16"


@pytest.mark.parametrize(("accelerator", "chosen"), [(None, "cpu"), ("mps", "mps"), ("cuda", "cuda")])
def test_the_best_device_is_the_accelerator(monkeypatch, accelerator, chosen):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(accelerator))
    assert best_device() == torch.device(chosen)


def test_gpus_without_a_launcher_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TeacherTrainingArguments, "n_gpu", property(lambda self: 2))
    with pytest.raises(ValueError, match=r"one process sees 2 GPUs.*accelerate launch --multi_gpu --num_processes 2"):
        teacher_args(tmp_path)


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_launchers_that_shard_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"accelerate was told to use {name}, expected DDP or FSDP2: .*fsdp2.yaml"):
        teacher_args(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "fsdp_version is 1, expected 2: FSDP1 flattens"),
        ({"VERSION": "1"}, "fsdp_version is 1, expected 2: FSDP1 flattens"),
        (
            {"AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"},
            "is SIZE_BASED_WRAP, expected no_wrap or transformer_based_wrap: wrapping by",
        ),
        ({"CPU_RAM_EFFICIENT_LOADING": "true"}, "cpu_ram_efficient_loading is true, expected false: accelerate"),
        (
            {"OFFLOAD_PARAMS": "True"},
            "offload_params is True, expected false: weights would be on another device",
        ),
        ({"ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing is true, expected false: BatchNorm"),
        ({"IGNORED_MODULES": "net"}, "fsdp_ignored_modules is net, expected unset: their gradients would not"),
    ],
)
def test_other_ways_to_shard_are_refused(tmp_path, monkeypatch, settings, message):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for name, value in ({"VERSION": "2"} | settings if settings else {}).items():
        monkeypatch.setenv(f"FSDP_{name}", value)
    with pytest.raises(ValueError, match=f"{message}.*; use recipes/accelerate/fsdp2.yaml"):
        teacher_args(tmp_path)


def test_only_teachers_on_gpus_are_sharded(pipeline, tiny_classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(ValueError, match="fp16 is true, expected bf16 or float32 with FSDP: a gradient scaler"):
        teacher_args(tmp_path, fp16=True)
    with pytest.raises(
        ValueError, match=r"told to use FSDP, expected DDP: .* a student is small.*accelerate/ddp\.yaml"
    ):
        student_args(tmp_path)
    args = teacher_args(tmp_path, use_cpu=True)
    with pytest.raises(
        ValueError, match=r"shards nothing over 1 process\(es\) on cpu, expected several on GPUs; use .*ddp\.yaml"
    ):
        TeacherTrainer(tiny_classifier(), args, pipeline.dataset("train", training=True, num_views=2))


def test_evaluation_is_in_the_precision_of_the_weights(pipeline, tiny_classifier, tmp_path):
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path, max_steps=2, bf16=True)
    logits = trainer.predict_split(pipeline.dataset("test")).logits
    assert not torch.equal(logits, logits.bfloat16().float())


def test_world_size_must_be_true(tmp_path, monkeypatch):
    args = teacher_args(tmp_path)
    for name, value in {
        "WORLD_SIZE": 3,
        "RANK": 0,
        "LOCAL_RANK": 0,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match=r"WORLD_SIZE is 3 but 1 process\(es\) found each other"):
        args._check_processes()


@pytest.mark.parametrize("accepted", [False, True])
def test_a_teacher_near_chance_teaches_only_if_it_is_accepted(accepted, pipeline, tiny_classifier, tmp_path):
    trainer = StudentTrainer(
        tiny_classifier(),
        tiny_classifier(seed=1),
        student_args(tmp_path, max_steps=1, accept_teacher=accepted),
        pipeline.dataset("train", training=True),
        pipeline.dataset("test"),
    )
    if not accepted:
        with pytest.raises(ValueError, match=r"near chance\. .*--accept_teacher"):
            trainer.train()
        assert trainer.state.global_step == 0
    else:
        trainer.train()
        assert trainer.teacher_check.near_chance
        assert len(trainer.notes) == 1 and "was accepted" in trainer.notes[0]


def test_a_teacher_far_below_its_record_is_refused_and_one_that_knows_the_classes_is_not(
    pipeline, tiny_classifier, tmp_path
):
    teacher = train_teacher(pipeline, tiny_classifier(seed=1), tmp_path / "teacher", max_steps=30).classifier
    for record, refused in ((None, False), (RecordedAccuracy(99.9, 1000), True)):
        trainer = StudentTrainer(
            tiny_classifier(),
            teacher,
            student_args(tmp_path / "student", max_steps=1, accept_teacher=False),
            pipeline.dataset("train", training=True),
            pipeline.dataset("test"),
            teacher_record=record,
        )
        if refused:
            with pytest.raises(ValueError, match="far below its record"):
                trainer.train()
        else:
            trainer.train()
            assert not trainer.notes
