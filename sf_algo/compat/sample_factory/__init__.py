"""What projects written for Sample Factory 2 import, on top of `sf_algo.App`: docs/from_sample_factory.md.

A project moves by replacing the import prefix `sample_factory` with `sf_algo.compat.sample_factory`, and
`sample_factory.launcher` with `sf_runner.launcher`.
"""
