"""What kacl_gpu is held to: PyRadiomics behind our signature, the definitions in long double, and generated regions.

Imported by tests and benchmarks only; not installed.
"""
