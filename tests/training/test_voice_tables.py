import pytest

from training.voice_features import STORED_VOICE
from training.voice_manifest import FAMILY, GENERATOR
from training.voice_scoring import DEGRADED
from training.voice_tables import print_voice_tables

RATES = ("false_alarms", "fakes_found", "misses", "inconclusive")


def estimate(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 20}


def measured(start):
    """Return the metrics of one kind of fold in one degradation, each with a value of its own."""
    rates = {name: estimate(start + 0.02 * number) for number, name in enumerate(RATES)}
    units = {
        key: [{"name": f"{key} one", "n": 20, "n_speakers": 10, "auc": estimate(start + 0.2 + 0.01 * number)}]
        for number, key in enumerate(("generators", "pages", "kinds"))
    }
    counts = {"n_real": 21, "n_fake": 20, "n_speakers": 10, "n_generators": 1}
    areas = {"auc": estimate(start + 0.1), "auc_pages": estimate(start + 0.11), "auc_kinds": estimate(start + 0.12)}
    areas["auc_within_page"] = None
    return {**counts, **areas, **rates, "ece": estimate(0.05), "ece_perfect": 0.07, **units}


@pytest.fixture
def metrics():
    folds = {
        GENERATOR: {STORED_VOICE: measured(0.1), DEGRADED: measured(0.2)},
        FAMILY: {STORED_VOICE: measured(0.3), DEGRADED: measured(0.4)},
    }
    val = {"telephone": {"n_speakers": 3, "false_alarms": estimate(0.33), "inconclusive": estimate(0.44)}}
    return {"model": {"sha256_h5": "5" * 64}, "folds": folds, "val": val}


def test_the_tables_show_every_metric_in_its_column(metrics, capsys):
    print_voice_tables(metrics)
    out = capsys.readouterr().out
    assert f"model {'5' * 12}; 21 real and 20 fake recordings, 10 speakers, 1 generators" in out
    rates = "10.0 (9.0 to 11.0) | 12.0 (11.0 to 13.0) | 14.0 (13.0 to 15.0) | 16.0 (15.0 to 17.0)"
    areas = "0.200 (0.190 to 0.210) | 0.210 (0.200 to 0.220) | 0.220 (0.210 to 0.230) | -"
    assert f"| generator | stored | {areas} | {rates} | 0.050 (0.040 to 0.060) (0.070) |" in out
    assert out.count("| family | damaged | 0.500 ") == 1
    assert "| generators one | 20 | 10 | 0.300 (0.290 to 0.310) | 0.400 (0.390 to 0.410) |" in out
    assert "| generators one | 20 | 10 | 0.500 (0.490 to 0.510) | 0.600 (0.590 to 0.610) |" in out
    assert "| pages one | 20 | 10 | 0.310 (0.300 to 0.320) | 0.410 (0.400 to 0.420) |" in out
    assert "| kinds one | 20 | 10 | 0.320 (0.310 to 0.330) | 0.420 (0.410 to 0.430) |" in out
    assert "| telephone | 20 | 3 | 33.0 (32.0 to 34.0) | 44.0 (43.0 to 45.0) |" in out


def test_there_is_no_table_of_val_where_val_was_not_read(metrics, capsys):
    print_voice_tables({**metrics, "val": {}})
    assert "val, degradation" not in capsys.readouterr().out
