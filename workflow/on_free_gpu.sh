#!/usr/bin/env bash
# on_free_gpu.sh NUMBER COMMAND ...: run a command that needs so many GPUs, 0 or 1, on one
# that no other command of this script holds: of those in CUDA_VISIBLE_DEVICES where that is
# set, else of all. Where one was chosen, by a scheduler, or there is none, just run it.
set -euo pipefail
needed=$1
shift
if [ "$needed" = 0 ] || ! command -v nvidia-smi >/dev/null; then
    exec "$@"
fi
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES// /}"
    if [ ${#gpus[@]} -lt 2 ]; then
        exec "$@"
    fi
else
    mapfile -t gpus < <(seq 0 $(($(nvidia-smi --list-gpus | wc -l) - 1)))
fi
for gpu in "${gpus[@]}"; do
    # Held until the command ends, even if it is killed.
    exec {lock}>"${TMPDIR:-/tmp}/speechbrain-sumra-$(id -u)-gpu${gpu//\//_}.lock"
    if flock --nonblock "$lock"; then
        CUDA_VISIBLE_DEVICES=$gpu exec "$@"
    fi
done
number=${#gpus[@]}
echo "All $number GPUs are held: allow fewer jobs (--resources gpu=$number)." >&2
exit 1
