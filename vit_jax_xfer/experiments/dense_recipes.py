"""The published recipes of detection and segmentation. Sources: each function's docstring."""

from ml_collections import ConfigDict

from vit_jax_xfer.data.augment_operations import MEAN_COLOUR

GREY = (127, 127, 127)  # which normalize(0.5, 0.5) makes 0, within half a level
# Weight decay as detectron2's ViTDet has it: of biases and tables of offsets too. Spared are the
# blocks' norms, which are PyTorch's (pyramid and heads have a class of their own), and positions.
SPARED_OF_VITDET = ((r".*/norm[12]/[a-z]+|(.*/)?pos_embed", False), (".*", True))
ALL_DECAYS = ((".*", True),)


def crops_of_pixels(
    size: int, normalize: str = "normalize", fill: tuple[int, int, int] = MEAN_COLOUR
) -> str:
    """mmsegmentation's pipeline of training: scaled, a square cut out, flipped, colours jittered.

    A crop is drawn again where one class has over 75 % of it. fill: the border's colour, which
    normalisation makes 0.
    """
    return (
        f"random_resize(0.5, 2.0, short={size}, long={4 * size})"
        f"|random_crop({size}, pad_smaller=True, fill={fill}, most_of_one=0.75)|flip"
        f"|color_jitter(0.125, 0.5, 0.5, 0.05)|{normalize}"
    )


def _pixels(config: ConfigDict, size: int, steps: int, batch_size: int) -> None:
    """What the recipes of segmentation share: iterations, 1,500 of warm-up, whole images at test.

    Evaluation images have the crop's side as their short one and lie in a square of twice that;
    windows of the crop's size slide over it, a third of them overlapping.
    """
    config.epochs, config.steps, config.batch_size = None, steps, batch_size
    config.data.pipeline = crops_of_pixels(size)
    config.eval.pipeline = f"resize_pad({2 * size}, short={size})|normalize"
    config.eval.batch_size = 8
    config.task.window, config.task.window_stride = size, size * 2 // 3
    config.optim.end_lr, config.optim.lr_for_batch = 0.0, 0
    config.optim.warmup_steps = 1500
    config.checkpoint.best_metric = "miou"
    config.eval.every = steps // 10


def train_upernet(config: ConfigDict, layer_decay: float, drop_path: float) -> None:
    """AdamW as MAE's UPerNet is trained on ADE20K (2111.06377; implus/mae_segmentation).

    160,000 iterations of 16 crops of 512, 1e-4 with layer decay, decay 0.05, a straight fall to 0
    from the first one on, whose beginning the warm-up covers.
    Not their blocks' relative positions and LayerScale, which no MAE file has weights for.
    """
    _pixels(config, 512, 160_000, 16)
    config.optim.lr, config.optim.weight_decay = 1e-4, 0.05
    config.optim.layer_decay, config.optim.poly_power = layer_decay, 1.0
    config.optim.warmup_from, config.optim.cosine_from = 1e-10, "start"
    config.model.drop_path = drop_path


def train_linear(config: ConfigDict) -> None:
    """A linear head on a frozen encoder as DINOv3's authors train it on ADE20K (2508.10104).

    40,000 iterations of 16 crops of 518, which are whole patches of DINOv2's (theirs are of 512),
    AdamW at 1e-3, decay 1e-3 of all that learns, a cosine to 0, a tenth of the channels dropped.
    """
    _pixels(config, 518, 40_000, 16)
    config.optim.lr, config.optim.weight_decay = 1e-3, 1e-3
    config.optim.decay_rules = ALL_DECAYS
    config.optim.warmup_from = 1e-6
    config.optim.lr_rules = (("encoder/.*", 0.0), (".*", 1.0))
    config.model.classifier_dropout = 0.1


def train_segmenter(config: ConfigDict) -> None:
    """SGD as Segmenter's authors train on ADE20K (2105.05633): 64 epochs of batches of 8.

    1e-3 falling to 1e-5 by the power 0.9, Nesterov's momentum (timm's SGD), no decay and no
    warm-up, stochastic depth 0.1. Images in [-1, 1], as AugReg's weights take them; windows that do
    not overlap.
    """
    _pixels(config, 512, 160_000, 8)
    config.steps, config.epochs, config.optim.warmup_steps = None, 64.0, None
    _sgd(config)
    config.optim.name, config.optim.end_lr = "nesterov", 1e-5
    config.model.drop_path = 0.1
    config.task.window_stride = 512
    normalize = "normalize(0.5, 0.5)"
    config.data.pipeline = crops_of_pixels(512, normalize, GREY)
    config.eval.pipeline = f"resize_pad(1024, short=512, fill={GREY})|{normalize}"


def train_setr(config: ConfigDict) -> None:
    """SGD as SETR's authors train on ADE20K (2012.15840): 160,000 iterations of 16 crops of 512.

    1e-3, ten times that for the heads, falling to 1e-4 by the power 0.9; no decay and no warm-up.
    """
    _pixels(config, 512, 160_000, 16)
    config.optim.warmup_steps = None
    _sgd(config)
    config.optim.end_lr = 1e-4  # mmsegmentation's, of 160,000 iterations
    config.optim.lr_rules = (("encoder/.*", 1.0), (".*", 10.0))


def _sgd(config: ConfigDict) -> None:
    config.optim.update({"name": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0})
    config.optim.poly_power = 0.9


def segment_small(config: ConfigDict) -> None:
    """Pixels on two cores: a ViT of width 192 and depth 4, 1,000 steps of 8 at 192 pixels."""
    config.data.source = "masks:/data/coco128/images:/data/coco128/semantic_segmentation/masks"
    config.data.pipeline = (
        "random_resize(0.5, 2.0, short=192)"
        f"|random_crop(192, pad_smaller=True, fill={MEAN_COLOUR})|flip|normalize"
    )
    config.eval.pipeline = "resize_pad(192)|normalize"
    config.eval.split = "val"
    config.model.depth, config.model.image_size = 4, 192
    config.epochs, config.steps, config.batch_size, config.eval.batch_size = None, 1000, 8, 8
    config.optim.lr, config.optim.weight_decay, config.optim.warmup_steps = 5e-4, 0.05, 100
    config.optim.clip_norm = 1.0
    config.checkpoint.best_metric, config.eval.every = "miou", 250


def detect_on_coco(config: ConfigDict, size: int = 1024) -> None:
    """COCO as ViTDet's authors train on it (2203.16527; detectron2): large-scale jitter.

    Batches of 64, AdamW without clipping, 250 steps of warm-up from a thousandth, the rate at a
    tenth from 88.9 % and a hundredth from 96.3 % of the run on.
    """
    config.data.source, config.data.mask_size = "coco:/data/coco", 56
    config.data.pipeline = f"lsj({size}, 0.1, 2.0)|flip|normalize"
    config.eval.pipeline, config.eval.batch_size = f"resize_pad({size})|normalize", 8
    config.eval.split = "val"
    config.batch_size, config.eval.every = 64, 20_000
    config.optim.warmup_steps, config.optim.warmup_from = 250, 1e-7
    config.optim.drops = (0.889, 0.963)
    config.checkpoint.best_metric = "AP"


def train_vitdet(
    config: ConfigDict, epochs: float, layer_decay: float, drop_path: float, spares: bool = True
) -> None:
    """ViTDet from MAE's weights (2203.16527): 1e-4, decay 0.1, layer decay by size.

    spares: whether anything is spared from weight decay, as it is but of the huge one.
    """
    detect_on_coco(config)
    config.epochs, config.optim.lr, config.optim.weight_decay = epochs, 1e-4, 0.1
    config.optim.layer_decay, config.model.drop_path = layer_decay, drop_path
    config.optim.decay_rules = SPARED_OF_VITDET if spares else ALL_DECAYS


def train_vitdet_from_scratch(config: ConfigDict, epochs: float, drop_path: float) -> None:
    """ViTDet from random weights (2203.16527, table 4): the fair baseline of any transfer.

    1.6e-4, decay 0.2, no layer decay, three times the epochs for a ViT-B and twice for a ViT-L.
    """
    detect_on_coco(config)
    config.epochs, config.optim.lr, config.optim.weight_decay = epochs, 1.6e-4, 0.2
    config.optim.warmup_from, config.optim.decay_rules = 1.6e-7, SPARED_OF_VITDET
    config.model.drop_path = drop_path


def detect_small(config: ConfigDict) -> None:
    """Objects on two cores: 2,000 steps of 8 images of 256 pixels."""
    config.data.source, config.data.mask_size = "coco:/data/coco128", 0
    config.data.pipeline = "lsj(256, 0.5, 1.5)|flip|normalize"
    config.eval.pipeline, config.eval.split = "resize_pad(256)|normalize", "val"
    config.model.image_size = 256
    config.epochs, config.steps, config.batch_size, config.eval.batch_size = None, 2000, 8, 8
    config.optim.lr, config.optim.weight_decay, config.optim.warmup_steps = 5e-4, 0.05, 100
    config.optim.clip_norm = 1.0
    config.checkpoint.best_metric, config.eval.every = "AP50", 500
