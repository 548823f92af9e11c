"""Files that are complete or absent."""

import pytest

pd = pytest.importorskip("pandas", reason="the extra io is not installed")
pytest.importorskip("pyarrow")
pytest.importorskip("tqdm")

from kacl_gpu.errors import OutputError
from kacl_gpu.io.tables import atomic_file, write_table
from tests.io.files import full_disk

TABLE = pd.DataFrame({"image": [f"i{k}.png" for k in range(2000)], "area": 0.1})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_full_disk_leaves_the_old_table_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write_table(TABLE, path)
    content = path.read_bytes()
    with full_disk(1000), pytest.raises(OutputError, match=f"cannot write {path}: File too large"):
        write_table(TABLE[::-1], path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    write_table(TABLE[::-1], path)
    assert path.read_bytes() != content


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*nowhere.*: No such file or directory"):
        write_table(TABLE, tmp_path / "nowhere" / "a.csv")
