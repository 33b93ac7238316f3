"""Which package imports which, read from the source with `ast`, and what a server never loads."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from imports import used_names
from project import ROOT

FLOORS = [  # lowest first; a wing of `detector` imports from lower floors and from itself, never upward
    {"results", "metrics", "stages", "text", "version"},
    {"models", "media"},
    {"verdicts"},
    {"pictures", "voices"},
    {"videos"},  # scores frames as pictures
    {"pipeline"},
    {"evidence", "provenance"},
    {"record"},
    {"remote", "reports"},
    {"archive"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}
# Wings that the web application may use: the names in their `__all__`, or all names of a single module.
PUBLIC_WINGS = {
    *("archive", "evidence", "media", "models", "provenance", "record", "reports", "results", "stages", "text")
}
KERAS = {"keras", "tensorflow"}
TRAINING = {"scripts", "training"}
SCRIPTS = {path.stem for path in (ROOT / "scripts").glob("*.py")}
FORBIDDEN = {  # by layer: packages that it never imports
    "app.py": {"cv2", "detector"} | KERAS | TRAINING,
    "webapp": {"app", "cv2"} | KERAS | TRAINING,
    "detector": {"app", "webapp", "flask", "flask_sqlalchemy", "sqlalchemy", "matplotlib"} | TRAINING,
    "training": {"app", "webapp", "scripts"},
    "scripts": {"app", "webapp", "scripts"} | SCRIPTS,
}
OPERATOR_SCRIPTS = {"export_feedback.py"}  # they read the server's own data, so they may use the web application
SOURCES = [
    path.relative_to(ROOT)
    for pattern in ("app.py", "webapp/**/*.py", "detector/**/*.py", "training/**/*.py", "scripts/*.py")
    for path in sorted(ROOT.glob(pattern))
]


def wing_of(parts):
    """Return the wing that a path inside `detector` belongs to: a folder, or a module beside the folders."""
    return parts[1] if len(parts) > 2 else Path(parts[-1]).stem


def public_names(wing):
    """Return the names that a wing offers to the web application; None: a single module, all of its names."""
    package = ROOT / "detector" / wing / "__init__.py"
    if not package.is_file():
        return None
    for node in ast.parse(package.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def webapp_may_use(names):
    """Return whether the web application may use a dotted name below `detector`."""
    if not names or names[0] not in FLOOR_OF:
        return True  # a public name of the package itself
    offered = public_names(names[0])
    return names[0] in PUBLIC_WINGS and (len(names) == 1 or offered is None or names[1] in offered)


def detector_may_use(name, path, *, in_function):
    """Return whether a file of `detector` may use a dotted name.

    Args:
        name: as imported.
        path: of the file, relative to the project.
        in_function: whether the name is imported inside a function.
    """
    wing = wing_of(path.parts)
    top, *rest = name.split(".")
    if top == "detector" and wing != "__init__":
        imported = rest[0] if rest else ""
        return imported == wing or FLOOR_OF.get(imported, FLOOR_OF["pipeline"]) < FLOOR_OF[wing]
    if top in KERAS:
        return wing in {"models", "evidence"} and in_function
    # The command line reads the broker's address, which may hold a password.
    return wing == "cli" or name not in {"os.environ", "os.environb", "os.getenv"}


def offences(path, source):
    """Return the names that the file at `path` may not use."""
    found = []
    layer = path.parts[0]
    for name, in_function in used_names(ast.parse(source), path.parts[:-1]):
        top, *rest = name.split(".")
        allowed = top not in FORBIDDEN[layer] and not name.startswith("sys.path")
        if layer == "webapp" and top == "detector":
            allowed = webapp_may_use(rest)
        if layer == "scripts" and path.name in OPERATOR_SCRIPTS:
            allowed = allowed or top == "webapp"
        if layer == "detector":
            allowed = allowed and detector_may_use(name, path, in_function=in_function)
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_file_imports_only_what_its_layer_may_use(path):
    assert offences(path, (ROOT / path).read_text()) == []


def test_every_wing_has_a_floor():
    wings = {wing_of(path.parts) for path in SOURCES if path.parts[0] == "detector"} - {"__init__"}
    assert wings <= set(FLOOR_OF)


def test_the_docs_show_the_floors():
    """The picture of the house lists the wings of `detector`, the highest floor first, a line a floor."""
    block = re.search(r"```text\n(cli\n.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.DOTALL)[1]
    assert [set(line.split()) for line in block.splitlines()] == FLOORS[-2::-1]  # without __main__


@pytest.mark.parametrize(
    ("path", "source", "allowed"),
    [
        ("app.py", "from webapp import create_app", True),
        ("app.py", "import detector", False),
        ("webapp/pages.py", "from detector import DetectorError", True),
        ("webapp/pages.py", "import detector; detector.media.sniff(b'')", True),
        ("webapp/pages.py", "from detector.media import sniff", True),
        ("webapp/pages.py", "from detector.text import format_bytes", True),
        ("webapp/pages.py", "import detector; detector.media.images.read_image(b'')", False),
        ("webapp/pages.py", "def view():\n    from detector.media.images import sniff", False),
        ("webapp/pages.py", "from detector.pictures.faces import FaceFinder", False),
        ("webapp/pages.py", "from detector.media import videos", False),
        ("webapp/pages.py", "from training.fitting import train", False),
        ("webapp/pages.py", "import cv2", False),
        ("detector/media/images.py", "from detector.results import UnreadableMedia", True),
        ("detector/media/videos.py", "from detector.media.images import sniff", True),
        ("detector/media/images.py", "from ..pictures import faces", False),
        ("detector/media/images.py", "from detector.pictures.faces import FaceFinder", False),
        ("detector/pictures/faces.py", "from detector import load_detector", False),
        ("detector/pictures/faces.py", "import training.networks", False),
        ("detector/cli.py", "from detector import load_detector", True),
        ("detector/media/images.py", "import os; os.replace('a', 'b')", True),
        ("detector/media/images.py", "from os import environ", False),
        ("detector/media/images.py", "import os\ndef f():\n    return os.getenv('HOME')", False),
        ("detector/models/engines.py", "class KerasEngine:\n    def __init__(self):\n        import keras", True),
        ("detector/models/engines.py", "import keras", False),
        ("detector/pipeline.py", "def f():\n    from tensorflow import function", False),
        ("detector/metrics.py", "import matplotlib.pyplot as plt", False),
        ("training/fitting.py", "from webapp import create_app", False),
        ("scripts/train.py", "from scripts.export import export", False),
        ("scripts/train.py", "from webapp import create_app", False),
        ("scripts/export_feedback.py", "from webapp import create_app", True),
        ("scripts/export_feedback.py", "from app import app", False),
        ("scripts/train.py", "from export import export", False),
        ("scripts/train.py", "import sys\nsys.path.insert(0, 'x')", False),
        ("scripts/train.py", "from training.fitting import train", True),
    ],
)
def test_forbidden_imports_are_found(path, source, allowed):
    assert (offences(Path(path), source) == []) is allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import app; from webapp.detector_thread import warm_up; warm_up(app.app)",
        "import detector, numpy; detector.load_detector().detect(numpy.zeros((64, 64, 3), numpy.uint8))",
        "import runpy\ntry: runpy.run_module('detector', run_name='__main__')\nexcept SystemExit: pass",
    ],
    ids=["server", "library", "command line"],
)
def test_starts_without_tensorflow(code, tmp_path):
    code += "\nimport sys; sys.exit(str(sorted({'keras', 'tensorflow'} & set(sys.modules))))"
    environment = {**os.environ, "DEEPFAKE_INSTANCE_PATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stderr.splitlines()[-1:] == ["[]"], run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels of OpenCV can ask for libGL")
def test_opencv_imports_with_libgl_out_of_reach(tmp_path):
    (tmp_path / "libGL.so.1").write_text("shadows the system's and is no library")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", "import cv2"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_only_the_headless_opencv_is_installed():
    names = {distribution.name for distribution in distributions()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}
