"""Compute once what every training needs: decoded pixels and trunk activations.

`store` keeps rows by content (and needs no torch), `pixels` decodes pictures
into it, `trunk` runs the frozen part of a network and `views` hands augmented,
stored rows to the training loop.
"""
