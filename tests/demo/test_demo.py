"""The demo says what the nets say, of any picture, and its page shows it."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml

from hf_icckd import create_classifier, from_pretrained, predict_split, save_pretrained
from hf_icckd.data import ImagePipeline, load_image_data
from hf_icckd.data.images import read_image
from hf_icckd.data.labels.columns import labels_of
from hf_icckd.demo import __main__ as demo
from hf_icckd.demo import page as demo_page
from hf_icckd.demo.comparison import ask, class_means, compare, describe, prepare
from hf_icckd.options.command_line import UserError
from hf_icckd.utils.text import escape_markdown

NAMES = ("cat", "dog", "<b>fish</b>")


def make(size: int = 16, names=NAMES, seed: int = 0, **options):
    torch.manual_seed(seed)
    return create_classifier(
        "cifar_resnet8", names, image_size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **options
    ).eval()


def picture(width: int = 40, height: int = 24, mode: str = "RGB") -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 4), dtype=np.uint8)
    return PIL.Image.fromarray(pixels, "RGBA").convert(mode)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A teacher and a student of digits as runs leave them."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("teacher", "student")):
        save_pretrained(folder / name, make(8, [str(digit) for digit in range(10)], seed))
    (folder / "teacher" / "all_args.yaml").write_text(
        yaml.safe_dump({"dataset": "digits", "max_train_samples": 60, "max_eval_samples": 30, "seed": 3})
    )
    return folder


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_comparison_is_what_one_computes_by_hand(temperature):
    teacher, student = make(16), make(24, seed=1)
    image = picture()
    means = [torch.randn(3, model.embedding_dim) for model in (teacher, student)]
    found = compare(teacher, student, image, temperature, teacher_means=means[0], student_means=means[1])
    soft = []
    for role, model, mean in (("teacher", teacher, means[0]), ("student", student, means[1])):
        with torch.no_grad():
            output = model(prepare(image, model.spec))
        p = (output.logits[0].double() / temperature).softmax(dim=0)
        soft.append(p)
        expected = sorted(zip(NAMES, p.tolist(), strict=True), key=lambda pair: -pair[1])
        assert [name for name, _ in found[role]["soft_label"]] == [name for name, _ in expected]
        assert [q for _, q in found[role]["soft_label"]] == pytest.approx([q for _, q in expected], abs=1e-6)
        distances = [1 - F.cosine_similarity(output.embeddings[0], mean[label], dim=0).item() for label in range(3)]
        expected = sorted(zip(NAMES, distances, strict=True), key=lambda pair: pair[1])
        assert [name for name, _ in found[role]["neighbours"]] == [name for name, _ in expected]
        assert [d for _, d in found[role]["neighbours"]] == pytest.approx([d for _, d in expected], abs=1e-5)
        assert found[role]["latency_ms"] > 0
    assert found["kl"] == pytest.approx((soft[0] * (soft[0] / soft[1]).log()).sum().item(), abs=1e-6)
    assert found["same_class"] == (soft[0].argmax() == soft[1].argmax()).item()
    assert found["temperature"] == temperature


@pytest.mark.parametrize("architecture", timm.list_models("cifar_*"))
def test_every_net_of_the_literature_answers(architecture):
    model = create_classifier(architecture, NAMES, image_size=32).eval()
    found = compare(model, model, picture(), teacher_means=torch.randn(3, model.embedding_dim))
    assert sum(q for _, q in found["teacher"]["soft_label"]) == pytest.approx(1, abs=1e-5)
    assert len(found["teacher"]["neighbours"]) == 3


def test_a_net_agrees_with_itself_and_stays_as_it_was():
    model = make().train()
    found = compare(model, model, picture())
    assert found["same_class"] and found["kl"] == 0 and found["teacher"]["neighbours"] is None
    assert model.training and model.net.bn1.num_batches_tracked == 0


def test_images_of_a_data_set_are_seen_as_in_evaluation(digits):
    for model, size in ((make(8, digits.label_names), 8), (make(12, digits.label_names), 12)):
        pipeline = ImagePipeline(digits, image_size=size)
        expected = predict_split(model, pipeline.dataset("test"))
        for row in (0, 7):
            answer = ask(model, read_image(digits.test, row, "test"))
            torch.testing.assert_close(answer.logits, expected.logits[row], rtol=0, atol=1e-4)
        means = class_means(model, digits.test, digits.labels("test"))
        for label in range(10):
            own = F.normalize(expected.embeddings[expected.labels == label], dim=1)
            torch.testing.assert_close(means[label], own.mean(dim=0), rtol=0, atol=1e-5)


def test_large_pictures_are_cut_as_in_evaluation(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(5):
            picture(150 + index, 120).save(tmp_path / label / f"{index}.png")
    data = load_image_data(str(tmp_path))
    model = make(32, ("a", "b"), crop_pct=0.8, interpolation="bicubic")
    pipeline = ImagePipeline(data, default_size=32, crop_pct=0.8, interpolation="bicubic")
    expected = predict_split(model, pipeline.dataset("test")).logits[0]
    torch.testing.assert_close(ask(model, read_image(data.test, 0)).logits, expected, rtol=0, atol=1e-4)


def test_a_class_without_an_image_is_nobodys_neighbour(digits):
    model = make(8, digits.label_names)
    labels = digits.labels("train")
    rows = np.flatnonzero(labels < 2)
    means = class_means(model, digits.train.select(rows), labels[rows])
    answer = ask(model, picture(), means)
    assert sorted(index for index, _ in answer.neighbours) == [0, 1]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16", "F"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16)])
def test_pictures_of_any_mode_and_size(mode, size):
    image = picture(*size, "L").convert("I").convert("I;16") if mode == "I;16" else picture(*size, mode)
    image = image.point(lambda value: value / 255 + 0) if mode == "F" else image
    pixels = prepare(image, make().spec)
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.uint8
    assert ask(make(), image).logits.isfinite().all()


def test_turned_pictures_are_turned_back():
    upright = picture(30, 20)
    turned = upright.transpose(PIL.Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be shown after a quarter turn clockwise
    assert prepare(turned, make().spec).equal(prepare(upright, make().spec))
    clear = PIL.Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert prepare(clear, make().spec).eq(255).all()  # transparent: white, not black


def net(folder, role: str) -> demo.Net:
    return demo.Net(role, str(folder / role), from_pretrained(folder / role))


def parse(*words: str) -> demo.DemoDataArguments:
    return demo.parse_command("demo", [*words])[0]


def test_the_data_set_is_the_teachers_own_unless_another_is_named(folders, tmp_path):
    data, note = demo.find_data(parse(), net(folders, "teacher"))
    assert (data.name, len(data.train), len(data.test), note) == ("digits", 60, 30, "")
    data, _ = demo.find_data(parse("--max_train_samples", "40"), net(folders, "teacher"))
    assert (len(data.train), len(data.test)) == (40, 30)
    data, _ = demo.find_data(parse("--dataset", "digits", "--max_eval_samples", "20"), net(folders, "teacher"))
    assert (len(data.train), len(data.test)) == (1438, 20)
    rows, note = demo.rows_for_means(data, max_images=50)
    assert np.bincount(labels_of(rows)).tolist() == [5] * 10 and "50 training images of digits" in note
    examples = demo.save_examples(data, tmp_path)
    assert [name for _, name in examples] == [str(digit) for digit in range(10)]
    for (path, _), label in zip(examples, range(10), strict=True):
        row = int(np.flatnonzero(data.labels("test") == label)[0])
        assert np.array_equal(PIL.Image.open(path), read_image(data.test, row))


def test_a_streamed_data_set_will_do(folders, tmp_path):
    folder = Path(demo.__file__).parents[1] / "data" / "sources" / "digits"
    words = ["--dataset", str(folder), "--streaming", "true", "--max_train_samples", "80", "--max_eval_samples", "40"]
    data, _ = demo.find_data(parse(*words), net(folders, "teacher"))
    rows, note = demo.rows_for_means(data, max_images=50)
    assert data.streamed and len(rows) == 50 and "50 training images" in note
    assert len(demo.save_examples(data, tmp_path)) == 10


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "folder has no all_args.yaml"),
        ("dataset: /no/such/folder", "'/no/such/folder' does not exist"),
        ("dataset: synthetic", "teacher and data set name 10 classes differently"),
        ("dataset: [", "all_args.yaml is damaged"),
        ("- digits", "all_args.yaml is damaged"),
        ("seed: 1", "all_args.yaml is damaged"),
    ],
)
def test_why_there_is_no_data_set_is_said(folders, tmp_path, record, reason):
    shutil.copytree(folders / "student", tmp_path / "teacher")
    if record is not None:
        (tmp_path / "teacher" / "all_args.yaml").write_text(record)
    data, note = demo.find_data(parse(), net(tmp_path, "teacher"))
    assert data is None and reason in note and "--dataset" in note


def test_the_data_of_a_teacher_that_is_no_folder_are_not_looked_for(folders):
    data, note = demo.find_data(parse(), net(folders, "teacher")._replace(origin="me/teacher"))
    assert data is None and "the teacher is not a local folder" in note and "--dataset" in note


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{runs}/nowhere"], "has no config.json|is not a folder here"),
        (
            ["{runs}/teacher", "{runs}/fewer"],
            "teacher has 10 classes, the student 3; take two that were trained on the",
        ),
        (["{runs}/teacher", "{runs}/teacher", "--dataset", "synthetic"], "teacher and data set name 10 classes diff"),
        (["{runs}/unnamed", "{runs}/teacher", "--dataset", "synthetic"], "student and data set name 10 classes diff"),
        (["{runs}/teacher", "{runs}/teacher", "--dataset", "/no/such"], "dataset folder '/no/such' does not exist"),
        (["--port", "0"], "port is 0, expected a number at least 1 and at most 65535"),
        (["--max_images", "0"], "max_images is 0, expected a number at least 1"),
        (["--image_size", "8"], "unknown option --image_size"),
        (["a", "b", "c"], "models are a, b, c, expected one classifier, or a teacher and its student"),
    ],
)
def test_wrong_command_lines_end_in_one_line(folders, tmp_path, monkeypatch, words, message):
    save_pretrained(folders / "fewer", make(8))
    unnamed = [f"LABEL_{index}" for index in range(10)]  # what a timm model comes with
    save_pretrained(folders / "unnamed", make(8, unnamed))
    monkeypatch.setattr(demo, "import_gradio", lambda: None)
    with pytest.raises(UserError, match=f"^error: .*({message})"):
        demo.main([word.format(runs=folders) for word in words])


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"^error: gradio, .* is missing .*; pip install 'hf-icckd\[demo\]'$"):
        demo.main(["nowhere", "nowhere"])


def test_nothing_is_reported_unless_the_user_said_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", demo)  # any module
    for set_to, expected in ((None, "False"), ("True", "True")):
        monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
        if set_to is not None:
            monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", set_to)
        demo_page.import_gradio()
        assert demo_page.os.environ["GRADIO_ANALYTICS_ENABLED"] == expected


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A page with class means and an example, and its address."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    pytest.importorskip("gradio")
    nets = [
        demo.Net(role, "runs/<i>x</i>", make(seed=seed), torch.randn(3, 64))
        for seed, role in enumerate(("teacher", "student"))
    ]
    picture().save(tmp_path / "0.png")
    page = demo_page.build_page(nets, NAMES, "Class means are made up.", [(tmp_path / "0.png", "cat")])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (address,) = demo_page.launch(page, "127.0.0.1", port)
    yield address, nets, port
    page.close(verbose=False)


def test_the_page_answers(served, tmp_path):
    import httpx
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    address, nets, port = served
    front = httpx.get(address)
    assert front.headers["content-security-policy"].startswith("default-src 'self'") and "made up" in front.text
    assert "fonts.googleapis" not in front.text and "cdn" not in front.text.lower()
    client = Client(address, verbose=False, analytics_enabled=False)
    picture(mode="P").save(tmp_path / "palette.png")
    verdict, *columns = client.predict(handle_file(tmp_path / "palette.png"), 4, api_name="/compare")
    with PIL.Image.open(tmp_path / "palette.png") as image:
        assert image.mode == "P"
        means = {"teacher_means": nets[0].means, "student_means": nets[1].means}
        found = compare(nets[0].model, nets[1].model, image, 4, **means)
    assert f"KL(teacher ‖ student) is {found['kl']:.4f} nats" in verdict
    for role, label, details in (("teacher", *columns[:2]), ("student", *columns[2:])):
        shown = [(each["label"], each["confidence"]) for each in label["confidences"]]
        assert shown == [(name, pytest.approx(share)) for name, share in found[role]["soft_label"]]
        for name, distance in found[role]["neighbours"]:
            assert f"{escape_markdown(name)} ({distance:.3f})" in details
        assert "Nearest classes" in details and "ms on the CPU" in details
    assert not any("<b>fish" in text for text in (verdict, columns[1], columns[3]))  # names are text
    shown = [each["props"].get("value") for each in client.config["components"] if each["type"] == "markdown"]
    assert sum(r"runs/\<i\>x\</i\>" in str(text) for text in shown) == 2
    empty = client.predict(None, 4, api_name="/compare")
    assert "Drop or paste a picture" in empty[0] and not any(empty[1:])
    (tmp_path / "broken.png").write_bytes((tmp_path / "palette.png").read_bytes()[:50])
    with pytest.raises(AppError, match="the picture cannot be read as an image"):
        client.predict(handle_file(tmp_path / "broken.png"), 4, api_name="/compare")
    # Only files that were given to the page are read, none that happens to be on this machine.
    with pytest.raises(AppError):
        client.predict({"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}, 4, api_name="/compare")
    with pytest.raises(ValueError, match=f"port {port} of 127.0.0.1 can't be listened on"):
        demo_page.launch(demo_page.build_page(nets, NAMES, "", []), "127.0.0.1", port)


def test_one_model_alone(folders, tmp_path, monkeypatch):
    """The page of one classifier has one column, and what it says is what `describe` says."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    gradio = pytest.importorskip("gradio")
    only = net(folders, "teacher")._replace(role="model", means=torch.randn(10, 64))
    page = demo_page.build_page([only], only.model.spec.label_names, "", [])
    labels = [each for each in page.config["components"] if each["type"] == "label"]
    assert page.config["title"] == "Classifier" and len(labels) == 1
    look, draw = demo_page._handlers(gradio, [only], only.model.spec.label_names, None)
    picture().save(tmp_path / "0.png")
    answers, verdict, shown, details = look({"path": str(tmp_path / "0.png"), "orig_name": "0.png"}, 2)
    found = describe(answers[0], only.model.spec.label_names, 2)
    name, share = found["soft_label"][0]
    assert shown == dict(found["soft_label"]) and "Nearest classes" in details
    assert verdict == f"### It says **{name}**.\nAt temperature 2, with {100 * share:.2f} %."
    assert look(None, 2) == ([], "Drop or paste a picture.", None, "")
    assert draw([], 2) == ("Drop or paste a picture.", None, "")
