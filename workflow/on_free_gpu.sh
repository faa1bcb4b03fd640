#!/usr/bin/env bash
# on_free_gpu.sh NUMBER COMMAND ...: run a command that needs so many GPUs, 0 or 1, on one
# that no other command of this script holds. Where a scheduler has chosen one
# (CUDA_VISIBLE_DEVICES is set), or there is none, just run it.
set -euo pipefail
needed=$1
shift
if [ "$needed" = 0 ] || [ -n "${CUDA_VISIBLE_DEVICES:-}" ] ||
    ! command -v nvidia-smi >/dev/null; then
    exec "$@"
fi
number=$(nvidia-smi --list-gpus | wc -l)
for ((gpu = 0; gpu < number; gpu++)); do
    # Held until the command ends, even if it is killed.
    exec {lock}>"${TMPDIR:-/tmp}/speechbrain-sumra-$(id -u)-gpu$gpu.lock"
    if flock --nonblock "$lock"; then
        CUDA_VISIBLE_DEVICES=$gpu exec "$@"
    fi
done
echo "All $number GPUs are held: allow fewer jobs (--resources gpu=$number)." >&2
exit 1
