"""docs/proofs.md says what the tests prove today."""

from kacl_gpu.radiomics import ops
from kacl_gpu.radiomics.names import FEATURES
from tests import proofs


def test_the_document_is_current() -> None:
    assert proofs.OUT.read_text(encoding="utf-8") == proofs.document(), "python -m tests.proofs writes it anew"


def test_every_operator_has_its_place() -> None:
    of_classes = {operator for operators in proofs.OPERATORS.values() for operator in operators}
    assert of_classes | {*proofs.EVERYWHERE, *proofs.WITHOUT_FEATURES} == set(ops.KERNELS)
    assert set(proofs.OPERATORS) == set(FEATURES)


def test_every_feature_has_stored_values() -> None:
    rows = [row.split(" | ") for row in proofs.feature_rows()[2:]]
    assert len(rows) == sum(len(features) for features in FEATURES.values()) == 116
    for _, _, *counts, _, _ in rows:
        for (frozen, _, interpreter), enough in zip((counts[:3], counts[3:]), (50, 20), strict=True):
            assert frozen == interpreter == "-" or (int(frozen) > enough and int(interpreter) > 3), counts
    assert sum("-" in row for row in rows) == len(FEATURES["shape"]) + len(FEATURES["shape2D"])
