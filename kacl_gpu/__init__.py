"""GPU-native radiomics: PyRadiomics' features, batched, inside a training step."""

from kacl_gpu.radiomics.api import GpuRadiomics, feature_names, gpu_radiomics
from kacl_gpu.radiomics.settings import RadiomicsSettings

__version__ = "0.1.0"
__all__ = ["GpuRadiomics", "RadiomicsSettings", "__version__", "feature_names", "gpu_radiomics"]
