"""How far a run's network is from its teacher in what it attends to and in what it computes."""

from typing import Any

import jax
import numpy as np

from vit_jax_xfer.analysis.head_matching import image_divergence, matched_divergence
from vit_jax_xfer.analysis.layer_similarity import layer_cka, layer_features, layer_terms
from vit_jax_xfer.models.extract import encoder_of, extract
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.transfer.matching import match_layers
from vit_jax_xfer.transfer.tokens import layout_of

_LEAST = 4  # images, for CKA without bias


class TeacherDistance:
    """Images (B, H, W, 3) of both networks → metrics, means over the blocks of the first.

    explain_jsd: Jensen-Shannon divergence of heads, one to one by least mean cost; nats.
    explain_jsd_same_head: of heads of the same number, where both have as many.
    explain_cka: unbiased linear CKA of the mean patch after a block.
    A block is compared with the teacher's at the same share of the depth, the last with the last,
    as `match_layers` pairs them evenly.
    lacking: what can't be had, and why, in words.
    """

    def __init__(
        self,
        student: Network,
        teacher: Network,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        """shapes: of both networks' images (B, H, W, 3)."""
        self._networks = [encoder_of(one, {})[0] for one in (student, teacher)]
        own, other = (one.depth for one in self._networks)
        self._layers = match_layers("even", own, other, range(own))
        self._have_maps = all("attention" in one.collections for one in self._networks)
        self._same_tokens = (
            self._have_maps
            and len(
                {layout_of(one, shape) for one, shape in zip(self._networks, shapes, strict=True)}
            )
            == 1
        )
        self._enough = shapes[0][0] >= _LEAST
        self._seen = [jax.jit(_see(one, self._same_tokens)) for one in self._networks]

    @property
    def lacking(self) -> list[str]:
        """What is no metric, and why."""
        told = []
        if not self._have_maps:
            told.append("no explain_jsd: a filter network's blocks have no maps of all tokens")
        elif not self._same_tokens:
            told.append("no explain_jsd: the teacher's tokens are others than the student's")
        if not self._enough:
            told.append(f"no explain_cka: it takes {_LEAST} images or more in explain.images")
        return told

    def __call__(
        self, student: tuple[Any, jax.Array], teacher: tuple[Any, jax.Array]
    ) -> dict[str, float]:
        """student, teacher: each one's variables and images."""
        (maps, features), (other_maps, other_features) = (
            seen(*given) for seen, given in zip(self._seen, (student, teacher), strict=True)
        )
        found: dict[str, float] = {}
        if self._same_tokens:
            found |= self._divergences(maps, other_maps)
        if self._enough:
            table = layer_cka([layer_terms(features, other_features)])
            found["explain_cka"] = float(np.mean(table[np.arange(len(table)), list(self._layers)]))
        return found

    def _divergences(self, own: jax.Array, other: jax.Array) -> dict[str, float]:
        costs = [
            np.asarray(image_divergence(maps, other[layer]))
            for maps, layer in zip(own, self._layers, strict=True)
        ]
        if costs[0].shape[1] > costs[0].shape[2]:
            costs = [cost.swapaxes(1, 2) for cost in costs]
        found = {"explain_jsd": [matched_divergence(cost).divergence for cost in costs]}
        if costs[0].shape[1] == costs[0].shape[2]:
            same = [matched_divergence(cost, "identity").divergence for cost in costs]
            found["explain_jsd_same_head"] = same
        return {name: float(np.mean(values)) for name, values in found.items()}


def _see(network: Network, maps: bool) -> Any:
    def see(variables: Any, images: jax.Array) -> tuple[jax.Array | None, list[jax.Array]]:
        variables = network.encoder_variables(variables)
        found = extract(network, variables, images, attention=True).attention if maps else None
        return found, layer_features(network, variables, images, "mean")

    return see
