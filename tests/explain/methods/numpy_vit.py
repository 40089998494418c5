"""A vision transformer in numpy, 64 bits, by its definition, whose maps can be moved."""

import numpy as np
from scipy.special import erf


def layer_norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    width = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / width * params["scale"] + params["bias"]


def dense(x, params):
    return x @ params["kernel"] + params["bias"]


class NumpyVit:
    """The plain network of `model` (class pooling) on one image (H, W, 3) at a time."""

    def __init__(self, model, params):
        def wide(tree):
            if isinstance(tree, dict):
                return {name: wide(value) for name, value in tree.items()}
            return np.asarray(tree, np.float64)

        self.patch, self.depth, self.params = model.patch_size, model.depth, wide(dict(params))

    def embed(self, image):
        p, params = self.patch, self.params
        h, w = image.shape[0] // p, image.shape[1] // p
        patches = image.reshape(h, p, w, p, 3).transpose(0, 2, 1, 3, 4).reshape(h * w, -1)
        kernel = params["patch_embed"]["kernel"]
        tokens = patches @ kernel.reshape(-1, kernel.shape[-1]) + params["patch_embed"]["bias"]
        return np.concatenate([params["cls_token"][0], tokens]) + params["pos_embed"][0]

    def block(self, tokens, layer, moved=0.0):
        """(tokens after the block, its map (H, T, T)); `moved` is added to the map."""
        params = self.params[f"blocks_{layer}"]
        attention = params["attention"]
        kernel, bias = attention["qkv"]["kernel"], attention["qkv"]["bias"]
        normed = layer_norm(tokens, params["norm1"])
        q, k, v = np.einsum("tc,cihd->ithd", normed, kernel) + bias[:, None]
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True) + moved
        out = np.einsum("hts,shd->thd", weights, v)
        projection = attention["proj"]
        tokens = tokens + np.einsum("thd,hdc->tc", out, projection["kernel"]) + projection["bias"]
        hidden = dense(layer_norm(tokens, params["norm2"]), params["mlp"]["fc1"])
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        return tokens + dense(hidden, params["mlp"]["fc2"]), weights

    def classify(self, token):
        """Logits (K,) of a class token (C,) after the last block."""
        return dense(layer_norm(token, self.params["norm"]), self.params["head"])

    def logits(self, image):
        tokens = self.embed(np.asarray(image, np.float64))
        for layer in range(self.depth):
            tokens, _ = self.block(tokens, layer)
        return self.classify(tokens[0])


def slopes(function, x, step=1e-5):
    """The derivative of a number by each element of x, by central differences."""
    found = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[place] = step
        found[place] = (function(x + moved) - function(x - moved)) / (2 * step)
    return found
