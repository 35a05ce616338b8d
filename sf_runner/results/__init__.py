"""What `python -m sf_runner.report` is made of.

experiments (journal) -> sources (curves) -> analysis (groups, statistics, notes) -> Markdown, tables, plots, page
"""
