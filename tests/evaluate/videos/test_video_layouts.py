"""DAVIS's folders: what is read from them, and what is refused by name."""

import numpy as np
import pytest
from clutter import clutter
from PIL import Image

from vit_jax_xfer.evaluate.folder_name import folder_name
from vit_jax_xfer.evaluate.videos.mask_files import palette, save_masks
from vit_jax_xfer.evaluate.videos.video import read_object_mask
from vit_jax_xfer.evaluate.videos.video_benchmark import VideoSegmentation
from vit_jax_xfer.evaluate.videos.video_layouts import open_videos


def write(root, name, masks, size=(16, 12)):
    """A video of grey frames with these masks."""
    frames, annotations = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    frames.mkdir(parents=True)
    for k in range(len(masks)):
        Image.new("RGB", size).save(frames / f"{k:05}.jpg")
    save_masks(annotations, [f"{k:05}" for k in range(len(masks))], np.asarray(masks, np.uint8))


def listed(root, year, text):
    (root / "ImageSets" / year).mkdir(parents=True)
    (root / "ImageSets" / year / "val.txt").write_text(text)


MASKS = np.zeros((5, 12, 16), np.uint8)
MASKS[:, :4, :4], MASKS[:, 6:, 6:] = 1, 2


@pytest.fixture
def davis(tmp_path):
    write(tmp_path, "swan", MASKS)
    write(tmp_path, "cow", MASKS)
    write(tmp_path, "train-only", MASKS)
    listed(tmp_path, "2017", "swan\ncow\n\n")
    return tmp_path


def test_davis2017(davis):
    name, videos = open_videos(f"davis2017:{davis}")
    assert name == "davis2017" and [video.name for video in videos] == ["swan", "cow"]
    swan = videos[0]
    np.testing.assert_array_equal(swan.truth(), MASKS)
    assert [video.later for video in videos] == [0, 0]
    assert [file.name for file in swan.frames] == [f"{k:05}.jpg" for k in range(5)]
    assert swan.size == (16, 12)
    clutter(davis)
    _, short = open_videos(f"davis2017:{davis}", limit=1, frames=3)
    assert [(len(v.frames), len(v.masks), v.name) for v in short] == [(3, 3, "swan")]


def test_davis2016(tmp_path):
    for name in ("b", "a"):
        write(tmp_path, name, (MASKS > 0) * 255)
    clutter(tmp_path)
    name, videos = open_videos(f"davis2016:{tmp_path}")
    assert name == "davis2016" and [video.name for video in videos] == ["a", "b"]
    np.testing.assert_array_equal(videos[0].truth(), MASKS > 0)
    # As DAVIS 2016 writes its list: a line a frame.
    lines = [f"/JPEGImages/480p/b/{k:05}.jpg /Annotations/480p/b/{k:05}.png" for k in range(5)]
    listed(tmp_path, "480p", "\n".join(lines))
    assert [video.name for video in open_videos(f"davis2016:{tmp_path}")[1]] == ["b"]


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    """As ffmpeg and cameras name them, without zeros before; a video's name may have a space."""
    write(tmp_path, "two words", np.repeat(MASKS[:1], 12, axis=0))
    for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for k in range(12):
            file = tmp_path / kind / "480p" / "two words" / f"{k:05}.{ending}"
            file.rename(file.with_name(f"shot2_{k}.{ending}"))
    listed(tmp_path, "2017", "two words\n")
    (video,) = open_videos(f"davis2017:{tmp_path}")[1]
    expected = [f"shot2_{k}" for k in range(12)]
    assert [file.stem for file in video.frames] == expected
    assert [file.stem for file in video.masks] == expected


def test_videos_without_any_object(tmp_path):
    write(tmp_path, "a", np.zeros((4, 12, 16), np.uint8))
    with pytest.raises(ValueError, match=r"00000\.png: has no object, nor has any video's first"):
        open_videos(f"davis2016:{tmp_path}")
    write(tmp_path, "b", (MASKS > 0) * 255)
    assert len(open_videos(f"davis2016:{tmp_path}")[1]) == 2


def test_the_other_year(davis, tmp_path_factory):
    with pytest.raises(ValueError, match=r"00000\.png: values \[0, 1, 2\].*davis2017:PATH"):
        open_videos(f"davis2016:{davis}")
    root = tmp_path_factory.mktemp("davis2016")
    write(root, "a", (MASKS > 0) * 255)
    with pytest.raises(ValueError, match=r"val\.txt: this list of videos is missing"):
        open_videos(f"davis2017:{root}")
    listed(root, "2017", "a")
    with pytest.raises(ValueError, match=r"00000\.png: has values 0 and 255 alone.*davis2016:PATH"):
        open_videos(f"davis2017:{root}")


@pytest.mark.parametrize("data", ["davis", "davis2016:", "davis2016:/nowhere", "ytvos:/tmp"])
def test_unknown_data(data):
    with pytest.raises(ValueError, match="data: "):
        open_videos(data)


def test_what_is_missing(davis):
    data = f"davis2017:{davis}"
    masks, frames = davis / "Annotations" / "480p" / "cow", davis / "JPEGImages" / "480p" / "cow"
    with pytest.raises(ValueError, match="frames: got 2, expected at least 3"):
        open_videos(data, frames=2)
    (masks / "00003.png").rename(masks / "00007.png")
    with pytest.raises(ValueError, match=r"00003\.jpg: no file of that name in .*Annotations"):
        open_videos(data)
    (masks / "00007.png").rename(masks / "00003.png")
    (frames / "00004.jpg").unlink()
    with pytest.raises(ValueError, match=r"00004\.png: no file of that name in .*JPEGImages"):
        open_videos(data)
    Image.new("RGB", (15, 12)).save(frames / "00004.jpg")
    with pytest.raises(ValueError, match=r"00004\.jpg: \(15, 12\) pixels.*has \(16, 12\)"):
        open_videos(data)
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(frames / "00004.jpg")
    (frames / "00004.jpg").write_bytes((frames / "00004.jpg").read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"video cow: 1 broken .* image .*00004\.jpg"):
        open_videos(data)
    (frames / "00004.jpg").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read image .*00004\.jpg"):
        open_videos(data)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("..")
    with pytest.raises(ValueError, match=r"val.txt: '\.\.' is no name of a file inside"):
        open_videos(data)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("/x")
    with pytest.raises(ValueError, match="val.txt: no videos in it, or a line without one"):
        open_videos(data)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("goat")
    with pytest.raises(ValueError, match="goat: this folder of a video is missing"):
        open_videos(data)


def test_masks_that_are_none(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: mode RGB, expected a palette"):
        read_object_mask(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot read mask .*x\.png"):
        read_object_mask(tmp_path / "x.png")


def test_masks_in_grey_colours_are_read_and_all_before_the_first_video(davis):
    masks = davis / "Annotations" / "480p"
    for file, mask in zip(sorted((masks / "swan").iterdir()), MASKS, strict=True):
        Image.fromarray(np.stack([mask] * 3, -1)).save(file)
    _, videos = open_videos(f"davis2017:{davis}")
    np.testing.assert_array_equal(videos[0].truth(), MASKS)
    Image.fromarray(np.full((12, 16), 300, np.uint16)).save(masks / "cow" / "00004.png")
    with pytest.raises(ValueError, match=r"cow.00004\.png: a value of 300, expected objects"):
        open_videos(f"davis2017:{davis}")


def test_a_first_mask_without_objects_does_not_hide_masks_of_one_object(davis):
    one = (MASKS > 0) * np.uint8(255)
    one[0] = 0
    save_masks(davis / "Annotations/480p/cow", [f"{k:05}" for k in range(5)], one)
    with pytest.raises(ValueError, match=r"00000\.png: has values 0 and 255 alone"):
        open_videos(f"davis2017:{davis}")


def test_frames_of_any_format(davis):
    frames = davis / "JPEGImages" / "480p" / "cow"
    Image.open(frames / "00002.jpg").save(frames / "00002.PNG")
    with pytest.raises(ValueError, match="00002.*another file there is the same frame"):
        open_videos(f"davis2017:{davis}")
    (frames / "00002.jpg").unlink()
    names = [file.name for file in open_videos(f"davis2017:{davis}")[1][1].frames]
    assert names[1:4] == ["00001.jpg", "00002.PNG", "00003.jpg"]


def test_saved_masks(tmp_path, shared):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    save_masks(tmp_path / "new" / "cow", ["00000"], mask[None])
    image = Image.open(tmp_path / "new" / "cow" / "00000.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(image, mask)
    # The colours of published masks.
    real = Image.open(shared / "data" / "cutie_examples_vos" / "masks" / "bike" / "00000.png")
    colours = np.asarray(real.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette()[:3], colours[:3])
    assert palette()[20].tolist() == [0, 64, 128] and palette()[255].tolist() == [224, 224, 192]


def test_names_of_folders():
    assert folder_name("LiFT ×1") == "LiFT_x1"
    assert folder_name("LiFT runs/a b ×2") == "LiFT_runs_a_b_x2"


def test_objects_that_appear_later_are_counted(davis):
    masks = MASKS.copy()
    masks[2, 10:, :4], masks[3:, 10:, :4], masks[4, 0, 0] = 9, 7, 255
    write(davis, "later", masks)
    listed(davis / "more", "2017", "later\n")
    for kind in ("JPEGImages", "Annotations"):
        (davis / "more" / kind).symlink_to(davis / kind)
    (video,) = open_videos(f"davis2017:{davis / 'more'}")[1]
    assert video.later == 2
    counted = VideoSegmentation("davis2017", [video, video], 16).result([])
    assert counted.skipped["objects that appear later"] == 4
    # Frames that nothing could compute with are named before anything is computed.
    frame = davis / "JPEGImages/480p/later/00003"
    frame.with_suffix(".jpg").unlink()
    Image.fromarray(np.zeros((12, 16), np.uint16)).save(frame.with_suffix(".png"))
    with pytest.raises(ValueError, match="00003.png: mode I;16, expected 8 bits per channel"):
        open_videos(f"davis2017:{davis / 'more'}")
