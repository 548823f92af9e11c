"""Images in folders, and names that people write down."""

import errno
import os
import unicodedata
from pathlib import Path

import pytest

from kacl_gpu.errors import InputError
from kacl_gpu.io.folders import find_files, find_images, find_masks, match_names


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_every_file_of_a_folder_is_an_image_or_named(tmp_path):
    touch(tmp_path, "a.png", "b.TIF", "c.bmp", "d.webp", "e.gif", "f.JPEG", "notes.txt", "g.nii.gz", ".hidden.png")
    touch(tmp_path, "Thumbs.db", "sub/h.png")
    (tmp_path / "scan").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "1.2.840.1").write_bytes(b"\x89PNG\r\n\x1a\n")
    files = find_files([tmp_path])
    assert list(files.images) == ["1.2.840.1", "a.png", "b.TIF", "c.bmp", "d.webp", "e.gif", "f.JPEG", "scan"]
    assert list(files.others) == ["g.nii.gz", "notes.txt"]
    assert files.subfolders == [tmp_path / "sub"]


def test_subfolders_on_request(tmp_path):
    touch(tmp_path, "a.png", "p1/a.png", "p1/deep/b.png", "p1/deep/x.txt", "p2/.git/c.png", "p3/tables/y.csv")
    (tmp_path / "p1" / "loop").symlink_to(tmp_path)
    files = find_files([tmp_path], recursive=True)
    assert list(files.images) == ["a.png", "p1/a.png", "p1/deep/b.png"]
    assert list(files.others) == ["p1/deep/x.txt"]  # a folder without images holds a data set's other files
    assert files.subfolders == []


@pytest.mark.parametrize("place", ["", "images", "images_001", "images_012/images", "images-224/images-224"])
def test_layouts_of_nih(tmp_path, place):
    touch(tmp_path / place, "00000001_000.png")
    touch(tmp_path, "Data_Entry_2017.csv") if place else None
    assert find_images(tmp_path) == {"00000001_000.png": tmp_path / place / "00000001_000.png"}
    assert find_files([tmp_path]).others == {}


def test_two_images_of_one_name_in_the_layout_of_nih(tmp_path):
    touch(tmp_path, "images_001/a.png", "images_002/a.png")
    with pytest.raises(InputError, match=r"two images of one name: .*images_001.* and .*images_002"):
        find_files([tmp_path])


def test_several_inputs_and_patterns(tmp_path, monkeypatch):
    touch(tmp_path, "one/a.png", "one/b.png", "two/b.png", "two/c.png", "two/note.txt", "three[1].png", "three1.png")
    monkeypatch.chdir(tmp_path)
    assert list(find_files(["one", "two"]).images) == ["a.png", "c.png", "one/b.png", "two/b.png"]
    assert list(find_files(["one/*.png"]).images) == ["a.png", "b.png"]
    assert list(find_files(["*/*.png"]).images) == ["a.png", "c.png", "one/b.png", "two/b.png"]
    assert list(find_files(["**/c.png"]).images) == ["c.png"]
    assert list(find_files(["one", "one/a.png", tmp_path / "one"]).images) == ["a.png", "b.png"]
    assert list(find_files(["three[1].png"]).images) == ["three[1].png"]  # a file of that name is no pattern
    with pytest.raises(InputError, match=r"nothing matches the pattern \*\.tif"):
        find_files(["one", "*.tif"])
    with pytest.raises(InputError, match="no image given"):
        find_files([])
    with pytest.raises(InputError, match="no such file or folder: four"):
        find_files(["one", "four"])


def test_a_folder_without_images_says_what_it_has(tmp_path):
    touch(tmp_path, "notes.txt", "sub/a.png")
    with pytest.raises(InputError) as error:
        find_files([tmp_path])
    for words in ("no image", str(tmp_path), "notes.txt", "sub", "--recursive"):
        assert words in str(error.value)
    with pytest.raises(InputError, match="no label map"):
        find_masks(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_masks(tmp_path / "nowhere")


def test_excluded_files_are_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "features.csv", "masks/a.png")
    monkeypatch.chdir(tmp_path)
    out, masks = tmp_path / "masks" / ".." / "features.csv", tmp_path / "masks"
    files = find_files(["."], recursive=True, exclude=[out, masks])
    assert list(files.images) == ["a.png"]
    assert files.others == {}
    touch(tmp_path, ".hidden.png")
    assert list(find_files(["*"], exclude=[out, masks]).images) == ["a.png"]
    with pytest.raises(InputError, match=r"nothing matches the pattern \*\.csv"):
        find_files(["*.csv"], exclude=[out, masks])


@pytest.mark.parametrize("recursive", [False, True])
def test_links_that_lead_nowhere_and_folders_that_cannot_be_read(tmp_path, monkeypatch, recursive):
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")  # which nobody writes: to read it would never end
    assert list(find_files([tmp_path], recursive=recursive).images) == ["a.png", "b.png"]

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"cannot read the folder .*: Permission denied"):
        find_files([tmp_path], recursive=recursive)


COMPOSED = unicodedata.normalize("NFC", "Müller é.png")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)

MATCHES = {
    "as it is": ("a.png", ["a.png", "b.png"], "a.png"),
    "folder": ("images/a.png", ["a.png", "b.png"], "a.png"),
    "absolute path": ("/data/nih/images_001/a.png", ["a.png"], "a.png"),
    "windows": (r"D:\data\images\a.png", ["a.png"], "a.png"),
    "dot": ("./a.png", ["a.png"], "a.png"),
    "no suffix": ("a", ["a.png"], "a.png"),
    "another suffix": ("a.png", ["a.jpg"], "a.jpg"),
    "another case": ("A.PNG", ["a.png"], "a.png"),
    "another case and suffix": ("images/A.PNG", ["a.jpg"], "a.jpg"),
    "file without suffix": ("a.dcm", ["a"], "a"),
    "double suffix": ("a.nii.gz", ["a.png"], "a.png"),
    "suffix on suffix": ("a.dcm", ["a.dcm.png"], "a.dcm.png"),
    "uid": ("1.2.840.1", ["1.2.840.1", "1.2.840.2", "1.2.840"], "1.2.840.1"),
    "uid with suffix": ("1.2.840.1", ["1.2.840.1.dcm", "1.2.840.2.dcm"], "1.2.840.1.dcm"),
    "dots": ("scan.v2.final", ["scan.v2.final.png", "scan.v2.png", "scan.png"], "scan.v2.final.png"),
    "spaces": ("my scan 1.png", ["my scan 1.png", "my.png"], "my scan 1.png"),
    "unicode": (COMPOSED, [DECOMPOSED], DECOMPOSED),
    "unicode the other way": (DECOMPOSED, [COMPOSED], COMPOSED),
    "exact before another suffix": ("a.png", ["a.jpg", "a.png"], "a.png"),
    "exact before another case": ("a.png", ["A.png", "a.png"], "a.png"),
    "folder that the name tells": ("p2/a.png", ["p1/a.png", "p2/a.png"], "p2/a.png"),
    "folder in a path": ("/data/p2/a.png", ["p1/a.png", "p2/a.png", "a.png"], "p2/a.png"),
    "folder that the name lacks": ("b.png", ["p1/a.png", "p2/b.png"], "p2/b.png"),
    "whole path": ("a.png", ["a.png", "p1/a.png"], "a.png"),
    "hidden suffix alone": (".png", [".png"], ".png"),
}


@pytest.mark.parametrize("case", MATCHES)
def test_names_are_matched(case):
    name, files, expected = MATCHES[case]
    assert match_names([name], files) == ({name: expected}, {})


NO_MATCHES = {
    "another uid": ("1.2.826.0.2", ["1.2.826.0.1"], "missing: there are 1.2.826.0.1"),
    "uid cut": ("1.2.826.0", ["1.2.826.0.1"], "missing"),
    "unknown suffix": ("a.v1", ["a.v2"], "missing"),
    "longer": ("a_mask.png", ["a.png"], "missing"),
    "shorter": ("a.png", ["a_mask.png", "ba.png"], "missing"),
    "another folder": ("p3/a.png", ["p1/a.png"], "missing"),
    "another folder of two": ("p3/a.png", ["a.png", "p1/a.png"], "missing"),
    "two suffixes": ("a.bmp", ["a.jpg", "a.png"], "ambiguous: it could be a.jpg, a.png"),
    "two folders": ("a.png", ["p1/a.png", "p2/a.png"], "ambiguous: it could be p1/a.png, p2/a.png"),
    "two cases": ("a.png", ["A.png", "a.PNG"], "ambiguous"),
    "empty": ("", ["a.png"], "missing: the name is empty"),
    "only a folder": ("/", ["a.png"], "missing"),
    "no files": ("a.png", [], "missing"),
}


@pytest.mark.parametrize("case", NO_MATCHES)
def test_what_is_not_clear_is_not_matched(case):
    name, files, words = NO_MATCHES[case]
    matches, problems = match_names([name], files)
    assert matches == {}
    assert problems[name].startswith(words)


@pytest.mark.parametrize(
    ("names", "files", "expected"),
    [
        (["p1/a.png", "p2/a.png"], ["a.png"], []),  # images of two patients
        (["a.png", "a.jpg"], ["a.png"], ["a.png"]),
        (["a.dcm", "a.jpg"], ["a.png"], []),
        (["a.png", "A.png"], ["a.png"], ["a.png"]),
        (["a.png", "images/a.png", "/data/images/a.png"], ["a.png"], ["a.png", "images/a.png", "/data/images/a.png"]),
        (["1.2.1", "1.2.2"], ["1.2.1.png"], ["1.2.1"]),
    ],
)
def test_a_file_is_not_given_to_two_names_that_differ(names, files, expected):
    matches, problems = match_names(names, files)
    assert list(matches) == expected
    assert set(problems) == set(names) - set(expected)


def test_problems_name_what_is_there():
    problem = match_names(["00000001_000"], [f"0000000{k}_001.png" for k in range(1, 8)])[1]["00000001_000"]
    assert "00000001_001.png" in problem
    assert "7 in all" in problem


def test_many_names_take_no_time():
    files = [f"p{k % 100}/{k:06d}.png" for k in range(50_000)]
    matches, problems = match_names([f"{k:06d}" for k in range(50_000)], files)
    assert len(matches) == 50_000
    assert not problems
