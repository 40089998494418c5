"""Video segmentation where the answer is known, on real videos, and as a command."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from colour_extractor import Colours, colours
from known_extractors import KnownExtractor, bright_or_not
from PIL import Image

import vit_jax_xfer as vjx
from vit_jax_xfer.evaluate.videos.__main__ import main
from vit_jax_xfer.evaluate.videos.mask_files import save_masks
from vit_jax_xfer.evaluate.videos.video import Video, read_object_mask
from vit_jax_xfer.evaluate.videos.video_benchmark import (
    VideoSegmentation,
    mask_enlargement,
    open_videos_benchmark,
    segment,
)
from vit_jax_xfer.features import cost_estimate
from vit_jax_xfer.features.backbone import backbone_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import patch_places
from vit_jax_xfer.models.lifting.bilinear import Bilinear
from vit_jax_xfer.pretrained.saved_models import save_file

SIDE = 24
COLOURS = np.array([[20, 20, 200], [200, 20, 20], [20, 200, 20], [200, 200, 20]], np.uint8)


def video(root, masks, name="video"):
    """A video in which each object has its own colour."""
    masks = np.asarray(masks, np.uint8)
    names = [f"{k:05}" for k in range(len(masks))]
    save_masks(root / name / "masks", names, masks)
    for stem, mask in zip(names, masks, strict=True):
        shown = COLOURS[np.where(mask == 255, 0, mask)]
        Image.fromarray(shown).save(root / name / f"{stem}.png")  # no losses
    files = [tuple(sorted(folder.glob("*.png"))) for folder in (root / name, root / name / "masks")]
    return Video(name, *files, masks.shape[:0:-1])


def moving(step, frames=4):
    """Two objects; the first one moves by `step` pixels a frame."""
    masks = np.zeros((frames, SIDE, SIDE), np.uint8)
    masks[:, 18:22, 3:20] = 2
    for k, mask in enumerate(masks):
        mask[2:6, step * k : step * k + 4] = 1
    return masks


def run(root, masks, extractor=None, **fields):
    return VideoSegmentation("fake", [video(root, masks)], SIDE, **fields)(extractor or colours())


@pytest.mark.parametrize("step", [0, 2, 5])
def test_perfect_features(tmp_path, step):
    result = run(tmp_path, moving(step))
    assert result.figures == {"J&F": 1, "J": 1, "F": 1}
    assert result.skipped == {
        "objects vanished on the grid": 0,
        "objects that appear later": 0,
        "videos": 0,
    }


def test_radius(tmp_path):
    # Of a jump of 5 with 4 wide, nothing is in reach; the other object stays where it is.
    result = run(tmp_path, moving(5), radius=1)
    assert result.figures == {"J&F": 0.5, "J": 0.5, "F": 0.5}
    assert run(tmp_path, moving(5), radius=0).figures["J&F"] == 1


def test_propagation_is_timed_where_there_are_many_frames(monkeypatch):
    ticks = (float(n) / 10 for n in range(9))
    monkeypatch.setattr(cost_estimate, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    extractor = KnownExtractor(bright_or_not)
    monkeypatch.setattr(extractor, "channels", lambda size: 2, raising=False)
    few, many = (
        VideoSegmentation("x", [SimpleNamespace(frames=range(n))], 32, radius=1) for n in (9, 10**6)
    )
    assert few.seconds_besides(extractor) == 0.0  # 4 × 4 cells, 9 near, 8 frames
    assert many.seconds_besides(extractor) == pytest.approx(1e5)


def test_reports_and_saved_masks(tmp_path):
    masks, reports = moving(2), []
    masks[0, 0, 20] = 255  # void isn't an object
    benchmark = VideoSegmentation(
        "fake", [video(tmp_path, masks)], SIDE, masks_folder=tmp_path / "out"
    )
    result = benchmark(colours(), lambda *done: reports.append(done))
    assert reports == [(k, 4) for k in range(1, 5)]
    assert result.figures["J&F"] == 1
    files = sorted((tmp_path / "out" / "colours" / "video").iterdir())
    assert [file.name for file in files] == [f"{k:05}.png" for k in range(4)]
    np.testing.assert_array_equal(
        [read_object_mask(f) for f in files], np.where(masks == 255, 0, masks)
    )


def test_numbers_with_gaps_change_no_figure(tmp_path):
    masks = moving(2)
    plain = run(tmp_path / "plain", masks)
    folder = tmp_path / "gaps"
    files = video(folder, masks)
    save_masks(folder / "video/masks", [x.stem for x in files.masks], masks * np.uint8(90))
    benchmark = VideoSegmentation("fake", [files], SIDE, masks_folder=tmp_path / "out")
    assert benchmark(colours()) == plain
    saved = sorted((tmp_path / "out/colours/video").iterdir())
    assert np.unique(read_object_mask(saved[-1])).tolist() == [0, 90, 180]


def test_features_that_are_no_numbers_name_the_frame(tmp_path):
    spoiled = colours()
    compute, spoiled._compute = spoiled._compute, lambda *x: compute(*x) / 0
    with pytest.raises(ValueError, match=r"00000\.png: features: .* NaN or infinite"):
        run(tmp_path, moving(0), spoiled)


def test_what_is_counted(tmp_path):
    masks = moving(0)
    masks[:, 9, 9] = 3  # a pixel that no centre of a cell hits
    later = np.where(np.arange(4)[:, None, None] < 2, 0, masks)  # not in the first mask
    videos = [video(tmp_path, masks), video(tmp_path, later, "empty")]
    reports = []
    result = VideoSegmentation("fake", videos, SIDE)(colours(4), lambda *done: reports.append(done))
    assert result.skipped == {
        "objects vanished on the grid": 1,
        "objects that appear later": 0,  # those of made-up videos aren't counted, open_videos does
        "videos": 1,
    }
    # The lost one counts as never found.
    whole = run(tmp_path / "whole", moving(0), colours(4)).figures
    assert 0.5 < whole["J"] < 1
    assert result.figures["J"] == pytest.approx(whole["J"] * 2 / 3, abs=0.02)
    assert reports[-1] == (8, 8)
    nothing = VideoSegmentation("fake", videos[1:], SIDE)(colours())
    assert np.isnan(nothing.figures["J&F"]) and nothing.skipped["videos"] == 1


@pytest.mark.parametrize(
    "fields",
    [{}, {"upsampler": Bilinear(4)}, {"upsampler": Bilinear(4), "steps": 2}, {"enlarge": 2}],
)
def test_all_grids(tmp_path, fields):
    # Objects of whole cells: what their corners lose is all there is to lose.
    masks = np.zeros((4, 48, 48), np.uint8)
    masks[:, 8:24, 8:40], masks[:, 28:44, 4:28] = 1, 2
    extractor = colours(4, **fields)
    result = VideoSegmentation("fake", [video(tmp_path, masks)], 48)(extractor)
    assert result.figures["J"] > 0.93 and result.figures["F"] > 0.9


def test_overlapping_cells_are_where_their_patches_are(tmp_path):
    # Colours of what lies in the middle of patches of 16 pixels, every 2 of 48.
    masks = np.zeros((4, 48, 48), np.uint8)
    masks[:, 11:22, 12:36], masks[:, 27:37, 11:32] = 1, 2  # no nearer to the border than a middle

    class Overlapping:
        backbone, name, enlarge = Colours(2), "overlapping", 1

        def side(self, size):
            return size

        def grid(self, size):
            return (17, 17)

        def places(self, image_size):
            return patch_places(image_size, 16, 2)

        def __call__(self, photos):
            fine = np.asarray(photos, np.float32).reshape(1, 24, 2, 24, 2, 3).mean((2, 4))
            middles = (fine[:, 3:20, 3:20] + fine[:, 4:21, 4:21]) / 2
            return jax.numpy.asarray(middles)

    result = VideoSegmentation("fake", [video(tmp_path, masks)], 48)(Overlapping())
    assert result.figures["J"] > 0.85 and result.figures["F"] > 0.9


def test_enlargement():
    # By the patch size as published, until a map were too large.
    assert mask_enlargement(16, (14, 14)) == mask_enlargement(16, (112, 112)) == 16
    assert mask_enlargement(8, (256, 256)) == 8 and mask_enlargement(16, (224, 224)) == 9
    assert mask_enlargement(16, (5000, 10)) == 1


def test_broken_frame(tmp_path):
    broken = video(tmp_path, moving(0))
    broken.frames[2].write_bytes(broken.frames[2].read_bytes()[:70])
    with pytest.raises(ValueError, match=r"cannot read image .*00002\.png"):
        VideoSegmentation("fake", [broken], SIDE)(colours())


@pytest.fixture(scope="module")
def micro():
    model = vjx.create_model("vit_micro_patch8", image_size=32, num_classes=0)
    return model, model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))


def test_real_video_is_reproducible(shared, micro):
    backbone, variables = backbone_of(*micro, "micro")
    extractor = FeatureExtractor("bilinear", backbone, (variables, {}), Bilinear(8))
    data = f"davis2016:{shared / 'data' / 'davis2016_val_3seq'}"
    benchmark = open_videos_benchmark(data, 64, limit=2, frames=4)
    reports = []
    first = benchmark(extractor, lambda *done: reports.append(done))
    assert reports[-1] == (8, 8)
    assert 0.1 < first.figures["J"] < 0.9
    assert first.figures["J&F"] == pytest.approx((first.figures["J"] + first.figures["F"]) / 2)
    assert benchmark(extractor) == first


def test_real_objects(shared, micro):
    backbone, variables = backbone_of(*micro, "micro")
    folder = shared / "data" / "cutie_examples_vos"
    first = read_object_mask(folder / "masks" / "bike" / "00000.png")
    frames = sorted((folder / "images" / "bike").glob("*.jpg"))[:3]
    masks, vanished = segment(
        FeatureExtractor("plain", backbone, (variables, {})), 64, frames, first
    )
    assert masks.shape == (3, *first.shape) and masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[0], first)
    assert set(np.unique(masks[1])) == set(np.unique(first)) - set(vanished)


def test_command(shared, micro, tmp_path, capsys):
    save_file(tmp_path / "micro.safetensors", *micro)
    arguments = [
        "--data", f"davis2016:{shared / 'data' / 'davis2016_val_3seq'}", "--limit", "1",
        "--frames", "3", "--size", "32", "--model", str(tmp_path / "micro.safetensors"),
        "--extractors", "plain,larger", "--save-masks", str(tmp_path / "masks"),
        "--out", str(tmp_path / "table.json"),
    ]  # fmt: skip
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("| features | grid | J&F | J | F | skipped objects vanished on the")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| plain", "| input ×2"]
    assert "davis2016, 1 of 2: plain" in err
    assert json.loads((tmp_path / "table.json").read_text())["frames"] == 3
    assert len(list((tmp_path / "masks" / "input_x2" / "blackswan").glob("0000?.png"))) == 3
    assert main(arguments[:-2]) == 1
    assert "--save-masks" in capsys.readouterr().err
    assert main([*arguments[:-4], "--frames", "2"]) == 1
    assert capsys.readouterr().err == "error: --frames: got 2, expected at least 3\n"
