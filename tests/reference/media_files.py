"""Image files of every kind, drawn from fixed seeds: what Pillow writes, and by hand what it does not."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

W, H = 96, 64


def scene(width: int, height: int, seed: int, channels: int = 3) -> np.ndarray:
    """Smooth colours, some discs with sharp edges, a little noise at the top."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        a, b, c = random.uniform(0.02, 0.2, 3)
        planes.append(127 + 80 * np.sin(a * x + c) + 45 * np.cos(b * y + a * x))
    out = np.stack(planes, -1)
    for _ in range(6):
        cx, cy = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(3, max(width, height, 16) / 4)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        out[inside] = random.uniform(0, 255, channels)
    noisy = height // 4
    out[:noisy] += random.normal(0, 4, out[:noisy].shape)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def png(width, height, depth, color, rows: list[bytes], chunks=b"", interlace=0) -> bytes:
    """A PNG of raw rows, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    for kind, body in chunks or []:
        out += chunk(kind, body)
    return out + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def adam7(pixels: np.ndarray) -> list[bytes]:
    """Rows of the seven passes."""
    rows = []
    for x, y, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                         (1, 0, 2, 2), (0, 1, 1, 2)]:
        rows += [row.tobytes() for row in pixels[y::dy, x::dx]]
    return rows


def bmp(width, height, bits, compression, data: bytes, palette=b"", masks=b"", size=40) -> bytes:
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(data), 0, 0,
                         len(palette) // 4, 0)
    body = header + masks + palette
    offset = 14 + len(body)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + body + data


def tiff(width, height, tags: dict, data: bytes, big=False) -> bytes:
    """A TIFF of one strip; tags are {tag: (type, values)}."""
    order = ">" if big else "<"
    sizes = {1: "B", 3: "H", 4: "I"}
    tags = dict(tags)
    tags[256], tags[257] = (4, [width]), (4, [height])
    tags[278], tags[279] = (4, [height]), (4, [len(data)])
    tags[273] = (4, [0])
    tags.setdefault(259, (3, [1]))
    extra_at = 8 + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for number in sorted(tags):
        kind, values = tags[number]
        packed = struct.pack(order + sizes[kind] * len(values), *values)
        if number == 273:
            packed = b"DATA"
        if len(packed) > 4:
            place = struct.pack(order + "I", extra_at + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", number, kind, len(values)) + place
    out = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8)
    out += struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0" + extra
    return out.replace(b"DATA", struct.pack(order + "I", len(out)), 1) + data


def saved(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def png_files() -> dict[str, bytes]:
    rgb, rgba = scene(W, H, 1), scene(W, H, 2, 4)
    image, alpha = Image.fromarray(rgb), Image.fromarray(rgba)
    grey = image.convert("L")
    wide = (scene(W, H, 3, 4).astype(np.uint16) << 8) | scene(W, H, 4, 4)
    big = wide.astype(">u2")
    packed = np.array(grey) >> 4
    nibbles = [(row[0::2] << 4 | row[1::2]).tobytes() for row in packed]
    twos = [(r[0::4] << 6 | r[1::4] << 4 | r[2::4] << 2 | r[3::4]).tobytes()
            for r in np.array(grey) >> 6]
    low = np.minimum(wide[:, :, 0] >> 7, 400).astype(">u2")
    palette = image.quantize(200)
    files = {
        "rgb.png": saved(image, "PNG"),
        "rgba.png": saved(alpha, "PNG"),
        "grey.png": saved(grey, "PNG"),
        "grey-alpha.png": saved(alpha.convert("LA"), "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette-clear.png": saved(palette, "PNG", transparency=bytes(range(200))),
        "palette-4.png": saved(image.quantize(13), "PNG", bits=4),
        "palette-2.png": saved(image.quantize(4), "PNG", bits=2),
        "bits.png": saved(image.convert("1"), "PNG"),
        "rgb-clear.png": saved(image, "PNG", transparency=tuple(int(n) for n in rgb[0, 0])),
        "grey-clear.png": saved(grey, "PNG", transparency=100),
        "grey-16.png": saved(Image.fromarray(low.astype(np.uint16)), "PNG"),
        "grey-4.png": png(W, H, 4, 0, nibbles),
        "grey-2.png": png(W, H, 2, 0, twos),
        "rgb-16.png": png(W, H, 16, 2, [row.tobytes() for row in big[:, :, :3]]),
        "rgba-16.png": png(W, H, 16, 6, [row.tobytes() for row in big]),
        "grey-alpha-16.png": png(W, H, 16, 4, [row.tobytes() for row in big[:, :, :2]]),
        "interlaced.png": png(W, H, 8, 2, adam7(rgb), interlace=1),
        "past-palette.png": png(W, H, 8, 3, [row.tobytes() for row in np.array(grey)],
                                [(b"PLTE", bytes(range(90)))]),
        "odd.png": saved(Image.fromarray(scene(77, 45, 7)), "PNG"),
        "large.png": saved(Image.fromarray(scene(40, 30, 8)).resize((400, 300)), "PNG"),
        "thin.png": saved(Image.fromarray(scene(3, 300, 9)), "PNG"),
        "dot.png": saved(Image.fromarray(scene(1, 1, 9)), "PNG"),
        "turned.png": saved(image, "PNG", exif=orientation(6)),
    }
    frames = [Image.fromarray(scene(W, H, seed)) for seed in (20, 21)]
    files["animated.png"] = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    return files


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def disc_frames(width: int, height: int, count: int) -> list[Image.Image]:
    """A clear picture on which a disc moves."""
    y, x = np.mgrid[0:height, 0:width]
    frames = []
    for at in range(count):
        rgba = np.zeros((height, width, 4), np.uint8)
        center = width * (at + 1) / (count + 1)
        inside = (x - center) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
        rgba[inside] = [250 - 20 * at, 40 * at % 256, 128, 255]
        rgba[: 8 + at] = [10, 200, 90 + at, 255]
        frames.append(Image.fromarray(rgba))
    return frames


def gif_files() -> dict[str, bytes]:
    image = Image.fromarray(scene(W, H, 30))
    small = saved(image.quantize(64), "GIF")
    # The screen grows by a row and a column that the frame does not cover.
    wider = bytearray(small)
    wider[6:10] = struct.pack("<HH", W + 32, H + 32)
    larger = bytearray(small)
    larger[6:10] = struct.pack("<HH", W - 32, H - 32)
    moving = disc_frames(W, H, 7)
    return {
        "palette.gif": small,
        "grey.gif": saved(image.convert("L"), "GIF"),
        "straight.gif": saved(image.quantize(255), "GIF", interlace=0),
        "clear.gif": saved(disc_frames(W, H, 1)[0], "GIF"),
        "wider.gif": bytes(wider),
        "larger.gif": bytes(larger),
        "animated.gif": saved(moving[0], "GIF", save_all=True, append_images=moving[1:],
                              disposal=2, duration=250, loop=0),
        "previous.gif": saved(moving[0], "GIF", save_all=True, append_images=moving[1:],
                              disposal=[1, 3, 1, 2, 3, 1, 1], duration=[400] * 7, loop=0),
    }


def webp_files() -> dict[str, bytes]:
    image, alpha = Image.fromarray(scene(W, H, 40)), Image.fromarray(scene(W, H, 41, 4))
    moving = disc_frames(W, H, 6)
    return {
        "lossless.webp": saved(image, "WEBP", lossless=True),
        "lossless-alpha.webp": saved(alpha, "WEBP", lossless=True, exact=True),
        "lossy.webp": saved(image, "WEBP", quality=80),
        "lossy-alpha.webp": saved(alpha, "WEBP", quality=70),
        "animated.webp": saved(moving[0], "WEBP", save_all=True, append_images=moving[1:],
                               duration=300, lossless=True, background=(10, 90, 200, 255)),
    }


def bmp_files() -> dict[str, bytes]:
    image = Image.fromarray(scene(W, H, 50))
    rgba = scene(W, H, 51, 4)
    grey = np.array(image.convert("L"))
    words = (grey.astype("<u2") << 8 | np.array(image)[:, :, 1]).astype("<u2")
    colors = bytes(range(256)) * 4
    runs = bytearray()
    small = grey >> 3
    for row in small:
        runs += b"".join(bytes([1, n]) for n in row[:40])
        runs += bytes([0, 51]) + row[40:91].tobytes() + b"\0"
        runs += bytes([3, 7, 0, 0])
    runs += b"\0\1"
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    nibbles = np.array(image.quantize(16))
    packed = (nibbles[:, 0::2] << 4 | nibbles[:, 1::2])[::-1]
    return {
        "rgb.bmp": saved(image, "BMP"),
        "rgba.bmp": saved(Image.fromarray(rgba), "BMP"),
        "bits.bmp": saved(image.convert("1"), "BMP"),
        "grey.bmp": saved(image.convert("L"), "BMP"),
        "palette.bmp": saved(image.quantize(99), "BMP"),
        "palette-4.bmp": bmp(W, H, 4, 0, packed.tobytes(), colors[:64]),
        "odd.bmp": saved(Image.fromarray(scene(95, 64, 52)), "BMP"),
        "down.bmp": bmp(W, -H, 24, 0, np.array(image).tobytes()),
        "fields-565.bmp": bmp(W, H, 16, 3, words.tobytes(), masks=struct.pack(
            "<III", 0xF800, 0x7E0, 0x1F)),
        "plain-555.bmp": bmp(W, H, 16, 0, words.tobytes()),
        "fields-alpha.bmp": bmp(W, H, 32, 3, rgba.tobytes(), masks=masks, size=56),
        "runs.bmp": bmp(W, H, 8, 1, bytes(runs), colors),
    }


def tiff_files() -> dict[str, bytes]:
    image, alpha = Image.fromarray(scene(W, H, 60)), Image.fromarray(scene(W, H, 61, 4))
    grey = image.convert("L")
    wide = (scene(W, H, 62, 4).astype(np.uint16) << 8) | scene(W, H, 63, 4)
    low = np.minimum(wide[:, :, 0] >> 7, 400).astype(np.uint16)
    rgb = np.array(image)
    files = {f"rgb-{name}.tiff": saved(image, "TIFF", compression=name)
             for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")}
    files |= {
        "grey.tiff": saved(grey, "TIFF", compression="tiff_lzw"),
        "bits.tiff": saved(image.convert("1"), "TIFF", compression="group4"),
        "bits-raw.tiff": saved(image.convert("1"), "TIFF"),
        "palette.tiff": saved(image.quantize(77), "TIFF", compression="tiff_lzw"),
        "rgba.tiff": saved(alpha, "TIFF", compression="tiff_lzw"),
        "grey-alpha.tiff": saved(alpha.convert("LA"), "TIFF"),
        "cmyk.tiff": saved(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
        "cmyk-noise.tiff": saved(Image.frombytes("CMYK", (W, H), alpha.tobytes()), "TIFF"),
        "grey-16.tiff": saved(Image.fromarray(low), "TIFF"),
        "float.tiff": saved(Image.fromarray(low.astype(np.float32) * 1.3 - 60), "TIFF"),
        "whole.tiff": saved(Image.fromarray(low.astype(np.int32) - 60), "TIFF"),
        "turned.tiff": saved(Image.fromarray(scene(96, 64, 64)), "TIFF", tiffinfo={274: 6}),
        "mirrored.tiff": saved(Image.fromarray(scene(96, 64, 64)), "TIFF", tiffinfo={274: 7}),
        "lzw-predictor.tiff": saved(image, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        "white-zero.tiff": tiff(W, H, {258: (3, [8]), 262: (3, [0]), 277: (3, [1])},
                                grey.tobytes()),
        "white-zero-16.tiff": tiff(W, H, {258: (3, [16]), 262: (3, [0]), 277: (3, [1])},
                                   low.tobytes()),
        "big-endian-16.tiff": tiff(W, H, {258: (3, [16] * 3), 262: (3, [2]), 277: (3, [3])},
                                   wide[:, :, :3].astype(">u2").tobytes(), big=True),
        "strip.tiff": tiff(W, H, {258: (3, [8] * 3), 262: (3, [2]), 277: (3, [3]), 284: (3, [1])},
                            rgb.tobytes()),
        "premultiplied.tiff": tiff(W, H, {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4]),
                                          338: (3, [1])}, alpha.tobytes()),
        "ignored.tiff": tiff(W, H, {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4]),
                                    338: (3, [0])}, alpha.tobytes()),
        "rgba-16.tiff": tiff(W, H, {258: (3, [16] * 4), 262: (3, [2]), 277: (3, [4]),
                                    338: (3, [2])}, wide.tobytes()),
        "jpeg.tiff": saved(image, "TIFF", compression="jpeg", quality=90),
        "jpeg-grey.tiff": saved(grey, "TIFF", compression="jpeg", quality=90),
        "jpeg-cmyk.tiff": saved(image.convert("CMYK"), "TIFF", compression="jpeg", quality=90),
        "jpeg-strips.tiff": saved(image, "TIFF", compression="jpeg", tiffinfo={278: 16}),
        "palette-4.tiff": tiff(W, H, {258: (3, [4]), 262: (3, [3]), 277: (3, [1]), 320: (
            3, [int(n) * 257 for n in scene(16, 1, 65)[0].T.reshape(-1)])},
            (np.array(grey)[:, 0::2] & 0xF0 | np.array(grey)[:, 1::2] >> 4).tobytes(), big=True),
    }
    return files


def jpeg_files() -> dict[str, bytes]:
    image = Image.fromarray(scene(W, H, 70))
    odd = Image.fromarray(scene(101, 67, 71))
    cmyk = saved(image.convert("CMYK"), "JPEG", quality=90)
    ycck = bytearray(cmyk)
    at = ycck.index(b"Adobe") + 11
    ycck[at] = 2
    plain = saved(image, "JPEG", quality=90, subsampling=0)
    tables = plain.index(b"\xff\xc4")
    return {
        "filled.jpeg": plain[:tables] + b"\xff" * 5 + plain[tables:],
        "stray.jpeg": plain[:tables] + b"stray bytes" + plain[tables:],
        "trailer.jpeg": plain + b"what cameras put behind it" * 9,
        "444.jpeg": saved(image, "JPEG", quality=90, subsampling=0),
        "422.jpeg": saved(image, "JPEG", quality=90, subsampling=1),
        "420.jpeg": saved(image, "JPEG", quality=90, subsampling=2),
        "odd-420.jpeg": saved(odd, "JPEG", quality=85, subsampling=2),
        "low-420.jpeg": saved(image, "JPEG", quality=40, subsampling=2),
        "progressive.jpeg": saved(image, "JPEG", quality=90, progressive=True, subsampling=2),
        "progressive-444.jpeg": saved(odd, "JPEG", quality=90, progressive=True, subsampling=0),
        "grey.jpeg": saved(image.convert("L"), "JPEG", quality=90),
        "rgb.jpeg": saved(image, "JPEG", quality=90, keep_rgb=True),
        "restarts.jpeg": saved(image, "JPEG", quality=90, restart_marker_blocks=3),
        "cmyk.jpeg": cmyk,
        "ycck.jpeg": bytes(ycck),
        "turned.jpeg": saved(image, "JPEG", quality=90, subsampling=0, exif=orientation(8)),
    }
