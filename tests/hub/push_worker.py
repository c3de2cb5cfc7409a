"""Runs entry points one after the other, as the lines of standard input say, and prints how each ended.

A program of its own, because the Hub's client reads its address when it is imported. A line is JSON with `argv` (the
entry point first) and `token`; what is printed for it is JSON with `error` and the `pauses` that the client made.
"""

from __future__ import annotations

import json
import os
import sys
import types

import huggingface_hub.utils._http as http

import hf_icckd.hub.__main__ as hub
from hf_icckd import student, teacher
from hf_icckd.options.command_line import UserError


def script(folder: str) -> None:
    """A training without an entry point: the trainer is asked to push."""
    from hf_icckd import ImagePipeline, TeacherTrainer, TeacherTrainingArguments, create_classifier, load_image_data

    pipeline = ImagePipeline(load_image_data("digits", max_train_samples=160, max_eval_samples=80))
    model = create_classifier("cifar_resnet8", pipeline.data.label_names, image_size=pipeline.image_size)
    args = TeacherTrainingArguments(
        output_dir=folder, hub_model_id="script", max_steps=2, disable_tqdm=True, num_threads=1, num_views=1,
        terms=["none"], save_strategy="steps", save_steps=1, eval_strategy="no",
    )  # fmt: skip
    trainer = TeacherTrainer(model, args, pipeline.dataset("train", training=True))
    trainer.train()
    with open(f"{folder}/README.md", "w") as file:
        file.write("---\nlicense: apache-2.0\n---\nmine\n")
    trainer.create_model_card()
    trainer.push_to_hub(commit_message="From a script")


ENTRY_POINTS = {
    "hub": hub.main,
    "teacher": teacher.main,
    "student": student.main,
    "script": lambda argv: script(*argv),
}


def main() -> None:
    """Run what standard input asks for."""
    pauses: list[float] = []
    http.time = types.SimpleNamespace(sleep=pauses.append)
    for line in sys.stdin:
        asked, error = json.loads(line), None
        os.environ.pop("HF_TOKEN", None)
        if asked.get("token"):
            os.environ["HF_TOKEN"] = asked["token"]
        name, *argv = asked["argv"]
        try:
            ENTRY_POINTS[name](argv)
        except UserError as caught:
            error = str(caught)
        sys.stdout.write(f"\n{json.dumps({'error': error, 'pauses': pauses})}\n")
        sys.stdout.flush()
        pauses.clear()


if __name__ == "__main__":
    main()
