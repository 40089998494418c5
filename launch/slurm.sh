#!/usr/bin/env bash
#SBATCH --job-name=vit_jax_xfer
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --cpus-per-task=8
# A run on GPU nodes under SLURM. launch/README.md walks through it.
#
# One process a GPU, because jax.distributed, which vit_jax_xfer/train/launch.py calls, takes under
# SLURM the GPU with the task's number on its node and leaves the others alone. So every task must
# see all GPUs of its node: no --gpus-per-task, no --gpu-bind.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/slurm.sh submit --nodes=N --gpus=G [SBATCH OPTIONS] -- ARGUMENTS
       launch/slurm.sh job ARGUMENTS

submit   queues python -m vit_jax_xfer.main ARGUMENTS on N nodes of G GPUs, one process a GPU, in the
         Python environment of this shell (or PYTHON=...)
           --dry-run        prints the sbatch command instead
           SBATCH OPTIONS   --time=..., --partition=..., --account=..., in the form --name=value
         Told to make way, and 120 s before the time is over (--signal=B:TERM@SECONDS sets another),
         the run finishes its step, saves a checkpoint and is queued again; it goes on from there.
job      what sbatch runs; also for a shell of salloc

to stop a run for good, saved:   scancel --batch --signal=INT JOBID
TEXT
}

fail() {
  echo "error: $*" >&2
  exit 2
}

submit() {
  local nodes='' gpus='' dry='' options=()
  while (($#)); do
    case $1 in
      --nodes=*) nodes=${1#*=} ;;
      --gpus=*) gpus=${1#*=} ;;
      --dry-run) dry=yes ;;
      --config* | --workdir*) fail "the run's own arguments come after --: -- $1" ;;
      --gpus-per-* | --gres=* | --ntasks*) fail "$1: --nodes and --gpus set it" ;;
      --gpu-bind=*) fail "$1: every process must see all GPUs of its node" ;;
      --) shift && break ;;
      --*) options+=("$1") ;;
      *) fail "submit: unexpected '$1'; options are written --name=value" ;;
    esac
    shift
  done
  [[ $nodes =~ ^[1-9][0-9]*$ ]] || fail "--nodes=N is missing: how many nodes"
  [[ $gpus =~ ^[1-9][0-9]*$ ]] || fail "--gpus=G is missing: how many GPUs each node has"
  check_arguments "$@"
  [[ -n $dry ]] || command -v sbatch >/dev/null ||
    fail "sbatch not found: submit from a login node of the cluster"
  local script=launch/slurm.sh
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
  if [[ ! -f $script ]]; then # installed, not a checkout: the job runs where it is submitted
    script=$PWD/launch_scripts/slurm.sh
    cd "$OLDPWD"
  fi
  options=("--nodes=$nodes" "--gpus-per-node=$gpus" "--ntasks-per-node=$gpus" "--chdir=$PWD"
    ${options[@]+"${options[@]}"})
  if [[ -n $dry ]]; then
    printf '%q ' sbatch "${options[@]}" "$script" job "$@"
    echo
  else
    exec sbatch "${options[@]}" "$script" job "$@"
  fi
}

check_arguments() {
  [[ " $*" == *' --config='* ]] || fail "--config=FILE is missing"
  [[ " $*" == *' --workdir='* ]] ||
    fail "--workdir=FOLDER is missing: on a disk that all nodes share"
}

job() {
  check_arguments "$@"
  [[ -n ${SLURM_JOB_ID:-} ]] || fail "job: not inside a SLURM job; see --help for submit"
  # A damaged newest checkpoint is set aside, and the one before it taken.
  [[ " $*" == *' --config.checkpoint.fallback='* ]] || set -- "$@" --config.checkpoint.fallback=True
  local nodes=${SLURM_JOB_NUM_NODES:-1} gpus=${SLURM_GPUS_ON_NODE:-0} tasks=${SLURM_NTASKS:-1}
  if ((gpus > 0 && tasks != nodes * gpus)); then
    fail "$tasks tasks on $nodes × $gpus GPUs: needs one a GPU, --ntasks-per-node=$gpus"
  fi
  # srun no longer takes --cpus-per-task from sbatch; and it would end the others at once where one
  # has ended, which may still be saving.
  local flags=(--wait=300 --kill-on-bad-exit=0)
  [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || flags+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")

  asked='' interrupted='' step=''
  trap 'ask TERM' TERM USR1 USR2 # the last two for --signal=B:USR1@120
  trap 'ask INT' INT
  srun "${flags[@]}" "${PYTHON:-python}" -u -m vit_jax_xfer.main "$@" &
  step=$!
  [[ -z $asked ]] || ask "$asked"
  local status=0 code
  while :; do
    interrupted='' code=0
    wait "$step" || code=$?
    ((code == 127)) || status=$code # 127: ended and told already
    [[ -n $interrupted ]] || break
  done
  # Whoever sent SIGTERM: SLURM may tell the tasks alone.
  if [[ $asked != INT && $status -eq 143 ]]; then
    queue_again
  fi
  exit "$status"
}

ask() { # SIGNAL: passes it on as SIGTERM, at which the run saves and ends with 143
  asked=$1 interrupted=yes
  [[ -z $step ]] || kill -TERM "$step" 2>/dev/null || true
}

queue_again() {
  # A job that someone cancelled gets SIGTERM too, and is no longer RUNNING.
  local state
  state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T || true)
  if [[ $state != RUNNING ]]; then
    echo "saved; not queued again, because the job is ${state:-gone}"
  elif scontrol requeue "$SLURM_JOB_ID"; then
    echo "saved and queued again"
  else
    echo "saved; submit the same command to go on"
  fi
}

case ${1:-} in
  submit | job) "$@" ;;
  -h | --help | help) usage ;;
  '') usage >&2 && exit 2 ;;
  *) fail "unknown command '$1': submit or job" ;;
esac
