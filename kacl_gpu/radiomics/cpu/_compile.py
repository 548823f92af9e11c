"""Compile loops with Numba, and keep what was compiled in a cache that is never stale and never fatal."""

import hashlib
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.sigutils import normalize_signature

CONFIG: Any = numba_config  # makes its names at run time
SOURCES = Path(__file__).parents[1]  # loops take constants from columns.py and status.py too
FOLDER = "kacl_gpu-"  # a cache's name begins with it, and ends with the digest of what was compiled
KEPT = 4  # caches that may lie beside each other: of two checkouts' Python, Numba, or the branch before
DIGEST = hashlib.sha256().digest_size

_warned: list[str] = []


def jit(function: Callable[..., Any]) -> Any:
    """Return the function compiled by Numba at its first call, and kept on disk (see NUMBA_CACHE_DIR).

    No fastmath: sums keep the order they are written in, and a * b + c is rounded twice, as in NumPy. Compile loops
    over numbers only: NumPy's functions, reductions and assignments of arrays take up to a second each to compile.
    """
    compiled = numba.njit(function, nogil=True, error_model="numpy")
    if not CONFIG.DISABLE_JIT:
        compiled._cache = _make_cache(function)  # what njit(cache=True) does, with a cache of our own
    return compiled


@cache
def digest_sources(folder: Path) -> str:
    """Return a digest of all Python files below a folder, and of Numba's version.

    Raises:
        OSError: there are none, as in a package without sources.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    files = sorted(folder.rglob("*.py"))
    if not files:
        raise FileNotFoundError(f"no sources in {folder}")
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _make_cache(function: Callable[..., Any]) -> Any:
    """Return the cache of a function, or one that keeps nothing where no folder can be written."""
    try:
        own = Cache(function)
    except (OSError, RuntimeError) as error:  # RuntimeError: Numba found no folder
        _warn(CONFIG.CACHE_DIR or Path(__file__).with_name("__pycache__"), error)
        return NullCache()
    folder = CONFIG.CACHE_DIR
    if folder and Path(folder).absolute() not in Path(own.cache_path).absolute().parents:
        _warn(folder, f"NUMBA_CACHE_DIR cannot be written; {Path(own.cache_path).parent} is used")
    return own


def _warn(place: Any, reason: Any) -> None:
    """Warn about the cache, once in a process: dozens of functions meet the same full disk."""
    if not _warned:
        _warned.append(str(place))
        words = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
        warnings.warn(
            f"the cache of compiled code in {place} is passed over ({words}); the computation goes on, but the first "
            "calls of a process may take some seconds longer. Set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )


class Cache(FunctionCache):
    """The compiled forms of one function, in a folder named by a digest of all sources and Numba's version.

    Numba's own cache looks at the file of the function alone. A change in another file, whose function or constant is
    compiled into this one, would leave the old code in use.
    """

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        digest = digest_sources(SOURCES)
        self._cache_path = os.path.join(self._cache_path, FOLDER + digest)
        self._cache_file = CheckedFile(self._cache_path, self._impl.filename_base, digest)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the function compiled for a signature, or None if it must be compiled."""
        try:
            result = super().load_overload(sig, target_context)
            if result is not None and (
                result.fndesc.qualname != self._py_func.__qualname__
                or tuple(result.signature.args) != tuple(normalize_signature(sig)[0])
            ):
                raise ValueError(f"another function lies in the place of {self._py_func.__qualname__}")
            return result
        except Exception as error:  # a damaged file raises anything
            _warn(self._cache_path, error)
            if not isinstance(error, OSError):
                with suppress(OSError):
                    self.flush()  # the next compilation replaces it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the function compiled for a signature, if that is possible."""
        try:
            if not os.path.isdir(self._cache_path):
                os.makedirs(self._cache_path, exist_ok=True)
                _remove_old(Path(self._cache_path).parent)
            super().save_overload(sig, data)
        except Exception as error:
            _warn(self._cache_path, error)


class CheckedFile(IndexDataCacheFile):
    """Numba's two files with a digest at the end of each: damaged machine code must not reach the processor."""

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
        content = BytesIO()
        yield content
        with super()._open_for_write(filepath) as file:
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def _load_index(self) -> Any:
        if os.path.exists(self._index_path):
            self._read(self._index_path)
        return super()._load_index()  # pickle reads no further than its own end

    def _load_data(self, name: str) -> Any:
        return pickle.loads(self._read(self._data_path(name)))

    def _read(self, path: str) -> bytes:
        """Return the content of a file before its digest; ValueError if it does not fit the content."""
        stored = Path(path).read_bytes()
        content, digest = stored[:-DIGEST], stored[-DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError(f"{os.path.basename(path)} is damaged")
        return content


def _remove_old(folder: Path) -> None:
    """Remove all caches in a folder but the latest few."""
    with suppress(OSError):  # another process may be removing them
        caches = sorted(folder.glob(FOLDER + "*"), key=lambda path: path.stat().st_mtime)
        for path in caches[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)
