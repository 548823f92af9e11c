"""Training of KACL with Lightning, and the ablation of its parts."""
