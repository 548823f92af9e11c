"""The command: help at once and with examples, one line and a status for every mistake, extras that are named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kacl_gpu.cli.main import COMMANDS, IO, TRAIN, main

ROOT = Path(__file__).parents[2]


def run_in(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m kacl_gpu`` in a folder outside the repository."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "
               "runpy.run_module('kacl_gpu', run_name='__main__')", *argv]  # fmt: skip
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import json, sys; from kacl_gpu.cli.main import main; assert main(['--help']) == 0; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "lightning", "numba", *IO, *TRAIN} & {*json.loads(finished.stderr)}
    assert all(f"\n  {name} " in finished.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning" if command == "fit" else "jsonargparse")
    assert main([*command.split(), "--help"]) == 0
    help_text, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert help_text.startswith("usage: kacl-gpu")
    lines = examples.rstrip("\n").splitlines()
    assert lines and all(line.startswith("  ") and "kacl" in line for line in lines)


def test_help_of_fit_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    assert main(["fit", "--help_all"]) == 0
    everything = capsys.readouterr().out
    assert "--trainer.limit_val_batches" in everything and "--trainer.profiler" in everything
    assert main(["fit", "--help"]) == 0
    help_text = capsys.readouterr().out
    assert help_text.count("\n") < 350 < everything.count("\n")
    assert "-->" not in help_text  # what fit sets itself, as the diseases of the model
    titles = (
        "run",
        "data",
        "data of your own",
        "network",
        "classification loss",
        "contrastive loss (BYOP)",
        "boxes",
        "schedule",
        "hardware",
    )
    assert [line[:-1] for line in help_text.splitlines() if line[:-1] in titles and line.endswith(":")] == list(titles)
    names = {word.strip("[],") for word in everything.split() if word.startswith(("--model.", "--data."))}
    assert len(names) > 25
    assert {name for name in names if f"{name} " not in help_text and f"{name}," not in help_text} <= {
        "--data.diseases+"
    }


@pytest.mark.parametrize(
    "argv, words",
    [
        ([], "required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'"),
        (["extract"], "required: IMAGES, --out"),
        (["extract", "x", "--out", "y.csv", "--workers", "two"], "--workers: expected int, got two"),
        (["extract", "x", "--out", "y.csv", "--wrokers", "2"], "unrecognized arguments: --wrokers 2"),
        (["extract", "/nowhere", "--out", "y.csv"], "/nowhere"),
        (["extract", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["fit", "--config", "nihh"], "no such file: nihh; shipped configurations: nih"),
        (["fit", "--data.size", "large"], "--data.size: expected int, got large"),
        (["fit", "--config", "nih"], "--data.root"),
        (["evaluate", "--split", "all"], "invalid choice: 'all'"),
        (["evaluate", "--checkpoint", "/nowhere", "--data", "x", "--out", "y"], "/nowhere"),
        (["ablate"], "required: --out"),
        (["ablate", "--out", "x", "--variants", "bsae"], "no such file of settings: bsae; shipped ones: nih"),
        (["prepare", "/nowhere", "--out", "y"], "no such folder: /nowhere"),
        (["phantom", "x"], "required: --images"),
        (["phantom", "x", "--images", "0"], "images must be at least 1, got 0"),
        (["demo", "--device", "tpu"], "tpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_status_2(
    argv: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and output.err.startswith("kacl-gpu") and output.out == ""
    assert words in output.err and "<class" not in output.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command, module, extras",
    [
        ("extract", "jsonargparse", "io"),
        ("extract", "pandas", "io"),
        ("fit", "lightning", "io,train"),
        ("fit", "torchvision", "io,train"),
        ("evaluate", "sklearn", "io,train"),
        ("demo", "matplotlib", "io,train"),
    ],
)
def test_a_missing_extra_is_named(command: str, module: str, extras: str, tmp_path: Path) -> None:
    arguments = {
        "extract": ["x", "--out", "y.csv"],
        "evaluate": ["--checkpoint", "x", "--data", "x", "--out", "y"],
    }.get(command, [])
    code = (
        f"import sys; sys.modules[{module!r}] = None; from kacl_gpu.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, command, *arguments],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 1, finished.stderr
    assert finished.stderr == f'kacl-gpu {command}: {module} is not installed: pip install "kacl-gpu[{extras}]"\n'


def test_other_missing_modules_are_not_blamed_on_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_memory(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'something'", name="something")

    monkeypatch.setattr("kacl_gpu.cli.main.importlib.import_module", raise_memory)
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


def test_a_system_error_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk(name: str) -> Any:
        raise OSError(28, "No space left on device", "out/table.csv")

    monkeypatch.setattr("kacl_gpu.cli.main.importlib.import_module", raise_disk)
    assert main(["phantom", "x", "--images", "1"]) == 1
    assert capsys.readouterr().err == "kacl-gpu phantom: error: No space left on device: out/table.csv\n"


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("kacl_gpu.cli.main.importlib.import_module", interrupted)
    assert main(["prepare"]) == 130
    assert capsys.readouterr().err == "kacl-gpu prepare: interrupted: the same command with --resume goes on\n"
    assert main(["evaluate"]) == 130
    assert capsys.readouterr().err == "kacl-gpu evaluate: interrupted\n"


def test_settings_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jsonargparse")
    (tmp_path / "settings.yaml").write_text(f"out: {tmp_path / 'phantoms'}\nimages: 2\nsize: 32\nworkers: 1\n")
    assert main(["phantom", "--config", str(tmp_path / "settings.yaml"), "--images", "3"]) == 0
    assert "3 images" in capsys.readouterr().out
    (tmp_path / "settings.yaml").write_text("imgaes: 2\n")
    assert main(["phantom", "x", "--config", str(tmp_path / "settings.yaml"), "--images", "3"]) == 2
    assert "imgaes" in capsys.readouterr().err


def test_variants_by_name_outside_the_repository(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    finished = run_in(
        tmp_path, "ablate", "--out", "x", "--config", "nih", "--data.root", "nowhere", "--model.weights=null"
    )
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == "kacl-gpu ablate: error: no such folder: nowhere"
