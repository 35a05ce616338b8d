#!/bin/bash
#SBATCH --mail-type=END
#SBATCH --account=lab
#SBATCH --array=0-9
#SBATCH --chdir="/home/me/my project"
#SBATCH --comment="sf_runner /data/train dir/my study/.runner/slurm/0001"
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --job-name="my study"
#SBATCH --mem=32G
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output=/scratch/100%%/%x-%A_%a.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=12:00:00
trap : TERM USR1 USR2
conda activate sf
cd ~/sample-factory
timeout 3600 /venv/bin/python /pkg/task.py '/data/train dir/my study/.runner/slurm/0001'
if [[ $? -eq 124 ]]; then
    sbatch -p gpu --gres=gpu:1 -c 4 --parsable '/data/train dir/my study/.runner/slurm/0001/script.sh'
fi
