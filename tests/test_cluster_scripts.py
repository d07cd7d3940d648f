"""The scripts of docs/scale.md run, with substitutes for the programs of a cluster."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)

# srun runs its command once; the others write down how they were called. Like a program that was
# stopped, training fails unless the run has finished.
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n"$@"\n'
RECORD = '#!/bin/bash\necho "$(basename "$0") $* $MASTER_ADDR" >> calls\n'
PROGRAM = RECORD + "[ -f runs/large/result.json ] || exit 143\n"
SCONTROL = RECORD + 'if [ "$1" = show ]; then printf "alpha\\nbeta\\n"; fi\n'


def run_script(script: str, directory: Path, *, finished: bool) -> list[str]:
    """The calls of a script, in order."""
    for name, text in {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "torchrun": PROGRAM,
        "ptblm": PROGRAM,
    }.items():
        program = directory / name
        program.write_text(text)
        program.chmod(0o755)
    if finished:
        (directory / "runs" / "large").mkdir(parents=True)
        (directory / "runs" / "large" / "result.json").touch()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "4", "SLURM_JOB_NODELIST": "x"}
    subprocess.run(
        ["bash", "-eu", "-c", script],
        cwd=directory,
        env={**os.environ, **slurm, "PATH": f"{directory}:{os.environ['PATH']}"},
        check=True,
    )
    return (directory / "calls").read_text().splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_script_starts_ptblm(script: str, tmp_path: Path) -> None:
    calls = run_script(script, tmp_path, finished=True)
    (started,) = [call for call in calls if call.startswith(("torchrun", "ptblm"))]
    assert " train --config large" in started or " sweep run " in started
    if "alpha" in started:
        assert "alpha:29500" in started or started.endswith(" alpha")
    assert not any("requeue" in call for call in calls)


@pytest.mark.parametrize("script", [s for s in SCRIPTS if "requeue " in s.partition("srun")[2]])
def test_unfinished_run_is_requeued(script: str, tmp_path: Path) -> None:
    calls = run_script(script, tmp_path, finished=False)
    assert calls[-1].strip() == "scontrol requeue 7"


def test_kubernetes_job_starts_ptblm_with_torchrun() -> None:
    (text,) = re.findall(r"```yml\n(.*?)```", PAGE, re.DOTALL)
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"]
    assert command[0] == "torchrun"
    assert command[command.index("-m") :][:3] == ["-m", "ptblm", "train"]
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
