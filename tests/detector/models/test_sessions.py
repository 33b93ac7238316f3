import subprocess
import sys

import pytest
from project import ROOT


def imported(code):
    """Return what a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
def test_openvino_comes_without_its_model_converter():
    code = "import sys, detector.models.sessions\nprint([name for name in sys.modules if 'openvino.tools' in name])"
    assert imported(code) == "[]"


@pytest.mark.slow
def test_the_model_converter_can_still_be_imported():
    code = (
        "import detector.models.sessions\nfrom openvino.tools.ovc import convert_model\nprint(convert_model.__name__)"
    )
    assert imported(code) == "convert_model"


@pytest.mark.slow
def test_an_openvino_that_is_already_imported_is_left_alone():
    code = "import openvino, detector.models.sessions as own\n"
    code += "print(own.openvino is openvino, openvino.convert_model.__name__)"
    assert imported(code) == "True convert_model"
