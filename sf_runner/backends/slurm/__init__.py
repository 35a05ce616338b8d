"""Slurm: arrays of jobs, each task of which runs one or several attempts under a small wrapper of ours.

script.py      options -> the text of a job script (pure)
batches.py     what is written before sbatch and after it: one folder per array
task.py        the wrapper, on the node;  task_records.py  what it writes down
client.py      Slurm's commands;  states.py  its vocabulary;  calls.py  a thread that runs them
fold.py        records + what Slurm says -> reports (pure)
backend.py     the backend protocol
"""
