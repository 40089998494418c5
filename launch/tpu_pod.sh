#!/usr/bin/env bash
# A run on a TPU pod, through gcloud and queued resources. launch/README.md walks through it.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/tpu_pod.sh COMMAND [FLAGS] [-- ARGUMENTS]

commands
  create   asks for the pod; it comes when there is room
  state    WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDED (preempted), FAILED
  run      installs the project on every worker, then starts there, detached,
           python -m vit_jax_xfer.main ARGUMENTS
           The same command goes on with a run that was stopped or preempted.
  watch    follows the log of worker 0 (Ctrl-C leaves the run alone)
  stop     SIGTERM to every worker: the run finishes its step, saves a checkpoint and ends
  delete   gives the pod back, with all that lies on its own disks

flags                              (or environment)
  --name=NAME                      TPU_NAME     of the queued resource and of its TPU
  --zone=ZONE                      TPU_ZONE     for example us-east5-a
  --project=PROJECT                TPU_PROJECT  default: gcloud's own
  --slices=N                       TPU_SLICES   default 1; more are called NAME-0, NAME-1, ...
  --dry-run                        prints the commands instead of running them
create
  --type=TYPE                      TPU_TYPE     for example v6e-16
  --version=VERSION                TPU_VERSION  the image: v2-alpha-tpuv6e, v2-alpha-tpuv5 (v5p),
                                                v2-alpha-tpuv5-lite (v5e), tpu-ubuntu2204-base (v4)
  --spot                           cheaper, and preempted when others need it
run
  --git=URL [--ref=REF]            takes the project from there; default: a copy of this checkout,
                                   without what git ignores
  --setup=LINE                     a line of shell for every worker, before anything else: mount the
                                   disk that --workdir and the data lie on
  --extras=EXTRAS                  of setup.cfg, for example torch,hf
  --python=VERSION                 default 3.12

All workers must see --workdir under one path, so it is a folder of a shared disk.
TEXT
}

fail() {
  echo "error: $*" >&2
  exit 2
}

# --- arguments ------------------------------------------------------------------------------------
name=${TPU_NAME:-} zone=${TPU_ZONE:-} project=${TPU_PROJECT:-} slices=${TPU_SLICES:-1}
type=${TPU_TYPE:-} version=${TPU_VERSION:-}
dry='' spot='' git='' ref='HEAD' setup='' extras='' python='3.12'

command=${1:-}
case $command in
  create | state | run | watch | stop | delete) shift ;;
  -h | --help | help) usage && exit 0 ;;
  '') usage >&2 && exit 2 ;;
  *) fail "unknown command '$command': create, state, run, watch, stop or delete" ;;
esac
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --dry-run) dry=yes ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    *)
      case $command:$1 in
        create:--type=*) type=${1#*=} ;;
        create:--version=*) version=${1#*=} ;;
        create:--spot) spot=yes ;;
        run:--git=*) git=${1#*=} ;;
        run:--ref=*) ref=${1#*=} ;;
        run:--setup=*) setup=${1#*=} ;;
        run:--extras=*) extras=${1#*=} ;;
        run:--python=*) python=${1#*=} ;;
        run:--config* | run:--workdir*) fail "the run's own arguments come after --: -- $1" ;;
        *) fail "$command: unknown flag '$1'; flags are written --name=value, --help lists them" ;;
      esac
      ;;
  esac
  shift
done

[[ -n $name ]] || fail "--name (or TPU_NAME) is missing"
[[ -n $zone ]] || fail "--zone (or TPU_ZONE) is missing: a zone that has your TPU type"
[[ $slices =~ ^[1-9][0-9]*$ ]] || fail "--slices: '$slices' is not a number from 1"
[[ -n $git || $ref == HEAD ]] || fail "--ref belongs to --git=URL"
[[ $command == run || $# -eq 0 ]] || fail "$command takes no arguments after --"
if [[ -z $dry ]] && ! command -v gcloud >/dev/null; then
  fail "gcloud not found: install the Google Cloud CLI, then gcloud auth login"
fi

where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")
nodes=("$name")
if ((slices > 1)); then
  nodes=()
  for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
fi

# Where things lie on a worker, below its home.
readonly FOLDER=vit_jax_xfer ENVIRONMENT=vit_jax_xfer.env PID=vit_jax_xfer.pid LOG=vit_jax_xfer.log
# True on a worker where the run is on; sets pid. The name, because numbers come round again.
# shellcheck disable=SC2016 # for the worker's shell to expand
readonly RUNNING='{ pid=$(cat ~/'$PID' 2>/dev/null) &&
  grep -qsa vit_jax_xfer.main "/proc/$pid/cmdline"; }'

# --- gcloud ---------------------------------------------------------------------------------------
call() {
  if [[ -n $dry ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

queue() { # COMMAND [FLAGS]: of the queued resource
  call gcloud compute tpus queued-resources "$1" "$name" "${where[@]}" "${@:2}"
}

on_workers() { # LINES of shell, for every worker of every slice
  local node
  for node in "${nodes[@]}"; do
    call gcloud compute tpus tpu-vm ssh "$node" "${where[@]}" --worker=all --command="$1"
  done
}

# --- commands -------------------------------------------------------------------------------------
create() {
  [[ -n $type ]] || fail "--type (or TPU_TYPE) is missing: for example v6e-16"
  [[ -n $version ]] || fail "--version (or TPU_VERSION) is missing: --help has one for each type"
  local flags=("--accelerator-type=$type" "--runtime-version=$version")
  if ((slices > 1)); then
    flags+=("--node-count=$slices" "--node-prefix=$name")
  else
    flags+=("--node-id=$name")
  fi
  [[ -z $spot ]] || flags+=(--spot)
  queue create "${flags[@]}"
}

state() { queue describe "--format=value(state.state)"; }

run() {
  [[ " $*" == *' --config='* ]] || fail "run: --config=FILE is missing after --"
  [[ " $*" == *' --workdir='* ]] || fail "run: --workdir=FOLDER is missing after --"
  [[ " $*" != *' --workdir=gs:'* ]] ||
    fail "--workdir: a folder, not a bucket; mount a shared disk with --setup and name it there"
  # A damaged newest checkpoint is set aside, and the one before it taken.
  [[ " $*" == *' --config.checkpoint.fallback='* ]] || set -- "$@" --config.checkpoint.fallback=True
  local found
  found=$(state)
  [[ -n $dry ]] && echo "$found"
  [[ -n $dry || $found == ACTIVE ]] || fail "$name is ${found:-unknown}; run it when it is ACTIVE"

  [[ -n $git ]] || copy_checkout
  on_workers "$(install_lines)"
  # Only when all are installed, because those that started first would wait for the others.
  local quoted
  quoted=$(printf ' %q' "$@")
  on_workers "cd ~/$FOLDER || exit 1
nohup ~/$ENVIRONMENT/bin/python -u -m vit_jax_xfer.main$quoted >>~/$LOG 2>&1 </dev/null &
echo \$! >~/$PID"
  [[ -n $dry ]] || echo "started; follow it with: launch/tpu_pod.sh watch --name=$name --zone=$zone"
}

copy_checkout() {
  local packed=$FOLDER.tar.gz node
  if [[ -z $dry ]]; then
    folder=$(mktemp -d) # not local: the trap comes after the function
    trap 'rm -rf "$folder"' EXIT
    packed=$folder/$packed
    (cd "$(dirname "${BASH_SOURCE[0]}")/.." &&
      git ls-files -z --cached --others --exclude-standard | tar -czf "$packed" --null -T -) ||
      fail "cannot pack this checkout (are files deleted that git still has?); or use --git=URL"
  fi
  for node in "${nodes[@]}"; do
    call gcloud compute tpus tpu-vm scp "$packed" "$node:" "${where[@]}" --worker=all
  done
}

install_lines() {
  echo 'set -e'
  echo "if $RUNNING; then echo 'error: a run is on here; stop it first' >&2; exit 1; fi"
  [[ -z $setup ]] || echo "$setup"
  echo "mkdir -p ~/$FOLDER && cd ~/$FOLDER"
  if [[ -n $git ]]; then
    echo 'git init --quiet .'
    printf 'git fetch --quiet --depth=1 %q %q\n' "$git" "$ref"
    echo 'git checkout --quiet --force --detach FETCH_HEAD'
  else
    echo "tar -xzf ~/$FOLDER.tar.gz"
  fi
  # By uv, because the images' own Python is older than the project's.
  # shellcheck disable=SC2016 # for the worker's shell to expand
  echo 'PATH=~/.local/bin:$PATH'
  echo 'python3 -m pip install --quiet --user uv'
  echo "[ -x ~/$ENVIRONMENT/bin/python ] ||"
  printf '  uv venv --quiet --python %q ~/%s\n' "$python" "$ENVIRONMENT"
  printf 'uv pip install --quiet --python ~/%s/bin/python' "$ENVIRONMENT"
  printf ' %q' -e ".${extras:+[$extras]}" 'jax[tpu]'
  echo
}

watch() {
  call gcloud compute tpus tpu-vm ssh "${nodes[0]}" "${where[@]}" --worker=0 \
    --command="tail -n 40 -F ~/$LOG"
}

stop() {
  on_workers "if ! $RUNNING; then echo 'no run is on here'; exit 0; fi
kill -TERM \"\$pid\"
for _ in \$(seq 3000); do
  if ! $RUNNING; then tail -n 2 ~/$LOG; exit 0; fi
  sleep 0.2
done
echo 'error: not ended in 600 s; see the log' >&2
exit 1"
}

delete() { queue delete --force; }

"$command" "$@"
