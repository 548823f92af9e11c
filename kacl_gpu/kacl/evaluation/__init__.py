"""Evaluation of a trained KACL: predictions, measures, figures and the report."""
