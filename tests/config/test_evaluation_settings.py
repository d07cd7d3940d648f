"""Settings of an evaluation: files, options, and one located message for each problem."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.config.evaluation import CacheSettings, EvaluationSettings
from ptblm.config.evaluation_loading import SettingsOptions, load_settings
from ptblm.errors import ConfigError

FILE = """\
temperature: 0.9
cache: {window: 100, theta: 0.5}
dynamic:
  learning_rate: 1e-4
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(FILE)
    return tmp_path / "s.yaml"


def test_no_options_are_the_static_evaluation() -> None:
    assert load_settings(SettingsOptions()) == EvaluationSettings()
    assert EvaluationSettings().is_static()


def test_file_is_read_with_defaults(path: Path) -> None:
    settings = load_settings(SettingsOptions(path))
    assert settings.temperature == 0.9
    assert settings.cache == CacheSettings(window=100, theta=0.5, weight=0.1)
    assert settings.dynamic is not None
    assert (settings.dynamic.learning_rate, settings.dynamic.segment_length) == (1e-4, 5)
    assert settings.monte_carlo is None


def test_options_replace_single_keys_of_the_file(path: Path) -> None:
    options = SettingsOptions(path, temperature=1.5, mc_samples=4, cache="weight=0.3, window=7")
    settings = load_settings(options)
    assert settings.temperature == 1.5
    assert settings.cache == CacheSettings(window=7, theta=0.5, weight=0.3)
    assert settings.monte_carlo is not None
    assert settings.monte_carlo.samples == 4
    assert settings.dynamic is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature: 0", "s.yaml:1:1: temperature: must be greater than 0, got 0"),
        ("temperatur: 1", "s.yaml:1:1: temperatur: unknown key, did you mean 'temperature'?"),
        ("cache: {x: 1}", "s.yaml:1:9: cache.x: unknown key; the keys here are window, theta"),
        (
            "monte_carlo: {samples: 10001}",
            "s.yaml:1:15: monte_carlo.samples: must be less than or equal to 10,000, got 10001",
        ),
        ("cache: 3", "s.yaml:1:1: cache: expected a section of keys (window, theta, weight)"),
        ("cache:\n  weight: 1", "s.yaml:2:3: cache.weight: must be less than 1, got 1"),
        ("dynamic: {rule: adam}", "s.yaml:1:11: dynamic.rule: expected 'rms' or 'sgd'"),
        ("dynamic: {epsilon: 0}", "dynamic.epsilon: must be greater than 0"),
        ("dynamic: {segment_length: 1.5}", "dynamic.segment_length: expected a whole number"),
        ("monte_carlo: {samples: -1}", "monte_carlo.samples: must be greater than or equal to 0"),
        ("weights: [0.5, 0.6]", "s.yaml:1:1: weights: expected weights from 0 to 1 whose sum is 1"),
        ("weights: [1.5, -0.5]", "weights: expected weights from 0 to 1"),
        ("weights: []", "weights: expected weights from 0 to 1"),
        ("tuned: {text: a}", "tuned.checkpoints: missing"),
        ("- 1", "s.yaml:1:1: expected keys (temperature, weights, monte_carlo, dynamic, cache"),
        ("temperature: [", "s.yaml:1:15: not valid YAML"),
        ("temperature: .nan", "temperature: expected a finite number"),
    ],
)
def test_problem_of_a_file_has_a_location(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_settings(SettingsOptions(path))
    assert message in error.value.what


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SettingsOptions(temperature=-1.0), "--temperature: temperature: must be greater than 0"),
        (SettingsOptions(mc_samples=-1), "--mc-samples: monte_carlo.samples: must be greater"),
        (SettingsOptions(cache="100"), "--cache 100: expected KEY=VALUE,... with the keys window"),
        (SettingsOptions(cache="=1"), "--cache =1: expected KEY=VALUE"),
        (SettingsOptions(cache="wieght=1"), "--cache wieght=1: cache.wieght: unknown key, did you"),
        (SettingsOptions(cache="theta=x"), "--cache theta=x: cache.theta: expected a number"),
        (SettingsOptions(dynamic="decay=[1"), "--dynamic decay=[1"),
        (SettingsOptions(dynamic="decay=-1"), "--dynamic decay=-1: dynamic.decay: must be greater"),
    ],
)
def test_problem_of_an_option_names_it(options: SettingsOptions, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_settings(options)
    assert message in error.value.what


def test_all_problems_are_reported_at_once(path: Path) -> None:
    path.write_text("temperature: 0\ncache: {x: 1}\n")
    with pytest.raises(ConfigError) as error:
        load_settings(SettingsOptions(path, dynamic="decay"))
    assert len(error.value.problems) == 3


@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_file_gives_settings_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        assert load_settings(SettingsOptions(path)).temperature > 0


def test_large_file_is_not_read(path: Path) -> None:
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match="too large"):
        load_settings(SettingsOptions(path))
