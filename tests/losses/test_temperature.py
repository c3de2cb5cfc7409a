"""KD at the temperature at which the teacher is half as uncertain as it can be."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hf_icckd import KD, StudentTrainer
from hf_icckd import student as student_recipe
from hf_icckd.losses import knowledge_distillation_loss, parse_objectives
from hf_icckd.losses.temperature import half_entropy_temperature, mean_entropy
from hf_icckd.training import student_checks
from hf_icckd.training.rehearsal import rehearse
from tests.losses.test_objectives import make_batch
from tests.training.test_trainers import student_args


def test_the_entropy_is_half_of_the_largest():
    logits = 5 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    temperature = half_entropy_temperature(logits)
    rows = (logits.double() / temperature).softmax(1).tolist()
    found = -sum(p * math.log(p) for row in rows for p in row) / 50
    assert found == pytest.approx(math.log(7) / 2, abs=1e-8)
    assert half_entropy_temperature(3 * logits + 1) == pytest.approx(3 * temperature)
    assert mean_entropy(logits, temperature / 2) < found < mean_entropy(logits, temperature * 2)


def test_a_teacher_that_knows_nothing_has_none():
    with pytest.raises(ValueError, match=r"temperature is auto, but at no temperature from 0.01 to 10000 the teacher"):
        half_entropy_temperature(torch.ones(4, 3))


@pytest.mark.parametrize("standardise", [False, True])
def test_kd_takes_what_it_found(standardise):
    objective, batch = KD("auto", standardise).double(), make_batch()
    assert objective(batch)["kd"].isnan()
    assert KD("auto")(make_batch(dtype=torch.float32))["kd"].dtype == torch.float32
    objective.tune(lambda: (batch.teacher, batch.labels))
    fixed = KD(objective.found_temperature.item(), standardise)
    torch.testing.assert_close(objective(batch)["kd"], fixed(batch)["kd"])
    assert f"KD's temperature is {fixed.temperature:.3f}" in objective.notes()[0]
    assert fixed.notes() == [] and not fixed.state_dict()


def test_other_temperatures_are_numbers():
    assert next(iter(parse_objectives(["kd:temperature=auto"]))).temperature is None
    with pytest.raises(ValueError, match="temperature is 'auto' in objective 'dkd:temperature=auto', expected a num"):
        parse_objectives(["dkd:temperature=auto"])
    with pytest.raises(ValueError, match=r"temperature is 'atuo' in .*, expected a number or auto"):
        parse_objectives(["kd:temperature=atuo"])


def trainer_of(pipeline, tiny_classifier, folder, **options):
    args = student_args(folder, objectives=["kd:temperature=auto"], max_steps=1)
    nets = tiny_classifier(seed=1), tiny_classifier(seed=9)
    return StudentTrainer(*nets, args, pipeline.dataset("train", training=True), **options)


def test_it_is_measured_on_unaugmented_images_once(pipeline, tiny_classifier, tmp_path, monkeypatch):
    plain = pipeline.dataset("train")
    trainer = trainer_of(pipeline, tiny_classifier, tmp_path, labeled_dataset=plain)
    logits = trainer._predict(trainer.teacher, plain, None).logits
    rehearse(trainer)
    (objective,) = trainer._objectives
    assert objective.found_temperature.isnan()  # the rehearsal has left nothing
    trainer.train()
    assert objective.found_temperature.item() == pytest.approx(half_entropy_temperature(logits))
    assert trainer.notes == objective.notes()
    monkeypatch.setattr(student_checks, "_MOST_MEASURED", len(plain) // 3)
    trainer.tune_objectives()
    third = half_entropy_temperature(logits[::4])
    assert objective.found_temperature.item() == pytest.approx(third)
    assert knowledge_distillation_loss(logits, logits, third).item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_that_is_not_trained_yet_passes_the_rehearsal(pipeline, tiny_classifier, tmp_path):
    trainer = trainer_of(pipeline, tiny_classifier, tmp_path, labeled_dataset=pipeline.dataset("train"))
    with torch.no_grad():
        for weight in trainer.teacher.classification_layer.parameters():
            weight.zero_()
    rehearse(trainer)
    with pytest.raises(ValueError, match="temperature is auto, but at no temperature"):
        trainer.train()


def test_a_long_stream_is_refused(pipeline, tiny_classifier, monkeypatch):
    images = pipeline.dataset("train")
    monkeypatch.setattr(type(images), "streamed", True)
    monkeypatch.setattr(student_checks, "_MOST_MEASURED", 10)
    with pytest.raises(ValueError, match="they are a stream of 160; take one that does not"):
        student_checks.images_to_tune_on(images, tiny_classifier().spec)


def test_without_such_images_it_says_so_before_training(pipeline, tiny_classifier, tmp_path):
    with pytest.raises(ValueError, match=r"and there are no such images; give labeled_dataset=pipeline.dataset"):
        rehearse(trainer_of(pipeline, tiny_classifier, tmp_path))


def test_a_run_records_it(tmp_path, capsys):
    from hf_icckd import teacher as teacher_recipe

    quick = ["--dataset", "digits", "--max_train_samples", "160", "--max_eval_samples", "40", "--max_steps", "2"]
    quick += ["--model", "cifar_resnet8", "--disable_tqdm", "true", "--num_threads", "1"]
    teacher_recipe.main([*quick, "--output_dir", str(tmp_path / "teacher"), "--terms", "none"])
    student_recipe.main(
        [*quick, "--output_dir", str(tmp_path / "student"), "--teacher", str(tmp_path / "teacher"),
         "--accept_teacher", "true", "--objectives", "kd:temperature=auto"]
    )  # fmt: skip
    notes = json.loads((tmp_path / "student" / "metrics.json").read_text())["notes"]
    assert any(note.startswith("KD's temperature is ") and "half of the largest" in note for note in notes)
