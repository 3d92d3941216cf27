"""Real clients send images and videos: to one model, in every dialect, with one answer.

The model is `vision`: `proxima synth tiny-qwen3-vl`. Its vectors mean nothing, but each path must give
the same one for the same input.
"""

import base64
import io

import cohere
import numpy
import openai
import PIL.Image
import pytest
import requests
import voyageai
from conftest import cosines

MODEL = "vision"
SAME = 0.9999


def picture(seed):
    numbers = numpy.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype="uint8")
    return PIL.Image.fromarray(numbers)


def uri(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


CAT, DOG = uri(picture(1)), uri(picture(2))
TEXT = "a cat on a mat"
PARTS = [{"type": "image_url", "image_url": {"url": CAT}}, {"type": "text", "text": TEXT}]


def post(address, path, status=200, **body):
    answer = requests.post(address + path, json={"model": MODEL, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def expected(address):
    """The vector of the picture and its text."""
    return post(address, "/embed", inputs={"text": TEXT, "image": CAT})[0]


def test_an_empty_object_is_what_the_model_takes_nothing_for(address):
    nothing, null = (post(address, "/embed", inputs=inputs)[0] for inputs in ({}, "NULL"))
    assert cosines(nothing, null) > SAME


def test_objects(address, expected):
    inputs = [{"text": TEXT, "image": CAT}, TEXT, {"image": {"bytes": CAT.split(",")[1]}}, {"image": DOG}]
    vectors = post(address, "/embed", inputs=inputs)
    assert cosines(vectors[0], expected) > SAME
    assert cosines(vectors[2], post(address, "/embed", inputs={"url": CAT})[0]) > SAME
    assert cosines(vectors[2], vectors[3]) < SAME and cosines(vectors[1], vectors[0]) < SAME
    answer = requests.post(f"{address}/embed", json={"model": MODEL, "inputs": {"image": CAT}})
    assert int(answer.headers["x-compute-tokens"]) > 4


def test_videos_are_frames(address):
    one, two = {"video": [CAT, DOG]}, {"content": [{"type": "video", "video": [CAT, DOG]}]}
    vectors = post(address, "/embed", inputs=[one, two, {"video": [DOG, CAT]}])
    assert cosines(vectors[0], vectors[1]) > SAME > cosines(vectors[0], vectors[2])


def test_openai_client(address, expected):
    """Chats, as vLLM's documentation sends them with OpenAI's client."""
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    answer = client.post(
        "/embeddings",
        cast_to=openai.types.CreateEmbeddingResponse,
        body={
            "model": MODEL,
            "messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": ""}],
            "encoding_format": "float",
            "continue_final_message": True,
            "add_special_tokens": True,
        },
    )
    assert cosines(answer.data[0].embedding, expected) > SAME
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    # The client decodes base64 itself.
    items = client.embeddings.create(model=MODEL, input=[{"text": TEXT, "image": CAT}])
    assert cosines(items.data[0].embedding, expected) > SAME
    with pytest.raises(openai.BadRequestError, match="image 1"):
        client.embeddings.create(model=MODEL, input=[{"image": [CAT, "data:image/png;base64,?"]}])
    with pytest.raises(openai.BadRequestError, match="image 0"):
        client.embeddings.create(model=MODEL, input=[{"image": "data:image/png;base64,AAAA"}])


def test_a_system_message_is_the_instruction(address):
    user = {"role": "user", "content": PARTS}
    chat = post(address, "/v1/embeddings", messages=[{"role": "system", "content": "Find a dog."}, user])
    item = {"text": TEXT, "image": CAT, "instruction": "Find a dog."}
    vectors = post(address, "/embed", inputs=[item, {"text": TEXT, "image": CAT}])
    got = chat["data"][0]["embedding"]
    assert cosines(got, vectors[0]) > SAME > cosines(got, vectors[1])


def test_cohere_client(address, expected):
    client = cohere.ClientV2("none", base_url=address)
    kinds = {"model": MODEL, "embedding_types": ["float"]}
    answer = client.embed(input_type="search_document", inputs=[{"content": PARTS}], **kinds)
    assert cosines(answer.embeddings.float_[0], expected) > SAME
    images = client.embed(input_type="image", images=[CAT, DOG], **kinds)
    alone = post(address, "/embed", inputs=[{"image": CAT}, {"image": DOG}])
    assert cosines(images.embeddings.float_, alone).min() > SAME
    assert [(it.width, it.height, it.format) for it in images.images] == [(64, 48, "png")] * 2
    assert images.meta.billed_units.images == 2
    first = cohere.Client("none", base_url=address)
    vectors = first.embed(model=MODEL, input_type="image", images=[CAT]).embeddings
    assert cosines(vectors[0], alone[0]) > SAME
    with pytest.raises(cohere.BadRequestError, match="input 0: image 0"):
        client.embed(input_type="image", images=["data:image/png;base64,?"], **kinds)


def test_voyage_client(address, expected):
    client = voyageai.Client("none", base_url=f"{address}/v1")
    answer = client.multimodal_embed([[picture(1), TEXT], [picture(2)]], model=MODEL)
    # The client sends pictures as files of its own choice of format.
    assert len(answer.embeddings) == 2
    parts = [{"type": "image_base64", "image_base64": CAT}, {"type": "text", "text": TEXT}]
    answer = client.multimodal_embed([{"content": parts}], model=MODEL)
    assert cosines(answer.embeddings[0], expected) > SAME
    assert answer.image_pixels == 48 * 64 and answer.video_pixels == 0
    assert 0 < answer.text_tokens < answer.total_tokens


def test_jina(address, expected):
    inputs = [{"image": CAT}, {"url": CAT}, {"bytes": CAT.split(",")[1]}, {"text": TEXT, "image": CAT}, TEXT]
    answer = post(address, "/v1/embeddings", input=inputs, task="retrieval.passage", normalized=True)
    vectors = [entry["embedding"] for entry in answer["data"]]
    assert cosines(vectors[1], vectors[0]) > SAME and cosines(vectors[2], vectors[0]) > SAME
    assert cosines(vectors[3], expected) > SAME


# Of a path: what its documents are called, where its places and scores are.
RANKINGS = {
    "/v1/rerank": ("documents", lambda answer: answer["results"], "relevance_score"),
    "/v2/rerank": ("documents", lambda answer: answer["results"], "relevance_score"),
    "/rerank": ("texts", lambda answer: answer, "score"),
}


@pytest.mark.parametrize("path", RANKINGS)
def test_rerank(address, path):
    name, entries, score = RANKINGS[path]
    documents = [{"image": DOG}, TEXT, {"content": PARTS}, {"text": TEXT, "image": CAT}]
    answer = entries(post(address, path, query={"image": DOG}, **{name: documents}))
    scores = {entry["index"]: entry[score] for entry in answer}
    assert sorted(scores) == [0, 1, 2, 3]
    assert scores[2] == pytest.approx(scores[3], abs=1e-4)
    body = post(address, path, query={"image": DOG}, **{name: documents})
    assert "base64" not in str(body)


def test_score(address):
    items = [{"content": PARTS}, {"content": [PARTS[0]]}, TEXT]
    answer = post(address, "/v1/score", queries={"content": PARTS}, documents=items)
    scores = [entry["score"] for entry in answer["data"]]
    body = {"query": {"text": TEXT, "image": CAT}, "documents": items, "use_activation": True}
    ranked = post(address, "/v1/rerank", **body)["results"]
    assert [entry["relevance_score"] for entry in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
    assert {"text": None, "multi_modal": [{"type": "image_url"}]} in [entry["document"] for entry in ranked]


@pytest.mark.parametrize(
    "item, says",
    [
        ({"image": "https://example.com/a.png"}, "image 0"),
        ({"image": "file:///etc/passwd"}, "image 0"),
        ({"image": "http://127.0.0.1:1/a.png"}, "image 0"),
        ({"image": base64.b64encode(b"no image").decode()}, "image 0"),
        ({"video": [CAT, "?"]}, "frame 1"),
        ({"audio": CAT}, "audio"),
        ({"content": [{"type": "image_embeds", "image_embeds": ""}]}, "image_embeds"),
        ({"image": [CAT] * 65}, "65 images"),
        ({"content": []}, "no text, image or video"),
    ],
)
def test_what_is_wrong_with_an_item(address, item, says):
    for path, body, status in [
        ("/embed", {"inputs": [item]}, 422),
        ("/v1/embeddings", {"input": [item]}, 400),
        ("/v1/rerank", {"query": item, "documents": ["a"]}, 400),
    ]:
        assert says in str(post(address, path, status, **body)), path
    assert requests.get(f"{address}/readyz").status_code == 200


def test_a_model_of_texts_says_so(address):
    answer = post(address, "/embed", 422, model="all-MiniLM-L6-v2", inputs={"image": CAT})
    assert "one text per input" in answer["error"]


def test_parts_are_the_same_tokens_in_every_dialect(address):
    content = [{"type": "text", "text": "a cat on"}, {"type": "text", "text": " a mat"}]
    plain = post(address, "/embed", inputs=TEXT)[0]
    chat = post(address, "/v1/embeddings", messages=[{"role": "user", "content": content}])
    cohere = post(address, "/v2/embed", inputs=[{"content": content}])["embeddings"]["float"][0]
    voyage = post(address, "/v1/multimodalembeddings", inputs=[{"content": content}])["data"][0]["embedding"]
    for vector in (chat["data"][0]["embedding"], cohere, voyage):
        assert vector == plain


def test_an_image_of_a_document_is_never_left_out(address):
    documents = [{"text": TEXT, "image": CAT}, {"text": TEXT, "image_url": {"url": CAT}}, TEXT]
    answer = post(address, "/v1/rerank", query=TEXT, documents=documents)
    scores = {entry["index"]: entry["relevance_score"] for entry in answer["results"]}
    assert scores[0] == scores[1] != scores[2]
    caption = {"type": "image_url", "image_url": CAT, "text": TEXT}
    assert "text" in post(address, "/v1/rerank", 400, query=TEXT, documents=[caption])["detail"]


def test_tiff_is_counted(address):
    file = io.BytesIO()
    picture(3).save(file, "TIFF")
    tiff = "data:image/tiff;base64," + base64.b64encode(file.getvalue()).decode()
    answer = post(address, "/v2/embed", images=[tiff, CAT])
    assert answer["meta"]["billed_units"]["images"] == 2
    assert answer["images"][0] == {"width": 64, "height": 48, "format": "tiff", "bit_depth": 24}
    content = [{"type": "image_base64", "image_base64": tiff}]
    usage = post(address, "/v1/multimodalembeddings", inputs=[{"content": content}])["usage"]
    assert usage["image_pixels"] == 64 * 48
