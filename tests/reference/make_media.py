"""Writes tests/golden/media: image and video files, and what the reference makes of them.

Pictures are drawn from fixed seeds. Expected pixels are those of Pillow, torchvision and
qwen_vl_utils, kept as SHA-256 where they must be met bit for bit and as PNG files where decoders
may differ by a step. Run it with the packages of requirements.txt and qwen_vl_utils.
"""

import base64
import hashlib
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from qwen_vl_utils import vision_process
from torchvision import transforms
from torchvision.transforms import InterpolationMode

OUT = Path(__file__).resolve().parents[1] / "golden" / "media"
FACTOR = 32


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes()).hexdigest()


def noise(width: int, height: int, seed: int) -> np.ndarray:
    """The bytes that resample's tests draw: the high bytes of a linear congruential generator."""
    state, out = seed, bytearray(width * height * 3)
    for at in range(len(out)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[at] = state >> 56
    return np.frombuffer(bytes(out), np.uint8).reshape(height, width, 3)


def scene(width: int, height: int, seed: int, channels: int = 3) -> np.ndarray:
    """Smooth colours, some discs with sharp edges, a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, c = random.uniform(0.02, 0.2, 3)
        planes.append(127 + 80 * np.sin(a * x + c) + 45 * np.cos(b * y + a * x))
    out = np.stack(planes, -1)
    for _ in range(6):
        cx, cy = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(3, max(width, height) / 4)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        out[inside] = random.uniform(0, 255, channels)
    out += random.normal(0, 4, out.shape)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def resample_goldens() -> None:
    """Lines `kind width height new_width new_height seed sha256`."""
    sizes = [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 97]
    random = np.random.default_rng(5)
    cases = [(w, h, w2, h2) for w in (1, 2, 17, 33) for h in (1, 16, 31) for w2 in (1, 3, 32, 97)
             for h2 in (1, 5, 64)]
    for _ in range(200):
        cases.append(tuple(int(n) for n in random.choice(sizes, 4)))
    cases += [(640, 480, 320, 256), (400, 300, 1024, 768), (1280, 720, 1280, 704),
              (720, 1280, 704, 1280), (1000, 750, 96, 64), (300, 900, 290, 879), (300, 900, 290, 880),
              (600, 1200, 500, 1000), (600, 1201, 500, 1000), (40, 3000, 64, 2000), (300, 200, 299, 201), (257, 255, 32, 32)]
    lines = []
    for seed, (w, h, w2, h2) in enumerate(cases):
        pixels = noise(w, h, seed)
        small = Image.fromarray(pixels).resize((w2, h2))
        lines.append(f"pillow {w} {h} {w2} {h2} {seed} {digest(np.array(small))}")
    (OUT / "resample.txt").write_text("\n".join(lines) + "\n")
    cases = [(64, 64, 32, 32), (64, 128, 96, 160), (192, 128, 416, 288), (33, 65, 47, 21),
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


def reference(image: Image.Image) -> np.ndarray:
    """The pixels of an image as the embedder's script asks for them."""
    fetched = vision_process.fetch_image(
        {"image": image, "min_pixels": 4 * FACTOR**2, "max_pixels": 1800 * FACTOR**2},
        image_patch_size=16)
    return np.array(fetched)


def save(name: str, image: Image.Image, **options) -> str:
    image.save(OUT / "files" / name, **options)
    return name


if __name__ == "__main__":
    (OUT / "files").mkdir(parents=True, exist_ok=True)
    resample_goldens()
