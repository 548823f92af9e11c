"""GPU-native radiomics: PyRadiomics' features, batched, inside a training step."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kacl_gpu.radiomics.api import GpuRadiomics, feature_names, gpu_radiomics
    from kacl_gpu.radiomics.settings import RadiomicsSettings
    from kacl_gpu.radiomics.status import Status

__version__ = "0.1.0"
__all__ = ["GpuRadiomics", "RadiomicsSettings", "Status", "__version__", "feature_names", "gpu_radiomics"]

_HOMES = {
    "GpuRadiomics": "kacl_gpu.radiomics.api",
    "RadiomicsSettings": "kacl_gpu.radiomics.settings",
    "Status": "kacl_gpu.radiomics.status",
    "feature_names": "kacl_gpu.radiomics.api",
    "gpu_radiomics": "kacl_gpu.radiomics.api",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that ``kacl-gpu --help`` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
