"""Import paths of Sample Factory 2.x: `sample_factory.launcher` becomes `sf_runner.launcher`."""
