"""Data sets of KACL: NIH ChestX-ray14, its prepared copies, and synthetic radiographs."""
