"""The requirements files are complete locks, the wheel works on its own, and `tests.no_skips` fails on a skip."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions

import pytest
from imports import used_names
from project import ROOT

import detector

PIN = re.compile(r"([a-z0-9.-]+)==([^ ;]+)(?: ; (\S.*?))?(?:\s+#.*)?")
TRAINING_ONLY = {"tensorflow", "keras", "h5py", "onnx", "pyworld"}  # `detector` imports these inside functions only
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
SCALE = pins("requirements-serve.txt", "requirements-scale.txt")  # repeats some of requirements.txt
ALL = pins("requirements-serve.txt", "requirements.txt", "requirements-dev.txt") | SCALE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "lock"),
    [
        ("*.py", SERVE),
        ("webapp/**/*.py", SCALE),
        ("detector/**/*.py", SCALE),
        ("training/**/*.py", TRAIN),
        ("scripts/*.py", TRAIN),
        ("deploy/*.py", ALL),
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
            if top in TRAINING_ONLY and pattern == "detector/**/*.py" and in_function:
                continue
            if not {carrier.lower().replace("_", "-") for carrier in carriers.get(top, [])} & set(lock):
                missing.add(f"{path.name}: {top}")
    assert missing == set()


def test_the_lock_of_many_machines_repeats_pins_in_the_same_version():
    assert not {name for name in SCALE.keys() & TRAIN.keys() if SCALE[name] != TRAIN[name]}


@pytest.mark.parametrize("package", sorted({"tensorflow", "keras", "opencv-python", "imageio-ffmpeg"}))
def test_the_server_does_not_need(package):
    assert package not in SERVE


def test_every_declared_dependency_is_pinned():
    for declared, lock in [
        (PROJECT["project"]["dependencies"], SERVE),
        (PROJECT["dependency-groups"]["build"], SERVE),
        (PROJECT["build-system"]["requires"], SERVE),
        (PROJECT["project"]["optional-dependencies"]["train"], TRAIN),
        (PROJECT["project"]["optional-dependencies"]["scale"], SCALE),
        (PROJECT["dependency-groups"]["dev"], ALL),
    ]:
        assert {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in declared} <= set(lock)


def test_package_and_project_have_the_same_version():
    assert PROJECT["project"]["version"] == detector.__version__


def test_every_package_of_the_checkout_is_in_the_wheel():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == packages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with the pinned backend and without network access."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def run_installed(wheel, tmp_path_factory):
    """Install the wheel into an empty folder; return a function that runs Python there, outside the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )

    location = run("-c", "import detector; print(detector.__file__)").stdout
    assert location.startswith(str(folder)), location
    return run


@pytest.mark.slow
def test_the_wheel_carries_its_data_files(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "detector/weights/face.onnx",
        "detector/weights/face.reference_scores.json",
        "detector/weights/voice.onnx",
        "detector/weights/voice.reference_scores.json",
        "detector/weights/clip.LICENSE.txt",
        "detector/weights/speech_encoder.LICENSE.txt",
        "detector/reports/report.html",
        "webapp/migrations/alembic.ini",
        "webapp/translations/de/LC_MESSAGES/messages.mo",
        "webapp/sample_files/nasa-portrait-self-blend.png",
        "webapp/sample_files/formula-voice.flac",
    } <= names
    assert {name.split("/")[0] for name in names} <= {
        "detector",
        "training",
        "webapp",
        f"deepfake_detector-{detector.__version__}.dist-info",
    }


@pytest.mark.slow
def test_the_installed_wheel_reports_its_version(run_installed):
    run = run_installed("-m", "detector", "--version")
    assert detector.__version__ in run.stdout, run.stderr


@pytest.mark.slow
def test_the_installed_wheel_scans_a_picture(run_installed, face_jpeg, real_detector, tmp_path):
    picture = tmp_path / "face.jpg"
    picture.write_bytes(face_jpeg)
    run = run_installed("-m", "detector", "scan", "--quiet", "--json", "-", str(picture))
    assert run.returncode == 0, run.stderr
    record = json.loads(run.stdout)
    assert record["verdict"] == real_detector.detect(face_jpeg).verdict
    assert record["error_rates"]  # the reference scores were found, too


@pytest.mark.slow
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
