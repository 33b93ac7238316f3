"""The requirements files are complete locks, and a run that allows no skips does not let one through."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from imports import used_names
from project import ROOT

import detector

PIN = re.compile(r"([a-z0-9.-]+)==([^ ;]+)(?: ; (\S.*?))?(?:\s+#.*)?")
TRAINING = {"tensorflow", "keras", "h5py", "onnx", "pyworld"}  # inside functions, `detector` may import these


def pins(*names):
    """Return {package: version} of the named requirements files."""
    found = {}
    for name in names:
        for line in (ROOT / name).read_text().splitlines():
            if not line.startswith(("#", "-r ")):
                pin = PIN.fullmatch(line)
                assert pin, f"{name}: {line!r} is not pinned with =="
                assert pin[1] not in found, f"{name}: {pin[1]} is pinned twice"
                found[pin[1]] = pin[2]
    return found


SERVE = pins("requirements-serve.txt")
TRAIN = pins("requirements-serve.txt", "requirements.txt")
ALL = pins("requirements-serve.txt", "requirements.txt", "requirements-dev.txt")


@pytest.mark.parametrize(
    ("pattern", "lock"),
    [
        ("app.py", SERVE),
        ("webapp/**/*.py", SERVE),
        ("detector/**/*.py", SERVE),
        ("training/**/*.py", TRAIN),
        ("scripts/*.py", TRAIN),
        ("tests/**/*.py", ALL),
    ],
)
def test_every_import_is_in_the_lock(pattern, lock):
    carriers = packages_distributions()
    own = {path.stem for folder in (".", "scripts", "tests", "tests/support") for path in (ROOT / folder).iterdir()}
    missing = set()
    for path in ROOT.glob(pattern):
        for name, in_function in used_names(ast.parse(path.read_text()), path.relative_to(ROOT).parts[:-1]):
            top = name.split(".")[0]
            if top in own or top in sys.stdlib_module_names:
                continue
            if top in TRAINING and pattern == "detector/**/*.py" and in_function:
                continue
            if not {carrier.lower() for carrier in carriers.get(top, [])} & set(lock):
                missing.add(f"{path.name}: {top}")
    assert missing == set()


@pytest.mark.parametrize("package", sorted({"tensorflow", "keras", "opencv-python", "imageio-ffmpeg"}))
def test_the_server_does_without(package):
    assert package not in SERVE


def test_every_declared_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]["train"]
    for declared, lock in [
        (project["project"]["dependencies"], SERVE),
        (extras, TRAIN),
        (project["dependency-groups"]["dev"], ALL),
    ]:
        assert {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in declared} <= set(lock)


def test_package_and_project_have_the_same_version():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == detector.__version__


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        ("def test_a(): pass", True),
        ("import pytest\n@pytest.mark.xfail\ndef test_a(): assert False", True),
        ("import pytest\ndef test_a(): pytest.skip('no browser')", False),
        ("import pytest\npytest.skip('no browser', allow_module_level=True)", False),
    ],
)
def test_a_run_without_skips_fails_on_one(source, passes, tmp_path):
    (tmp_path / "test_a.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "-c", "/dev/null", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode == 0) is passes, run.stdout
    assert passes or "no browser" in run.stdout
