"""The same step in plain PyTorch, built and run in a process of its own."""

import time

import torch
from torch import Tensor

from benchmarks import vit_torch
from benchmarks.step_case import LEARNING_RATE, WEIGHT, WEIGHT_DECAY, Case, Contender
from benchmarks.step_ours import batch_of, fresh, network


class TorchStep:
    """A step, eager or compiled; on a GPU where PyTorch has one."""

    def __init__(self, case: Case, contender: Contender) -> None:
        self._case = case
        self._cuda = torch.cuda.is_available()
        self._device = "cuda" if self._cuda else "cpu"
        self._half = contender.dtype == "bfloat16"
        if contender.kernel == "cudnn":
            _only_cudnn()
        model = network(case)
        batch = batch_of(case)
        self._images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).to(self._device)
        self._images = self._images.contiguous()
        self._labels = torch.from_numpy(batch["label"]).long().to(self._device)
        self._student, self._teacher = (
            vit_torch.from_jax(model, fresh(model, seed), contender.fused).to(self._device)
            for seed in (0, 1)
        )
        self._teacher.eval().requires_grad_(False)
        # The fused update is the faster one, the default is what scripts have.
        self._optimizer = torch.optim.AdamW(
            self._student.parameters(),
            LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            fused=True if contender.fused else None,
        )
        self._function = torch.compile(self._forward) if contender.fused else self._forward
        self.about = {
            "device": torch.cuda.get_device_name() if self._cuda else "cpu",
            "version": torch.__version__,
        }
        if contender.fused:
            begin = time.perf_counter()
            self._compute()  # without an update, so that the first step is everyone's first
            self.about["compile_s"] = round(time.perf_counter() - begin, 1)

    def _forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The logits, or the loss."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self._half):
            if self._case.what == "inference":
                return self._student(images)[0]
            networks = self._student, self._teacher
            return vit_torch.loss(self._case.what, WEIGHT, *networks, images, labels)

    def _compute(self) -> Tensor:
        """The loss, with its gradients; of an inference the logits."""
        if self._case.what == "inference":
            with torch.inference_mode():
                return self._function(self._images, self._labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._function(self._images, self._labels)
        loss.backward()
        return loss.detach()

    def __call__(self) -> float:
        """Takes a step and waits for it: the loss, or the logits' root mean square."""
        found = self._compute()
        if self._case.what == "inference":
            found = found.float().square().mean().sqrt()
        else:
            self._optimizer.step()
        if self._cuda:
            torch.cuda.synchronize()
        return found.item()

    def peak_bytes(self) -> int | None:
        """The most that PyTorch held on a GPU; None elsewhere."""
        return torch.cuda.max_memory_allocated() if self._cuda else None


def _only_cudnn() -> None:
    """Leaves cuDNN alone among the forms of fused attention, for this process."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    for others in ("flash", "mem_efficient", "math"):
        getattr(torch.backends.cuda, f"enable_{others}_sdp")(False)
