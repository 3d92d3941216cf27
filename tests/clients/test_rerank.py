"""Real clients of every rerank dialect rank as the reference implementation does."""

import base64

import cohere
import litellm
import numpy
import pytest
import requests
import voyageai
from conftest import cosines, scored
from haystack import Document
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from langchain_core.documents import Document as LangChainDocument
from langchain_voyageai import VoyageAIRerank
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

EMBEDDER, RERANKER, CLASSIFIER, E2RANK = "all-MiniLM-L6-v2", "reranker", "classifier", "e2rank"


def sigmoid(logits):
    return 1 / (1 + numpy.exp(-numpy.asarray(logits)))


CASES = scored("xlmr-reranker")
QUERY = CASES[0]["query"]
# A short document, an empty one and one that is cut.
DOCUMENTS = [case["document"] for case in CASES if case["query"] == QUERY]
LOGITS = [case["logits"][0] for case in CASES if case["query"] == QUERY]
SCORES = sigmoid(LOGITS)
ORDER = list(numpy.argsort(-SCORES))


def pairs(entries, score="relevance_score"):
    """Places and scores of a client's results, be they objects or dictionaries."""
    get = lambda entry, key: entry[key] if isinstance(entry, dict) else getattr(entry, key)
    return [(get(entry, "index"), get(entry, score)) for entry in entries]


def check(results, scores=SCORES, top=None):
    """Every place once (or the best ones once), the best first, with its score."""
    expected = list(numpy.argsort(-numpy.asarray(scores)))[:top]
    assert [index for index, _ in results] == expected
    got = [score for _, score in results]
    assert got == pytest.approx([scores[index] for index in expected], abs=1e-3)


def post(address, path, **body):
    answer = requests.post(address + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_cohere_v1(address):
    client = cohere.Client("none", base_url=address)
    answer = client.rerank(query=QUERY, documents=DOCUMENTS, return_documents=True)
    check(pairs(answer.results))
    assert [entry.document.text for entry in answer.results] == [DOCUMENTS[it] for it in ORDER]
    assert answer.meta.api_version.version == "1" and answer.meta.billed_units.search_units == 1
    two = client.rerank(
        model=RERANKER, query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=False
    )
    check(pairs(two.results), top=2)
    assert [entry.document for entry in two.results] == [None, None]


def test_cohere_v1_objects(address):
    client = cohere.Client("none", base_url=address)
    documents = [{"title": "a title", "text": text} for text in DOCUMENTS]
    answer = client.rerank(query=QUERY, documents=documents, return_documents=True)
    check(pairs(answer.results))
    assert answer.results[0].document.title == "a title"
    fields = client.rerank(query=QUERY, documents=documents, rank_fields=["title", "text"])
    lines = [f"title: a title\ntext: {text}" for text in DOCUMENTS]
    assert pairs(fields.results) == pairs(client.rerank(query=QUERY, documents=lines).results)


def test_cohere_v2(address):
    client = cohere.ClientV2("none", base_url=address)
    answer = client.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS)
    check(pairs(answer.results))
    assert answer.meta.api_version.version == "2"
    one = client.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS, top_n=1)
    check(pairs(one.results), top=1)
    # The first and the last document begin alike.
    cut = client.rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=2)
    cut = dict(pairs(cut.results))
    assert sorted(cut) == [0, 1, 2] and cut[0] == cut[2] and cut[0] != pytest.approx(SCORES[0], abs=1e-3)


def test_cohere_errors_have_the_classes_that_clients_expect(address):
    client = cohere.ClientV2("none", base_url=address)
    with pytest.raises(cohere.NotFoundError, match="served: all-MiniLM-L6-v2"):
        client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)
    for wrong in [{"documents": []}, {"documents": ["a"], "top_n": -1}]:
        with pytest.raises(cohere.BadRequestError):
            client.rerank(model=RERANKER, query=QUERY, **wrong)
        with pytest.raises(cohere.BadRequestError):
            cohere.Client("none", base_url=address).rerank(query=QUERY, **wrong)
    with pytest.raises(cohere.BadRequestError, match="input"):
        client.embed(model=EMBEDDER, input_type="image", images=["data:image/png;base64,AAAA"])


def test_cohere_v2_embed(address, golden):
    client = cohere.ClientV2("none", base_url=address)
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(
        model=EMBEDDER, input_type="search_document", texts=golden["texts"], embedding_types=types
    )
    got = answer.embeddings
    floats = numpy.asarray(got.float_, dtype="<f4")
    assert cosines(floats, golden["vectors"]).min() >= 0.99999
    decoded = [numpy.frombuffer(base64.b64decode(text), dtype="<f4") for text in got.base64]
    assert numpy.array_equal(decoded, floats)
    assert cosines(got.int8, golden["vectors"]).min() >= 0.999
    assert numpy.array_equal(numpy.asarray(got.uint8), numpy.asarray(got.int8) + 128)
    assert numpy.array_equal(got.ubinary, numpy.packbits(floats >= 0, axis=1))
    assert numpy.array_equal(got.binary, numpy.asarray(got.ubinary) - 128)
    assert answer.texts == golden["texts"]
    assert answer.meta.billed_units.input_tokens == sum(golden["tokens"])
    part = client.embed(
        model=EMBEDDER,
        input_type="search_query",
        inputs=[{"content": [{"type": "text", "text": text}]} for text in golden["texts"]],
        output_dimension=64,
        embedding_types=["float"],
    )
    assert cosines(part.embeddings.float_, golden["vectors"][:, :64]).min() >= 0.99999
    assert part.embeddings.int8 is None


def litellm_rerank(address, provider, documents, **options):
    model = f"{provider}/{RERANKER}"
    return litellm.rerank(
        model, query=QUERY, documents=documents, api_base=address, api_key="none", **options
    ).results


@pytest.mark.parametrize(
    "provider", ["cohere", "hosted_vllm", "jina_ai", "infinity", "huggingface", "voyage"]
)
def test_litellm(address, provider):
    # To huggingface it says that nothing may be cut.
    count = 2 if provider == "huggingface" else 3
    for top in [count, 1]:
        options = {"top_n": top, "return_documents": False}
        results = litellm_rerank(address, provider, DOCUMENTS[:count], **options)
        check(pairs(results), SCORES[:count], top)
        assert not any(entry.get("document") for entry in results)


# Of the same body infinity's client wants texts, and voyage's another list: these two need options.
@pytest.mark.parametrize("provider", ["cohere", "hosted_vllm", "jina_ai", "huggingface"])
def test_litellm_with_its_defaults(address, provider):
    documents = DOCUMENTS[:2]
    results = litellm_rerank(address, provider, documents)
    check(pairs(results), SCORES[:2])
    assert [entry["document"]["text"] for entry in results] == documents[::-1]


def test_voyage(address):
    client = voyageai.Client("none", base_url=f"{address}/v1")
    answer = client.rerank(QUERY, DOCUMENTS, model=RERANKER)
    check(pairs(answer.results))
    assert answer.total_tokens == sum(min(case["tokens_untruncated"], 128) for case in CASES[:3])
    check(pairs(client.rerank(QUERY, DOCUMENTS, model=RERANKER, top_k=2).results), top=2)
    with pytest.raises(voyageai.error.InvalidRequestError, match="544 tokens"):
        client.rerank(QUERY, DOCUMENTS, model=RERANKER, truncation=False)


def test_voyage_embed(address, golden):
    client = voyageai.Client("none", base_url=f"{address}/v1")
    answer = client.embed(golden["texts"], model=EMBEDDER)
    assert cosines(answer.embeddings, golden["vectors"]).min() >= 0.99999
    assert answer.total_tokens == sum(golden["tokens"])
    part = client.embed(golden["texts"], model=EMBEDDER, input_type="document", output_dimension=64)
    assert cosines(part.embeddings, golden["vectors"][:, :64]).min() >= 0.99999


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_voyage_embed_dtypes(address, golden, dtype):
    client = voyageai.Client("none", base_url=f"{address}/v1")
    answer = client.embed(golden["texts"], model=EMBEDDER, output_dtype=dtype)
    expected = post(address, "/embed", inputs=golden["texts"], encoding_format=dtype)
    assert answer.embeddings == expected


@pytest.mark.parametrize("top", [None, 2])
def test_langchain_voyage(address, top):
    ranker = VoyageAIRerank(model=RERANKER, api_key="none", base_url=f"{address}/v1", top_k=top)
    documents = [
        LangChainDocument(text, metadata={"index": index}) for index, text in enumerate(DOCUMENTS)
    ]
    got = ranker.compress_documents(documents, QUERY)
    check(pairs(document.metadata for document in got), top=top)


def test_llama_index_tei(address):
    ranker = TextEmbeddingInference(base_url=address, top_n=len(DOCUMENTS))
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    got = ranker.postprocess_nodes(nodes, query_str=QUERY)
    check([(DOCUMENTS.index(node.text), node.score) for node in got])


@pytest.mark.parametrize("raw", [False, True])
def test_haystack_tei(address, raw):
    ranker = HuggingFaceTEIRanker(url=address, raw_scores=raw, token=None)
    got = ranker.run(query=QUERY, documents=[Document(content=text) for text in DOCUMENTS])
    got = [(DOCUMENTS.index(document.content), document.score) for document in got["documents"]]
    check(got, LOGITS if raw else SCORES)


def test_haystack_tei_reads_errors(address):
    ranker = HuggingFaceTEIRanker(url=address, max_retries=1, token=None)
    with pytest.raises(RuntimeError, match="2048"):
        ranker.run(query=QUERY, documents=[Document(content=str(number)) for number in range(2049)])


def test_tei_rerank(address):
    ranks = post(address, "/rerank", query=QUERY, texts=DOCUMENTS)
    check(pairs(ranks, "score"))
    assert all(rank.keys() == {"index", "score"} for rank in ranks)
    ranks = post(address, "/rerank", query=QUERY, texts=DOCUMENTS, return_text=True, raw_scores=True)
    check(pairs(ranks, "score"), LOGITS)
    assert [rank["text"] for rank in ranks] == [DOCUMENTS[it] for it in ORDER]
    check(pairs(post(address, "/rerank", query=QUERY, texts=DOCUMENTS, top_n=2), "score"), top=2)


def test_tei_predict_of_a_reranker(address):
    for case in CASES:
        (got,) = post(address, "/predict", inputs=[case["query"], case["document"]])
        assert got["score"] == pytest.approx(sigmoid(case["logits"][0]), abs=1e-3)
        assert got["label"] == "LABEL_0"


@pytest.mark.parametrize("raw", [False, True])
def test_tei_predict_of_a_classifier(address, raw):
    labels = ["contradiction", "entailment", "neutral"]

    def check_classes(got, case):
        logits = numpy.array(case["logits"])
        scores = logits if raw else numpy.exp(logits) / numpy.exp(logits).sum()
        assert [it["label"] for it in got] == [labels[it] for it in numpy.argsort(-scores)]
        assert [it["score"] for it in got] == pytest.approx(sorted(scores, reverse=True), abs=1e-3)

    cases = scored("bert-classifier")
    inputs = [[case["query"], case["document"]] for case in cases]
    options = {"model": CLASSIFIER, "raw_scores": raw}
    batch = post(address, "/predict", inputs=[*inputs, [QUERY]], **options)
    for got, case in zip(batch, cases):
        check_classes(got, case)
    assert post(address, "/predict", inputs=inputs[0], **options) == batch[0]
    assert post(address, "/predict", inputs=QUERY, **options) == batch[-1]
    if not raw:
        assert sum(it["score"] for it in batch[-1]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "path", ["/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking"]
)
def test_every_path(address, path):
    check(pairs(post(address, path, query=QUERY, documents=DOCUMENTS)["results"]))


def test_jina_gives_documents_back_as_objects(address):
    answer = post(address, "/v1/rerank", query=QUERY, documents=DOCUMENTS)
    assert [it["document"] for it in answer["results"]] == [{"text": DOCUMENTS[it]} for it in ORDER]
    assert answer["model"] == RERANKER and answer["usage"]["total_tokens"] > 128


def test_weaviate(address, golden):
    answer = post(address, "/rerank", query=QUERY, documents=DOCUMENTS, property="text")
    assert answer["query"] == QUERY
    assert [it["document"] for it in answer["scores"]] == DOCUMENTS
    assert [it["score"] for it in answer["scores"]] == pytest.approx(SCORES, abs=1e-3)
    text, vector = golden["texts"][0], golden["vectors"][0]
    for path in ["/vectors", "/vectors/"]:
        config = {"pooling_strategy": "masked_mean", "task_type": "passage"}
        one = post(address, path, text=text, config=config)
        assert one["text"] == text and one["dims"] == 384
        assert cosines(one["vector"], vector) >= 0.99999
    several = post(address, "/vectors", texts=golden["texts"])
    assert cosines(several["vectors"], golden["vectors"]).min() >= 0.99999
    assert requests.get(f"{address}/.well-known/live").status_code == 204
    assert requests.get(f"{address}/.well-known/ready").status_code == 204
    assert requests.get(f"{address}/meta").json()["model"] == EMBEDDER


@pytest.mark.parametrize(
    "first, second",
    [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")],
)
def test_vllm_score(address, first, second):
    one = post(address, "/score", **{first: QUERY, second: DOCUMENTS})["data"]
    assert [it["index"] for it in one] == [0, 1, 2]
    assert [it["score"] for it in one] == pytest.approx(SCORES, abs=1e-3)
    sides = {first: [case["query"] for case in CASES], second: [case["document"] for case in CASES]}
    by_pair = post(address, "/v1/score", **sides)["data"]
    logits = [case["logits"][0] for case in CASES]
    assert [it["index"] for it in by_pair] == list(range(len(CASES)))
    assert [it["score"] for it in by_pair] == pytest.approx(sigmoid(logits), abs=1e-3)
    raw = post(address, "/score", use_activation=False, **sides)["data"]
    assert [it["score"] for it in raw] == pytest.approx(logits, abs=1e-3)
    content = [{"content": [{"type": "text", "text": text}]} for text in DOCUMENTS]
    assert post(address, "/score", **{first: QUERY, second: content})["data"] == one


def test_vllm_rerank(address):
    call = {"query": QUERY, "documents": DOCUMENTS, "truncate_prompt_tokens": -1}
    answer = post(address, "/rerank", **call)
    check(pairs(answer["results"]))
    assert [it["document"]["text"] for it in answer["results"]] == [DOCUMENTS[it] for it in ORDER]
    raw = post(address, "/rerank", use_activation=False, top_n=2, **call)
    check(pairs(raw["results"]), LOGITS, top=2)


def test_an_embedder_ranks_by_similarity(address, golden):
    query, *texts = golden["texts"]
    answer = post(address, "/v1/rerank", model=EMBEDDER, query=query, documents=texts)
    assert answer["method"] == "similarity"
    similar = cosines(golden["vectors"][:1], golden["vectors"][1:])
    got = dict(pairs(answer["results"]))
    assert len(answer["results"]) == len(got) == len(texts)
    assert [got[index] for index in range(len(texts))] == pytest.approx(similar, abs=1e-3)
    assert list(got.values()) == sorted(got.values(), reverse=True)


# E2Rank: the query and the first 20 candidates make a vector, which scores all of these.
SUBJECT = "Which subject?"
SUBJECTS = [f"Document {chr(97 + it)} is about subject {it * it % 17}." for it in range(26)]


def listwise(address, documents=SUBJECTS, path="/v1/rerank", results="results", **options):
    """Places and scores by the E2Rank model."""
    documents = {"documents" if results else "texts": documents}
    answer = post(address, path, model=E2RANK, query=SUBJECT, **documents, **options)
    return pairs(answer[results]) if results else pairs(answer, "score")


def embedded(address, **options):
    return post(address, "/embed", model=E2RANK, inputs=SUBJECTS, **options)


def check_all(results):
    """Every place once, the best first."""
    assert sorted(index for index, _ in results) == list(range(len(SUBJECTS)))
    scores = [score for _, score in results]
    assert scores == sorted(scores, reverse=True)


def test_listwise(address):
    body = {"model": E2RANK, "query": SUBJECT, "documents": SUBJECTS}
    answer = requests.post(f"{address}/v1/rerank", json=body)
    assert answer.headers["x-rerank-method"] == answer.json()["method"] == "listwise"
    ranked = pairs(answer.json()["results"])
    check_all(ranked)
    similar = listwise(address, method="similarity")
    check_all(similar)
    assert similar != ranked


@pytest.mark.parametrize("options", [{}, {"listwise": {"step": 10}}, {"listwise": {"passes": 2}}])
def test_listwise_with_vectors_of_documents(address, options):
    without = listwise(address, **options)
    check_all(without)
    lists = listwise(address, document_embeddings=embedded(address), **options)
    assert [index for index, _ in lists] == [index for index, _ in without]
    scores = [score for _, score in without]
    assert [score for _, score in lists] == pytest.approx(scores, abs=1e-6)
    encoded = embedded(address, encoding_format="base64")
    assert listwise(address, document_embeddings=encoded, **options) == lists
    # Without the rounding of the normalisation it is the same to the last digit.
    raw = embedded(address, normalize=False)
    assert listwise(address, document_embeddings=raw, **options) == without


def test_listwise_uses_the_vectors_sent(address):
    vectors = embedded(address, normalize=False)
    without = dict(listwise(address))
    reverse = dict(listwise(address, document_embeddings=vectors[::-1]))
    assert reverse == {25 - index: score for index, score in without.items()}


def test_listwise_in_windows(address):
    """The last 20 are ranked, then the first 16 of what that gives, ten further to the front."""
    got = listwise(address, listwise={"step": 10})
    check_all(got)
    order = list(range(26))
    for window in [slice(6, 26), slice(0, 16)]:
        seen = order[window]
        ranked = listwise(address, [SUBJECTS[place] for place in seen])
        order[window] = [seen[index] for index, _ in ranked]
    assert [index for index, _ in got] == order


def test_listwise_top_n_and_documents(address):
    plain = listwise(address)
    assert listwise(address, top_n=3) == plain[:3]
    assert listwise(address, top_n=0) == listwise(address, top_n=100) == plain
    body = {"model": E2RANK, "query": SUBJECT, "documents": SUBJECTS, "top_n": 3}
    back = post(address, "/v1/rerank", return_documents=True, **body)["results"]
    assert [it["document"]["text"] for it in back] == [SUBJECTS[index] for index, _ in plain[:3]]
    bare = post(address, "/v1/rerank", return_documents=False, **body)["results"]
    assert not any("document" in it for it in bare)


@pytest.mark.parametrize(
    "path, results, options",
    [
        ("/rerank", None, {}),
        ("/v2/rerank", "results", {}),
        ("/v1/rerank", "data", {"top_k": None}),
        ("/v1/rerank", "results", {"truncate_prompt_tokens": -1}),
    ],
)
def test_listwise_in_every_dialect(address, path, results, options):
    assert listwise(address, path=path, results=results, **options) == listwise(address)


def test_listwise_of_cohere(address):
    client = cohere.ClientV2("none", base_url=address)
    answer = client.rerank(model=E2RANK, query=SUBJECT, documents=SUBJECTS)
    assert pairs(answer.results) == listwise(address)


def test_cohere_v1_embed(address, golden):
    answer = cohere.Client("none", base_url=address).embed(texts=golden["texts"], model=EMBEDDER)
    assert answer.embeddings == post(address, "/embed", inputs=golden["texts"])
