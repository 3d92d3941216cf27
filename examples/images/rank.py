"""Ranks the pictures of a folder for text queries, by a running or a started Proxima.

    rank.py --proxima target/release/proxima --model FOLDER|ID [--pictures FOLDER] [QUERY ..]

Needs Python alone. Without --pictures it draws some. A synthetic checkpoint knows nothing, so its order means
nothing; it shows that all works. With Qwen3-VL-Embedding the pictures that fit come first.
"""

import argparse
import base64
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zlib

QUERIES = ["a red circle", "blue and white stripes", "a green gradient"]
KINDS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
INSTRUCTION = "Retrieve images or text relevant to the user's query."


def png(width, height, pixel):
    """A PNG of the colours that pixel(x, y) gives."""
    rows = b"".join(b"\0" + b"".join(bytes(pixel(x, y)) for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def draw(folder):
    """Some pictures to begin with."""
    white, red, blue = (250, 250, 250), (214, 40, 40), (40, 70, 200)
    pictures = {
        "red-circle": lambda x, y: red if math.hypot(x - 160, y - 120) < 80 else white,
        "blue-stripes": lambda x, y: blue if (x // 20) % 2 else white,
        "green-gradient": lambda x, y: (20, min(255, 40 + x * 2 // 3), 60),
        "checkers": lambda x, y: (30, 30, 30) if (x // 40 + y // 40) % 2 else (230, 230, 230),
    }
    for name, pixel in pictures.items():
        (folder / f"{name}.png").write_bytes(png(320, 240, pixel))


def embed(url, inputs):
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(url + "/embed", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def rank(url, pictures, queries):
    """Prints the pictures for each query, the best first."""
    encoded = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in pictures]
    images = [vector for image in encoded for vector in embed(url, [image])]
    for query in queries:
        vector = embed(url, [{"text": query, "instruction": INSTRUCTION}])[0]
        scores = [sum(a * b for a, b in zip(vector, image)) for image in images]
        print(f"\n{query}")
        for score, path in sorted(zip(scores, pictures), reverse=True):
            print(f"  {score:7.4f}  {path.name}")


def serve(proxima, model):
    """A server of its own, and its address."""
    command = [proxima, "serve", "--model", f"images={model}", "--port", "0", "--log-format", "json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        if "ready on " in line:
            return process, line.split("ready on ")[1].split(" ")[0].rstrip('",')
    sys.exit("the server did not start:\n" + "".join(said))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxima", default="proxima")
    parser.add_argument("--model", help="a folder or an id of the Hub; starts a server")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("queries", nargs="*")
    options = parser.parse_args()
    if not (options.model or options.url):
        parser.error("name a --model to serve, or the --url of a server")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.pictures or pathlib.Path(temporary)
        if not options.pictures:
            draw(folder)
        pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS)
        if not pictures:
            sys.exit(f"{folder} has no pictures ({', '.join(sorted(KINDS))})")
        process, url = (None, options.url) if options.url else serve(options.proxima, options.model)
        try:
            rank(url.rstrip("/"), pictures, options.queries or QUERIES)
        finally:
            if process:
                process.terminate()
                process.communicate()


if __name__ == "__main__":
    main()
