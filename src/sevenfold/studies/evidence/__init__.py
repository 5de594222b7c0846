"""Measure what each of the seven practices contributes, on the data at hand."""
