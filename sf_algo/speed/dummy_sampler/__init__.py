"""The dummy sampler: environments stepped with random actions, as fast as the machine allows. No torch."""
