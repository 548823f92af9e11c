"""Find images and label maps in folders, and match the names that people write down with the files that there are."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from kacl_gpu.errors import InputError
from kacl_gpu.io.medical import is_dicom

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jp2", ".j2k", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif", ".pgm",
    ".pnm", ".avif", ".dcm", ".dicom", ".ima",
)  # fmt: skip
# of files that are not read here, but whose names may stand for an image that is
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
SIGNATURES = (
    b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8", b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)  # fmt: skip
LAYOUTS = ("images*", "images*/images*", "sample", "sample/images")  # of NIH ChestX-ray14 and its common copies
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")  # as hidden files, whose names begin with a dot


@dataclass
class ImageFiles:
    """Hold the files of one or more inputs, by name.

    Attributes:
        images: files that are images as far as name and first bytes tell, or that were given singly.
        others: visible files beside them that are none.
        subfolders: folders that were not looked into.

    Example:
        >>> list(ImageFiles({"a.png": Path("scans/a.png")}).images)
        ['a.png']
    """

    images: dict[str, Path] = field(default_factory=dict)
    others: dict[str, Path] = field(default_factory=dict)
    subfolders: list[Path] = field(default_factory=list)


def find_images(folder: Path) -> dict[str, Path]:
    """Return the images of one folder, or of the layouts of NIH ChestX-ray14, sorted by name: file name -> path.

    Raises:
        InputError: no such folder, no image in it, or two images of one name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "images_001").mkdir()
        >>> for name in ("b.png", "images_001/a.png"):
        ...     (folder / name).touch()
        >>> list(find_images(folder))
        ['a.png', 'b.png']
    """
    return find_files([folder]).images


def find_files(
    inputs: Sequence[str | Path], *, recursive: bool = False, exclude: Collection[Path] = (), kind: str = "image"
) -> ImageFiles:
    """Find the images of one or more folders, files and glob patterns.

    Looked at are a folder's own files and those of `LAYOUTS` in it, which is how NIH ChestX-ray14 and its copies come;
    an image's name is its file name. With `recursive`, all folders below are looked
    at, and a name is the path from the folder that was given, with ``/``. Hidden files are left out. Where two inputs
    have files of one name, those are named by the whole path, as it was given.

    Args:
        inputs: what to look at; a pattern (``*``, ``?``, ``[...]``, ``**``) is expanded unless a file has that name.
        recursive: look into all subfolders.
        exclude: files and folders to pass over.
        kind: word for the files in messages.

    Returns:
        The files, sorted by name.

    Raises:
        InputError: an input is missing or has no image, or two images of one folder have one name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "b").mkdir()
        >>> for name in ("a.png", "notes.txt", "b/a.png"):
        ...     (folder / name).touch()
        >>> files = find_files([folder], recursive=True)
        >>> list(files.images), list(files.others)
        (['a.png', 'b/a.png'], ['notes.txt'])
    """
    if not inputs:
        raise InputError(f"no {kind} given: name at least one folder, file or pattern")
    passed_over = {path.resolve() for path in exclude}
    by_input = [_find(path, recursive, passed_over, kind) for path in _expand(inputs, passed_over)]
    result = ImageFiles(subfolders=[folder for files in by_input for folder in files.subfolders])
    for target, parts in (
        (result.images, [files.images for files in by_input]),
        (result.others, [files.others for files in by_input]),
    ):
        paths: defaultdict[str, dict[Path, Path]] = defaultdict(dict)  # name -> the same file once -> as it was given
        for part in parts:
            for name, path in part.items():
                paths[name].setdefault(path.resolve(), path)
        names = {
            name if len(namesakes) == 1 else path.as_posix(): path
            for name, namesakes in paths.items()
            for path in namesakes.values()
        }
        target.update(sorted(names.items()))
    return result


def find_masks(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """Return the label maps of a folder, named as `find_files` names images.

    Raises:
        InputError: no such folder, or no label map in it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a.png").touch()
        >>> list(find_masks(folder))
        ['a.png']
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    return find_files([folder], recursive=recursive, kind="label map").images


def match_names(names: Iterable[str], files: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    r"""Match names that were written down with names of files, as far as that is unambiguous.

    A name may have a folder (also with ``\``) that the file's name lacks, or lack one that it has; may differ in case,
    in the form of its Unicode, and in its suffix, of which only those of images count, so that ``1.2.840.1`` stays
    whole. The closest match counts. Where it is not unique, or two names that differ would get one file, none is made.

    Returns:
        Name -> file's name; and name -> why it has none, beginning "missing" or "ambiguous".

    Example:
        >>> match_names(["images/a.PNG", r"C:\data\b.jpg", "c.png"], ["a.png", "b.png"])[0]
        {'images/a.PNG': 'a.png', 'C:\\data\\b.jpg': 'b.png'}
        >>> match_names(["c.png"], ["a.png", "b.png"])[1]
        {'c.png': 'missing: there are a.png, b.png'}
    """
    names = list(dict.fromkeys(names))
    # Comparing letter by letter takes about 0.1 ms per pair, hours for a table of 112,120 names
    similar = len(names) * len(files) <= 20_000
    parts = {file: _components(file) for file in files}
    indices: list[defaultdict[str, list[str]]] = []
    for key in _KEYS:
        index: defaultdict[str, list[str]] = defaultdict(list)
        for file, components in parts.items():
            index[key(components[-1])].append(file)
        indices.append(index)

    matches: dict[str, str] = {}
    problems: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for name in names:
        components_of_name = _components(name)
        for rank, (key, index) in enumerate(zip(_KEYS, indices, strict=True)):
            candidates = index.get(key(components_of_name[-1]), []) if components_of_name else []
            fitting = _fitting(components_of_name, {file: parts[file] for file in candidates}, key)
            if len(fitting) == 1:
                matches[name], ranks[name] = fitting[0], rank
            elif fitting:
                problems[name] = f"ambiguous: it could be {_first_few(fitting)}"
            if fitting:
                break
        else:
            problems[name] = _missing(name, files, similar)

    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for name, file in matches.items():
        by_file[file].append(name)
    for file, namesakes in by_file.items():
        best_rank = min(ranks[name] for name in namesakes)
        closest = [name for name in namesakes if ranks[name] == best_rank]
        longest = max((_components(name) for name in closest), key=len)
        agree = all(_is_tail(_components(name), longest, str) for name in closest)
        for name in namesakes:
            if ranks[name] > best_rank or not agree:
                rivals = [rival for rival in namesakes if rival != name]
                problems[name] = f"ambiguous: {file} could also belong to {_first_few(rivals)}"
                del matches[name]
    return matches, problems


def _expand(inputs: Sequence[str | Path], exclude: Collection[Path]) -> Iterator[Path]:
    """Return the inputs with patterns replaced by what they match, less what is excluded."""
    for text in inputs:
        path = Path(text)
        if path.exists() or not glob.has_magic(str(text)):
            yield path
        elif matches := [p for p in map(Path, sorted(glob.glob(str(text), recursive=True))) if _is_wanted(p, exclude)]:
            yield from matches
        else:
            raise InputError(f"nothing matches the pattern {text}")


def _find(path: Path, recursive: bool, exclude: Collection[Path], kind: str) -> ImageFiles:
    """Return the files of one folder or file."""
    if path.is_file():
        return ImageFiles({path.name: path})
    if not path.is_dir():
        raise InputError(f"no such file or folder: {path}")
    files = ImageFiles()
    for folder, contents, subfolders in _walk(path, recursive, exclude):
        images = [file for file in contents if _looks_like_image(file)]
        for file in contents:
            # files beside folders of images are a data set's tables; beside images they may be meant as images
            if images:
                target = files.images if file in images else files.others
                name = file.relative_to(path).as_posix() if recursive else file.name
                if target.setdefault(name, file) != file:
                    raise InputError(f"two {kind}s of one name: {target[name]} and {file}: keep one of the folders")
        if images or folder == path:
            files.subfolders += subfolders
    if not files.images:
        names = _first_few([file.name for _, contents, _ in _walk(path, recursive, exclude) for file in contents])
        places = "" if recursive else f" or its {', '.join(LAYOUTS)}"
        hint = f"; its subfolders ({_first_few([p.name for p in files.subfolders])}) are looked into with --recursive"
        raise InputError(
            f"no {kind} (PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM) in {path}{places}"
            f"{f'; there are {names}' if names else ''}{hint if files.subfolders else ''}"
        )
    return files


def _walk(path: Path, recursive: bool, exclude: Collection[Path]) -> Iterator[tuple[Path, list[Path], list[Path]]]:
    """Return each folder to look at, its files, and its subfolders that are not looked at, all sorted."""
    if recursive:
        visited: set[str] = set()  # so that a link to a folder above ends
        for folder, subfolders, names in os.walk(path, followlinks=True, onerror=_refuse):
            if (real := os.path.realpath(folder)) in visited:
                subfolders.clear()
                continue
            visited.add(real)
            subfolders[:] = sorted(name for name in subfolders if _is_wanted(Path(folder, name), exclude))
            files = [Path(folder, name) for name in sorted(names)]
            yield Path(folder), [file for file in files if _is_file(file) and _is_wanted(file, exclude)], []
        return
    layout = sorted({p for pattern in LAYOUTS for p in path.glob(pattern) if p.is_dir()})
    for place in (path, *(p for p in layout if _is_wanted(p, exclude))):
        try:
            contents = [file for file in sorted(place.iterdir()) if _is_wanted(file, exclude)]
        except OSError as error:
            _refuse(error)
        folders = [p for p in contents if p.is_dir() and p not in layout]
        yield place, [file for file in contents if _is_file(file)], folders


def _refuse(error: OSError) -> NoReturn:
    """Raise an InputError that names the folder."""
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _is_file(path: Path) -> bool:
    """Return True for a file and for a link that leads nowhere, which is an image that is missing; not for a pipe."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_wanted(path: Path, exclude: Collection[Path]) -> bool:
    is_hidden = path.name.startswith(".") or path.name.lower() in SYSTEM_FILES
    return not is_hidden and (not exclude or path.resolve() not in exclude)


def _looks_like_image(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return start.startswith(SIGNATURES) or webp or is_dicom(path)


def _components(name: str) -> tuple[str, ...]:
    r"""Return folders and file name, with Unicode composed; ``\`` parts them too."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    return tuple(part for part in text.split("/") if part not in ("", "."))


def _stem(name: str) -> str:
    """Return a file name without the suffixes of images, of which it may have several (``a.dcm.png``)."""
    lower_case = name.lower()
    for suffix in (*VOLUME_SUFFIXES, *SUFFIXES):
        if lower_case.endswith(suffix) and len(name) > len(suffix):
            return _stem(name[: -len(suffix)])
    return name


_KEYS: tuple[Callable[[str], str], ...] = (
    str,
    str.casefold,
    _stem,
    lambda name: _stem(name).casefold(),
)  # the closest first


def _is_tail(short: Sequence[str], long: Sequence[str], key: Callable[[str], str]) -> bool:
    return [*map(key, short)] == [*map(key, long[len(long) - len(short) :])] if len(short) <= len(long) else False


def _fitting(name: tuple[str, ...], candidates: dict[str, tuple[str, ...]], key: Callable[[str], str]) -> list[str]:
    """Return the candidates, which have the last component of the name, whose folders fit."""
    if exact := [file for file, components in candidates.items() if components == name]:
        return exact
    lacking = [file for file, components in candidates.items() if _is_tail(name, components, key)]
    if lacking:  # the file is in a folder that the name does not tell
        return lacking
    tails = [file for file, components in candidates.items() if _is_tail(components, name, key)]
    # among several of that name only a folder can tell which is meant
    tails = [file for file in tails if len(candidates) == 1 or len(candidates[file]) > 1]
    longest = max((len(candidates[file]) for file in tails), default=0)
    return [file for file in tails if len(candidates[file]) == longest]


def _missing(name: str, files: Collection[str], similar: bool) -> str:
    """Return the words for a name without a file, with the names most like it if ``similar``."""
    if not name.strip():
        return "missing: the name is empty"
    closest = sorted(get_close_matches(name, files, 3, 0.8)) if similar else []
    count = f" ({len(files)} in all)" if len(files) > 3 else ""
    return f"missing: there are {_first_few(closest or list(files))}{count}"


def _first_few(names: Collection[str], count: int = 3) -> str:
    """Return the first few of many names."""
    return ", ".join([*names][:count]) + (", ..." if len(names) > count else "")
