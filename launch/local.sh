#!/usr/bin/env bash
# Several processes of one run on this machine, as a pod would have them on several.
#
#   launch/local.sh 2 --config=configs/scratch.py:digits --workdir=runs/two
#
# Each process has JAX_NUM_CPU_DEVICES devices on a CPU (default 1). The first prints; Ctrl-C or
# SIGTERM stops all cleanly, and if one fails the others are stopped.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh PROCESSES --config=FILE --workdir=FOLDER [...]" >&2
  exit 2
fi
processes=$1
shift
python=${PYTHON:-python}
# A damaged newest checkpoint is set aside, and the one before it taken.
[[ " $*" == *' --config.checkpoint.fallback='* ]] || set -- "$@" --config.checkpoint.fallback=True
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}

pids=()
for ((i = 0; i < processes; i++)); do
  "$python" -m vit_jax_xfer.main --coordinator="localhost:$port" --processes="$processes" \
    --process="$i" "$@" &
  pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM HUP USR1 USR2

status=0
while :; do
  code=0
  wait -n || code=$?
  case $code in
    0) ;;
    127) break ;; # all have ended
    129 | 130 | 138 | 140 | 143) # asked to stop, or `wait` interrupted by the trap
      ((status != 0)) || status=143
      ;;
    *)
      ((status != 0 && status != 143)) || status=$code
      # shellcheck disable=SC2046 # each number a word
      kill -TERM $(jobs -rp) 2>/dev/null || true
      ;;
  esac
done
exit "$status"
