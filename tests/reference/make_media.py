"""Writes tests/golden/media: image and video files, and what the reference makes of them.

Pictures are drawn from fixed seeds. Expected pixels are those of Pillow, torchvision and
qwen_vl_utils, kept as SHA-256 where they must be met bit for bit and as PNG files where decoders
may differ by a step. Run it with the packages of requirements.txt and qwen_vl_utils.
"""

import base64
import hashlib
import io
import itertools
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from media_files import bmp_files, gif_files, jpeg_files, png_files, tiff_files, webp_files
from PIL import Image
from qwen_vl_utils import vision_process
from torchvision import transforms
from torchvision.transforms import InterpolationMode

OUT = Path(__file__).resolve().parents[1] / "golden" / "media"
FACTOR = 32
logging.disable(logging.WARNING)
warnings.simplefilter("ignore")


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes()).hexdigest()


def noise(width: int, height: int, seed: int) -> np.ndarray:
    """The bytes that resample's tests draw: the high bytes of a linear congruential generator."""
    state, out = seed, bytearray(width * height * 3)
    for at in range(len(out)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[at] = state >> 56
    return np.frombuffer(bytes(out), np.uint8).reshape(height, width, 3)


def resample_goldens() -> None:
    """Lines `kind width height new_width new_height seed sha256`."""
    sizes = [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 97]
    random = np.random.default_rng(5)
    sides = (1, 2, 17, 33), (1, 16, 31), (1, 3, 32, 97), (1, 5, 64)
    cases = list(itertools.product(*sides))
    for _ in range(200):
        cases.append(tuple(int(n) for n in random.choice(sizes, 4)))
    cases += [(640, 480, 320, 256), (400, 300, 1024, 768), (1280, 720, 1280, 704),
              (720, 1280, 704, 1280), (1000, 750, 96, 64), (300, 200, 299, 201),
              (257, 255, 32, 32)]
    # Since Pillow 13 rows go first where more than twice as many rows go as columns.
    cases += [(300, 900, 290, 879), (300, 900, 290, 880), (600, 1200, 500, 1000),
              (600, 1201, 500, 1000), (40, 3000, 64, 2000), (1201, 600, 1000, 500)]
    lines = []
    for seed, (w, h, w2, h2) in enumerate(cases):
        pixels = noise(w, h, seed)
        small = Image.fromarray(pixels).resize((w2, h2))
        lines.append(f"pillow {w} {h} {w2} {h2} {seed} {digest(np.array(small))}")
    (OUT / "resample.txt").write_text("\n".join(lines) + "\n")
    cases = [(64, 64, 32, 32), (64, 128, 96, 160), (192, 128, 160, 96), (33, 65, 47, 21),
             (640, 448, 96, 64), (128, 64, 128, 96), (100, 80, 32, 80), (1, 5, 7, 3)]
    lines, raw = [], bytearray()
    for seed, (w, h, w2, h2) in enumerate(cases):
        pixels = torch.from_numpy(noise(w, h, seed).copy()).permute(2, 0, 1)[None]
        small = transforms.functional.resize(
            pixels, [h2, w2], interpolation=InterpolationMode.BICUBIC, antialias=True)
        small = small[0].permute(1, 2, 0).numpy()
        lines.append(f"{w} {h} {w2} {h2} {seed} {len(raw)}")
        raw += small.tobytes()
    (OUT / "torch.txt").write_text("\n".join(lines) + "\n")
    (OUT / "torch.bin").write_bytes(bytes(raw))


def size_goldens() -> None:
    """Lines of sizes and of frames chosen: `image w h w2 h2`, `list ...`, `frame n list w h w2 h2`
    and `file frames video_fps fps frames_max places...`."""
    random = np.random.default_rng(11)
    lines = []

    def resized(kind: str, w: int, h: int, factor: int, **bounds) -> None:
        try:
            h2, w2 = vision_process.smart_resize(h, w, factor, **bounds)
            lines.append(f"{kind} {w} {h} {w2} {h2}" if h2 and w2 else f"{kind} {w} {h} 0 0")
        except ValueError:
            lines.append(f"{kind} {w} {h} 0 0")

    sizes = [(int(2 ** random.uniform(0, 13)), int(2 ** random.uniform(0, 13))) for _ in range(300)]
    sizes += [(16 * n, 16 * m) for n, m in random.integers(1, 80, (100, 2))]
    sizes += [(1, 200), (1, 201), (200, 1), (201, 1), (48, 48), (80, 80), (1280, 720), (65535, 1)]
    for w, h in sizes:
        w, h = int(w), int(h)
        resized("image", w, h, 32, min_pixels=4 * 32**2, max_pixels=1800 * 32**2)
        resized("list", w, h, 64)
        n = int(random.integers(1, 33)) * 2
        listed = int(random.integers(0, 2))
        if not listed:
            n *= 12
        total = 10 * 768 * 32**2 if listed else vision_process.MODEL_SEQ_LEN * 32 * 32 * 0.9
        low = 128 * 32**2
        high = max(min(768 * 32**2, total / n * 2), int(low * 1.05))
        resized(f"frame {n} {listed}", w, h, 32, min_pixels=low, max_pixels=high)
    for _ in range(400):
        frames = int(2 ** random.uniform(0, 14))
        video_fps = float(random.choice([10, 23.976, 24, 25, 29.97, 30, 60, 1, 0.5, 100 / 7]))
        fps = float(random.choice([1, 2, 0.1, 5, 0.333, 30]))
        most = int(random.choice([64, 64, 2, 4, 7, 63, 128, 768, 1]))
        try:
            n = vision_process.smart_nframes({"fps": fps, "max_frames": most}, frames, video_fps)
            places = torch.linspace(0, frames - 1, n).round().long().tolist()
        except ValueError:
            places = []
        places = " ".join(str(place) for place in places)
        lines.append(f"file {frames} {video_fps!r} {fps!r} {most} {places}".rstrip())
    for frames in [*range(1, 200, 7), 64, 65, 127, 128, 500, 767, 768]:
        places = list(range(frames))
        if frames > 64:
            places = np.linspace(0, frames - 1, 64, dtype=int).tolist()
        lines.append(f"places {frames} " + " ".join(str(place) for place in places))
    (OUT / "sizes.txt").write_text("\n".join(lines) + "\n")


def reference(image: Image.Image) -> np.ndarray:
    """The pixels of an image as the embedder's script asks for them."""
    fetched = vision_process.fetch_image(
        {"image": image, "min_pixels": 4 * FACTOR**2, "max_pixels": 1800 * FACTOR**2},
        image_patch_size=16)
    return np.array(fetched)


def sampled(pixels: np.ndarray) -> str:
    """Every 997th number."""
    return base64.b64encode(np.ascontiguousarray(pixels).reshape(-1)[::997].tobytes()).decode()


def steps(video: torch.Tensor, metadata: dict) -> dict:
    """What the processor is given of a video."""
    frames = video.permute(0, 2, 3, 1).numpy()
    assert (frames == np.rint(frames)).all()
    frames = frames.astype(np.uint8)
    indices, fps = list(metadata["frames_indices"]), metadata["fps"]
    times = [index / fps for index in indices]
    seconds = [(times[at] + times[at + 1]) / 2 for at in range(0, len(times), 2)]
    return {"width": frames.shape[2], "height": frames.shape[1], "seconds": seconds,
            "sampled": sampled(frames)}


def list_video(frames: list[Image.Image]) -> dict:
    """A list, as the embedder's script and process_vision_info take it."""
    if len(frames) > 64:
        places = np.linspace(0, len(frames) - 1, 64, dtype=int).tolist()
        frames = [frames[place] for place in places]
    video, metadata = vision_process.fetch_video(
        {"video": frames, "total_pixels": 10 * 768 * FACTOR**2}, image_patch_size=16,
        return_video_metadata=True)
    return steps(video, metadata)


def file_video(frames: list[np.ndarray], video_fps: float, fps: float, most: int) -> dict:
    """A file, as fetch_video takes it once its frames are decoded."""
    def read(ele):
        n = vision_process.smart_nframes(ele, total_frames=len(frames), video_fps=video_fps)
        places = torch.linspace(0, len(frames) - 1, n).round().long().tolist()
        video = torch.from_numpy(np.stack([frames[place] for place in places]))
        metadata = {"fps": video_fps, "frames_indices": places}
        return video.permute(0, 3, 1, 2), metadata, 0.0

    vision_process.VIDEO_READER_BACKENDS["made"] = read
    vision_process.get_video_reader_backend = lambda: "made"
    video, metadata = vision_process.fetch_video(
        {"video": "file", "fps": fps, "max_frames": most}, image_patch_size=16,
        return_video_metadata=True)
    return steps(video, metadata)


def shown(data: bytes) -> list[np.ndarray]:
    """Frames of an animated image on white."""
    image = Image.open(io.BytesIO(data))
    frames = []
    for at in range(image.n_frames):
        image.seek(at)
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        frames.append(np.array(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")))
    return frames


def video_goldens(files: dict[str, bytes]) -> list[dict]:
    opened = lambda name: Image.open(io.BytesIO(files[name]))
    lists = [
        ["rgb.png"], ["rgb.png", "palette.gif", "lossless.webp"],
        ["rgba.png", "grey.png", "palette.png", "rgb.bmp"], ["large.png", "large.png"],
        ["odd.png"] * 5, ["rgb.png", "rgb.bmp"] * 40,
    ]
    out = [{"files": names, **list_video([opened(name) for name in names])} for names in lists]
    animated = ("animated.gif", 4.0), ("previous.gif", 2.5), ("animated.webp", 1 / 0.3)
    for name, video_fps in animated:
        for fps, most in ((1.0, 64), (2.0, 64), (30.0, 5)):
            made = file_video(shown(files[name]), video_fps, fps, most)
            out.append({"file": name, "fps": fps, "frames_max": most, **made})
    return out


def main() -> None:
    (OUT / "files").mkdir(parents=True, exist_ok=True)
    resample_goldens()
    size_goldens()
    exact = png_files() | gif_files() | webp_files() | bmp_files() | tiff_files()
    near = jpeg_files()
    images = []
    for name, data in (exact | near).items():
        (OUT / "files" / name).write_bytes(data)
        try:
            pixels = reference(Image.open(io.BytesIO(data)))
        except (OSError, ValueError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        entry = {"file": name, "width": pixels.shape[1], "height": pixels.shape[0]}
        if name in near:
            expected = f"{name}.expected.png"
            Image.fromarray(pixels).save(OUT / "files" / expected, optimize=True)
            entry["expected"] = expected
        else:
            entry["sha256"] = digest(pixels)
        images.append(entry)
    videos = video_goldens(exact)
    (OUT / "media.json").write_text(json.dumps({"images": images, "videos": videos}, indent=1))


if __name__ == "__main__":
    main()
