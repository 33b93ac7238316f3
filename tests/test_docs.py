"""The documents name every setting, address, option and script, and what they name exists."""

import ast
import json
import re
import runpy
import sys

import pytest
from project import ROOT

from detector.cli import main
from detector.models.reference_scores import read_reference_scores
from detector.models.spec import file_sha256
from detector.pictures.detect import REFERENCE_SCORES_FILE
from webapp.config import PREFIX, SETTINGS, settings_table

README = (ROOT / "README.md").read_text()
PAGES = sorted(path.relative_to(ROOT) for pattern in ("*.md", "*/README.md") for path in ROOT.glob(pattern))
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


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


def test_every_route_of_the_readme_exists(app):
    addresses = {re.sub(r"<\w+:", "<", rule.rule) for rule in app.url_map.iter_rules()}
    for address in re.findall(r"^\| `(?:GET|POST) ([^`]+)`", README, flags=re.MULTILINE):
        assert address in addresses


@pytest.mark.parametrize("command", [[], ["scan"], ["verify"]], ids=str)
def test_every_option_of_the_command_line_is_in_the_readme(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    options = set(re.findall(r"--[a-z]+\b", capsys.readouterr().out))
    assert "--help" in options
    assert {option for option in options if not re.search(rf"{option}\b", README)} == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_short_and_documented(script):
    source = (ROOT / "scripts" / script).read_text()
    usage = ast.get_docstring(ast.parse(source)) or ""
    assert len(source.splitlines()) >= 20
    assert len(source.splitlines()) - len(usage.splitlines()) <= 60
    assert f"python scripts/{script}" in usage
    assert f"python scripts/{script}" in README


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_a_script_shows_its_docstring(script, monkeypatch, capsys):
    path = ROOT / "scripts" / script
    source = path.read_text()
    assert "parse" in source or "tyro.cli" in source, "without a parser --help would run the script"
    purpose = ast.get_docstring(ast.parse(source)).split("\n\n")[0]
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert not stop.value.code
    assert " ".join(purpose.split()) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_files_exist(page):
    folders = "detector|training|webapp|scripts|tests|models|templates|static|docs|notebooks"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+)`", (ROOT / page).read_text()):
        assert (ROOT / name).exists() or name.startswith("detector/weights"), name  # that folder is in the wheel only


def test_figures_belong_to_the_shipped_model():
    """metrics.json, the model card and models/README.md name the shipped files by their hashes."""
    model, exported = (file_sha256(ROOT / name) for name in ("model.h5", "models/face.onnx"))
    measured = json.loads((ROOT / "visualizations" / "metrics.json").read_text())["model"]
    assert (measured["sha256_h5"], measured["sha256_file"]) == (model, exported)
    for page in ("MODEL_CARD.md", "models/README.md"):
        text = (ROOT / page).read_text()
        assert model in text and exported in text


def test_reference_scores_belong_to_the_shipped_model_and_are_small():
    assert read_reference_scores(REFERENCE_SCORES_FILE).model_sha256 == file_sha256(ROOT / "model.h5")
    assert REFERENCE_SCORES_FILE.stat().st_size < 250_000


def test_the_readme_quotes_the_measured_auc():
    overall = json.loads((ROOT / "visualizations" / "metrics.json").read_text())["overall"]
    assert f"{overall['auc']['value']:.3f} ({overall['auc']['low']:.3f} to {overall['auc']['high']:.3f})" in README
