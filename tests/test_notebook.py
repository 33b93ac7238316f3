"""notebooks/Model.ipynb is committed without outputs, runs from anywhere, and shows the project's own training."""

import base64
import io
import json
import re
import shutil
from itertools import takewhile
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from project import ROOT

from detector.media.degradations import TIERS
from detector.models.reference_scores import ReferenceScores
from detector.models.spec import file_sha256, read_spec
from training.networks import NETWORKS
from training.settings import trained_network

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / "notebooks" / "Model.ipynb"
USED = ("detector", "models", "training", "visualizations")
DRAWN = {"samples", "groups", "degrade", "making", "batch", "train", "calibrate", "detect", "metrics"}  # cells
HELD_OUT = 50  # pictures of a kind in the table of scores that the tests make up
PROBE = """
from detector.results import ERROR_CLASS_BY_VERDICT

facts = {
    "samples": str(SAMPLES),
    "separated": sorted({e.group for e in training_examples} & {e.group for e in calibration_examples + held_out}),
    "labels": labels.ravel().tolist(),
    "differences": {name: float(difference.mean()) for name, difference in differences.items()},
    "curve": account["curve"],
    "before": account["before"],
    "thresholds": [calibration.threshold_real, calibration.threshold_fake],
    "written": read_spec(model).calibration == calibration,
    "model": found.model_sha256,
    "rates": [rate.n for rate in found.error_rates if rate.kind in ERROR_CLASS_BY_VERDICT[found.verdict]],
}
print(json.dumps(facts))
"""


def copy_project(folder):
    """Copy what the notebook needs of the project, so that leftovers are seen, with a table of scores."""
    for name in USED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "model.h5", folder)
    for kind in ("real", "df"):
        (folder / "data" / "sample_data" / kind).mkdir(parents=True)
    ReferenceScores.from_scores(
        labels=np.repeat([0, 1], HELD_OUT),
        probabilities=np.tile(np.linspace(0, 1, HELD_OUT), 2),
        face_px=np.full(2 * HELD_OUT, 200),
        groups=np.arange(2 * HELD_OUT),
        split="val",
        model_sha256=file_sha256(ROOT / "model.h5"),
    ).write(folder / "models" / "face.reference_scores.json")
    return folder


def contents(folder):
    return {path.relative_to(folder): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


def execute(notebook, project, folder):
    """Run a notebook on a copy of the project, from a folder of its own, with neither GPU nor internet."""
    places = {name: folder / name for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "elsewhere")}
    for place in places.values():
        place.mkdir()
    here = places.pop("elsewhere")
    nowhere = "http://127.0.0.1:9"
    environment = places | {"PYTHONPATH": project, "PYTHONDONTWRITEBYTECODE": 1, "CUDA_VISIBLE_DEVICES": ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"http_proxy": nowhere, "https_proxy": nowhere}).items():
            patch.setenv(name, str(value))
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs):
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The executed notebook: the outputs by cell, the facts of the probe, the project before and after."""
    folder = tmp_path_factory.mktemp("story")
    project = copy_project(folder / "project")
    before = contents(project)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE, id="probe"))
    outputs = execute(notebook, project, folder)
    return SimpleNamespace(
        outputs=outputs,
        facts=json.loads(printed(outputs["probe"])),
        before=before,
        after=contents(project),
    )


def test_it_is_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}  # no Python version
    for cell in notebook.cells:
        assert cell.metadata == {}
        assert cell.cell_type == "markdown" or (cell.outputs, cell.execution_count) == ([], None), cell.id


def test_its_links_lead_somewhere(notebook):
    targets = re.findall(r"\]\((?!http)([^)#]+)", "".join(cell.source for cell in notebook.cells))
    assert targets and all((NOTEBOOK.parent / target).is_file() for target in targets)


def test_pictures_are_drawn(story):
    drawn = {
        name: [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        for name, outputs in story.outputs.items()
    }
    assert {name: len(pictures) for name, pictures in drawn.items() if pictures} == dict.fromkeys(DRAWN, 1)
    for name in DRAWN:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn[name][0]))).convert("L"))
        assert picture.std() > 10, name  # not an empty canvas


def test_the_training_it_shows_is_the_projects(story):
    facts, shipped = story.facts, read_spec(ROOT / "model.h5")
    assert facts["separated"] == []
    assert facts["labels"] == [0] * 8 + [1] * 8
    assert all(difference > 0.1 for difference in facts["differences"].values())
    assert [row["epoch"] for row in facts["curve"]] == [1, 2, 3]
    assert facts["before"] == (shipped.training if trained_network(shipped) in NETWORKS else None)
    low, high = facts["thresholds"]
    assert 0 <= low <= high <= 1 and facts["written"]
    words = printed(story.outputs["calibrate"])
    assert "P(fake) = sigmoid(" in words and all(f"  {tier}" in words for tier in TIERS)


def test_pictures_are_analysed_by_the_shipped_model(story):
    assert story.facts["model"] == file_sha256(ROOT / "model.h5")
    assert set(story.facts["rates"]) == {HELD_OUT}
    lines = printed(story.outputs["detect"]).splitlines()
    assert lines
    for line in lines:  # beside "real" how many fakes scored this low, beside the others how many reals this high
        assert f"of {HELD_OUT} {'fakes' if line.startswith('real ') else 'reals'}" in line


def test_the_figures_are_those_of_the_file(story):
    overall = json.loads((ROOT / "visualizations" / "metrics.json").read_text())["overall"]
    lines = {line.split()[0]: line for line in printed(story.outputs["metrics"]).splitlines()}
    assert {"auc", "false_alarms", "misses", "inconclusive"} <= set(lines)
    for name, line in lines.items():
        figure = overall[name]
        shown = [float(number) for number in re.findall(r"\d\.\d{3}", line)]
        assert shown == pytest.approx([figure[key] for key in ("value", "low", "high")], abs=5e-4)
        assert line.endswith(f"n {figure['n']:,}")


def test_the_project_is_left_as_it_was(story):
    assert story.before == story.after


def test_own_pictures_are_used_first(notebook, portrait, tmp_path):
    project = copy_project(tmp_path / "project")
    for kind, count in (("real", 4), ("df", 3)):
        for number in range(count):
            path = project / "data" / "sample_data" / kind / f"mine{number}.png"
            Image.fromarray(portrait[:240, 100 + number : 340 + (kind == "df")]).save(path)
    before = contents(project)
    notebook.cells = list(takewhile(lambda cell: cell.id != "split", notebook.cells))
    outputs = execute(notebook, project, tmp_path)
    assert "4 real and 3 fake pictures" in printed(outputs["samples"])
    assert "pictures to learn from" in printed(outputs["manifest"])
    assert contents(project) == before
