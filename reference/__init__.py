"""The reference of kacl_gpu's numbers.

PyRadiomics behind our signature, the definitions in long double, and generated regions.

Imported by tests and benchmarks only; not installed.
"""
