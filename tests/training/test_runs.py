import json
from dataclasses import asdict, dataclass

import pytest

from training.runs import RunFolder, commit, open_run, replace_file, settings_digest, settings_text


@dataclass(frozen=True)
class Settings:
    size: int = 3
    names: tuple[str, ...] = ("a",)


def test_a_run_keeps_its_settings_and_notes_each_start(tmp_path):
    for _ in range(2):
        open_run(tmp_path / "run", Settings())
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == {"size": 3, "names": ["a"]}
    starts = (tmp_path / "run" / "starts.txt").read_text().splitlines()
    assert len(starts) == 2 and all(f"commit {commit() or 'unknown'}" in line for line in starts)


def test_an_earlier_run_folder_is_recognized(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(asdict(Settings()), indent=2))
    open_run(tmp_path, Settings())
    with pytest.raises(SystemExit, match="holds a run with other settings; give another --run"):
        open_run(tmp_path, Settings(size=4))


def test_a_setting_that_is_none_leaves_the_text_of_earlier_runs():
    @dataclass(frozen=True)
    class NewSettings(Settings):
        fold: int | None = None

    assert settings_text(NewSettings(), indent=2) == json.dumps(asdict(Settings()), indent=2)
    assert settings_digest(NewSettings()) == settings_digest(Settings()) != settings_digest(NewSettings(fold=0))


def test_other_settings_name_another_folder():
    assert settings_digest(Settings()) == settings_digest(Settings()) != settings_digest(Settings(4))
    assert len(settings_digest(Settings())) == 8


def test_the_curves_come_back_as_written(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_history() == []
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    folder.write_history(rows)
    assert folder.read_history() == rows and [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    def write(part):
        part.write_text("half")
        raise KeyboardInterrupt

    path = tmp_path / "a.txt"
    path.write_text("whole")
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, write)
    assert path.read_text() == "whole"
