"""The journal of a run that can be resumed, and the lock on its output."""

import json
import math
import os
import subprocess
import sys
import time

import pytest

from kacl_gpu.errors import InputError, OutputError
from kacl_gpu.io.journal import Journal, lock
from tests.io.files import full_disk

RUN = {"size": 8, "files": "sha256 0123", "settings": {"width": 25.0, "distances": (1, 2)}}


def parse(line):
    return line["number"], float(line["value"])


def open_journal(path, run=RUN, *, resume=True):
    return Journal(path, run, parse, resume=resume)


@pytest.fixture
def path(tmp_path):
    """Return a journal with the records of three numbers."""
    path = tmp_path / "out.csv.partial"
    journal = open_journal(path, resume=False)
    journal.add([{"number": 1, "value": 0.1}, {"number": 2, "value": math.pi}])
    journal.add([{"number": 3, "value": math.inf}])
    journal.close()
    return path


def numbers(journal):
    return [number for number, _ in journal.records()]


def test_records_come_back_to_the_bit_and_go_on(path):
    journal = open_journal(path)
    assert list(journal.records()) == [(1, 0.1), (2, math.pi), (3, math.inf)]
    journal.add([{"number": 4, "value": 4}])
    assert numbers(journal) == [1, 2, 3, 4]
    journal.remove()
    assert not path.exists()


def test_without_resume_it_begins_anew(path):
    journal = open_journal(path, resume=False)
    assert numbers(journal) == []
    journal.close()
    assert path.read_bytes().count(b"\n") == 1


def test_nothing_is_said_of_a_sound_journal(path, capsys):
    open_journal(path).close()
    assert capsys.readouterr().err == ""


BAD_LINES = {
    "words": b"hello\n",
    "no object": b"[1, 2]\n",
    "other keys": b'{"region": 3}\n',
    "no number": b'{"number": 9, "value": "many"}\n',
    "null": b'{"number": 9, "value": null}\n',
    "bytes": b"\xff\xfe\x00\n",
    "zeros": b"\0" * 4096 + b"\n",
    "deep": b"[" * 100_000 + b"\n",
    "cut, then more": b'{"number": 9, "val\n',
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_foreign_line_is_passed_over_with_a_word(path, capsys, kind):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], BAD_LINES[kind], *lines[2:]]))
    journal = open_journal(path)
    assert numbers(journal) == [1, 2, 3]
    error_text = capsys.readouterr().err
    assert len(error_text.splitlines()) == 1
    for words in (str(path), "1 of its lines", "line 3"):
        assert words in error_text
    journal.close()


@pytest.mark.parametrize("length", [1, 2, 10, 25])
def test_what_follows_a_cut_line_is_kept(path, length):
    path.write_bytes(path.read_bytes()[:-length])
    journal = open_journal(path)
    values = [1, 2, 3] if length == 1 else [1, 2]  # only the end of the line is missing
    assert numbers(journal) == values
    journal.add([{"number": 4, "value": 4}])
    assert numbers(journal) == [*values, 4]
    journal.close()
    journal = open_journal(path)
    assert numbers(journal) == [*values, 4]
    journal.close()


@pytest.mark.parametrize("text", [b"image,x1\na.png,3\n", b'{"size": 8, "fi', b"\0" * 100, b"[]\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, text):
    path = tmp_path / "out.partial"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"does not begin with the description of a run.* leave out --resume"):
        open_journal(path)
    assert path.read_bytes() == text


def test_another_run_is_refused_with_what_differs(path):
    content = path.read_bytes()
    run = {**RUN, "size": 9, "files": "sha256 4567", "settings": {"width": 25.0, "distances": (1, 3)}}
    with pytest.raises(InputError) as error:
        open_journal(path, run)
    for words in ("size was 8, is 9", "the files have changed", "distances was [1, 2], is [1, 3]"):
        assert words in str(error.value)
    assert "width" not in str(error.value)
    assert path.read_bytes() == content


def test_what_a_full_disk_refuses_leaves_no_part_of_a_line(path):
    journal = open_journal(path)
    content = path.read_bytes()
    error = pytest.raises(OutputError, match=f"cannot write {path}: File too large")
    with full_disk(len(content) + 10), error:
        journal.add([{"number": 4, "value": 4}])
    assert path.read_bytes() == content
    with full_disk(len(content) + 1000):
        journal.add([{"number": 5, "value": 5}])
    assert numbers(journal) == [1, 2, 3, 5]
    journal.close()


def test_a_disk_too_full_for_the_description_leaves_no_file(tmp_path):
    with full_disk(10), pytest.raises(OutputError, match="File too large"):
        open_journal(tmp_path / "out.partial")
    assert list(tmp_path.iterdir()) == []


def test_one_run_at_a_time_writes_an_output(tmp_path):
    out = tmp_path / "out.csv"
    busy = pytest.raises(InputError, match=f"another run is writing {out}")
    with lock(out), lock(tmp_path / "other.csv"), busy, lock(out):
        pass
    with lock(out):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such kill")
def test_the_folder_of_the_process_is_an_output_too(tmp_path, monkeypatch):
    out = tmp_path / "run"
    out.mkdir()
    monkeypatch.chdir(out)
    with lock(out.relative_to(out)):
        with pytest.raises(InputError, match="another run is writing"), lock(out):
            pass
        assert (tmp_path / "run.lock").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    out = tmp_path / "out.csv"
    script = f"""if True:
        import pathlib, time
        from kacl_gpu.io.journal import lock
        with lock(pathlib.Path({str(out)!r})):
            print("held", flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another run"), lock(out):
        pass
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while True:
        try:
            with lock(out):
                break
        except InputError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"), lock(tmp_path / "nowhere" / "out.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_lines_of_json(path):
    first, *records = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == json.loads(json.dumps(RUN))
    assert [line["number"] for line in records] == [1, 2, 3]
