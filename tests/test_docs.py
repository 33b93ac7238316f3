"""The documents name every setting, address, option and script, and what they name exists."""

import ast
import json
import re
import runpy
import subprocess
import sys

import pytest
from plain_words import hard_sentences, markdown_texts
from project import ROOT

from detector.cli import main
from detector.models.reference_scores import read_reference_scores
from detector.models.spec import file_sha256
from detector.pictures.detect import REFERENCE_SCORES_FILE
from webapp.config import PREFIX, SETTINGS, settings_table

README = (ROOT / "README.md").read_text()
DOCS = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
PAGES = sorted(
    path.relative_to(ROOT) for pattern in ("*.md", "docs/*.md", "*/README.md") for path in ROOT.glob(pattern)
)
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_setting_is_in_the_docs(setting):
    assert f"`{PREFIX}{setting.name}`" in DOCS


def test_settings_table_is_the_one_the_code_prints():
    assert settings_table() in DOCS


def test_every_route_is_in_the_docs(app):
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        address = re.sub(r"<[^<>]+:", "<", rule.rule)
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            assert f"`{method} {address}`" in DOCS


def test_every_route_of_the_docs_exists(app):
    addresses = {re.sub(r"<[^<>]+:", "<", rule.rule) for rule in app.url_map.iter_rules()}
    for address in re.findall(r"^\| `(?:GET|POST) ([^`]+)`", DOCS, flags=re.MULTILINE):
        assert address in addresses


@pytest.mark.parametrize("command", [[], ["scan"], ["verify"]], ids=str)
def test_every_option_of_the_command_line_is_in_the_docs(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    options = set(re.findall(r"--[a-z]+\b", capsys.readouterr().out))
    assert "--help" in options
    assert {option for option in options if not re.search(rf"{option}\b", DOCS)} == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_short_and_documented(script):
    source = (ROOT / "scripts" / script).read_text()
    usage = ast.get_docstring(ast.parse(source)) or ""
    assert len(source.splitlines()) >= 20
    assert len(source.splitlines()) - len(usage.splitlines()) <= 60
    assert f"python scripts/{script}" in usage
    assert f"python scripts/{script}" in DOCS


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
    assert (measured("metrics.json", "model", "sha256_h5"), measured("metrics.json", "model", "sha256_file")) == (
        model,
        exported,
    )
    for page in ("MODEL_CARD.md", "models/README.md"):
        text = (ROOT / page).read_text()
        assert model in text and exported in text


def test_reference_scores_belong_to_the_shipped_model_and_are_small():
    assert read_reference_scores(REFERENCE_SCORES_FILE).model_sha256 == file_sha256(ROOT / "model.h5")
    assert REFERENCE_SCORES_FILE.stat().st_size < 250_000


def measured(name, *keys):
    """Return the number at `keys` of a metrics file."""
    value = json.loads((ROOT / "visualizations" / name).read_text())
    for key in keys:
        value = value[key]
    return value


def test_the_docs_quote_the_measured_auc():
    auc = measured("metrics.json", "overall", "auc")
    assert f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})" in (ROOT / "docs" / "figures.md").read_text()


def test_the_readme_quotes_the_figures_of_unseen_kinds():
    """They are the first figures of the README, and it has none of known collections."""
    unseen = "unseen_metrics.json"
    called_real = measured(unseen, "tiers", "stored", "called_real")
    auc, inconclusive = measured(unseen, "macro_family"), measured(unseen, "tiers", "stored", "inconclusive")
    for words in (
        f"{called_real['value']:.1%} of the deepfakes real "
        f"(95% interval {called_real['low']:.1%} to {called_real['high']:.1%})",
        f"{inconclusive['value']:.1%} of all pictures were inconclusive",
        f"AUC is {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})",
        f"{measured(unseen, 'n'):,} pictures",
    ):
        assert words in README
    assert f"{measured('metrics.json', 'overall', 'auc', 'value'):.3f}" not in README


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_the_sentences_of_the_docs_are_short(page):
    text = (ROOT / page).read_text()
    assert hard_sentences(markdown_texts(text)) == [] and not re.search(r"[\d)] %", text)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_the_docs_build_without_warnings_and_fetch_nothing(tmp_path):
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    for page in tmp_path.glob("*.html"):
        assert not re.search(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//', page.read_text()), page.name
    assert 'id="detector.pipeline.Detector.detect"' in (tmp_path / "api.html").read_text()
