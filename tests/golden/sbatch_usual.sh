#!/bin/bash
#SBATCH --account=lab
#SBATCH --array=0-299%12
#SBATCH --chdir="/home/me/my project"
#SBATCH --comment="sf_runner /data/train dir/my study/.runner/slurm/0001"
#SBATCH --cpus-per-task=8
#SBATCH --exclude=n[1-2]
#SBATCH --exclusive
#SBATCH --gres=gpu:2
#SBATCH --job-name="my study"
#SBATCH --mem=32G
#SBATCH --nice=-5
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output="/data/train dir/my study/.runner/slurm/0001/%a.out"
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=mine
#SBATCH --signal=B:USR1@120
#SBATCH --time=12:00:00
trap '' USR1 USR2
exec /venv/bin/python /pkg/task.py '/data/train dir/my study/.runner/slurm/0001'
