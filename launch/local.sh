#!/usr/bin/env bash
# Several processes of one run on this machine, as a pod would have them on several.
#
#   launch/local.sh 2 --config=configs/scratch.py:digits --workdir=runs/two
#
# Each process has JAX_NUM_CPU_DEVICES devices on a CPU (default 1). The first prints; Ctrl-C or
# SIGTERM stops all cleanly, and if one fails the others are stopped.
set -euo pipefail

usage='usage: launch/local.sh PROCESSES --config=FILE --workdir=FOLDER [...]'
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  echo "$usage"
  exit 0
fi
if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "$usage" >&2
  exit 2
fi
processes=$1
shift
python=${PYTHON:-python}
# A damaged newest checkpoint is set aside, and the one before it taken.
[[ " $*" == *' --config.checkpoint.fallback='* ]] || set -- "$@" --config.checkpoint.fallback=True
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}

# Before the first process there is, so that none is left behind.
asked=
stop() {
  asked=1
  # shellcheck disable=SC2046 # each number a word
  kill -TERM $(jobs -rp) 2>/dev/null || true
}
trap stop INT TERM HUP USR1 USR2

left=
for ((i = 0; i < processes; i++)); do
  "$python" -m vit_jax_xfer.main --coordinator="localhost:$port" --processes="$processes" \
    --process="$i" "$@" &
  left+="$! "
done
[[ -z $asked ]] || stop

# Asked for, not waited for: the bash of macOS has no `wait -n`.
status=0
while [[ -n $left ]]; do
  sleep 0.2
  running=$(jobs -rp)
  running=" ${running//$'\n'/ } "
  still=
  for pid in $left; do
    if [[ $running == *" $pid "* ]]; then
      still+="$pid "
      continue
    fi
    code=0
    wait "$pid" || code=$?
    case $code in
      0) ;;
      129 | 130 | 138 | 140 | 143) # asked to stop
        ((status != 0)) || status=143
        ;;
      *)
        ((status != 0 && status != 143)) || status=$code
        stop
        ;;
    esac
  done
  left=$still
done
exit "$status"
