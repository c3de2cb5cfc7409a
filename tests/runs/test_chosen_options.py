"""Options that are chosen by the net, and what becomes of them when the run resumes."""

from __future__ import annotations

from argparse import Namespace

import yaml

from hf_icckd import create_classifier, save_pretrained
from hf_icckd.models.pretrained import architecture_of
from hf_icckd.runs.chosen_options import ChosenOptions, suitable_defaults
from hf_icckd.runs.identity import EARLIER, compare


def options(folder, **values) -> Namespace:
    defaults = {"model": "cifar_resnet8", "pretrained": False, "start_from": None, "lr_scheduler_type": "cosine"}
    return Namespace(output_dir=str(folder), **defaults | values)


def test_kinds_of_nets():
    for name, rate in (
        ("resnet18", 3e-4), ("tf_efficientnet_lite0", 3e-4), ("mobilenetv4_conv_small", 3e-4), ("resnest14d", 3e-4),
        ("vit_tiny_patch16_224", 1e-4), ("convnext_atto", 1e-4), ("levit_128s", 1e-4), ("maxvit_nano_rw_256", 1e-4),
    ):  # fmt: skip
        assert suitable_defaults(name, pretrained=True)["learning_rate"] == rate, name
        assert bool(suitable_defaults(name, pretrained=False)) == (rate == 1e-4), name


def test_nothing_is_chosen_for_a_cnn_from_scratch(tmp_path, caplog):
    chosen = ChosenOptions()
    assert chosen(options(tmp_path), set()) == {} and chosen.recorded == []
    chosen.log()
    assert not caplog.records


def test_a_start_decides_by_its_architecture(tmp_path, caplog):
    save_pretrained(tmp_path / "vit", create_classifier("test_vit", ["a", "b"], image_size=32))
    assert architecture_of(str(tmp_path / "vit")) == "test_vit" and architecture_of("resnet18.a1_in1k")
    chosen = ChosenOptions()
    values = chosen(options(tmp_path / "run", start_from=str(tmp_path / "vit")), {"weight_decay"})
    assert values["learning_rate"] == 1e-4 and "weight_decay" not in values
    assert chosen.recorded == sorted(values)
    with caplog.at_level("INFO", "hf_icckd"):
        chosen.log()
    assert "chosen for this net, where no option says otherwise: optim adamw_torch, " in caplog.text


def test_a_run_keeps_what_it_was_begun_with(tmp_path):
    record = {"learning_rate": 1e-3, "optim": "adamw_torch", "chosen_options": ["learning_rate", "optim"]}
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(record))
    chosen = ChosenOptions()
    assert chosen(options(tmp_path, pretrained=True), {"optim"}) == {"learning_rate": 1e-3} | EARLIER
    assert chosen.recorded == ["learning_rate", "optim", *EARLIER]


def test_nothing_is_chosen_for_a_run_of_an_earlier_version(tmp_path):
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump({"learning_rate": 0.05, "optim": "sgd"}))
    chosen = ChosenOptions()
    assert chosen(options(tmp_path, pretrained=True), set()) == EARLIER and chosen.recorded == [*EARLIER]


def test_a_run_goes_on_as_an_earlier_version_began_it(tmp_path, caplog):
    record = {"recipe": "teacher", "seed": 0}
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(record))
    chosen = ChosenOptions()
    assert chosen(options(tmp_path), set())["decoding"] == "whole"
    with caplog.at_level("INFO"):
        chosen.log()
    assert not caplog.text
    written = record | {"decoding": "whole", "chosen_options": chosen.recorded}  # as the first resume leaves it
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(written))
    again = ChosenOptions()
    assert again(options(tmp_path), set()) == {"decoding": "whole"} and again.recorded == ["decoding"]
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(record))
    assert "decoding" not in chosen(options(tmp_path), {"decoding"})
    assert not compare(record, record | {"decoding": "whole"}).differing
    assert str(compare(record, record | {"decoding": "scaled"}).differing[0]) == "decoding 'whole' -> 'scaled'"
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(record | {"decoding": "scaled"}))
    assert "decoding" not in chosen(options(tmp_path), set())


def test_a_run_of_an_earlier_version_keeps_its_terms(tmp_path, caplog):
    """They were the default then."""
    record = {"recipe": "teacher", "seed": 0, "terms": ["intra_class:weight=0.05,margin=0.2"]}
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(record))
    chosen = ChosenOptions()
    assert chosen(options(tmp_path), set())["terms"] == record["terms"]
    with caplog.at_level("INFO"):
        chosen.log()
    assert "as an earlier version began this run, where no option says otherwise: terms ['intra_class" in caplog.text
    assert "terms" not in chosen(options(tmp_path), {"terms"})
    written = record | EARLIER | {"chosen_options": chosen.recorded}
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(written))
    assert chosen(options(tmp_path), set())["terms"] == record["terms"]
    begun_here = written | {"chosen_options": []}  # where the terms were given: without them it is another run
    (tmp_path / "all_args.yaml").write_text(yaml.safe_dump(begun_here))
    assert "terms" not in chosen(options(tmp_path), set())


def test_options_that_a_run_did_not_have_are_at_their_defaults():
    before = {"recipe": "student", "seed": 0, "teacher_fingerprint": "t"}
    now = before | {"freeze_epochs": 0, "freeze_backbone": False, "layer_decay": None, "start_from": None}
    assert not compare(before, now | {"chosen_options": []}).differing
    assert [each.name for each in compare(before, now | {"freeze_epochs": 2}).differing] == ["freeze_epochs"]
