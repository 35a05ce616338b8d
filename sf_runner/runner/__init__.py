"""Import paths of Sample Factory 1.x: `sample_factory.runner` becomes `sf_runner.runner`."""
