"""KACL (Han et al., WACV 2022): contrastive learning on chest X-rays with radiomic features from a feedback loop."""
