"""What is stated about the licence of a model, and what it allows."""

from __future__ import annotations

import huggingface_hub
import pytest
import timm

from hf_icckd.models import licences
from hf_icckd.models.licences import model_title, stated_licence, terms_of


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("apache-2.0", "open"),
        ("bsd-3-clause", "open"),
        ("cc-by-4.0", "open"),
        ("cc-by-nc-4.0", "non-commercial"),
        ("cc-by-nc-sa-4.0", "non-commercial"),
        ("fair-noncommercial-research-license", "non-commercial"),
        ("apple-amlr", "non-commercial"),
        ("dinov3-license", "unclear"),
        ("other", "unclear"),
        (None, "unclear"),
        ("nccl", "unclear"),  # `nc` counts as a word alone
        ("mit-like", "unclear"),
    ],
)
def test_what_a_licence_allows(licence, terms):
    assert terms_of(licence) == terms


def test_timm_states_a_licence_that_is_read_for_nearly_all_of_its_weights():
    """A new spelling of timm's would show here as many unclear ones."""
    found = [terms_of(stated_licence(name)) for name in timm.list_pretrained()]
    assert found.count("open") > 0.8 * len(found)
    assert found.count("non-commercial") > 80


def test_the_default_weights_of_an_architecture_are_named():
    assert model_title("resnet18").startswith("resnet18.")
    assert stated_licence("resnet18") == "apache-2.0"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# A net\n", "cc-by-nc-4.0"),
        ("---\nlicense: MIT\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense: unknown\n---\n", None),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\ntags: [timm]\n---\n", None),
        ("---\nlicense: [mit\n---\n", None),
        ("# No metadata\n", None),
        (None, None),
    ],
)
def test_a_folder_states_it_in_its_card(tmp_path, card, licence):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert stated_licence(str(tmp_path)) == licence
    assert model_title(str(tmp_path)) == tmp_path.name


def test_a_file_of_weights_states_none_and_shows_no_path(tmp_path):
    file = tmp_path / "net.pth"
    file.touch()
    assert (model_title(str(file)), stated_licence(str(file))) == ("net.pth", None)


def test_a_repository_states_it_in_its_card(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(licences, "hf_hub_download", download)
    assert stated_licence("hf-hub:me/net@v1") == "mit"
    assert (model_title("hf-hub:me/net@v1"), asked) == ("me/net", [("me/net", "README.md", "v1")])


def test_a_repository_that_cant_be_reached_states_none(monkeypatch):
    def download(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(licences, "hf_hub_download", download)
    assert stated_licence("me/net") is None
