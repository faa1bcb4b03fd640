"""Command lines: SpeechBrain's options are settings, and "auto" is a precision."""

import pytest
import ruamel.yaml
from command import parse_arguments

from speechbrain_sumra.training.hparams import HparamsError


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("rank: 2\nprecision: auto\nmax_grad_norm: 5.0\n")
    return str(path)


def overrides_of(*argv):
    _, run_opts, overrides = parse_arguments(list(argv))
    return run_opts, ruamel.yaml.YAML(typ="safe").load(overrides)


def test_options_that_the_experiment_has_are_settings(experiment):
    argv = ["--rank=4", "--max_grad_norm=1", "--precision=bf16", "--device=cpu"]
    run_opts, overrides = overrides_of(experiment, *argv)
    assert overrides == {"rank": 4, "max_grad_norm": 1.0, "precision": "bf16"}
    assert run_opts.overridden_args == {"device"} and run_opts.device == "cpu"


@pytest.mark.parametrize("given", [["--precision=auto"], ["--precision", "auto"]])
def test_auto_is_a_precision(experiment, given):
    run_opts, overrides = overrides_of(experiment, *given, "--rank=4")
    assert overrides == {"rank": 4, "precision": "auto"}
    assert not run_opts.overridden_args


def test_what_yaml_would_cut_is_refused(experiment):
    for given in (["--rank=a #1"], ["--rank", "a #1"]):
        with pytest.raises(HparamsError, match="where a comment begins"):
            parse_arguments([experiment, *given])
    for quoted in ("'a #1'", '"a #1"'):
        _, overrides = overrides_of(experiment, f"--rank={quoted}")
        assert overrides == {"rank": "a #1"}
    assert overrides_of(experiment, "--rank=a#1")[1] == {"rank": "a#1"}


def test_any_other_word_is_refused(experiment, capsys):
    with pytest.raises(SystemExit):
        parse_arguments([experiment, "--precision=fast"])
    assert "'fast'" in capsys.readouterr().err
