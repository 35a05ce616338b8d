"""VizDoom environments: scenarios, engine, reward shaping and the command that fetches further maps."""
