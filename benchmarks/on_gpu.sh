#!/usr/bin/env bash
# Everything that needs a GPU, within nine minutes: the benchmarks, the GPU tests, the sanitizer, a training run.
# PyRadiomics and other peers are timed where they are. Writes gpu.json and gpu.md (graphs and kernels), suite.json (for
# benchmarks.report), summary.txt, the run and what each step prints to the folder that it is given.
#   benchmarks/on_gpu.sh OUT          PYTHON=python3 chooses the interpreter
set -uo pipefail
out=$(mkdir -p "${1:?a folder for the results}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1
summary=$out/summary.txt
: > "$summary"

# name, seconds at most, command
step() {
    local name=$1 limit=$2 start=$SECONDS
    shift 2
    timeout "$limit" "$@" > "$out/$name.txt" 2>&1
    local status=$?
    printf '%-12s exit %3d, %4d s of %d\n' "$name" "$status" $((SECONDS - start)) "$limit" | tee -a "$summary"
    [[ $status -eq 0 ]] || tail -n 30 "$out/$name.txt"
    return "$status"
}

if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "no CUDA device, or no PyTorch that sees it: $python" >&2
    exit 2
fi
if ! "$python" -m benchmarks.sanitize > "$out/first.txt" 2>&1; then # Triton compiles its launchers with a C compiler
    tail -n 30 "$out/first.txt" >&2
    echo "the kernels do not run here at all: $out/first.txt" >&2
    exit 2
fi
failed=0
running=()
wait_for_all() {
    local one
    for one in "${running[@]}"; do
        wait "$one" || failed=1
    done
    running=()
}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee -a "$summary"
step benchmarks 80 "$python" -m benchmarks.gpu --out "$out" || failed=1

# Side by side: most of their time they compile kernels
tests=("$python" -m pytest -q -m gpu -p no:cacheprovider tests/kernels/test_gpu.py tests/kacl/test_step.py)
for part in levels zones others; do
    step "interpreted_$part" 190 "${tests[@]}" -k "interpreter and $part" & running+=($!)
done
step random 190 "${tests[@]}" -k "random or frozen" & running+=($!)
step rest 190 "${tests[@]}" -k "not interpreter and not random and not frozen" & running+=($!)
wait_for_all

# Without torch's cache each tensor is an allocation of its own, beyond whose end the sanitizer sees an access.
if sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null); then
    for tool in memcheck racecheck synccheck initcheck; do
        step "$tool" 60 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$python" -m benchmarks.sanitize & running+=($!)
    done
    wait_for_all
else
    echo "no compute-sanitizer on this machine: not run" | tee -a "$summary"
fi
# The suite, what radiomics costs in a training step among it
if "$python" -c 'import pytest_benchmark' 2> /dev/null; then
    step peers 20 "$python" -m benchmarks.peers
    step suite 130 "$python" -m pytest -q -p no:cacheprovider benchmarks/test_suite.py --device cuda \
        --benchmark-json "$out/suite.json" || failed=1
else
    echo "no pytest-benchmark: of the suite only the training step" | tee -a "$summary"
    step training 45 "$python" -m benchmarks.training --out "$out/training.json" || failed=1
fi
# A whole run of the command on phantoms
if "$python" -c 'import jsonargparse, matplotlib, pandas, tensorboard, tqdm' 2> /dev/null; then
    step fit 60 bash -c '"$0" -m kacl_gpu phantom "$1/phantoms" --images 600 --size 128 &&
        "$0" -m kacl_gpu fit --config phantom --data.root "$1/phantoms" --out "$1/run" \
            --trainer.precision 16-mixed --trainer.enable_progress_bar false' "$python" "$out" || failed=1
    rm -rf "$out/phantoms" "$out/run/checkpoints"
else
    echo "kacl-gpu fit not run: jsonargparse, matplotlib, pandas, tensorboard or tqdm is not installed" | tee -a "$summary"
fi
cat "$out/gpu.md" 2> /dev/null
exit $failed
