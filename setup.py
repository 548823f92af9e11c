"""What pyproject.toml cannot say: kernels/ stands at the top level and is installed as kacl_gpu.kernels."""

from setuptools import find_packages, setup

setup(
    # kernels/ has no __init__.py (see its README), so that find_packages does not see it
    packages=[*find_packages(include=["kacl_gpu", "kacl_gpu.*"]), "kacl_gpu.kernels"],
    package_dir={"": ".", "kacl_gpu.kernels": "kernels"},
    # A package without a file would not be in the wheel
    package_data={
        "kacl_gpu": ["py.typed", "configs/*.yaml", "configs/variants/*.yaml", "kacl/evaluation/paper/*.csv"],
        "kacl_gpu.kernels": ["README.md"],
    },
    # compat: the root goes on the path, where the link kacl_gpu/kernels serves
    options={"editable_wheel": {"mode": "compat"}},
)
