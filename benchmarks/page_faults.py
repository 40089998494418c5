"""What huge pages do for a small training step on a CPU (Linux).

    python -m benchmarks.page_faults
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python -m benchmarks.page_faults

Prints one JSON object: time, processor time and page faults of a step of masked pre-training on
digits, 256 images.
"""

import json
import os
import resource
import statistics
import time

import jax

from vit_jax_xfer import create_model, mae_forward

STEPS = 40


def main() -> None:
    """Times single steps after one that compiles."""
    model = create_model("mae_vit_micro_patch2", image_size=8)
    images = jax.random.normal(jax.random.key(0), (256, 8, 8, 3))
    noise = jax.random.uniform(jax.random.key(1), (256, 16))
    variables = model.init(jax.random.key(2), images, noise)
    step = jax.jit(jax.value_and_grad(lambda v: mae_forward(model, v, images, noise=noise)[0]))
    jax.block_until_ready(step(variables))
    before, times = resource.getrusage(resource.RUSAGE_SELF), []
    for _ in range(STEPS):
        begin = time.perf_counter()
        jax.block_until_ready(step(variables))
        times.append(1e3 * (time.perf_counter() - begin))
    after = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "jax": jax.__version__,
        "step_ms_median": round(statistics.median(times), 1),
        "step_ms_min": round(min(times), 1),
        "step_ms_max": round(max(times), 1),
        "user_s": round(after.ru_utime - before.ru_utime, 2),
        "system_s": round(after.ru_stime - before.ru_stime, 2),
        "page_faults_a_step": (after.ru_minflt - before.ru_minflt) // STEPS,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
