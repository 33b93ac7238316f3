"""The arrows between the layers, read from the source with `ast`, and what stays out of a server's memory."""

import ast
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {  # a module of `detector` imports only modules of a lower level
    "results": 0,
    **dict.fromkeys(["media", "sessions", "calibration", "metrics", "wording", "jpeg_coding"], 1),
    **dict.fromkeys(["spec", "faces", "networks"], 2),  # a spec holds a calibration
    "held_out": 2,  # its intervals come from metrics
    **dict.fromkeys(["streams", "metadata", "credentials", "previews"], 2),  # they look into what media has told
    **dict.fromkeys(["engines", "synthesis", "scope", "audio", "provenance"], 3),
    **dict.fromkeys(["explanations", "stability", "tracks", "vocoders"], 4),
    **dict.fromkeys(["pictures", "voice", "examination"], 5),
    **dict.fromkeys(["video", "report"], 6),
    "pipeline": 7,
    "bundle": 8,  # it names the version, and checking one means judging again
    "cli": 9,
    "__main__": 10,
}
KERAS = {"keras", "tensorflow"}
SCRIPTS = {"scripts", *(path.stem for path in ROOT.glob("scripts/*.py"))}
FORBIDDEN = {
    "app.py": {"cv2", "detector"} | KERAS | SCRIPTS,
    "webapp": {"app", "cv2"} | KERAS | SCRIPTS,
    "detector": {"app", "webapp", "flask", "flask_sqlalchemy", "sqlalchemy", "matplotlib"} | SCRIPTS,
    "scripts": {"app", "webapp"},
}
SOURCES = [
    path.relative_to(ROOT)
    for pattern in ("app.py", "webapp/**/*.py", "detector/*.py", "scripts/*.py")
    for path in sorted(ROOT.glob(pattern))
]


def used_names(tree, package=()):
    """Yield (dotted name, inside a function) for every import and every `module.name` of an imported module."""
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname: alias.name for alias in aliases if alias.asname}
    modules |= {top: top for top in (alias.name.split(".")[0] for alias in aliases if not alias.asname)}
    pending = [(tree, False)]
    while pending:
        node, in_function = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", in_function) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{modules[node.value.id]}.{node.attr}", in_function
        in_function |= isinstance(node, ast.FunctionDef)
        pending += [(child, in_function) for child in ast.iter_child_nodes(node)]


def offences(path, source):
    """Return the names that the file at `path` may not use."""
    found = []
    layer, module = path.parts[0], path.stem
    for name, in_function in used_names(ast.parse(source), path.parts[:-1]):
        top, second = [*name.split("."), ""][:2]
        allowed = top not in FORBIDDEN[layer]
        if layer == "webapp" and top == "detector":
            allowed = second not in LEVELS
        if layer == "detector":
            if top == "detector" and module != "__init__":
                allowed = (
                    LEVELS.get(second, LEVELS["pipeline"]) < LEVELS[module]
                )  # the public names are for the command line
            if top in KERAS:
                allowed = module == "networks" or (module in {"engines", "explanations"} and in_function)
            if name in {"os.environ", "os.environb", "os.getenv"}:
                allowed = False
        if not allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_file_reaches_up_or_across(path):
    assert offences(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source", "allowed"),
    [
        ("app.py", "from webapp import create_app", True),
        ("app.py", "import detector", False),
        ("webapp/pages.py", "from detector import DetectorError", True),
        ("webapp/pages.py", "import detector; detector.sniff(b'')", True),
        ("webapp/pages.py", "import detector; detector.media.read_image(b'')", False),
        ("webapp/pages.py", "def view():\n    from detector.media import sniff", False),
        ("webapp/pages.py", "import detector.results; detector.media.read_image(b'')", False),
        ("webapp/pages.py", "from detector import media", False),
        ("webapp/pages.py", "import cv2", False),
        ("detector/media.py", "from detector.results import UnreadableMedia", True),
        ("detector/media.py", "from .faces import find_faces", False),
        ("detector/media.py", "from . import spec", False),
        ("detector/faces.py", "import detector.networks", False),
        ("detector/faces.py", "from detector import load_detector", False),
        ("detector/cli.py", "from detector import load_detector", True),
        ("detector/media.py", "import os; os.replace('a', 'b')", True),
        ("detector/media.py", "from os import environ", False),
        ("detector/media.py", "import os\ndef f():\n    return os.getenv('HOME')", False),
        ("detector/engines.py", "class KerasEngine:\n    def __init__(self):\n        import keras", True),
        ("detector/engines.py", "import keras", False),
        ("detector/pipeline.py", "def f():\n    from tensorflow import function", False),
        ("detector/metrics.py", "import matplotlib.pyplot as plt", False),
        ("scripts/train.py", "from webapp import create_app", False),
    ],
)
def test_a_forbidden_import_is_seen(path, source, allowed):
    assert (offences(Path(path), source) == []) is allowed


@pytest.mark.parametrize(
    "code",
    [
        "import app; from webapp.analyses import warm_up; warm_up(app.app)",
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
