"""Slurm: arrays of jobs, each task of which runs one or several attempts under a small wrapper of ours.

packing.py     attempts -> arrays (pure);  script.py  options -> the text of a job script, and what it printed
submitting.py  hands arrays in;  room.py  how many Slurm takes;  sharing.py  --max_parallel across arrays
batches.py     what is written before sbatch and after it: one folder per array; which array runs it, which task an
               attempt
task.py        the wrapper, on the node, with node.py, time_limit.py
task_records.py  what it writes down, its signs of life
client.py      Slurm's commands;  environment.py  what variables they see;  answers.py  what they print
states.py      Slurm's vocabulary;  refusals.py  its refusals
watch.py       what becomes of submitted arrays;  absence.py, finding.py  what squeue does not show
doubles.py     what is to be taken out of the queue
fold.py        records + what Slurm says -> reports (pure)
backend.py     the backend protocol
"""
