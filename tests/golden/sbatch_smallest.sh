#!/bin/bash
#SBATCH --array=0-0
#SBATCH --chdir=/w
#SBATCH --comment="sf_runner /b/0007"
#SBATCH --job-name=s
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output=/b/0007/%a.out
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
trap '' USR1 USR2
exec python task.py /b/0007
