"""The README names every setting, address and option, and the commands it shows exist."""

import argparse
import json
import re

import pytest
from project import ROOT

from detector.cli import _parser
from detector.models.reference_scores import read_reference_scores
from detector.models.spec import file_sha256
from detector.pictures.detect import REFERENCE_SCORES_FILE
from webapp.config import PREFIX, SETTINGS, settings_table

README = (ROOT / "README.md").read_text()


def options(parser):
    """Yield every option of a parser and of its commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options(command)
        yield from (name for name in action.option_strings if name.startswith("--"))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_setting_is_in_the_readme(setting):
    assert f"`{PREFIX}{setting.name}`" in README


def test_settings_table_is_the_one_the_code_prints():
    assert settings_table() in README


def test_every_route_is_in_the_readme(app):
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        address = re.sub(r"<\w+:", "<", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            assert f"`{method} {address}`" in README


@pytest.mark.parametrize("option", sorted(set(options(_parser()))))
def test_option_is_in_the_readme(option):
    assert re.search(rf"{option}\b", README)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.py")))
def test_script_is_told_how_to_run(script):
    """Every script that is run says so in its first lines and in the README."""
    source = (ROOT / "scripts" / script).read_text()
    if "__main__" in source:
        assert f"python scripts/{script}" in source.split('"""')[1]
        assert f"python scripts/{script}" in README


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target


def test_figures_belong_to_the_shipped_model():
    """metrics.json, the model card and models/README.md name the files that are there."""
    model, exported = (file_sha256(ROOT / name) for name in ("model.h5", "models/face.onnx"))
    measured = json.loads((ROOT / "visualizations" / "metrics.json").read_text())["model"]
    assert (measured["sha256_h5"], measured["sha256_file"]) == (model, exported)
    for page in ("MODEL_CARD.md", "models/README.md"):
        text = (ROOT / page).read_text()
        assert model in text and exported in text


def test_the_table_of_held_out_scores_is_the_model_s_and_small():
    assert read_reference_scores(REFERENCE_SCORES_FILE).model_sha256 == file_sha256(ROOT / "model.h5")
    assert REFERENCE_SCORES_FILE.stat().st_size < 60_000


def test_the_readme_quotes_what_was_measured():
    overall = json.loads((ROOT / "visualizations" / "metrics.json").read_text())["overall"]
    assert f"{overall['auc']['value']:.3f} ({overall['auc']['low']:.3f} to {overall['auc']['high']:.3f})" in README
