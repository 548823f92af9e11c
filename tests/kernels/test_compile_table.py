"""docs/kernels.md says what the compiler says."""

from tests.kernels.compiling import table, table_in_docs


def test_compile_the_table_in_the_docs() -> None:
    """Every kernel and target is there; the figures too, where they were made with this version of Triton."""
    now, (_, written, _) = table(), table_in_docs()
    if written[0] == now[0]:
        assert written == now, "python -m tests.kernels.compiling writes it anew"
    else:
        first_columns = [[line.split("|")[1:4] for line in lines[2:]] for lines in (written, now)]
        assert first_columns[0] == first_columns[1], "python -m tests.kernels.compiling writes it anew"
